//! `kill -9` in the middle of fills: never a wrong byte afterwards, and hardly a byte fetched twice.

use super::*;

const MIB: u64 = 1 << 20;

/// Fast enough for a test, slow enough that every kill finds a fill.
const UPSTREAM_BYTES_PER_S: u64 = 48 * MIB;

/// What a kill may cost: bytes that had come, but were not yet on record.
const LOST_PER_KILL_BYTES_MAX: u64 = MIB;

/// How near to a pause of its upstream a fill is when it is killed: it may be writing still.
const NEAR_PAUSE_BYTES: u64 = 64 << 10;

/// Longer than any test: the kill ends it.
const PAUSE: Duration = Duration::from_secs(60);

/// Bytes of `digest` that left the upstream so far.
fn sent(all: &[std::sync::Arc<Exchange>], digest: &str) -> u64 {
    let of_digest = all.iter().filter(|e| e.digest().as_deref() == Some(digest));
    of_digest.map(|e| e.body_sent()).sum()
}

/// From where the newest transfer of `digest` starts.
fn resumed_from(up: &FakeRegistry, digest: &str) -> u64 {
    let newest = up.requests_on(on_blob(digest)).last().cloned().unwrap();
    let range = newest.request.header("Range").unwrap_or("bytes=0-").to_owned();
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split('-').next());
    start.unwrap().parse().unwrap()
}

/// A registry with `content`, which it sends at a limited rate, and a node beside it.
async fn filling(content: VirtualBlob) -> (FakeRegistry, NodeProcess, String) {
    let up = FakeRegistry::builder().start().await;
    let digest = content.digest();
    up.add_blob_under("acme/app", &digest, Content::Virtual(content));
    let node = NodeProcess::start(&mirror(&up)).await;
    (up, node, digest)
}

/// The blob whole, then once more from the disk of a killed node, without an upstream.
async fn is_right_after_all(up: &FakeRegistry, node: &mut NodeProcess, digest: &str) {
    for _ in ["filled", "stored"] {
        let whole = blob(&node.url(), digest).discard_body().send().await;
        assert_eq!(
            (whole.status, whole.end, whole.digest.as_str()),
            (200, End::Complete, digest)
        );
        // Clients wait for the proof, not for the disk.
        until("the blob has its name", async || {
            blob_file(node.cache_dir(), digest).try_exists().unwrap()
        })
        .await;
        up.close();
        node.kill9().await;
        node.launch().await;
    }
}

/// E5, E23: eight kills of one fill in full flow. What a client had been sent before a kill had been written, so
/// the next life must not fetch more of it again than may be unrecorded.
#[tokio::test]
async fn e5_e23_a_fill_survives_eight_kills() {
    let content = VirtualBlob::new(fastrand::u64(..), 64 * MIB + 1);
    let (up, mut node, digest) = filling(content).await;
    up.script(on_any_blob(), Action::rate(UPSTREAM_BYTES_PER_S));
    let mut had = 0;
    for left in (1..=8).rev() {
        let step = fastrand::u64(1..=content.len().saturating_sub(had) / (left + 1));
        let transfers = up.count(on_blob(&digest));
        let reading = tokio::spawn(blob(&node.url(), &digest).send());
        up.wait_for(
            |all| all.get(transfers).is_some_and(|e| e.body_sent() >= step),
            SOON,
        )
        .await;
        assert!(
            resumed_from(&up, &digest) + LOST_PER_KILL_BYTES_MAX >= had,
            "fetched again"
        );
        node.kill9().await;
        let cut = reading.await.unwrap();
        assert_ne!(cut.end, End::Complete, "killed too late: the test proves nothing");
        assert!(
            cut.body == content.read(0, cut.body.len()),
            "a wrong byte before kill {left}"
        );
        had = had.max(cut.received);
        node.launch().await;
    }
    is_right_after_all(&up, &mut node, &digest).await;
    assert!(
        resumed_from(&up, &digest) + LOST_PER_KILL_BYTES_MAX >= had,
        "fetched again"
    );
}

