//! Tags: when upstream is asked, and what is answered when it does not answer.

use std::time::Instant;

use super::*;

/// What is put under a tag: an image without layers, different for each `architecture`.
fn image(architecture: &str) -> Image {
    ImageBuilder::new().architecture(architecture).build()
}

/// A registry with an image under `v1`, and a node that has it and asks for it again at every request.
async fn known(expiry: impl Fn(Registry) -> Registry) -> (FakeRegistry, InProcessNode, String) {
    let up = FakeRegistry::builder().start().await;
    let digest = image("amd64").push_to(&up, "acme/app", "v1");
    let config = MirrorConfig::new().with(expiry(registry(&up)));
    let node = InProcessNode::start(&config, impatient()).await;
    let first = manifest(&node.url(), "v1").send().await;
    assert_eq!(first.header("docker-content-digest"), Some(digest.as_str()));
    (up, node, digest)
}

/// Expired at once, and good as a last known answer for a day.
fn expired(registry: Registry) -> Registry {
    registry.ttl("0s").serve_stale_for("24h")
}

fn is_marked_stale(answer: &Answer) -> bool {
    answer
        .header("warning")
        .is_some_and(|text| text.starts_with("299 "))
}

/// E10
#[tokio::test]
async fn e10_within_its_ttl_a_tag_costs_no_request() {
    let (up, node, digest) = known(|registry| registry.ttl("1h")).await;
    let asked = up.requests().len();
    for call in [manifest(&node.url(), "v1"), manifest_head(&node.url(), "v1")] {
        let answer = call.send().await;
        assert_eq!(
            (answer.status, answer.header("docker-content-digest")),
            (200, Some(digest.as_str()))
        );
        assert_eq!(answer.header("warning"), None);
    }
    assert_eq!(up.requests().len(), asked);
}

/// E10: the time to live is really time, within its jitter of 20 %.
#[tokio::test]
async fn e10_a_tag_is_asked_for_again_when_its_ttl_is_over() {
    let begun = Instant::now();
    let (up, node, _) = known(|registry| registry.ttl("1s")).await;
    until("a HEAD", async || {
        assert_eq!(manifest(&node.url(), "v1").send().await.status, 200);
        up.count(on_manifest("v1").head()) > 0
    })
    .await;
    assert!(begun.elapsed().as_millis() >= 800, "{:?}", begun.elapsed());
}

/// E10, E11: a GET counts against quotas, a HEAD does not.
#[tokio::test]
async fn e10_e11_an_expired_tag_costs_one_conditional_head() {
    let (up, node, digest) = known(expired).await;
    let answer = manifest(&node.url(), "v1").send().await;
    assert_eq!((answer.status, &answer.digest), (200, &digest));
    let heads = up.requests_on(on_manifest("v1").head());
    assert_eq!(heads.len(), 1);
    assert_eq!(
        heads[0].request.header("If-None-Match"),
        Some(format!("\"{digest}\"").as_str())
    );
    assert_eq!(heads[0].status(), Some(304));
    assert_eq!(up.count(on_any_manifest().get()), 1, "the first one");
}

/// A 304, and a 200 that names the digest that is known, both start a new time to live.
#[tokio::test]
async fn a_confirmed_tag_is_fresh_again() {
    for ignores_condition in [false, true] {
        let (up, node, digest) = known(|registry| registry.ttl("1h")).await;
        if ignores_condition {
            let plain = Action::set_status(200).and(Action::set_header("Docker-Content-Digest", &digest));
            up.script(on_manifest("v1").head(), plain);
        }
        let files = node.cache_dir();
        let node = aged(node, &files).await;
        for _ in 0..3 {
            let answer = manifest(&node.url(), "v1").send().await;
            assert_eq!((answer.status, &answer.digest), (200, &digest));
        }
        assert_eq!(up.count(on_manifest("v1").head()), 1, "{ignores_condition}");
        assert_eq!(up.count(on_any_manifest().get()), 1, "{ignores_condition}");
    }
}

