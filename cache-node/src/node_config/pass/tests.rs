//! Whole passes over real directories: what comes, what stays, what goes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::hosts::HostsToml;
use super::*;

const THEIRS: &str = "server = \"https://theirs.test\"\n[host.\"https://mirror.theirs.test\"]\n";

fn config(hosts: &[&str], existing: &str) -> Config {
    let registries: Vec<_> = hosts.iter().map(|host| format!("{{host: '{host}'}}")).collect();
    let yaml = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: m}}\n\
         spec: {{registries: [{}], node: {{containerd: {{existing: {existing}}}}}}}\n",
        registries.join(", ")
    );
    Config::parse(&yaml).unwrap()
}

fn passes(dir: &Path, owner: &str, port: u16) -> Passes {
    let cache = format!("http://127.0.0.1:{port}");
    Passes::new(
        dir.to_owned(),
        owner.parse().unwrap(),
        Box::new(HostsToml { cache }),
    )
}

fn hosts(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name).join("hosts.toml")).ok()
}

fn put(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir.join(name)).unwrap();
    fs::write(dir.join(name).join("hosts.toml"), text).unwrap();
}

fn reasons(outcome: &Outcome) -> Vec<(&str, Reason)> {
    let obstacles = outcome.obstacles.iter();
    obstacles
        .map(|(registry, obstacle)| (registry.as_str(), obstacle.reason))
        .collect()
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn files_come_and_go_with_the_configuration_and_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = passes(dir.path(), "us", 5117);
    let now = Instant::now();
    let both = config(&["quay.io", "a.test:5000"], "Leave");
    let outcome = ours.run(&both, Goal::Serve, now);
    assert_eq!(
        (outcome.held, outcome.has_failed, reasons(&outcome)),
        (2, false, vec![])
    );
    assert!(hosts(dir.path(), "quay.io").unwrap().contains("127.0.0.1:5117"));
    assert!(hosts(dir.path(), "a.test:5000").is_some());
    // Another life, with another port and without one of the registries.
    let mut ours = passes(dir.path(), "us", 6117);
    let one = config(&["quay.io"], "Leave");
    assert_eq!(ours.run(&one, Goal::Serve, now).held, 1);
    assert!(hosts(dir.path(), "quay.io").unwrap().contains("127.0.0.1:6117"));
    assert_eq!(hosts(dir.path(), "a.test:5000"), None);
    assert_eq!(ours.run(&one, Goal::Bypass, now), Outcome::default());
    assert!(is_empty(dir.path()));
    ours.run(&both, Goal::Serve, now);
    assert_eq!(ours.run(&both, Goal::Withdraw, now), Outcome::default());
    assert!(is_empty(dir.path()));
}

#[test]
fn a_file_that_is_removed_or_changed_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = passes(dir.path(), "us", 5117);
    let (config, now) = (config(&["quay.io"], "Leave"), Instant::now());
    ours.run(&config, Goal::Serve, now);
    // The marker says when the directory above was modified, so it differs.
    let body = || hosts(dir.path(), "quay.io").map(|text| text.split_once('\n').unwrap().1.to_owned());
    let written = body();
    fs::remove_dir_all(dir.path().join("quay.io")).unwrap();
    ours.run(&config, Goal::Serve, now);
    assert!(body() == written && written.is_some());
    let changed = format!("{}skip_verify = true\n", hosts(dir.path(), "quay.io").unwrap());
    put(dir.path(), "quay.io", &changed);
    ours.run(&config, Goal::Serve, now);
    assert_eq!(body(), written);
}

#[test]
fn whoever_keeps_writing_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = passes(dir.path(), "us", 5117);
    let (config, now) = (config(&["quay.io"], "Prepend"), Instant::now());
    ours.run(&config, Goal::Serve, now);
    for _ in 0..2 {
        put(dir.path(), "quay.io", THEIRS);
        assert_eq!(reasons(&ours.run(&config, Goal::Serve, now)), []);
        assert!(hosts(dir.path(), "quay.io").unwrap().contains("5117"));
    }
    put(dir.path(), "quay.io", THEIRS);
    let outcome = ours.run(&config, Goal::Serve, now);
    assert_eq!(reasons(&outcome), [("quay.io", Reason::HostsContested)]);
    assert_eq!(hosts(dir.path(), "quay.io").as_deref(), Some(THEIRS));
    let later = now + Duration::from_hours(2);
    assert_eq!(reasons(&ours.run(&config, Goal::Serve, later)), []);
    assert_eq!(ours.run(&config, Goal::Withdraw, later).held, 0);
    assert_eq!(hosts(dir.path(), "quay.io").as_deref(), Some(THEIRS));
}

