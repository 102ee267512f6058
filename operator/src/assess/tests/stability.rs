//! The same facts give the same status, and changes only change what they are about.

use super::*;

/// Twenty-five nodes, each with something.
fn troubled() -> World {
    let mut world = World::of(25);
    for i in 1..=25 {
        let reason = ["DiskFull", "RateLimited", "ConfigPathUnset"][i % 3];
        world = world.with(i, &[(reason, "", "")]);
    }
    world
}

#[test]
fn the_same_facts_at_another_time_give_the_same_bytes_and_no_event() {
    for world in [World::of(3), troubled(), World::of(0)] {
        let first = world.status();
        let second = world.assess_after(Some(&first), LATER);
        let bytes = |status: &Status| serde_json::to_string(status).unwrap();
        assert_eq!(bytes(&second.status), bytes(&first));
        assert_eq!(second.notices, []);
    }
}

#[test]
fn the_order_of_mirrors_does_not_matter() {
    let message = "node(s) didn't have free ports for the requested pod ports";
    let mut world = World::of(1).with_trouble(1, "Unschedulable", message);
    world.others = vec![Arc::new(mirror("b", "uid-b")), Arc::new(mirror("a", "uid-a"))];
    let first = world.status();
    world.others.reverse();
    assert_eq!(world.status(), first);
}

#[test]
fn a_time_changes_only_with_its_own_status() {
    let before = World::of(3).status();
    let after = World::of(3)
        .with(1, &[("DiskFull", "", "")])
        .assess_after(Some(&before), LATER);
    let changed = after.status.conditions.iter().filter(|condition| {
        condition.last_transition_time != find(&before, &condition.type_).unwrap().last_transition_time
    });
    let changed: Vec<_> = changed.map(|condition| &*condition.type_).collect();
    assert_eq!(changed, ["Ready", "Degraded"]);
    let other = World::of(3)
        .with(1, &[("RateLimited", "quay.io", "")])
        .assess_after(Some(&after.status), NOW);
    let ready = |status: &Status| find(status, "Ready").unwrap().last_transition_time.clone();
    assert_eq!(
        ready(&other.status),
        ready(&after.status),
        "another reason, but False as before"
    );
    assert_eq!(notices(&other), [(true, "RateLimited")]);
}

#[test]
fn what_goes_wrong_and_right_again_is_told_once_each() {
    let well = World::of(1).status();
    let broken = World::of(1)
        .with(1, &[("ConfigPathUnset", "", "")])
        .assess_after(Some(&well), LATER);
    assert_eq!(notices(&broken), [(true, "ConfigPathUnset")]);
    let mended = World::of(1).assess_after(Some(&broken.status), LATER);
    assert_eq!(notices(&mended), [(false, "Ready"), (false, "NodesConfigured")]);
}

#[test]
fn at_most_twenty_nodes_are_named_and_those_named_before_stay() {
    let world = troubled();
    let first = world.status();
    assert_eq!(first.lagging_nodes.len(), 20);
    let mut fewer = troubled();
    // One that was named recovers, and one that was not moves up behind the others.
    let recovered = first.lagging_nodes[0].name.clone();
    let node = fewer
        .survey
        .nodes
        .iter()
        .position(|node| node.node == recovered)
        .unwrap();
    fewer = fewer.with(node + 1, &[]);
    let second = fewer.assess_after(Some(&first), LATER).status;
    assert_eq!(second.lagging_nodes[..19], first.lagging_nodes[1..]);
    assert_eq!(second.lagging_nodes.len(), 20);
    // It fails again: it is the last in line now.
    let third = troubled().assess_after(Some(&second), LATER).status;
    assert_eq!(third.lagging_nodes, second.lagging_nodes);
}

#[test]
fn nodes_that_only_start_are_named_after_those_with_a_reason() {
    let mut world = World::of(30).with(30, &[("DiskFull", "", "")]);
    for node in &mut world.survey.nodes[..29] {
        node.is_ready = false;
        node.answer = Answer::Unasked;
    }
    let status = world.status();
    assert_eq!(
        (&*status.lagging_nodes[0].name, status.lagging_nodes.len()),
        ("node30", 20)
    );
}

#[test]
fn a_new_leader_says_nothing_before_it_has_asked() {
    let before = troubled().status();
    let mut world = World::of(25);
    world.survey.is_complete = false;
    for node in &mut world.survey.nodes {
        node.answer = Answer::Unasked;
    }
    let held = world.assess_after(Some(&before), LATER);
    assert_eq!((held.status, held.notices), (before.clone(), Vec::new()));
    // A mirror of which nothing was ever said is another matter, as is one that is refused.
    assert!(!world.status().conditions.is_empty());
    world.refusal = Some(Refusal::Spec("no".to_owned()));
    assert_ne!(world.assess_after(Some(&before), LATER).status, before);
}

#[test]
fn the_list_of_registries_is_bounded() {
    let registry = |i: usize| Registry {
        host: format!("registry-{i}.{}.example", "x".repeat(50)),
        ..Registry::default()
    };
    let many: Vec<_> = (0..1_000).map(registry).collect();
    let text = hosts(&many);
    assert!(
        text.len() <= REGISTRIES_BYTES_MAX && text.ends_with(",+997"),
        "{text}"
    );
    let long = Registry {
        host: "x".repeat(300),
        ..Registry::default()
    };
    assert_eq!(hosts(&[long]), "+1");
    assert_eq!(hosts(&[]), "");
}