/// The node again, on a ledger whose entries are two hours older.
async fn aged(node: InProcessNode, cache_dir: &Path) -> InProcessNode {
    // The ledger is read at the start only, and an entry is on disk before its answer is sent.
    age_ledger(cache_dir, i64::try_from(TWO_HOURS_MS).unwrap());
    node.restart(impatient()).await
}

/// A time in the future is a clock that was wrong.
#[tokio::test]
async fn a_tag_from_the_future_is_asked_for() {
    let (up, node, digest) = known(|registry| registry.ttl("1h")).await;
    age_ledger(&node.cache_dir(), -i64::try_from(TWO_HOURS_MS).unwrap());
    let node = node.restart(impatient()).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, digest);
    assert_eq!(up.count(on_manifest("v1").head()), 1);
}

/// E10, E11: everything that says nothing about the tag itself.
#[tokio::test]
async fn e10_e11_a_failing_upstream_is_covered_by_the_last_known_digest() {
    let failures = [
        ("500", Action::status(500)),
        ("503", Action::status(503)),
        ("429", Action::rate_limited(600)),
        ("hangup", Action::hangup_rst()),
        ("garbage", Action::raw("no HTTP at all\r\n\r\n")),
    ];
    for (name, failure) in failures {
        let (up, node, digest) = known(expired).await;
        up.script(on_any(), failure);
        let answer = manifest(&node.url(), "v1").send().await;
        assert_eq!((answer.status, &answer.digest), (200, &digest), "{name}");
        assert!(is_marked_stale(&answer), "{name}: {:?}", answer.headers);
        let head = manifest_head(&node.url(), "v1").send().await;
        assert!(head.status == 200 && is_marked_stale(&head), "{name}: HEAD");
        let counted = stale_answers(&node.admin_url()).await;
        assert_eq!(counted, 2, "{name}");
        up.clear_script();
    }
}

/// E10, E22
#[tokio::test]
async fn e10_e22_a_refused_connection_is_covered_by_the_last_known_digest() {
    let (up, node, digest) = known(expired).await;
    up.close();
    let answer = manifest(&node.url(), "v1").send().await;
    assert_eq!((answer.status, &answer.digest), (200, &digest));
    assert!(is_marked_stale(&answer));
}

/// The log says it, too: an operator must be able to see why a node runs what is old.
#[tokio::test]
async fn a_stale_answer_is_logged() {
    let up = FakeRegistry::builder().start().await;
    let digest = image("amd64").push_to(&up, "acme/app", "v1");
    let config = MirrorConfig::new().with(expired(registry(&up)));
    let node = NodeProcess::start(&config).await;
    manifest(&node.url(), "v1").send().await;
    up.close();
    assert!(is_marked_stale(&manifest(&node.url(), "v1").send().await));
    let output = node.output();
    let said = output.lines().any(|line| {
        line.contains("\"WARN\"") && line.contains("last known content") && line.contains(&digest)
    });
    assert!(said, "{output}");
    assert!(output.contains("\"origin\":\"stale\""), "{output}");
}

/// E10, E11: silence is an answer after 3 s, and then nobody waits that long again at once.
#[tokio::test]
async fn e10_e11_a_silent_upstream_is_covered_after_three_seconds() {
    let (up, node, digest) = known(expired).await;
    up.script(on_any(), Action::hang());
    let begun = Instant::now();
    let answer = manifest(&node.url(), "v1").send().await;
    let waited = begun.elapsed();
    assert_eq!((answer.status, &answer.digest), (200, &digest));
    assert!(is_marked_stale(&answer));
    assert!((2.5..10.0).contains(&waited.as_secs_f64()), "{waited:?}");
    let begun = Instant::now();
    assert!(is_marked_stale(&manifest(&node.url(), "v1").send().await));
    assert!(begun.elapsed() < waited, "the second one waits as well");
}

/// E10, E11: a refusal is never covered by what is known. It is upstream's last word on this node's access.
#[tokio::test]
async fn e10_e11_a_refusal_is_never_covered() {
    for status in [401, 403] {
        let (up, node, _) = known(expired).await;
        up.script(on_any(), Action::status(status));
        for call in [manifest(&node.url(), "v1"), manifest_head(&node.url(), "v1")] {
            let answer = call.send().await;
            assert!(
                matches!(answer.status, 403 | 404),
                "{status} became {}",
                answer.status
            );
            assert_eq!(answer.header("www-authenticate"), None);
        }
        assert_eq!(stale_answers(&node.admin_url()).await, 0);
    }
}

