//! Who leads among several operators: the one whose name is in the Lease.
//!
//! The record is taken and renewed by updates that carry the version just read, so of two candidates the API server lets
//! one win. Clocks are never compared: a record is dead when it has not changed for its whole duration *while this
//! process watched*, by its own monotonic clock. A leader stops well before others may take over; that two lead for a
//! moment all the same (a process that was stopped in between) must be harmless, and is: all they do is apply.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use larder_crds::names::FIELD_MANAGER;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

/// The name of the Lease.
pub const LEASE_NAME: &str = "larder-operator";

/// For how long a record that nobody renews keeps others away.
const DURATION_SECONDS: i32 = 15;
/// How often the leader renews it.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How often a candidate looks, and a leader that could not renew tries again.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// How long a leader goes on without renewing: the rest of the duration is for what is still on its way.
const LEAD_WITHOUT_RENEWAL_MAX: Duration = Duration::from_secs(13);
/// How long one request may take: an API server under load needs seconds, and asking it again sooner only adds to that.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why this process must no longer lead: it should end, and start anew as a candidate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// The record could not be renewed in time.
    #[error("the lease {LEASE_NAME} could not be renewed for {} s", LEAD_WITHOUT_RENEWAL_MAX.as_secs())]
    Expired,
    /// Somebody else holds it.
    #[error("the lease {LEASE_NAME} is held by {0}")]
    Taken(String),
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    #[error("the API server refused")]
    Api(#[from] kube::Error),
}

/// One that wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    /// The record last seen, and when it was first seen so.
    observed: Option<(LeaseSpec, Instant)>,
    /// The Lease as our own last update left it, unless somebody may have changed it since.
    own: Option<Lease>,
}

/// One that leads; see [`Leader::hold`].
pub struct Leader {
    candidate: Candidate,
    renewed: Instant,
}

impl Candidate {
    /// `identity` must be this process's alone: the pod's name.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            observed: None,
            own: None,
        }
    }

    /// Waits until this process leads, however long the API server is away.
    pub async fn lead(mut self) -> Leader {
        loop {
            let renewed = Instant::now();
            match self.attempt().await {
                Ok(None) => {
                    tracing::info!(identity = self.identity, "leading");
                    return Leader {
                        candidate: self,
                        renewed,
                    };
                }
                Ok(Some(holder)) => tracing::debug!(holder, "standing by"),
                Err(error) => warn("cannot take the lease", &error),
            }
            time::sleep(RETRY_EVERY).await;
        }
    }

    /// Takes or renews the Lease. Returns who else holds it, if somebody does.
    async fn attempt(&mut self) -> Result<Option<String>, Error> {
        let known = match self.own.take() {
            Some(lease) => Some(lease),
            None => answer(self.api.get_opt(LEASE_NAME)).await?,
        };
        let Some(mut lease) = known else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE_NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.record(&LeaseSpec::default())),
            };
            self.own = Some(answer(self.api.create(&parameters(), &lease)).await?);
            return Ok(None);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if let Some(holder) = self.other_holder(&spec) {
            return Ok(Some(holder));
        }
        lease.spec = Some(self.record(&spec));
        self.own = Some(answer(self.api.replace(LEASE_NAME, &parameters(), &lease)).await?);
        Ok(None)
    }

    /// Who else holds this record, unless it is dead.
    fn other_holder(&mut self, spec: &LeaseSpec) -> Option<String> {
        let now = Instant::now();
        let first_seen = match &self.observed {
            Some((record, first_seen)) if record == spec => *first_seen,
            _ => {
                self.observed = Some((spec.clone(), now));
                now
            }
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return None;
        }
        let seconds = spec.lease_duration_seconds.unwrap_or(DURATION_SECONDS);
        let duration = Duration::from_secs(seconds.try_into().unwrap_or_default());
        (now < first_seen + duration).then(|| holder.to_owned())
    }

    /// The record by which this process leads, after this one.
    fn record(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: now.clone(),
            acquire_time: if is_ours { before.acquire_time.clone() } else { now },
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }

    /// Lets the next candidate lead at once. Without an answer it will have to wait.
    async fn give_up(mut self) {
        let Some(mut lease) = self.own.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match answer(self.api.replace(LEASE_NAME, &parameters(), &lease)).await {
            Ok(_) => tracing::info!("no longer leading"),
            Err(error) => warn("cannot give the lease up", &error),
        }
    }
}

impl Leader {
    /// Renews the Lease until `stop` is cancelled, then gives it up: cancel it when nothing is written any more.
    ///
    /// # Errors
    /// When this process must no longer lead.
    pub async fn hold(mut self, stop: CancellationToken) -> Result<(), Lost> {
        let mut pause = RENEW_EVERY;
        loop {
            if stop.run_until_cancelled(time::sleep(pause)).await.is_none() {
                self.candidate.give_up().await;
                return Ok(());
            }
            pause = self.renew().await?;
        }
    }

    /// Returns after which pause to renew again.
    async fn renew(&mut self) -> Result<Duration, Lost> {
        let deadline = self.renewed + LEAD_WITHOUT_RENEWAL_MAX;
        let started = Instant::now();
        match time::timeout_at(deadline, self.candidate.attempt()).await {
            Ok(Ok(None)) => {
                self.renewed = started;
                return Ok(RENEW_EVERY);
            }
            Ok(Ok(Some(holder))) => return Err(Lost::Taken(holder)),
            Ok(Err(error)) => warn("cannot renew the lease", &error),
            Err(_) => {}
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(Lost::Expired);
        }
        let retry = deadline.min(started + RETRY_EVERY);
        Ok(retry.saturating_duration_since(now))
    }
}

async fn answer<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Timeout),
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn warn(what: &str, error: &Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}

#[cfg(test)]
mod tests;
