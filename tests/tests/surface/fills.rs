//! Issue "Fill engine": segments, pauses, upstreams of every kind, and redirects that end mid-blob.

use std::time::Duration;

use larder_tests::prelude::*;

use crate::support::*;

/// A range far from a frontier that stands still gets a segment of its own at once.
#[tokio::test]
async fn a_far_range_does_not_wait_for_the_frontier() {
    let up = FakeRegistry::builder().start().await;
    let mut limits = brisk();
    limits.fill.idle = Duration::from_secs(2);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let content = random(16 << 20);
    let blob = up.add_blob(REPO, content.clone());
    up.script(on_any_blob().get().unranged(), Action::stall_after(1 << 20));
    let url = blob_url(&node, &blob);
    let whole = tokio::spawn(Call::get(&url).send());
    up.wait_for_count(on_blob(&blob), 1, Duration::from_secs(10))
        .await;
    let far = 12 << 20;
    let explicit = Call::get(&url)
        .range(&format!("{far}-{}", far + 99_999))
        .send()
        .await;
    assert_eq!((explicit.status, explicit.end), (206, End::Complete));
    assert_eq!(explicit.body, content[far..far + 100_000]);
    let open = Call::get(&url)
        .range(&format!("{}-", 6 << 20))
        .leave_after(100_000)
        .send()
        .await;
    assert_eq!(open.body[..100_000], content[6 << 20..(6 << 20) + 100_000]);
    let asked = up.requests_on(on_blob(&blob).ranged());
    let ranges: Vec<_> = asked
        .iter()
        .filter_map(|exchange| exchange.request.header("Range"))
        .collect();
    assert!(
        ranges
            .iter()
            .any(|range| range.starts_with(&format!("bytes={far}-"))),
        "{ranges:?}"
    );
    assert!(
        asked
            .iter()
            .all(|exchange| exchange.outcome() != Some(Outcome::Cut))
    );
    // And the frontier goes on as soon as its silence is noticed.
    let whole = whole.await.expect("a call");
    assert_eq!((whole.end, whole.digest), (End::Complete, blob));
}

/// A HEAD never waits for proof, not even of a blob that is verified whole.
#[tokio::test]
async fn a_head_never_waits_for_proof() {
    let (up, node) = pair().await;
    for size in [1 << 20, STREAMED] {
        let blob = up.add_blob(REPO, random(size));
        up.script(on_blob(&blob).get(), Action::stall_after(size as u64 - 1));
        let url = blob_url(&node, &blob);
        let waiting = tokio::spawn(Call::get(&url).timeout(Duration::from_secs(5)).send());
        up.wait_for(
            |requests| {
                requests
                    .iter()
                    .any(|exchange| exchange.body_sent() >= size as u64 - 1)
            },
            Duration::from_secs(10),
        )
        .await;
        let head = Call::head(&url).timeout(Duration::from_secs(4)).send().await;
        assert_eq!((head.status, head.end), (200, End::Complete));
        assert_eq!(head.header("Content-Length"), Some(size.to_string().as_str()));
        assert!(!waiting.is_finished(), "the body still waits");
        waiting.abort();
        up.clear_script();
    }
}

/// A large fill that nobody reads pauses, and goes on where it was when somebody does.
#[tokio::test]
async fn a_large_unread_fill_pauses_and_resumes() {
    const SIZE: u64 = (1 << 30) + (1 << 20);
    let up = FakeRegistry::builder().start().await;
    let mut limits = brisk();
    limits.fill.unread_large = Duration::from_millis(50);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let content = VirtualBlob::new(1, SIZE);
    // It is never completed, so its digest may be anything.
    let blob = sha256(b"never completed");
    up.add_blob_under(REPO, &blob, Content::Virtual(content));
    up.script(on_any_blob().get(), Action::rate(30 << 20));
    let url = blob_url(&node, &blob);
    let first = Call::get(&url).leave_after(1 << 20).send().await;
    assert_eq!(first.status, 200);
    up.wait_for(
        |requests| {
            requests
                .iter()
                .all(|exchange| exchange.outcome() == Some(Outcome::ClientGone))
        },
        Duration::from_secs(20),
    )
    .await;
    until("it is put aside", async || fills(&node).await == 0).await;

    let again = Call::get(&url).leave_after(6 << 20).send().await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body, content.read(0, again.body.len()));
    let asked = up.requests_on(on_blob(&blob).get());
    assert_eq!(asked.len(), 2);
    let range = asked[1].request.header("Range").expect("the rest only");
    let start: u64 = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split('-').next())
        .and_then(|start| start.parse().ok())
        .expect("a first byte");
    assert!(start >= 1 << 20, "{range}");
}

/// A small fill outlives its readers for a longer time, but not for ever; and a reader that comes meanwhile joins it.
#[tokio::test]
async fn an_unread_fill_ends_in_the_end() {
    let up = FakeRegistry::builder().start().await;
    let mut limits = brisk();
    limits.fill.unread = Duration::from_millis(300);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let blob = up.add_blob(REPO, random(STREAMED));
    up.script(on_any_blob().get().once(), Action::stall_after(2 << 20));
    let url = blob_url(&node, &blob);
    let left = Call::get(&url).leave_after(1 << 20).send().await;
    assert_eq!(left.end, End::Left);
    assert_eq!(fills(&node).await, 1);
    until("it is put aside", async || fills(&node).await == 0).await;
    assert_whole(&node, &blob).await;
    let asked = up.requests_on(on_blob(&blob).get());
    assert_eq!(asked.len(), 2);
    assert!(asked[1].request.header("Range").is_some());
}