/// E5, E23: twelve kills on fresh blobs, with every byte counted. The upstream pauses at a random point, for what
/// the kernel still holds when a node dies would count as sent.
#[tokio::test]
async fn e5_e23_twelve_kills_cost_little() {
    const KILLS: u64 = 3;
    for _ in 0..4 {
        let content = VirtualBlob::new(fastrand::u64(..), 24 * MIB + fastrand::u64(..MIB));
        let (up, mut node, digest) = filling(content).await;
        for left in (1..=KILLS).rev() {
            let sent = up.body_bytes_sent(&digest);
            let step = fastrand::u64(NEAR_PAUSE_BYTES..=(content.len() - sent) / (left + 1));
            let paused = Action::rate(UPSTREAM_BYTES_PER_S).and(Action::pause_after(step, PAUSE));
            up.script(on_any_blob().once(), paused);
            let reading = tokio::spawn(blob(&node.url(), &digest).send());
            let transfers = usize::try_from(KILLS - left + 1).unwrap();
            up.wait_for_count(on_blob(&digest), transfers, SOON).await;
            let reached = resumed_from(&up, &digest) + step;
            until("the upstream pauses", async || {
                let status = Call::get(&format!("{}/statusz", node.admin_url()))
                    .send()
                    .await
                    .json();
                status["fills"][0]["present"].as_u64().unwrap_or(0) + NEAR_PAUSE_BYTES >= reached
            })
            .await;
            node.kill9().await;
            let cut = reading.await.unwrap();
            assert_ne!(cut.end, End::Complete);
            assert!(cut.body == content.read(0, cut.body.len()), "a wrong byte");
            node.launch().await;
        }
        is_right_after_all(&up, &mut node, &digest).await;
        let (total, most) = (
            up.body_bytes_sent(&digest),
            content.len() + KILLS * (LOST_PER_KILL_BYTES_MAX + NEAR_PAUSE_BYTES),
        );
        assert!(total <= most, "{total} bytes sent where {most} had to do");
    }
}

/// E3, E5: a kill leaves no half file that looks whole, whatever the upstream then says.
#[tokio::test]
async fn e3_e5_a_partial_is_never_served_as_whole() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob("acme/app", random(8 << 20));
    up.script(on_any_blob(), Action::stall_after(6 << 20));
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let reading = tokio::spawn(blob(&node.url(), &digest).send());
    up.wait_for(|all| sent(all, &digest) >= 6 << 20, SOON).await;
    node.kill9().await;
    assert_ne!(reading.await.unwrap().end, End::Complete);
    assert!(!blob_file(node.cache_dir(), &digest).try_exists().unwrap());
    node.launch().await;
    up.close();
    let offline = blob(&node.url(), &digest).send().await;
    assert_eq!(offline.status, 502, "before its head a pull may fail cheaply");
    up.reopen().await;
    up.clear_script();
    let whole = blob(&node.url(), &digest).send().await;
    assert_eq!((whole.status, &whole.digest), (200, &digest));
    let resumed = up.requests_on(on_blob(&digest)).last().cloned().unwrap();
    assert!(resumed.request.header("Range").is_some(), "{resumed}");
}

/// A kill while many read: each sees a right prefix, and each gets the rest from the next life by a range.
#[tokio::test]
async fn readers_of_a_killed_node_continue_at_the_next_one() {
    let up = FakeRegistry::builder().start().await;
    let content = random(16 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob(), Action::rate(UPSTREAM_BYTES_PER_S / 4));
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let readers: Vec<_> = (0..8)
        .map(|_| tokio::spawn(blob(&node.url(), &digest).send()))
        .collect();
    up.wait_for(|all| sent(all, &digest) >= 5 << 20, SOON).await;
    node.kill9().await;
    node.launch().await;
    let mut had = 0;
    for reader in readers {
        let first = reader.await.unwrap();
        assert_eq!(first.status, 200);
        assert_ne!(first.end, End::Complete);
        had = had.max(first.received);
        let rest = blob(&node.url(), &digest).range(&format!("{}-", first.body.len()));
        let rest = rest.send().await;
        assert_eq!((rest.status, rest.end), (206, End::Complete));
        assert!([first.body, rest.body].concat() == content, "a wrong byte");
    }
    assert_eq!(up.count(on_blob(&digest)), 2, "one transfer in each life");
    assert!(resumed_from(&up, &digest) + LOST_PER_KILL_BYTES_MAX >= had);
}

/// Bytes of another digest are not kept, and the next pull of a mended upstream is right, also after a restart.
#[tokio::test]
async fn wrong_bytes_leave_nothing_behind() {
    for size in [100 << 10, 3 << 20] {
        let up = FakeRegistry::builder().start().await;
        let content = random(size);
        let digest = up.add_blob("acme/app", content.clone());
        let rule = up.script(on_any_blob(), Action::wrong_bytes(1000..1001));
        let mut node = NodeProcess::start(&mirror(&up)).await;
        let wrong = blob(&node.url(), &digest).send().await;
        assert!(
            wrong.status == 502 || wrong.end == End::FinShort,
            "{} {:?}",
            wrong.status,
            wrong.end
        );
        assert!(rule.acted() > 0);
        assert!(!blob_file(node.cache_dir(), &digest).try_exists().unwrap());
        let counted = "larder_digest_mismatches_total{registry=\"up.test\"}";
        assert!(metric(&node.admin_url(), counted).await > 0);
        if size > 1 << 20 {
            node.kill9().await;
            node.launch().await;
        }
        up.clear_script();
        let right = blob(&node.url(), &digest).send().await;
        assert_eq!((right.status, right.end), (200, End::Complete));
        assert!(right.body == content, "{size}");
    }
}
