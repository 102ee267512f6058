//! B.0 rows 29, 40 and 47 and the poisoned ingest: wrong bytes never complete, and silence never lasts.

use larder_tests::prelude::*;

use crate::support::*;

/// A page as captive portals and proxies send it, in place of anything.
fn portal() -> Action {
    Action::respond(
        200,
        format!("<!DOCTYPE html><html>{}</html>", " ".repeat(2 << 20)),
    )
    .and(Action::header("Content-Type", "text/html; charset=utf-8"))
}

/// 29: `200 text/html` for everything is stored as an image by containerd. Here it is 502, and not kept.
#[tokio::test]
async fn b29_a_web_page_is_nothing() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let unnamed = up.add_blob(REPO, random(STREAMED));
    up.script(on_any(), portal());
    let referrers = format!("referrers/{}", image.digest);
    for url in [
        manifest_url(&node, "v1"),
        manifest_url(&node, &image.digest),
        blob_url(&node, &image.layers[1].digest),
        blob_url(&node, &unnamed),
        listing_url(&node, "tags/list"),
        listing_url(&node, &referrers),
    ] {
        let answer = Call::get(&url).send().await;
        assert_refusal(&answer, 502, "UNAVAILABLE", false);
        assert!(!answer.text().contains("DOCTYPE"));
    }
    up.clear_script();
    assert_eq!(
        Call::get(&manifest_url(&node, "v1")).send().await.body,
        image.manifest
    );
    assert_whole(&node, &image.layers[1].digest).await;
    assert_whole(&node, &unnamed).await;
}

/// 40: wrong bytes of the right size, small enough to be verified whole: 502, nothing sent, nothing kept, counted.
#[tokio::test]
async fn b40_a_small_wrong_blob_is_refused_before_its_head() {
    let (up, node) = pair().await;
    for size in [1, 32, 500_000, 1 << 20] {
        let blob = up.add_blob(REPO, random(size));
        let before = mismatches(&node).await;
        up.script(on_blob(&blob).get(), Action::wrong_bytes(0..1));
        let answer = Call::get(&blob_url(&node, &blob)).send().await;
        assert_refusal(&answer, 502, "UNAVAILABLE", false);
        assert!(mismatches(&node).await > before);
        up.clear_script();
        assert_whole(&node, &blob).await;
    }
}

/// 40: a larger one ends short by FIN, without its last 64 KiB; nothing of it is kept, and it is counted.
#[tokio::test]
async fn b40_a_large_wrong_blob_never_completes() {
    for wrong in [0..1, 1_500_000..1_500_001, STREAMED as u64 - 1..STREAMED as u64] {
        let (up, node) = pair().await;
        let blob = up.add_blob(REPO, random(STREAMED));
        up.script(on_any_blob().get(), Action::wrong_bytes(wrong));
        let answer = Call::get(&blob_url(&node, &blob)).send().await;
        assert_eq!((answer.status, answer.end), (200, End::FinShort));
        assert!(
            answer.received <= STREAMED as u64 - WITHHELD,
            "{}",
            answer.received
        );
        assert_eq!(mismatches(&node).await, 1);
        up.clear_script();
        assert_whole(&node, &blob).await;
        assert_eq!(up.body_bytes_sent(&blob), 2 * STREAMED as u64, "nothing was kept");
    }
}

/// 40: what is on disk is what is proved: no file holds the wrong blob, under any name.
#[tokio::test]
async fn b40_nothing_wrong_stays_on_disk() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(STREAMED));
    up.script(on_any_blob().get(), Action::wrong_bytes(0..1));
    let answer = Call::get(&blob_url(&node, &blob)).send().await;
    assert_eq!(answer.end, End::FinShort);
    let mut directories = vec![node.cache_dir()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("read the cache directory") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("its metadata");
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                assert!(metadata.len() < STREAMED as u64, "{:?}", entry.path());
            }
        }
    }
}

