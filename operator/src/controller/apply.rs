//! Fourth step: makes the API server have the objects as they were built, and nothing else of this mirror.
//!
//! Always by server-side apply of the whole object, which also removes what we no longer set. Nothing is sent for what is
//! known to be so. An object of the same name that is not this mirror's is never taken over.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::api::{DeleteParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::{Api, Resource};
use larder_crds::names::{FIELD_MANAGER, MIRROR_LABEL};
use larder_crds::{API_VERSION, KIND};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time;

use super::build::{Applied, MANAGED_BY_LABEL, Prepared, Resources};
use super::dereference::is_owned;
use super::memory::{Need, digest, fingerprint};
use super::{Context, Error};

/// How long the watch may take to show what was applied, and how often it is looked at.
const SEEN_WITHIN_MAX: Duration = Duration::from_secs(2);
const SEEN_POLL: Duration = Duration::from_millis(10);

/// What all our kinds of objects are.
pub(super) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + k8s_openapi::Resource
    + Metadata<Ty = ObjectMeta>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
{
}

impl Object for ConfigMap {}
impl Object for DaemonSet {}
impl Object for Service {}
impl Object for ServiceAccount {}

/// Applies the objects, or says why the API server refuses one: then what comes after it stays as it was.
///
/// # Errors
/// When the API server does not answer, or has an error of its own.
pub async fn apply(
    prepared: Resources<Prepared>,
    context: &Context,
) -> Result<Result<Resources<Applied>, Refused>, Error> {
    // Without `..`, so that an object added there cannot be forgotten here. What others need goes first.
    let Resources {
        service_account,
        config_map,
        service,
        daemon_set,
        state: PhantomData,
    } = prepared;
    let owned = &context.owned;
    let applied = Box::pin(async {
        let service_account = one(service_account, &owned.service_accounts, context).await?;
        let config_map = one(config_map, &owned.config_maps, context).await?;
        let service = one(service, &owned.services, context).await?;
        let daemon_set = one(daemon_set, &owned.daemon_sets, context).await?;
        Ok(Resources {
            service_account,
            config_map,
            service,
            daemon_set,
            state: PhantomData,
        })
    });
    let applied = match applied.await {
        Ok(applied) => applied,
        Err(Failure::Refused(refused)) => return Ok(Err(refused)),
        Err(Failure::Error(error)) => return Err(error),
    };
    remove_orphans(context).await?;
    Ok(Ok(applied))
}

/// Why an object is not there as it should be, where trying again is of little use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The API server refuses it, or it is not ours to change.
    #[error("{0}")]
    Because(String),
    /// The operator's namespace is going, and takes nothing new.
    #[error("the operator's namespace is being deleted")]
    NamespaceTerminating,
}

enum Failure {
    Refused(Refused),
    Error(Error),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Applies one object, unless it is known to be so. Returns what the API server has.
async fn one<K, L>(desired: K, store: &Store<L>, context: &Context) -> Result<K, Failure>
where
    K: Object,
    L: Known<K>,
{
    let kind = K::KIND;
    let name = Metadata::metadata(&desired).name.clone().unwrap_or_default();
    let uid = owner_uid(Metadata::metadata(&desired));
    let found = store.get(&ObjectRef::new(&name).within(&context.options.namespace));
    let live = found.as_deref().map(Resource::meta);
    let digest = digest(&desired).map_err(|error| Error::Apply(kind, kube::Error::SerdeError(error)))?;
    match context.memory.need(&uid, kind, digest, live) {
        Need::Apply => {}
        Need::Nothing => return Ok(found.and_then(|found| found.whole()).unwrap_or(desired)),
        Need::Refused(message) => return Err(Refused::Because(message).into()),
    }
    let api = Api::<K>::namespaced(context.client.clone(), &context.options.namespace);
    if live.is_none_or(|live| !is_owned(live, &uid)) {
        may_take(&api, &name, &uid).await?;
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(&name, &parameters, &Patch::Apply(&desired)).await {
        Ok(applied) => {
            let after = Metadata::metadata(&applied);
            tracing::info!(kind, name, "applied");
            context.memory.applied(&uid, kind, digest, after);
            if live.map(fingerprint) != Some(fingerprint(after)) {
                seen(store, &name, live.map(fingerprint), context).await;
            }
            Ok(applied)
        }
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            let message = format!("{kind} {name}: {}", status.message);
            if is_terminating(&status) {
                return Err(Refused::NamespaceTerminating.into());
            }
            let is_forbidden = status.is_forbidden();
            context.memory.refused(&uid, kind, digest, &message, is_forbidden);
            Err(Refused::Because(message).into())
        }
        Err(error) => Err(Error::Apply(kind, error).into()),
    }
}

/// Waits until the watch shows another state of the object than `before`, lest the next reconcile takes what it just made
/// for missing. A watch that is interrupted shows it later.
async fn seen<K, L: Known<K>>(store: &Store<L>, name: &str, before: Option<u64>, context: &Context) {
    let reference = ObjectRef::new(name).within(&context.options.namespace);
    let waiting = async {
        while store.get(&reference).map(|found| fingerprint(found.meta())) == before {
            time::sleep(SEEN_POLL).await;
        }
    };
    // All it costs is a request that changes nothing.
    let _ = time::timeout(SEEN_WITHIN_MAX, waiting).await;
}

/// Whether the name is free, or the object ours with its label lost.
async fn may_take<K: Object>(api: &Api<K>, name: &str, uid: &str) -> Result<(), Failure> {
    let kind = K::KIND;
    let found = api.get_metadata_opt(name).await;
    let Some(found) = found.map_err(|error| Error::Apply(kind, error))? else {
        return Ok(());
    };
    if is_owned(&found.metadata, uid) {
        return Ok(());
    }
    let is_predecessor = found
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.api_version == API_VERSION && owner.kind == KIND);
    if is_predecessor {
        // The garbage collector removes it.
        return Err(Error::Predecessor(kind).into());
    }
    let message =
        format!("{kind} {name} exists and was not made by this operator; remove it or rename the mirror");
    Err(Refused::Because(message).into())
}

