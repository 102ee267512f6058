//! What a person is told, for every way in which things can stand.

mod messages;
mod stability;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use larder_crds::{Credential, Registry, Spec};

use super::conditions::find;
use super::*;
use crate::nodes::{Finding, Report, Trouble};

const NOW: &str = "2026-11-21T10:00:00.25Z";
const LATER: &str = "2026-11-21T10:05:00Z";

/// A world with a mirror `simple`, generation 4, on nodes of which all is well.
struct World {
    mirror: RegistryMirror,
    others: Vec<Arc<RegistryMirror>>,
    daemon_set: Option<DaemonSet>,
    survey: Survey,
    refusal: Option<Refusal>,
    failed_creation: Option<&'static str>,
}

impl World {
    fn of(nodes: usize) -> Self {
        let nodes = (1..=nodes).map(|number| NodeState {
            node: format!("node{number}"),
            pod: format!("larder-mirror-simple-{number}"),
            is_ready: true,
            template_generation: Some(2),
            trouble: None,
            answer: reports(&[]),
        });
        let nodes: Vec<_> = nodes.collect();
        Self {
            mirror: mirror("simple", "uid-1"),
            others: Vec::new(),
            daemon_set: Some(daemon_set(nodes.len())),
            survey: Survey {
                is_complete: true,
                nodes,
            },
            refusal: None,
            failed_creation: None,
        }
    }

    /// All is well but for these findings on one node.
    fn with(mut self, node: usize, findings: &[(&str, &str, &str)]) -> Self {
        self.survey.nodes[node - 1].answer = reports(findings);
        self
    }

    fn with_trouble(mut self, node: usize, reason: &str, message: &str) -> Self {
        let node = &mut self.survey.nodes[node - 1];
        node.is_ready = false;
        node.answer = Answer::Unasked;
        node.trouble = Some(Trouble {
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
        self
    }

    fn without_report(mut self, node: usize, is_ready: bool, answer: Answer) -> Self {
        let node = &mut self.survey.nodes[node - 1];
        node.is_ready = is_ready;
        node.answer = answer;
        self
    }

    fn assess_after(&self, previous: Option<&Status>, now: &str) -> Assessed {
        let assessment = Assessment {
            now: now.parse().unwrap(),
            namespace: "larder-system",
            mirror: &self.mirror,
            previous,
            mirrors: &self.others,
            daemon_set: self.daemon_set.as_ref(),
            survey: &self.survey,
            refusal: self.refusal.clone(),
            failed_creation: self.failed_creation,
        };
        assessment.assess()
    }

    fn status(&self) -> Status {
        self.assess_after(None, NOW).status
    }
}

fn mirror(name: &str, uid: &str) -> RegistryMirror {
    let registry = Registry {
        host: "docker.io".to_owned(),
        credentials: vec![Credential {
            secret_name: "hub".to_owned(),
            repositories: vec!["acme/*".to_owned()],
        }],
        ..Registry::default()
    };
    let quay = Registry {
        host: "quay.io".to_owned(),
        ..Registry::default()
    };
    let spec = Spec {
        registries: vec![registry, quay],
        ..Spec::default()
    };
    let mut mirror = RegistryMirror::new(name, spec);
    mirror.metadata.uid = Some(uid.to_owned());
    mirror.metadata.generation = Some(4);
    mirror
}

fn daemon_set(desired: usize) -> DaemonSet {
    serde_json::from_value(serde_json::json!({
        "metadata": {"generation": 2, "annotations": {"deprecated.daemonset.template.generation": "2"}},
        "status": {
            "observedGeneration": 2, "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "numberMisscheduled": 0, "numberReady": desired,
        },
    }))
    .unwrap()
}

fn reports(findings: &[(&str, &str, &str)]) -> Answer {
    let findings = findings.iter().map(|(reason, registry, object)| Finding {
        reason: (*reason).to_owned(),
        registry: (*registry).to_owned(),
        object: (*object).to_owned(),
    });
    Answer::Report(Report {
        mirror: "uid-1".to_owned(),
        generation: Some(4),
        node_config_generation: Some(4),
        findings: findings.collect(),
    })
}

/// A condition as `status reason: message`.
fn shown(status: &Status, type_: &str) -> String {
    let Condition {
        status,
        reason,
        message,
        ..
    } = find(status, type_).unwrap();
    format!("{status} {reason}: {message}")
}

fn statuses(status: &Status) -> Vec<(&str, &str, &str)> {
    let conditions = status.conditions.iter();
    conditions.map(|c| (&*c.type_, &*c.status, &*c.reason)).collect()
}

fn notices(assessed: &Assessed) -> Vec<(bool, &str)> {
    let notices = assessed.notices.iter();
    notices
        .map(|notice| (notice.is_warning, &*notice.reason))
        .collect()
}

#[test]
fn all_is_well() {
    let status = World::of(3).status();
    let expected = [
        ("Ready", "True", "NodesServe"),
        ("Progressing", "False", "RolledOut"),
        ("Degraded", "False", "AsExpected"),
        ("CredentialsResolved", "True", "Resolved"),
        ("NodesConfigured", "True", "Configured"),
    ];
    assert_eq!(statuses(&status), expected);
    assert_eq!(status.observed_generation, Some(4));
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(4))
    );
    let time = Time("2026-11-21T10:00:00Z".parse().unwrap());
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.last_transition_time == time)
    );
    let counts = NodeCounts {
        desired: 3,
        ready: 3,
        updated: 3,
        summary: "3/3".to_owned(),
    };
    assert_eq!(status.nodes, counts);
    assert_eq!(status.registries, "docker.io,quay.io");
    assert_eq!(status.lagging_nodes, []);
}

