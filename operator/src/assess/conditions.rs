//! The conditions of a mirror: of each its status, reason and message, and when its status last changed.

use jiff::Unit;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use larder_crds::{NodeCounts, Registry, Status};

use super::complaints::{Complaints, Telling};
use super::explain::Area;
use super::{Assessment, Refusal, failed_creation};

pub(super) const READY: &str = "Ready";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const DEGRADED: &str = "Degraded";
pub(super) const CREDENTIALS_RESOLVED: &str = "CredentialsResolved";
pub(super) const NODES_CONFIGURED: &str = "NodesConfigured";

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

const ROLLING_OUT: &str = "RollingOut";
const WITHDRAWING: &str = "Withdrawing";
const NO_NODES: &str = "NoNodes";

/// What the conditions are made from.
pub(super) struct Findings<'a> {
    assessment: &'a Assessment<'a>,
    complaints: &'a Complaints<'a>,
    counts: &'a NodeCounts,
    /// What keeps pulls from going through the caches, if anything does.
    trouble: Option<Telling>,
}

/// A condition without its type and times.
struct Judgement {
    status: &'static str,
    reason: String,
    message: String,
}

impl Judgement {
    fn new(status: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn of(status: &'static str, telling: &Telling) -> Self {
        Self::new(status, &telling.reason, telling.message.as_str())
    }
}

impl<'a> Findings<'a> {
    pub(super) fn new(
        assessment: &'a Assessment<'a>,
        complaints: &'a Complaints<'a>,
        counts: &'a NodeCounts,
    ) -> Self {
        let refusal = assessment.refusal.as_ref().map(refused);
        let failed = assessment.failed_creation;
        let failed = failed.map(|message| failed_creation::telling(message, assessment.namespace));
        let trouble = refusal
            .or(failed)
            .or_else(|| complaints.telling(counts.desired, None));
        Self {
            assessment,
            complaints,
            counts,
            trouble,
        }
    }

    /// All of them, in an order that never changes.
    pub(super) fn conditions(&self, previous: &Status) -> Vec<Condition> {
        let judgements = [
            (READY, self.ready(previous)),
            (PROGRESSING, self.progressing()),
            (DEGRADED, self.degraded()),
            (CREDENTIALS_RESOLVED, self.credentials_resolved()),
            (NODES_CONFIGURED, self.nodes_configured()),
        ];
        judgements
            .into_iter()
            .map(|(type_, judgement)| self.condition(type_, judgement, previous))
            .collect()
    }

    fn condition(&self, type_: &str, judgement: Judgement, previous: &Status) -> Condition {
        let before = find(previous, type_).filter(|before| before.status == judgement.status);
        let now = self.assessment.now;
        let now = || Time(now.round(Unit::Second).unwrap_or(now));
        Condition {
            type_: type_.to_owned(),
            status: judgement.status.to_owned(),
            reason: judgement.reason,
            message: judgement.message,
            observed_generation: self.assessment.mirror.metadata.generation,
            last_transition_time: before.map_or_else(now, |before| before.last_transition_time.clone()),
        }
    }

    fn ready(&self, previous: &Status) -> Judgement {
        let NodeCounts { desired, ready, .. } = *self.counts;
        if let Some(leaving) = self.leaving(FALSE) {
            return leaving;
        }
        if let Some(trouble) = &self.trouble {
            return Judgement::of(FALSE, trouble);
        }
        if self.is_rolled_out() {
            return match desired {
                0 => Judgement::new(TRUE, NO_NODES, "no node is selected by spec.node"),
                _ => Judgement::new(TRUE, "NodesServe", "every node pulls through its cache"),
            };
        }
        // Nodes come and go all the time in a large cluster: that alone does not make a mirror unready.
        let generation = self.assessment.mirror.metadata.generation;
        let was_ready = find(previous, READY).is_some_and(|before| before.status == TRUE);
        if was_ready && previous.observed_generation == generation && ready > 0 {
            let message =
                format!("{ready} of {desired} nodes pull through their caches, the others are starting");
            return Judgement::new(TRUE, "NodesServe", message);
        }
        Judgement::new(FALSE, ROLLING_OUT, self.progress())
    }

