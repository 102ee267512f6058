//! B.0 rows 60–68: containerd's parallel fetch checks the first response only, so every chunk of every pull is an
//! honest 206, whether the blob is cold, on its way or here, and whatever upstream makes of ranges.

use std::time::Duration;

use larder_tests::prelude::*;

use crate::support::*;

/// containerd's `concurrent_layer_fetch_buffer` of the matrix.
const CHUNK: u64 = 128 << 10;

/// One chunk as containerd asks for it: open-ended, and left as soon as it has enough.
async fn chunk(url: String, start: u64, size: u64) -> (u64, Answer) {
    let wanted = CHUNK.min(size - start);
    let call = Call::get(&url).range(&format!("{start}-"));
    (start, call.leave_after(wanted).send().await)
}

fn assert_chunk(answer: &Answer, start: u64, content: &[u8]) {
    let size = content.len() as u64;
    assert_eq!(answer.status, 206, "chunk at {start}: {}", answer.text());
    let content_range = format!("bytes {start}-{}/{size}", size - 1);
    assert_eq!(answer.header("Content-Range"), Some(content_range.as_str()));
    let length = (size - start).to_string();
    assert_eq!(answer.header("Content-Length"), Some(length.as_str()));
    assert_eq!(answer.header("Accept-Ranges"), Some("bytes"));
    let end = start + CHUNK.min(size - start);
    assert!(
        answer.received >= end - start,
        "chunk at {start}: {:?}",
        answer.end
    );
    let got = start as usize..(start + answer.received) as usize;
    assert_eq!(answer.body, content[got]);
}

/// Pulls `content` as containerd does: the first chunk, then the others, `together` at once.
async fn assert_parallel_pull(node: &InProcessNode, digest: &str, content: &[u8], together: usize) {
    let size = content.len() as u64;
    let url = blob_url(node, digest);
    let (start, first) = chunk(url.clone(), 0, size).await;
    assert_chunk(&first, start, content);
    let mut starts = (CHUNK..size).step_by(CHUNK as usize);
    let mut running = tokio::task::JoinSet::new();
    for start in starts.by_ref().take(together) {
        running.spawn(chunk(url.clone(), start, size));
    }
    let mut received = 0;
    while let Some(Ok((start, answer))) = running.join_next().await {
        assert_chunk(&answer, start, content);
        received += 1;
        if let Some(next) = starts.next() {
            running.spawn(chunk(url.clone(), next, size));
        }
    }
    assert_eq!(received, size.div_ceil(CHUNK) - 1);
}

/// A parallel pull of a blob from an upstream that does `action` to what `on` matches.
async fn assert_honest(on: On, action: Action) {
    let (up, node) = pair().await;
    let content = random(STREAMED);
    let blob = up.add_blob(REPO, content.clone());
    up.script(on, action);
    assert_parallel_pull(&node, &blob, &content, 4).await;
}

/// 60: cold, on its way, and here; small and large; every chunk of one pull at once.
#[tokio::test]
async fn b60_every_chunk_is_an_honest_206() {
    for size in [600_000, STREAMED] {
        let (up, node) = pair().await;
        let content = random(size);
        let blob = up.add_blob(REPO, content.clone());
        up.script(
            on_any_blob().get().unranged(),
            Action::pause_after(400_000, Duration::from_millis(300)),
        );
        assert_parallel_pull(&node, &blob, &content, 4).await;
        assert_parallel_pull(&node, &blob, &content, 100).await;
        assert_whole(&node, &blob).await;
        assert_parallel_pull(&node, &blob, &content, 100).await;
    }
}

/// 60: the very first chunk need not be the one that comes first.
#[tokio::test]
async fn b60_cold_chunks_in_any_order() {
    let (up, node) = pair().await;
    let content = random(STREAMED);
    let blob = up.add_blob(REPO, content.clone());
    let size = STREAMED as u64;
    let mut running = tokio::task::JoinSet::new();
    for number in (0..size.div_ceil(CHUNK)).rev() {
        let start = number * CHUNK;
        running.spawn(chunk(blob_url(&node, &blob), start, size));
    }
    while let Some(ended) = running.join_next().await {
        let (start, answer) = ended.expect("a chunk");
        assert_chunk(&answer, start, &content);
    }
}

/// 60: parallel mode asks for manifests with `bytes=0-` too; 200 with everything was fine in all runs.
#[tokio::test]
async fn b60_a_manifest_is_sent_whole() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    for _ in 0..2 {
        let answer = Call::get(&manifest_url(&node, &image.digest))
            .range("0-")
            .send()
            .await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(answer.header("Content-Range"), None);
        assert_eq!(answer.body, image.manifest);
    }
}

/// 61, 62: upstream ignores ranges, always or after the first time.
#[tokio::test]
async fn b61_b62_an_upstream_without_ranges() {
    assert_honest(on_any_blob().get(), Action::ignore_range()).await;
    assert_honest(on_any_blob().get().ranged().after(1), Action::ignore_range()).await;
}

/// 61, 62: an upstream without ranges that is slow: chunks far ahead wait, and are honest in the end.
#[tokio::test]
async fn b61_b62_far_chunks_wait_where_upstream_has_no_ranges() {
    let slow = Action::ignore_range().and(Action::pause_after(300_000, Duration::from_millis(200)));
    assert_honest(on_any_blob().get(), slow).await;
}

/// 63: upstream's 206 says another range than it was asked for.
#[tokio::test]
async fn b63_a_wrong_content_range_is_not_believed() {
    let stalled = Action::pause_after(300_000, Duration::from_millis(200));
    for lie in [
        Action::content_range("bytes 7-9/10"),
        Action::without_header("Content-Range"),
    ] {
        let (up, node) = pair().await;
        let content = random(STREAMED);
        let blob = up.add_blob(REPO, content.clone());
        up.script(on_any_blob().get().unranged(), stalled.clone());
        up.script(on_any_blob().get().ranged(), lie);
        assert_parallel_pull(&node, &blob, &content, 4).await;
    }
}

