//! Fifth step: says how the mirror is. What there is to say is judged in [`crate::assess`]; here it is written, when it
//! has changed, and not too often.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};
use larder_crds::RegistryMirror;
use larder_crds::names::FIELD_MANAGER;
use serde_json::json;

use super::memory::REFUSED_RETRY_MAX;
use super::{Context, Error, RESYNC, dereference};
use crate::assess::{Assessment, Notice, Refusal};

/// How soon to look again where nobody tells: for Events of a DaemonSet that cannot create its pods.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The longest note of an Event, in bytes: the API server's own limit.
const NOTE_BYTES_MAX: usize = 1024;

/// Writes the status, unless it is so already. Returns when to look again.
///
/// # Errors
/// When the API server does not answer.
pub async fn update(
    mirror: &RegistryMirror,
    daemon_set: Option<&DaemonSet>,
    refusal: Option<Refusal>,
    context: &Context,
) -> Result<Action, Error> {
    let failed_creation = dereference::failed_creation(daemon_set, context).await?;
    let uid = mirror.uid().unwrap_or_default();
    let look_again = match &refusal {
        Some(Refusal::Spec(_)) => RESYNC,
        Some(Refusal::Apply(_)) => {
            let ends_in = context.memory.refusal_ends_in(&uid);
            ends_in.unwrap_or(REFUSED_RETRY_MAX)
        }
        None if daemon_set.is_some_and(dereference::lacks_pods) => LOOK_AGAIN,
        None => RESYNC,
    };
    let assessed = Assessment {
        now: Timestamp::now(),
        namespace: &context.options.namespace,
        mirror,
        previous: mirror.status.as_ref(),
        mirrors: &dereference::mirrors(context),
        daemon_set,
        survey: &context.nodes.of(mirror),
        refusal,
        failed_creation: failed_creation.as_deref(),
    }
    .assess();
    context.metrics.nodes(&mirror.name_any(), &assessed.status.nodes);
    if mirror.status.as_ref() == Some(&assessed.status) {
        return Ok(Action::requeue(look_again));
    }
    if let Some(wait) = context.memory.status_due_in(&uid) {
        return Ok(Action::requeue(wait));
    }
    let patch = Patch::Merge(json!({"status": assessed.status}));
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patched = context
        .mirrors_api()
        .patch_status(&mirror.name_any(), &parameters, &patch)
        .await;
    match patched {
        Ok(_) => {}
        // Deleted in the middle.
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Action::await_change()),
        Err(error) => return Err(Error::UpdateStatus(error)),
    }
    context.memory.status_written(&uid);
    context.metrics.status_write();
    for notice in assessed.notices {
        publish(mirror, notice, context).await;
    }
    Ok(Action::requeue(look_again))
}

/// Publishes an Event about the mirror. One that gets lost is no reason to do everything again.
pub(super) async fn publish(mirror: &RegistryMirror, notice: Notice, context: &Context) {
    let mut note = notice.message;
    note.truncate(note.floor_char_boundary(NOTE_BYTES_MAX));
    let event = Event {
        type_: if notice.is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: notice.reason,
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let published = context.recorder.publish(&event, &mirror.object_ref(&())).await;
    if let Err(error) = published {
        let error = larder_program::chain(&error);
        tracing::warn!(mirror = mirror.name_any(), error, "cannot publish an Event");
    }
}