    fn progressing(&self) -> Judgement {
        if let Some(leaving) = self.leaving(TRUE) {
            return leaving;
        }
        if let Some(refusal) = self.assessment.refusal.as_ref().map(refused) {
            return Judgement::of(FALSE, &refusal);
        }
        if self.is_rolled_out() {
            return Judgement::new(
                FALSE,
                "RolledOut",
                "every node works by the current specification",
            );
        }
        Judgement::new(TRUE, ROLLING_OUT, self.progress())
    }

    fn degraded(&self) -> Judgement {
        match &self.trouble {
            Some(trouble) => Judgement::of(TRUE, trouble),
            None => Judgement::new(
                FALSE,
                "AsExpected",
                "nothing keeps pulls from going through the caches",
            ),
        }
    }

    fn credentials_resolved(&self) -> Judgement {
        if let Some(telling) = self.about(Area::Credentials) {
            return Judgement::of(FALSE, &telling);
        }
        if !self.assessment.mirror.spec.registries.iter().any(names_objects) {
            let message = "the specification names no Secret and no certificate authorities";
            return Judgement::new(TRUE, "NoneNamed", message);
        }
        if self.counts.updated == 0 {
            return Judgement::new(UNKNOWN, "NoReports", "no node has read them yet");
        }
        Judgement::new(TRUE, "Resolved", "nodes have what the specification names")
    }

    fn nodes_configured(&self) -> Judgement {
        if let Some(telling) = self.about(Area::NodeConfig) {
            return Judgement::of(FALSE, &telling);
        }
        if self.assessment.is_observed() && self.counts.desired == 0 {
            return Judgement::new(TRUE, NO_NODES, "no node is selected by spec.node");
        }
        if self.counts.updated == 0 {
            return Judgement::new(UNKNOWN, "NoReports", "no node has reported yet");
        }
        Judgement::new(
            TRUE,
            "Configured",
            "the runtimes of nodes that report are pointed at their caches",
        )
    }

    /// While the mirror is being deleted.
    fn leaving(&self, status: &'static str) -> Option<Judgement> {
        let NodeCounts { desired, updated, .. } = self.counts;
        self.assessment.is_leaving().then(|| {
            let message = format!("{updated} of {desired} nodes are as they were found");
            Judgement::new(status, WITHDRAWING, message)
        })
    }

    fn about(&self, area: Area) -> Option<Telling> {
        self.complaints.telling(self.counts.desired, Some(area))
    }

    fn is_rolled_out(&self) -> bool {
        let NodeCounts {
            desired,
            ready,
            updated,
            ..
        } = *self.counts;
        self.assessment.is_observed() && ready == desired && updated == desired
    }

    fn progress(&self) -> String {
        let NodeCounts {
            desired,
            ready,
            updated,
            ..
        } = self.counts;
        if !self.assessment.is_observed() {
            return "the pods are about to be created".to_owned();
        }
        format!(
            "{ready} of {desired} nodes pull through their caches, {updated} work by the current specification"
        )
    }
}

/// The condition of this type.
pub(super) fn find<'a>(status: &'a Status, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

fn refused(refusal: &Refusal) -> Telling {
    let (reason, message) = match refusal {
        Refusal::Spec(message) => ("SpecRefused", format!("the specification is refused: {message}")),
        Refusal::Apply(message) => (
            "ApplyRefused",
            format!("the API server refuses the mirror's objects: {message}"),
        ),
    };
    Telling {
        reason: reason.to_owned(),
        message: super::bounded(message),
    }
}

/// Whether it needs Secrets or ConfigMaps.
fn names_objects(registry: &Registry) -> bool {
    let own = !registry.credentials.is_empty() || registry.tls.ca_bundle.is_some();
    let endpoints = registry.endpoints.iter();
    own || endpoints
        .into_iter()
        .any(|endpoint| !endpoint.credentials.is_empty() || endpoint.tls.ca_bundle.is_some())
}

/// Whether a condition holds.
pub(super) fn holds(condition: &Condition) -> bool {
    condition.status == TRUE
}

/// Whether it is known not to.
pub(super) fn fails(condition: &Condition) -> bool {
    condition.status == FALSE
}