/// 63: upstream's 206 has the right `Content-Range` and other bytes. No chunk can tell before the digest does:
/// nothing of it is kept, and the blob's end never leaves.
#[tokio::test]
async fn b63_wrong_bytes_in_a_part_never_complete_a_blob() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(STREAMED));
    up.script(on_any_blob().get().unranged().once(), Action::cut_fin(300_000));
    up.script(on_any_blob().get().ranged(), Action::bytes_from(0));
    let size = STREAMED as u64;
    let url = blob_url(&node, &blob);
    let last = Call::get(&url).range(&format!("{}-", size - CHUNK)).send().await;
    assert_eq!((last.status, last.end), (206, End::FinShort));
    assert!(last.received <= CHUNK - WITHHELD);
    up.clear_script();
    assert_whole(&node, &blob).await;
}

/// 64: upstream's 206 is chunked; ours has its length.
#[tokio::test]
async fn b64_a_chunked_part_gets_its_length_here() {
    assert_honest(on_any_blob().get().ranged(), Action::chunked()).await;
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(on_any_blob().get(), Action::chunked());
    assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
    let layer = &image.layers[0];
    assert_parallel_pull(&node, &layer.digest, &layer.content.bytes(), 4).await;
}

/// 61, 64: a blob whose length nobody knows yet is sent whole, with 200: containerd then reads one stream.
#[tokio::test]
async fn b64_a_cold_blob_of_unknown_length_is_sent_whole() {
    let (up, node) = pair().await;
    let content = random(STREAMED);
    let blob = up.add_blob(REPO, content.clone());
    up.script(on_any_blob().get(), Action::chunked());
    let answer = Call::get(&blob_url(&node, &blob)).range("0-").send().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.header("Content-Range"), None);
    assert_eq!(answer.body, content);
    assert_parallel_pull(&node, &blob, &content, 4).await;
}

/// 65: upstream answers 416 to a chunk.
#[tokio::test]
async fn b65_a_416_of_upstream_s_is_not_the_client_s() {
    assert_honest(on_any_blob().get().ranged(), Action::status(416)).await;
}

/// 66: one 503 on a chunk fails the pull. Upstream's is tried again.
#[tokio::test]
async fn b66_a_503_of_upstream_s_is_not_the_client_s() {
    assert_honest(on_any_blob().get().ranged().times(2), Action::status(503)).await;
    assert_honest(on_any_blob().get().nth(1), Action::status(503)).await;
}

/// 66: load refuses new blobs only. What is here or filling is never refused, not even one chunk of it.
#[tokio::test]
async fn b66_load_never_refuses_what_is_here_or_filling() {
    let up = FakeRegistry::builder().start().await;
    let mut limits = brisk();
    limits.fill.fills = 1;
    limits.fill.head = Duration::from_millis(400);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let (warm, filling) = (random(STREAMED), random(STREAMED));
    let warm_blob = up.add_blob(REPO, warm.clone());
    let filling_blob = up.add_blob(REPO, filling.clone());
    let refused = up.add_blob(REPO, random(STREAMED));
    assert_whole(&node, &warm_blob).await;
    up.script(
        on_blob(&filling_blob).get().unranged(),
        Action::stall_after(2 << 20),
    );
    let leaver = Call::get(&blob_url(&node, &filling_blob))
        .leave_after(1 << 20)
        .send()
        .await;
    assert_eq!(leaver.status, 200);

    let busy = Call::get(&blob_url(&node, &refused)).send().await;
    assert_refusal(&busy, 503, "UNAVAILABLE", false);
    assert!(busy.header("Retry-After").is_some());
    assert_parallel_pull(&node, &warm_blob, &warm, 16).await;
    let present = &filling[..];
    for start in (0..2 << 20).step_by(CHUNK as usize) {
        let (start, answer) = chunk(blob_url(&node, &filling_blob), start, STREAMED as u64).await;
        assert_chunk(&answer, start, present);
    }
    let head = Call::head(&blob_url(&node, &filling_blob)).send().await;
    assert_eq!(head.status, 200);
}

/// 67: what upstream does not have is 404 in parallel mode too.
#[tokio::test]
async fn b67_absent_is_404() {
    let (_up, node) = pair().await;
    let answer = Call::get(&blob_url(&node, &sha256(b"absent")))
        .range("0-")
        .send()
        .await;
    assert_refusal(&answer, 404, "BLOB_UNKNOWN", false);
}

/// 68: a 200 with `Content-Range` is taken as range-capable by clients; ours never has one, and upstream's is
/// no part, whatever it says.
#[tokio::test]
async fn b68_a_200_is_never_a_part() {
    for start in [0, 300_000] {
        let (up, node) = pair().await;
        let content = random(STREAMED);
        let blob = up.add_blob(REPO, content.clone());
        let range = format!("bytes {start}-{}/{STREAMED}", STREAMED - 1);
        up.script(on_any_blob().get().once(), Action::cut_fin(300_000));
        up.script(
            on_any_blob().get(),
            Action::ignore_range().and(Action::header("Content-Range", range)),
        );
        let whole = Call::get(&blob_url(&node, &blob)).send().await;
        assert_eq!((whole.status, whole.end), (200, End::Complete));
        assert_eq!(whole.header("Content-Range"), None);
        assert_eq!(whole.digest, blob);
        assert_parallel_pull(&node, &blob, &content, 4).await;
    }
}
