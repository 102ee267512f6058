//! The runtime is pointed at a cache that is well, and at no other.

use super::*;

/// The promise: from the moment when the cache stops being well.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(3);

async fn serving() -> (Host, FakeCache, NodeConfigProcess) {
    let host = Host::new();
    let cache = FakeCache::start(host.state.path());
    let keeper = host.keep(&mirror(&["quay.io"]), &cache.url());
    host.until_written("quay.io").await;
    keeper.until_conditions(&[]).await;
    (host, cache, keeper)
}

#[tokio::test]
async fn a_cache_that_is_hung_mute_or_not_ready_is_withdrawn_within_three_seconds() {
    for mood in [Mood::Hung, Mood::Mute, Mood::NotReady] {
        let (host, cache, keeper) = serving().await;
        cache.set(mood);
        let begun = std::time::Instant::now();
        host.until_gone("quay.io").await;
        assert!(
            begun.elapsed() < WITHDRAWN_WITHIN,
            "{mood:?}: {:?}",
            begun.elapsed()
        );
        keeper.until_conditions(&["CacheUnhealthy"]).await;
        assert_eq!(keeper.state().unwrap()["settled"], false);
        cache.set(Mood::Ready);
        let begun = std::time::Instant::now();
        host.until_written("quay.io").await;
        assert!(
            begun.elapsed() > Duration::from_secs(9),
            "back too early: {:?}",
            begun.elapsed()
        );
        keeper.until_conditions(&[]).await;
    }
}

#[tokio::test]
async fn a_stranger_on_the_port_is_noticed_at_once() {
    for mood in [Mood::Stranger, Mood::Forger] {
        let (host, cache, keeper) = serving().await;
        cache.set(mood);
        let begun = std::time::Instant::now();
        host.until_gone("quay.io").await;
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{mood:?}: {:?}",
            begun.elapsed()
        );
        keeper.until_conditions(&["PortTaken"]).await;
    }
}

#[tokio::test]
async fn nothing_is_written_for_a_stranger() {
    let host = Host::new();
    let cache = FakeCache::start(host.state.path());
    cache.set(Mood::Stranger);
    let keeper = host.keep(&mirror(&["quay.io"]), &cache.url());
    keeper.until_conditions(&["PortTaken"]).await;
    assert_eq!(host.hosts("quay.io"), None);
    assert!(!keeper.output().contains("hosts.toml written"));
}

/// The real cache: killed, stopped, restarted with a new key.
#[tokio::test]
async fn a_real_cache_that_dies_or_hangs_is_withdrawn_and_comes_back() {
    let host = Host::new();
    let config = mirror(&["quay.io"]);
    let mut cache = NodeProcess::builder()
        .config(&config)
        .arg("--state-dir")
        .arg(host.state.path())
        .start()
        .await;
    let keeper = host.keep(&config, &cache.url());
    host.until_written("quay.io").await;
    assert!(host.hosts("quay.io").unwrap().contains(&cache.url()));
    cache.kill9().await;
    let begun = std::time::Instant::now();
    host.until_gone("quay.io").await;
    assert!(begun.elapsed() < WITHDRAWN_WITHIN, "{:?}", begun.elapsed());
    cache.launch().await;
    host.until_written("quay.io").await;
    let pid = i32::try_from(cache.pid())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let begun = std::time::Instant::now();
    host.until_gone("quay.io").await;
    assert!(begun.elapsed() < WITHDRAWN_WITHIN, "{:?}", begun.elapsed());
    keeper.until_conditions(&["CacheUnhealthy"]).await;
}

/// Without a fallback pulls go nowhere rather than past a cache that is not well.
#[tokio::test]
async fn without_fallback_there_is_no_way_past_the_cache() {
    let host = Host::new();
    let cache = FakeCache::start(host.state.path());
    let config = MirrorConfig::new()
        .object(UID, 7)
        .with(Registry::new("quay.io").set("/fallback", "None"));
    let keeper = host.keep(&config, &cache.url());
    host.until_written("quay.io").await;
    assert!(
        host.hosts("quay.io")
            .unwrap()
            .contains(&format!("server = \"{}\"", cache.url()))
    );
    cache.set(Mood::Hung);
    until("pulls go nowhere", async || {
        host.hosts("quay.io")
            .is_some_and(|text| text.contains("server = \"http://127.0.0.1:0\""))
    })
    .await;
    let (status, _) = keeper.terminate().await;
    assert!(status.success());
    assert_eq!(host.hosts("quay.io"), None);
}
