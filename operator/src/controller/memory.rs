//! What the operator did before and need not do again, per mirror. Losing it costs a few requests that change nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::ObjectMeta;
use serde::Serialize;
use tokio::time::Instant;

/// The first wait after an error; each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How much of a wait is left to chance, so that mirrors do not come all at once.
const JITTER: f64 = 0.2;
/// How soon it is tried again what a policy or quota has refused: the API server learns of changed ones about a second
/// late. Each further wait is twice as long.
const FORBIDDEN_RETRY_MIN: Duration = Duration::from_secs(2);
/// How soon it is tried again what the API server has called wrong, and the longest wait after any refusal.
pub(super) const REFUSED_RETRY_MAX: Duration = Duration::from_secs(300);
/// How soon a mirror's status may be written again.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// What was done, by the mirror's UID.
#[derive(Default)]
pub struct Memory {
    mirrors: Mutex<HashMap<String, Mirror>>,
}

#[derive(Default)]
struct Mirror {
    failures: u32,
    status_written: Option<Instant>,
    applied: HashMap<&'static str, Done>,
}

/// What came of applying an object.
enum Done {
    Applied { desired: u64, after: u64 },
    Refused(Refusal),
}

struct Refusal {
    desired: u64,
    message: String,
    at: Instant,
    retry: Duration,
}

impl Refusal {
    /// How long it still holds.
    fn ends_in(&self) -> Option<Duration> {
        let left = self.retry.checked_sub(self.at.elapsed());
        left.filter(|left| !left.is_zero())
    }
}

/// Whether an object must be applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Apply,
    Nothing,
    /// The API server has refused this a short time ago, saying so.
    Refused(String),
}

impl Memory {
    fn mirrors(&self) -> MutexGuard<'_, HashMap<String, Mirror>> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all mirrors but these.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.mirrors().retain(|uid, _| is_there(uid));
    }

    pub(super) fn succeeded(&self, uid: &str) {
        if let Some(mirror) = self.mirrors().get_mut(uid) {
            mirror.failures = 0;
        }
    }

    /// How long to wait after this error.
    pub(super) fn failed(&self, uid: &str) -> Duration {
        let mut mirrors = self.mirrors();
        let mirror = mirrors.entry(uid.to_owned()).or_default();
        let wait = BACKOFF_MIN.saturating_mul(1_u32.checked_shl(mirror.failures).unwrap_or(u32::MAX));
        mirror.failures = mirror.failures.saturating_add(1);
        wait.min(BACKOFF_MAX).mul_f64(1.0 - JITTER * fastrand::f64())
    }

    /// How long a change of the status must wait.
    pub(super) fn status_due_in(&self, uid: &str) -> Option<Duration> {
        let written = self.mirrors().get(uid)?.status_written?;
        STATUS_EVERY
            .checked_sub(written.elapsed())
            .filter(|wait| !wait.is_zero())
    }

    pub(super) fn status_written(&self, uid: &str) {
        self.mirrors().entry(uid.to_owned()).or_default().status_written = Some(Instant::now());
    }

    pub(super) fn need(&self, uid: &str, kind: &str, desired: u64, live: Option<&ObjectMeta>) -> Need {
        let mirrors = self.mirrors();
        match mirrors.get(uid).and_then(|mirror| mirror.applied.get(kind)) {
            Some(Done::Applied { desired: was, after }) if *was == desired => {
                let is_ours = live.is_some_and(|live| fingerprint(live) == *after);
                if is_ours { Need::Nothing } else { Need::Apply }
            }
            Some(Done::Refused(refusal)) if refusal.desired == desired && refusal.ends_in().is_some() => {
                Need::Refused(refusal.message.clone())
            }
            _ => Need::Apply,
        }
    }

    pub(super) fn applied(&self, uid: &str, kind: &'static str, desired: u64, after: &ObjectMeta) {
        let after = fingerprint(after);
        self.done(uid, kind, Done::Applied { desired, after });
    }

    /// `is_forbidden` as opposed to wrong: then it is tried again soon, and ever later.
    pub(super) fn refused(
        &self,
        uid: &str,
        kind: &'static str,
        desired: u64,
        message: &str,
        is_forbidden: bool,
    ) {
        let again = match self
            .mirrors()
            .get(uid)
            .and_then(|mirror| mirror.applied.get(kind))
        {
            Some(Done::Refused(before)) if before.desired == desired => before.retry.saturating_mul(2),
            _ => FORBIDDEN_RETRY_MIN,
        };
        let refusal = Refusal {
            desired,
            message: message.to_owned(),
            at: Instant::now(),
            retry: if is_forbidden {
                again.min(REFUSED_RETRY_MAX)
            } else {
                REFUSED_RETRY_MAX
            },
        };
        self.done(uid, kind, Done::Refused(refusal));
    }

    /// When something of the mirror's that was refused may be tried again.
    pub(super) fn refusal_ends_in(&self, uid: &str) -> Option<Duration> {
        let mirrors = self.mirrors();
        let done = mirrors.get(uid)?.applied.values();
        done.filter_map(|done| match done {
            Done::Refused(refusal) => refusal.ends_in(),
            Done::Applied { .. } => None,
        })
        .min()
    }

    fn done(&self, uid: &str, kind: &'static str, done: Done) {
        let mut mirrors = self.mirrors();
        mirrors
            .entry(uid.to_owned())
            .or_default()
            .applied
            .insert(kind, done);
    }
}

/// What tells one state of an object from another, as far as it is ours to care for.
///
/// Every change gives a new resource version, but so does every change of a DaemonSet's status. What has a generation tells
/// changes of its specification by that; what of the metadata we set is then compared as it is.
pub(super) fn fingerprint(metadata: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    metadata.uid.hash(&mut hasher);
    metadata.deletion_timestamp.is_some().hash(&mut hasher);
    if metadata.generation.is_some() {
        metadata.generation.hash(&mut hasher);
        metadata.labels.hash(&mut hasher);
        metadata.annotations.hash(&mut hasher);
        for owner in metadata.owner_references.iter().flatten() {
            (&owner.uid, owner.controller, owner.block_owner_deletion).hash(&mut hasher);
        }
    } else {
        metadata.resource_version.hash(&mut hasher);
    }
    hasher.finish()
}

/// What tells one desired object from another.
pub(super) fn digest(desired: &impl Serialize) -> serde_json::Result<u64> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(desired)?.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests;