/// Poisoned ingest: what is plainly no layer, sent in a layer's place and length, never reaches a client, so that
/// no wrong prefix stays behind in its content store.
#[tokio::test]
async fn b_poison_a_page_or_an_error_in_a_layer_s_place_never_leaves() {
    for start in [
        "<html><body>",
        "\n<!doctype html>",
        "<?xml version=\"1.0\"?><Error>",
        "{\"errors\":[{",
    ] {
        let (up, node) = pair().await;
        let image = image();
        image.push_to(&up, REPO, "v1");
        let layer = &image.layers[0];
        assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
        let mut wrong = start.as_bytes().to_vec();
        wrong.resize(layer.content.len() as usize, b' ');
        let rule = up.script(on_blob(&layer.digest).get(), Action::body(wrong));
        let answer = Call::get(&blob_url(&node, &layer.digest)).send().await;
        assert_refusal(&answer, 502, "UNAVAILABLE", false);
        assert!(rule.acted() > 1, "it is asked for again before it is given up");
        up.clear_script();
        assert_whole(&node, &layer.digest).await;
    }
}

/// Poisoned ingest: a fault that passes is not even seen.
#[tokio::test]
async fn b_poison_a_passing_fault_is_mended() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
    up.script(on_any_blob().get().once(), portal());
    assert_whole(&node, &image.layers[0].digest).await;
}

/// Poisoned ingest: a client that has a right prefix from us goes on behind it, and what it puts together is right.
#[tokio::test]
async fn b_poison_a_client_resumes_behind_its_prefix() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(STREAMED));
    let url = blob_url(&node, &blob);
    let prefix = Call::get(&url).leave_after(300_000).send().await;
    let rest = Call::get(&url)
        .range(&format!("{}-", prefix.received))
        .send()
        .await;
    assert_eq!((rest.status, rest.end), (206, End::Complete));
    assert_eq!(sha256(&[prefix.body, rest.body].concat()), blob);
}

/// Poisoned ingest: bytes of two sources that do not fit together are never completed.
#[tokio::test]
async fn b_poison_a_wrong_continuation_never_completes() {
    for continuation in [
        Action::wrong_bytes(2_000_000..2_000_001),
        Action::ignore_range().and(Action::wrong_bytes(100..101)),
        Action::bytes_from(0),
    ] {
        let (up, node) = pair().await;
        let content = random(STREAMED);
        let blob = up.add_blob(REPO, content.clone());
        up.script(on_any_blob().get().once(), Action::cut_fin(1 << 20));
        up.script(on_any_blob().get(), continuation);
        let answer = Call::get(&blob_url(&node, &blob)).send().await;
        assert_eq!((answer.status, answer.end), (200, End::FinShort));
        assert!(answer.received <= STREAMED as u64 - WITHHELD);
        let before_the_cut = answer.body.len().min(1 << 20);
        assert_eq!(answer.body[..before_the_cut], content[..before_the_cut]);
        up.clear_script();
        assert_whole(&node, &blob).await;
    }
}

/// 47: an upstream that says nothing, or not enough to promise anything, costs a client no more than 25 s, with
/// production's limits.
#[tokio::test]
async fn b47_an_answer_comes_within_25_s() {
    let up = FakeRegistry::builder().start().await;
    let node = InProcessNode::start(&mirror(&up), cache_node::app::Limits::default()).await;
    image().push_to(&up, REPO, "v1");
    let (slow, fast) = (
        up.add_blob(REPO, random(1 << 20)),
        up.add_blob(REPO, random(2000)),
    );
    up.script(on_blob(&slow).get(), Action::rate(4 << 10));
    up.script(on_any(), Action::hang());
    let referrers = format!("referrers/{slow}");
    let mut calls = tokio::task::JoinSet::new();
    // A HEAD of this one is answered while it fills.
    let too_slow = Call::get(&blob_url(&node, &slow));
    calls.spawn(async move { ("GET", too_slow.send().await) });
    for url in [
        manifest_url(&node, "v1"),
        manifest_url(&node, &slow),
        blob_url(&node, &fast),
        listing_url(&node, "tags/list"),
        listing_url(&node, &referrers),
    ] {
        for method in ["GET", "HEAD"] {
            let call = Call::new(method, &url);
            calls.spawn(async move { (method, call.send().await) });
        }
    }
    while let Some(answered) = calls.join_next().await {
        let (method, answer) = answered.expect("a call");
        assert_refusal(&answer, 504, "UNAVAILABLE", method == "HEAD");
        assert!(answer.head_after.is_some_and(|after| after < ANSWER_MAX));
    }
}