/// Fills are bounded: one more waits, and gets its turn when another ends.
#[tokio::test]
async fn fills_are_bounded_and_wait_their_turn() {
    let up = FakeRegistry::builder().start().await;
    let mut limits = brisk();
    limits.fill.fills = 2;
    let node = InProcessNode::start(&mirror(&up), limits).await;
    up.script(
        on_any_blob().get(),
        Action::pause_after(1000, Duration::from_millis(50)),
    );
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let blob = up.add_blob(REPO, random(100_000));
        let url = blob_url(&node, &blob);
        calls.spawn(async move { (Call::get(&url).send().await, blob) });
    }
    while let Some(called) = calls.join_next().await {
        let (answer, blob) = called.expect("a call");
        assert_eq!((answer.status, answer.digest), (200, blob));
    }
    assert!(up.max_concurrent(on_any_blob()) <= 2);
}

/// HTTP/2 upstreams, healthy, cut, and of unknown length.
#[tokio::test]
async fn http2_upstreams() {
    let up = FakeRegistry::builder().tls().http2().start().await;
    let endpoint = Endpoint::new(up.url()).insecure().trust_loopback();
    let mirror = MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint));
    let node = InProcessNode::start(&mirror, brisk()).await;
    for action in [
        Action::pass(),
        Action::cut_fin(300_000),
        Action::cut_rst(300_000),
        Action::chunked(),
        Action::chunked_abort(300_000),
    ] {
        let blob = up.add_blob(REPO, random(STREAMED));
        up.script(on_blob(&blob).get().once(), action);
        assert_whole(&node, &blob).await;
        assert_whole(&node, &blob).await;
        assert!(up.body_bytes_sent(&blob) <= STREAMED as u64 + (256 << 10));
    }
    let wrong = up.add_blob(REPO, random(STREAMED));
    up.script(on_blob(&wrong).get(), Action::wrong_bytes(0..1));
    assert_eq!(
        Call::get(&blob_url(&node, &wrong)).send().await.end,
        End::FinShort
    );
    assert!(up.requests().iter().all(|exchange| exchange.request.http2));
}

/// A manifest's length is a promise that an upstream without lengths must keep too.
#[tokio::test]
async fn the_manifest_s_length_serves_where_upstream_has_none() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let layer = &image.layers[0];
    up.script(on_any_blob().get(), Action::chunked());
    assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
    let answer = Call::get(&blob_url(&node, &layer.digest)).send().await;
    let length = layer.content.len().to_string();
    assert_eq!(
        (answer.status, answer.header("Content-Length")),
        (200, Some(length.as_str()))
    );
    assert_eq!((answer.end, &answer.digest), (End::Complete, &layer.digest));
}

/// A33, A34: a cut transfer asks the registry for a fresh redirect, and so does a target that answers 403, 404, 410 or
/// 416 in the middle of a blob.
#[tokio::test]
async fn a_redirect_is_asked_for_again_mid_blob() {
    for status in [403, 404, 410, 416] {
        let (up, node) = pair().await;
        let cdn = Cdn::builder().uses(1).expired(status).start().await;
        up.redirect_blobs(307, &cdn);
        let blob = up.add_blob(REPO, random(STREAMED));
        cdn.script(on_any().get().unranged().once(), Action::cut_fin(300_000));
        cdn.script(on_any().get().ranged().once(), Action::status(status));
        assert_whole(&node, &blob).await;
        assert_eq!(up.count(on_blob(&blob).get()), 3, "each time a fresh address");
        let asked = cdn.requests();
        let targets: std::collections::HashSet<_> =
            asked.iter().map(|exchange| &exchange.request.target).collect();
        assert_eq!(targets.len(), 3);
        let range = asked[2].request.header("Range");
        assert!(range.is_some_and(|range| range.starts_with("bytes=300000-")));
        assert_eq!(cdn.body_bytes_sent(&blob), STREAMED as u64);
    }
}

/// E17: addresses are never kept: after they have expired, the next blob and the next range get fresh ones.
#[tokio::test]
async fn expired_addresses_are_never_used_again() {
    let (up, node) = pair().await;
    let cdn = Cdn::builder()
        .ttl(Duration::from_millis(200))
        .expired(403)
        .start()
        .await;
    up.redirect_blobs(302, &cdn);
    let content = random(16 << 20);
    let blob = up.add_blob(REPO, content.clone());
    cdn.script(
        on_any().get().unranged(),
        Action::pause_after(1 << 20, Duration::from_millis(400)),
    );
    let url = blob_url(&node, &blob);
    let whole = tokio::spawn(Call::get(&url).send());
    cdn.wait_for_count(on_any(), 1, Duration::from_secs(10)).await;
    cdn.expire_all();
    let far = Call::get(&url).range("12000000-12000999").send().await;
    assert_eq!((far.status, far.end), (206, End::Complete));
    assert_eq!(far.body, content[12_000_000..12_001_000]);
    let whole = whole.await.expect("a call");
    assert_eq!((whole.end, whole.digest), (End::Complete, blob));
    assert!(!cdn.saw_authorization());
}