fn is_terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether the API server will say the same again, as opposed to having trouble of its own.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422)
}

fn owner_uid(metadata: &ObjectMeta) -> String {
    let owners = metadata.owner_references.iter().flatten();
    owners.map(|owner| owner.uid.clone()).next().unwrap_or_default()
}

/// What a watch keeps of a kind.
trait Known<K>: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + 'static {
    /// The object, where all of it is kept.
    fn whole(&self) -> Option<K>;
}

impl Known<DaemonSet> for DaemonSet {
    fn whole(&self) -> Option<DaemonSet> {
        Some(self.clone())
    }
}

impl<K: Object + 'static> Known<K> for PartialObjectMeta<K> {
    fn whole(&self) -> Option<K> {
        None
    }
}

/// Removes all objects that bear our labels and belong to no mirror, or are not what a mirror's objects are called.
///
/// # Errors
/// When one cannot be removed.
pub(crate) async fn remove_orphans(context: &Context) -> Result<(), Error> {
    let owned = &context.owned;
    // Exhaustive, as above.
    let super::dereference::Owned {
        daemon_sets,
        config_maps,
        services,
        service_accounts,
    } = owned;
    remove_orphans_of::<DaemonSet, _>(daemon_sets, context).await?;
    remove_orphans_of::<Service, _>(services, context).await?;
    remove_orphans_of::<ConfigMap, _>(config_maps, context).await?;
    remove_orphans_of::<ServiceAccount, _>(service_accounts, context).await
}

async fn remove_orphans_of<K: Object, L: Known<K>>(store: &Store<L>, context: &Context) -> Result<(), Error> {
    let orphans = store
        .state()
        .into_iter()
        .filter(|object| is_orphan(object.meta(), context));
    let orphans: Vec<Arc<L>> = orphans.collect();
    let api = Api::<K>::namespaced(context.client.clone(), &context.options.namespace);
    for orphan in orphans {
        remove(&api, orphan.meta()).await?;
    }
    Ok(())
}

fn is_orphan(object: &ObjectMeta, context: &Context) -> bool {
    let label = |name: &str| object.labels.as_ref()?.get(name).map(String::as_str);
    let Some(mirror) = label(MIRROR_LABEL).filter(|_| label(MANAGED_BY_LABEL) == Some(FIELD_MANAGER)) else {
        return false;
    };
    let is_being_removed = object.deletion_timestamp.is_some();
    let is_named_so = object.name.as_deref() == Some(super::build::object_name(mirror).as_str());
    let exists = context.mirrors.get(&ObjectRef::new(mirror)).is_some();
    let is_wanted = is_named_so && exists;
    !(is_being_removed || is_wanted)
}

/// Removes an object together with what belongs to it, unless it has been replaced.
pub(super) async fn remove<K: Object>(api: &Api<K>, object: &ObjectMeta) -> Result<(), Error> {
    let name = object.name.as_deref().unwrap_or_default();
    let parameters = DeleteParams::foreground().preconditions(Preconditions {
        uid: object.uid.clone(),
        resource_version: None,
    });
    let kind = K::KIND;
    match api.delete(name, &parameters).await {
        Ok(_) => {
            tracing::info!(kind, name, "removed");
            Ok(())
        }
        // It is gone, or is another one by now.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(Error::Remove(kind, error)),
    }
}
