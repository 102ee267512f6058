//! Carries out RegistryMirrors: dereference, validate, build, apply, update the status; and, when one is deleted, withdraw.
//!
//! Only the first, fourth and fifth step talk to the API server; those between are pure. What a step needs of the one
//! before it is in its types.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod memory;
pub mod update_status;
pub mod validate;
pub mod withdraw;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use larder_crds::names::{FIELD_MANAGER, FINALIZER};
use larder_crds::{RegistryMirror, Spec};
use larder_program::chain;
use serde_json::json;
use tokio::time::{self, Instant};

use crate::assess::Refusal;
use crate::cli::CacheOptions;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use build::Purpose;
use dereference::Owned;
use memory::Memory;

/// A mirror, or the metadata of one that this version cannot read: it must not stop the others.
pub type Guarded = DeserializeGuard<RegistryMirror>;

/// How often a mirror is looked at when nothing seems to change.
pub(crate) const RESYNC: Duration = Duration::from_secs(600);
/// How long one attempt may take.
const RECONCILE_MAX: Duration = Duration::from_secs(60);

/// What reconciling needs.
pub struct Context {
    /// Of the API server.
    pub client: Client,
    /// What objects are made from besides mirrors.
    pub options: CacheOptions,
    /// All mirrors.
    pub mirrors: Store<Guarded>,
    /// All objects of ours.
    pub owned: Owned,
    /// What is known of the nodes.
    pub nodes: Nodes,
    /// Publishes Events.
    pub recorder: Recorder,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What was done before.
    pub memory: Memory,
}

impl Context {
    pub(crate) fn mirrors_api(&self) -> Api<Guarded> {
        Api::all(self.client.clone())
    }
}

/// Why a reconcile did not come to its end. It is tried again, ever later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Looking at what is there.
    #[error("cannot look at what is there")]
    Dereference(#[source] kube::Error),
    /// The document cannot be written.
    #[error("cannot write the document")]
    Build(#[from] serde_saphyr::ser::Error),
    /// Applying an object.
    #[error("cannot apply the {0}")]
    Apply(&'static str, #[source] kube::Error),
    /// Objects of a mirror of the same name that is gone are still being removed.
    #[error("the {0} of a former mirror of this name is still there")]
    Predecessor(&'static str),
    /// Removing what is no longer needed.
    #[error("cannot remove a {0}")]
    Remove(&'static str, #[source] kube::Error),
    /// Changing the mirror's finalizers.
    #[error("cannot change the finalizers")]
    Finalizer(#[source] kube::Error),
    /// The API server takes too long to answer.
    #[error("the API server did not answer within {} s", RECONCILE_MAX.as_secs())]
    Timeout,
    /// Writing the mirror's status.
    #[error("cannot write the status")]
    UpdateStatus(#[source] kube::Error),
}

impl Error {
    /// The kind, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Build(_) => "build",
            Self::Apply(..) => "apply",
            Self::Predecessor(_) => "predecessor",
            Self::Remove(..) => "remove",
            Self::Finalizer(_) => "finalizer",
            Self::Timeout => "timeout",
            Self::UpdateStatus(_) => "update_status",
        }
    }
}

/// Brings the cluster closer to what the mirror asks for.
///
/// # Errors
/// See [`Error`]; what the specification itself is to blame for is no error, but said in the status.
pub async fn reconcile(mirror: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let result = time::timeout(RECONCILE_MAX, Box::pin(step(&mirror, &context))).await;
    let result = result.unwrap_or(Err(Error::Timeout));
    let outcome = if result.is_ok() { "ok" } else { "error" };
    context.metrics.reconcile(outcome, started.elapsed());
    if result.is_ok() {
        context.memory.succeeded(&mirror.uid().unwrap_or_default());
    }
    result
}

/// When to try again after an error: ever later, up to a cap.
pub fn error_policy(mirror: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.error(error.label());
    let delay = context.memory.failed(&mirror.uid().unwrap_or_default());
    let error = chain(error);
    tracing::warn!(
        mirror = mirror.name_any(),
        error,
        retry_seconds = delay.as_secs_f64(),
        "cannot reconcile"
    );
    Action::requeue(delay)
}

async fn step(guarded: &Guarded, context: &Context) -> Result<Action, Error> {
    let metadata = guarded.meta();
    if metadata.deletion_timestamp.is_some() {
        return Box::pin(withdraw::withdraw(guarded, context, Timestamp::now())).await;
    }
    let mirror = match &guarded.0 {
        Ok(mirror) => mirror,
        Err(unreadable) => {
            let refusal = format!("this version of Larder cannot read it: {}", unreadable.error);
            let mirror = bare(metadata);
            return update_status::update(&mirror, None, Some(Refusal::Spec(refusal)), context).await;
        }
    };
    if !has_finalizer(metadata) {
        set_finalizer(metadata, true, context).await?;
    }
    let validated = match validate::validate(mirror, &context.options) {
        Ok(validated) => validated,
        Err(invalid) => {
            let refusal = Some(Refusal::Spec(invalid.to_string()));
            let found = context.owned.daemon_set(metadata, &context.options.namespace);
            return update_status::update(mirror, found.as_deref(), refusal, context).await;
        }
    };
    let prepared = build::build(&validated, Purpose::Serve, &context.options)?;
    match apply::apply(prepared, context).await? {
        Ok(applied) => update_status::update(mirror, Some(&applied.daemon_set), None, context).await,
        Err(refused) => {
            let found = context.owned.daemon_set(metadata, &context.options.namespace);
            let refusal = Some(Refusal::Apply(refused.to_string()));
            update_status::update(mirror, found.as_deref(), refusal, context).await
        }
    }
}

/// A mirror of which nothing but its metadata could be read.
fn bare(metadata: &ObjectMeta) -> RegistryMirror {
    RegistryMirror {
        metadata: metadata.clone(),
        spec: Spec::default(),
        status: None,
    }
}

fn has_finalizer(metadata: &ObjectMeta) -> bool {
    metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Adds or removes our finalizer, unless the mirror has changed since it was read.
async fn set_finalizer(metadata: &ObjectMeta, wanted: bool, context: &Context) -> Result<(), Error> {
    let mut finalizers: Vec<_> = metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {
        "resourceVersion": metadata.resource_version,
        "finalizers": finalizers,
    }});
    let name = metadata.name.as_deref().unwrap_or_default();
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patched = context
        .mirrors_api()
        .patch(name, &parameters, &Patch::Merge(patch))
        .await;
    match patched {
        Ok(_) => Ok(()),
        // Gone: there is nothing to keep any more.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::Finalizer(error)),
    }
}

#[cfg(test)]
mod tests;
