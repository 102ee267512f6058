//! The orderly end: nothing new is accepted, pulls end well, fills go on in the next life.

use super::*;

fn sent(up: &FakeRegistry, digest: &str) -> u64 {
    up.body_bytes_sent(digest)
}

/// SIGTERM: a pull under way ends whole, nothing new is accepted, the process says that it is not ready, and 0.
#[tokio::test]
async fn a_running_pull_outlives_sigterm() {
    let up = FakeRegistry::builder().start().await;
    let content = random(6 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(
        on_any_blob(),
        Action::pause_after(3 << 20, Duration::from_secs(2)),
    );
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let reading = tokio::spawn(blob(&node.url(), &digest).send());
    up.wait_for(|_| sent(&up, &digest) >= 3 << 20, SOON).await;
    node.signal_terminate();
    until("new connections are refused", async || {
        Call::get(&format!("{}/v2/", node.url()))
            .try_send()
            .await
            .is_err()
    })
    .await;
    let ready = Call::get(&format!("{}/readyz", node.admin_url())).send().await;
    assert_eq!(ready.status, 503, "a draining node still answers its probes");
    let whole = reading.await.unwrap();
    assert_eq!((whole.status, whole.end), (200, End::Complete));
    assert!(whole.body == content);
    assert!(node.wait().await.success());
}

/// SIGTERM: an idle connection that is kept alive does not hold up the end.
#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let up = FakeRegistry::builder().start().await;
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let mut connection = Connection::open(node.url().strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let ping = connection.send(Call::get(&format!("{}/v2/", node.url()))).await;
    assert_eq!(ping.end, End::Complete);
    let begun = std::time::Instant::now();
    assert!(node.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// SIGTERM: a fill that nobody reads is put aside, and the next life fetches what was missing and no more.
#[tokio::test]
async fn a_fill_resumes_after_sigterm() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_virtual_blob("acme/app", 32 << 20);
    up.script(on_any_blob().once(), Action::stall_after(20 << 20));
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let left = blob(&node.url(), &digest)
        .leave_after(1 << 20)
        .discard_body()
        .send()
        .await;
    assert_eq!(left.end, End::Left);
    up.wait_for(|_| sent(&up, &digest) >= 20 << 20, SOON).await;
    until("all of it is written", async || {
        let status = Call::get(&format!("{}/statusz", node.admin_url()))
            .send()
            .await
            .json();
        status["fills"][0]["present"] == 20 << 20
    })
    .await;
    assert!(node.terminate().await.success());
    node.launch().await;
    let whole = blob(&node.url(), &digest).discard_body().send().await;
    assert_eq!((whole.status, &whole.digest), (200, &digest));
    assert_eq!(sent(&up, &digest), 32 << 20, "not a byte twice");
}

/// A restart under readers: none sees a wrong byte or a clean short end, and each can go on with a range.
#[tokio::test]
async fn readers_go_on_over_a_restart() {
    let up = FakeRegistry::builder().start().await;
    let content = random(12 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob(), Action::rate(8 << 20));
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let readers: Vec<_> = (0..6)
        .map(|_| tokio::spawn(blob(&node.url(), &digest).send()))
        .collect();
    up.wait_for(|_| sent(&up, &digest) >= 4 << 20, SOON).await;
    node.restart().await;
    for reader in readers {
        let first = reader.await.unwrap();
        let length = first.body.len();
        assert!(first.body == content[..length], "a wrong byte");
        assert_eq!(first.end == End::Complete, length == content.len());
        let whole = blob(&node.url(), &digest).send().await;
        assert!(whole.body == content);
    }
}

/// A pull that outlasts the limit ends short: by FIN, so that the runtime resumes it, and the next life has the rest.
#[tokio::test]
async fn a_pull_beyond_the_limit_ends_short() {
    let up = FakeRegistry::builder().start().await;
    let content = random(6 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob().once(), Action::stall_after(3 << 20));
    let mut limits = impatient();
    limits.connections.drain = Duration::from_millis(300);
    let node = InProcessNode::start(&mirror(&up), limits.clone()).await;
    let reading = tokio::spawn(blob(&node.url(), &digest).send());
    until("all of it is written", async || {
        let status = Call::get(&format!("{}/statusz", node.admin_url()))
            .send()
            .await
            .json();
        status["fills"][0]["present"] == 3 << 20
    })
    .await;
    let node = node.restart(limits).await;
    let cut = reading.await.unwrap();
    assert_eq!((cut.status, cut.end), (200, End::FinShort));
    assert!(cut.body == content[..cut.body.len()]);
    let rest = blob(&node.url(), &digest)
        .range(&format!("{}-", cut.body.len()))
        .send()
        .await;
    assert!([cut.body, rest.body].concat() == content);
    assert_eq!(sent(&up, &digest), 6 << 20, "not a byte twice");
}
