//! First step: what there is. Nearly all of it is known from watches, which see only what bears our label in our own
//! namespace; of all but DaemonSets only the metadata.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Service, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use larder_crds::RegistryMirror;

use super::build::object_name;
use super::{Context, Error};

/// The objects that are ours, as last seen.
pub struct Owned {
    /// With their status.
    pub daemon_sets: Store<DaemonSet>,
    /// Metadata only.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Metadata only.
    pub services: Store<PartialObjectMeta<Service>>,
    /// Metadata only.
    pub service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
}

/// How many of a DaemonSet's Events are looked at.
const EVENTS_MAX: u32 = 50;
/// With which the DaemonSet's controller says that it cannot create pods.
const FAILED_CREATE: &str = "FailedCreate";

impl Owned {
    /// Waits until all that there is has been seen. Returns whether it was: not when the watches have ended.
    pub async fn wait_until_seen(&self) -> bool {
        let Self {
            daemon_sets,
            config_maps,
            services,
            service_accounts,
        } = self;
        let seen = tokio::try_join!(
            daemon_sets.wait_until_ready(),
            config_maps.wait_until_ready(),
            services.wait_until_ready(),
            service_accounts.wait_until_ready(),
        );
        seen.is_ok()
    }

    pub(super) fn daemon_set(&self, mirror: &ObjectMeta, namespace: &str) -> Option<Arc<DaemonSet>> {
        let name = object_name(mirror.name.as_deref()?);
        let found = self.daemon_sets.get(&ObjectRef::new(&name).within(namespace))?;
        is_owned(&found.metadata, mirror.uid.as_deref()?).then_some(found)
    }
}

/// Whether the object belongs to the mirror with this UID.
pub(super) fn is_owned(object: &ObjectMeta, uid: &str) -> bool {
    object
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// Whether pods of the DaemonSet are missing altogether, as opposed to not being ready.
pub(super) fn lacks_pods(daemon_set: &DaemonSet) -> bool {
    daemon_set
        .status
        .as_ref()
        .is_some_and(|status| status.current_number_scheduled < status.desired_number_scheduled)
}

/// The newest message with which the DaemonSet's controller said that it cannot create pods, while some are missing.
pub(super) async fn failed_creation(
    daemon_set: Option<&DaemonSet>,
    context: &Context,
) -> Result<Option<String>, Error> {
    let Some(metadata) = daemon_set
        .filter(|daemon_set| lacks_pods(daemon_set))
        .map(|daemon_set| &daemon_set.metadata)
    else {
        return Ok(None);
    };
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let selector = format!("involvedObject.uid={uid},reason={FAILED_CREATE}");
    let parameters = ListParams::default().fields(&selector).limit(EVENTS_MAX);
    let events: Api<Event> = Api::namespaced(context.client.clone(), &context.options.namespace);
    let events = events.list(&parameters).await.map_err(Error::Dereference)?;
    let newest = events.items.into_iter().max_by_key(|event| {
        let series = event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let time = series.or(event.event_time.as_ref()).map(|time| time.0);
        time.max(event.last_timestamp.as_ref().map(|time| time.0))
    });
    Ok(newest.and_then(|event| event.message))
}

/// All mirrors that can be read.
pub(super) fn mirrors(context: &Context) -> Vec<Arc<RegistryMirror>> {
    let all = context.mirrors.state();
    all.iter()
        .filter_map(|mirror| mirror.0.as_ref().ok().cloned().map(Arc::new))
        .collect()
}
