//! What a leader does: watches, reconciles, and asks nodes, until it is told to stop.

use std::convert::Infallible;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::stream::{BoxStream, select_all};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future};
use kube::api::PartialObjectMeta;
use kube::runtime::controller::{ReconcileRequest, trigger_owners, trigger_self};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, applier};
use kube::{Api, Client, Resource, ResourceExt as _};
use larder_crds::names::{FIELD_MANAGER, MIRROR_LABEL};
use larder_program::chain;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::cli::CacheOptions;
use crate::controller::dereference::Owned;
use crate::controller::memory::Memory;
use crate::controller::{Context, Guarded, RESYNC, apply, error_policy, reconcile};
use crate::metrics::Metrics;
use crate::nodes::Nodes;

/// How many mirrors are reconciled at once.
const MIRRORS_AT_ONCE: u16 = 4;

type Trigger = Result<ReconcileRequest<Guarded>, Infallible>;

/// A leader that is put together, and does nothing until it is run.
pub(crate) struct Lead {
    /// What it works with.
    pub(crate) context: Arc<Context>,
    triggers: Vec<BoxStream<'static, Trigger>>,
}

impl Lead {
    /// `waits` is told what it waits for.
    pub(crate) fn new(
        client: Client,
        options: CacheOptions,
        metrics: Arc<Metrics>,
        waits: watch::Sender<Option<String>>,
    ) -> Self {
        let namespace = options.namespace.clone();
        let (mirrors, seen) = watch_mirrors(&client, Arc::clone(&metrics), waits);
        let (daemon_sets, of_daemon_sets) = watch_owned(&client, &namespace);
        let (config_maps, of_config_maps) = watch_owned::<PartialObjectMeta<_>>(&client, &namespace);
        let (services, of_services) = watch_owned::<PartialObjectMeta<_>>(&client, &namespace);
        let (service_accounts, of_service_accounts) =
            watch_owned::<PartialObjectMeta<_>>(&client, &namespace);
        let (nodes, changes) = Nodes::new(&namespace, Arc::clone(&metrics));
        let changes = changes.map(|mirror| Ok(ObjectRef::<Guarded>::new(&mirror.name).into()));
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: None,
        };
        let context = Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            options,
            mirrors,
            owned: Owned {
                daemon_sets,
                config_maps,
                services,
                service_accounts,
            },
            nodes,
            metrics,
            memory: Memory::default(),
        };
        let triggers = vec![
            seen,
            of_daemon_sets,
            of_config_maps,
            of_services,
            of_service_accounts,
            changes.boxed(),
        ];
        Self {
            context: Arc::new(context),
            triggers,
        }
    }

    /// Reconciles until `stop` is cancelled; what has begun by then is brought to its end.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { context, triggers } = self;
        let asking = context.nodes.clone().run(context.client.clone(), stop.clone());
        let asking = tokio::spawn(asking);
        let sweeping = stop
            .clone()
            .run_until_cancelled_owned(sweep(Arc::clone(&context)));
        let config = kube::runtime::Config::default().concurrency(MIRRORS_AT_ONCE);
        let queue = select_all(triggers).take_until(stop.cancelled_owned()).boxed();
        let store = context.mirrors.clone();
        let reconciling = applier(
            |mirror, context| Box::pin(reconcile(mirror, context)),
            error_policy,
            context,
            store,
            queue,
            config,
        )
        .for_each(async |_| {});
        // In one task: of several tasks that wait for a store's first list, kube wakes the one that asked last.
        tokio::join!(reconciling, sweeping);
        // It ends by the same token, and what it may have to say has been logged.
        let _ = asking.await;
    }
}

/// Removes what belongs to no mirror, and forgets those that are gone.
async fn sweep(context: Arc<Context>) {
    let mut every = time::interval(RESYNC);
    if context.mirrors.wait_until_ready().await.is_err() || !context.owned.wait_until_seen().await {
        return;
    }
    loop {
        every.tick().await;
        if let Err(error) = apply::remove_orphans(&context).await {
            tracing::warn!(error = chain(&error), "cannot remove what belongs to no mirror");
        }
        let mirrors = context.mirrors.state();
        context
            .memory
            .retain(|uid| mirrors.iter().any(|mirror| mirror.uid().as_deref() == Some(uid)));
    }
}

fn watch_mirrors(
    client: &Client,
    metrics: Arc<Metrics>,
    waits: watch::Sender<Option<String>>,
) -> (Store<Guarded>, BoxStream<'static, Trigger>) {
    let (store, writer) = reflector::store();
    let api = Api::<Guarded>::all(client.clone());
    let seen = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(Event::Delete(mirror)) = event {
                metrics.forget(&mirror.name_any());
            }
            let waits_for = match event {
                // Only an attempt begins.
                Ok(Event::Init) => return,
                Ok(_) => None,
                Err(watcher::Error::InitialListFailed(error)) => Some(what_is_missing(error)),
                // The watch begins again and, while nothing changes, never says that it has. An API server that is away
                // for long costs the lease.
                Err(_) => return,
            };
            waits.send_if_modified(|known| {
                let differs = *known != waits_for;
                known.clone_from(&waits_for);
                differs
            });
        });
    let seen = without_errors("RegistryMirrors", seen.applied_objects());
    (store, trigger_self(seen, ()).boxed())
}

fn watch_owned<K>(client: &Client, namespace: &str) -> (Store<K>, BoxStream<'static, Trigger>)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    K::DynamicType: Eq + Hash,
{
    let (store, writer) = reflector::store();
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let touched = watcher(api, watcher::Config::default().labels(MIRROR_LABEL))
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .touched_objects();
    let touched = without_errors("objects of mirrors", touched);
    // Mirrors have no namespace. With that of the object, a request is taken for one about another mirror, which may be
    // reconciled at the same time.
    let triggers = trigger_owners(touched, (), ()).map_ok(|mut request: ReconcileRequest<Guarded>| {
        request.obj_ref.namespace = None;
        request
    });
    (store, triggers.boxed())
}

/// The larger part of most objects, and of no use to us.
fn slim(object: &mut impl Resource) {
    object.meta_mut().managed_fields = None;
}

/// The watch recovers by itself; the log says from what.
fn without_errors<T>(
    what: &'static str,
    objects: impl Stream<Item = Result<T, watcher::Error>>,
) -> impl Stream<Item = Result<T, Infallible>> {
    objects.filter_map(move |object| {
        let object = object.inspect_err(|error| {
            tracing::warn!(what, error = chain(error), "the watch was interrupted");
        });
        future::ready(object.ok().map(Ok))
    })
}

fn what_is_missing(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            "the CustomResourceDefinition registrymirrors.larder.dev".to_owned()
        }
        error => format!("the API server: {}", chain(error)),
    }
}