#[test]
fn a_change_of_policy_restores_what_was_prepended_to() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "quay.io", THEIRS);
    put(dir.path(), "_default", "ca = \"corp.crt\"\n");
    let mut ours = passes(dir.path(), "us", 5117);
    let now = Instant::now();
    let hosts_of = &["quay.io", "new.test"];
    assert_eq!(
        reasons(&ours.run(&config(hosts_of, "Prepend"), Goal::Serve, now)),
        []
    );
    assert!(hosts(dir.path(), "quay.io").unwrap().contains("theirs.test"));
    assert!(
        hosts(dir.path(), "new.test")
            .unwrap()
            .contains("../_default/corp.crt")
    );
    let outcome = ours.run(&config(hosts_of, "Leave"), Goal::Serve, now);
    assert_eq!(
        reasons(&outcome),
        [
            ("new.test", Reason::ForeignHosts),
            ("quay.io", Reason::ForeignHosts)
        ]
    );
    assert_eq!(hosts(dir.path(), "quay.io").as_deref(), Some(THEIRS));
    assert_eq!(hosts(dir.path(), "new.test"), None);
}

#[test]
fn of_two_mirrors_the_first_holds_a_registry_until_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (
        passes(dir.path(), "first", 5117),
        passes(dir.path(), "second", 6117),
    );
    let now = Instant::now();
    first.run(&config(&["quay.io", "one.test"], "Leave"), Goal::Serve, now);
    let theirs = config(&["quay.io", "two.test"], "Prepend");
    let outcome = second.run(&theirs, Goal::Serve, now);
    assert_eq!(
        (outcome.held, reasons(&outcome)),
        (1, vec![("quay.io", Reason::HostOwned)])
    );
    assert_eq!(outcome.obstacles["quay.io"].object, "first");
    assert!(hosts(dir.path(), "quay.io").unwrap().contains("5117"));
    first.run(&theirs, Goal::Withdraw, now);
    assert!(
        hosts(dir.path(), "two.test").is_some(),
        "what the second holds stays"
    );
    assert_eq!(second.run(&theirs, Goal::Serve, now).held, 2);
    assert!(hosts(dir.path(), "quay.io").unwrap().contains("6117"));
    second.run(&theirs, Goal::Withdraw, now);
    assert!(is_empty(dir.path()));
}

#[test]
fn what_stands_in_the_way_of_one_is_in_the_way_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("quay.io"), "").unwrap();
    let long = format!("{0}.{0}.{0}.test:5000", "a".repeat(63));
    let longer = format!("{0}.{0}.{0}.{1}:50000", "a".repeat(63), "b".repeat(61));
    let mut ours = passes(dir.path(), "us", 5117);
    let outcome = ours.run(
        &config(&["quay.io", &long, &longer, "fine.test"], "Leave"),
        Goal::Serve,
        Instant::now(),
    );
    assert_eq!(outcome.held, 2);
    let mut expected = [
        (longer.as_str(), Reason::CertsDirUnwritable),
        ("quay.io", Reason::ForeignHosts),
    ];
    expected.sort();
    assert_eq!(reasons(&outcome), expected);
    assert!(outcome.has_failed);
    let mut absent = passes(&dir.path().join("absent"), "us", 5117);
    let config = config(&["quay.io"], "Leave");
    let outcome = absent.run(&config, Goal::Serve, Instant::now());
    assert_eq!(reasons(&outcome), [("", Reason::CertsDirUnwritable)]);
    assert_eq!(
        absent.run(&config, Goal::Withdraw, Instant::now()),
        Outcome::default()
    );
}