#[test]
fn before_anything_is_made_everything_is_said_already() {
    let mut world = World::of(0);
    world.daemon_set = None;
    let assessed = world.assess_after(None, NOW);
    let expected = [
        ("Ready", "False", "RollingOut"),
        ("Progressing", "True", "RollingOut"),
        ("Degraded", "False", "AsExpected"),
        ("CredentialsResolved", "Unknown", "NoReports"),
        ("NodesConfigured", "Unknown", "NoReports"),
    ];
    assert_eq!(statuses(&assessed.status), expected);
    assert_eq!(notices(&assessed), [(false, "RollingOut")]);
}

#[test]
fn no_selected_node_is_no_fault() {
    let status = World::of(0).status();
    assert_eq!(
        shown(&status, "Ready"),
        "True NoNodes: no node is selected by spec.node"
    );
    assert_eq!(
        shown(&status, "NodesConfigured"),
        "True NoNodes: no node is selected by spec.node"
    );
}

#[test]
fn a_mirror_without_secrets_has_its_credentials() {
    let mut world = World::of(1);
    world.mirror.spec.registries[0].credentials.clear();
    assert!(shown(&world.status(), "CredentialsResolved").starts_with("True NoneNamed"));
}

#[test]
fn a_new_generation_is_ready_when_every_node_reports_it() {
    let mut world = World::of(3);
    let before = world.status();
    world.mirror.metadata.generation = Some(5);
    let rolling = world.assess_after(Some(&before), LATER);
    let message = "3 of 3 nodes pull through their caches, 0 work by the current specification";
    assert_eq!(
        shown(&rolling.status, "Ready"),
        format!("False RollingOut: {message}")
    );
    assert_eq!(rolling.status.nodes.updated, 0);
    assert_eq!(notices(&rolling), [(false, "RollingOut")]);
    for node in &mut world.survey.nodes {
        let Answer::Report(report) = &mut node.answer else {
            unreachable!()
        };
        report.generation = Some(5);
    }
    let cache_only = world.assess_after(Some(&rolling.status), LATER);
    assert_eq!(
        cache_only.status.nodes.updated, 0,
        "the runtime's configuration is an older one's"
    );
    for node in &mut world.survey.nodes {
        let Answer::Report(report) = &mut node.answer else {
            unreachable!()
        };
        report.node_config_generation = Some(5);
    }
    let done = world.assess_after(Some(&cache_only.status), LATER);
    assert!(shown(&done.status, "Ready").starts_with("True NodesServe"));
    assert_eq!(notices(&done), [(false, "Ready")]);
}

#[test]
fn a_node_that_is_added_does_not_make_the_mirror_unready() {
    let before = World::of(2).status();
    let mut world = World::of(3).without_report(3, false, Answer::Unasked);
    let added = world.assess_after(Some(&before), LATER);
    let message = "2 of 3 nodes pull through their caches, the others are starting";
    assert_eq!(
        shown(&added.status, "Ready"),
        format!("True NodesServe: {message}")
    );
    assert!(shown(&added.status, "Progressing").starts_with("True RollingOut"));
    assert_eq!(added.status.nodes.summary, "2/3");
    let lagging = &added.status.lagging_nodes;
    assert_eq!((&*lagging[0].name, &*lagging[0].reason), ("node3", "Starting"));
    assert_eq!(added.notices, []);
    // If none is left, it is unready all the same.
    for node in &mut world.survey.nodes {
        node.is_ready = false;
    }
    let none = world.assess_after(Some(&added.status), LATER);
    assert!(shown(&none.status, "Ready").starts_with("False RollingOut"));
}

#[test]
fn a_refused_specification_is_told_and_the_nodes_before_it_still_are() {
    let mut world = World::of(2);
    let before = world.status();
    world.mirror.metadata.generation = Some(5);
    world.refusal = Some(Refusal::Spec("spec.cache.path: /etc is not allowed".to_owned()));
    let refused = world.assess_after(Some(&before), LATER);
    let message = "the specification is refused: spec.cache.path: /etc is not allowed";
    assert_eq!(
        shown(&refused.status, "Ready"),
        format!("False SpecRefused: {message}")
    );
    assert_eq!(
        shown(&refused.status, "Progressing"),
        format!("False SpecRefused: {message}")
    );
    assert_eq!((refused.status.nodes.ready, refused.status.nodes.updated), (2, 0));
    assert_eq!(notices(&refused), [(true, "SpecRefused")]);
    world.refusal = Some(Refusal::Apply("daemonsets.apps is forbidden".to_owned()));
    let applied = world.assess_after(Some(&refused.status), LATER);
    assert!(shown(&applied.status, "Ready").starts_with("False ApplyRefused: the API server refuses"));
    assert_eq!(notices(&applied), [(true, "ApplyRefused")]);
}

#[test]
fn a_mirror_on_its_way_out_counts_nodes_that_are_as_they_were() {
    let mut world = World::of(3);
    let before = world.status();
    world.mirror.metadata.deletion_timestamp = Some(Time(LATER.parse().unwrap()));
    world.mirror.metadata.generation = Some(5);
    world.daemon_set.as_mut().unwrap().metadata.annotations =
        Some([(TEMPLATE_ANNOTATION.to_owned(), "3".to_owned())].into());
    world.survey.nodes[0].template_generation = Some(3);
    let leaving = world.assess_after(Some(&before), LATER);
    let message = "1 of 3 nodes are as they were found";
    assert_eq!(
        shown(&leaving.status, "Ready"),
        format!("False Withdrawing: {message}")
    );
    assert_eq!(
        shown(&leaving.status, "Progressing"),
        format!("True Withdrawing: {message}")
    );
    assert_eq!(notices(&leaving), [(false, "Withdrawing")]);
}