/// E10: nor does it hide behind the patience with an upstream that failed a moment ago: it counts as soon as upstream has
/// spoken it.
#[tokio::test]
async fn e10_a_refusal_after_a_failure_counts_at_once() {
    let (up, node, _) = known(expired).await;
    up.script(on_any(), Action::hangup_fin());
    let covered = manifest(&node.url(), "v1").send().await;
    assert!(is_marked_stale(&covered), "{}", covered.status);
    up.clear_script();
    let refusal = up.script(on_any(), Action::status(403));
    // This one may still be covered, but it makes the node ask.
    manifest(&node.url(), "v1").send().await;
    up.wait_for(|_| refusal.acted() > 0, Duration::from_secs(10))
        .await;
    let mut statuses = Vec::new();
    while statuses.last() != Some(&403) && statuses.len() < 50 {
        statuses.push(manifest(&node.url(), "v1").send().await.status);
    }
    assert_eq!(statuses.last(), Some(&403), "{statuses:?}");
}

/// `serveStaleFor` ends the covering.
#[tokio::test]
async fn a_tag_that_is_too_old_covers_nothing() {
    let (up, node, digest) = known(|registry| registry.ttl("0s").serve_stale_for("0s")).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, digest);
    up.script(on_any(), Action::status(503));
    assert_eq!(manifest(&node.url(), "v1").send().await.status, 502);
    up.clear_script();
    up.close();
    assert_eq!(manifest(&node.url(), "v1").send().await.status, 502);
}

/// `serveStaleFor` is measured from the end of the time to live, over a restart as well.
#[tokio::test]
async fn serve_stale_for_is_time() {
    let (up, node, digest) = known(|registry| registry.ttl("1m").serve_stale_for("3h")).await;
    up.close();
    let files = node.cache_dir();
    let node = aged(node, &files).await;
    let stale = manifest(&node.url(), "v1").send().await;
    assert_eq!((stale.status, &stale.digest), (200, &digest));
    let node = aged(node, &files).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.status, 502);
}

/// Single-flight: the entry is old and the answer renews it, so that no request can come too late for the flight.
#[tokio::test]
async fn a_hundred_clients_revalidate_once() {
    let (up, node, digest) = known(|registry| registry.ttl("1h")).await;
    let files = node.cache_dir();
    let node = aged(node, &files).await;
    up.script(
        on_manifest("v1").head(),
        Action::delay_head(Duration::from_millis(300)),
    );
    for answer in at_once(100, manifest(&node.url(), "v1")).await {
        assert_eq!((answer.status, &answer.digest), (200, &digest));
    }
    assert_eq!(up.count(on_manifest("v1").head()), 1);
    assert_eq!(up.count(on_any_manifest().get()), 1, "the first one");
}

/// E22: over a clean restart.
#[tokio::test]
async fn e22_the_ledger_survives_a_restart_and_a_kill() {
    let up = FakeRegistry::builder().start().await;
    let (one, two) = (image("amd64"), image("arm64"));
    one.push_to(&up, "acme/app", "one");
    two.push_to(&up, "acme/app", "two");
    let mut node = NodeProcess::start(&MirrorConfig::new().with(registry(&up).ttl("1h"))).await;
    assert_eq!(manifest(&node.url(), "one").send().await.digest, one.digest);
    node.restart().await;
    assert_eq!(manifest(&node.url(), "two").send().await.digest, two.digest);
    node.kill9().await;
    node.launch().await;
    up.close();
    for (tag, digest) in [("one", &one.digest), ("two", &two.digest)] {
        let answer = manifest(&node.url(), tag).send().await;
        assert_eq!((answer.status, &answer.digest), (200, digest));
        assert_eq!(answer.header("warning"), None, "it is fresh");
    }
}
