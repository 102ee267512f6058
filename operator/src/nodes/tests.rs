//! The questions as a whole, on paused time; who answers is a function.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;

/// A pod of the mirror `simple`, running, with this address.
pub(super) fn pod(name: &str, node: &str, ip: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "labels": {"larder.dev/mirror": "simple", "pod-template-generation": "2"}},
        "spec": {"nodeName": node, "containers": [
            {"name": "node-config"},
            {"name": "cache", "ports": [
                {"name": "registry", "containerPort": 5117},
                {"name": "metrics", "containerPort": 5119},
            ]},
        ]},
        "status": {"phase": "Running", "hostIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

fn mirror() -> RegistryMirror {
    let mut mirror = RegistryMirror::new("simple", larder_crds::Spec::default());
    mirror.metadata.uid = Some("uid-1".to_owned());
    mirror
}

fn report() -> Report {
    Report {
        mirror: "uid-1".to_owned(),
        generation: Some(1),
        ..Report::default()
    }
}

fn nodes() -> (Nodes, impl Stream<Item = ObjectRef<RegistryMirror>>) {
    Nodes::new("larder-system", Arc::new(Metrics::new().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn every_node_is_asked_once_a_sweep_and_no_more_than_64_at_once() {
    const PODS: usize = 5_000;
    let (nodes, _changes) = nodes();
    nodes.pod_event(&watcher::Event::Init, Instant::now());
    for i in 0..PODS {
        let ip = format!("10.0.{}.{}", i / 250, i % 250);
        let pod = pod(&format!("pod-{i}"), &format!("node-{i}"), &ip);
        nodes.pod_event(&watcher::Event::InitApply(pod), Instant::now());
    }
    nodes.pod_event(&watcher::Event::InitDone, Instant::now());
    let counts = Arc::new(Mutex::new((
        0_usize,
        0_usize,
        BTreeMap::<SocketAddr, Vec<Instant>>::new(),
    )));
    let ask = |address| {
        let counts = Arc::clone(&counts);
        async move {
            {
                let mut counts = counts.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
                counts.2.entry(address).or_default().push(Instant::now());
            }
            time::sleep(Duration::from_millis(50)).await;
            counts.lock().unwrap().0 -= 1;
            Ok::<_, Infallible>(report())
        }
    };
    let started = Instant::now();
    let _ = time::timeout(Duration::from_secs(90), nodes.ask_all(ask)).await;
    let counts = counts.lock().unwrap();
    assert_eq!(counts.1, board::QUESTIONS_MAX);
    assert_eq!(counts.2.len(), PODS);
    for (address, asked) in &counts.2 {
        assert!(
            asked[0] - started < Duration::from_secs(5),
            "{address}: {asked:?}"
        );
        let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            gaps.iter().all(|gap| *gap < Duration::from_secs(26)),
            "{address}: {gaps:?}"
        );
        assert!(
            gaps[1..].iter().all(|gap| *gap > Duration::from_secs(24)),
            "{address}: {gaps:?}"
        );
    }
    let survey = nodes.of(&mirror());
    assert!(survey.is_complete);
    assert_eq!(survey.nodes.len(), PODS);
}

#[tokio::test(start_paused = true)]
async fn the_mirror_of_a_changed_node_is_named_within_seconds_and_nobody_without_a_change() {
    let (nodes, changes) = nodes();
    pin_mut!(changes);
    nodes.pod_event(&watcher::Event::Init, Instant::now());
    nodes.pod_event(
        &watcher::Event::InitApply(pod("a", "node-a", "10.0.0.1")),
        Instant::now(),
    );
    nodes.pod_event(&watcher::Event::InitDone, Instant::now());
    let answer = Arc::new(Mutex::new(report()));
    let asking = {
        let (nodes, answer) = (nodes.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            let ask = |_| {
                let answer = answer.lock().unwrap().clone();
                async move { Ok::<_, Infallible>(answer) }
            };
            nodes.ask_all(ask).await
        })
    };
    let simple = ObjectRef::new("simple");
    assert_eq!(changes.next().await, Some(simple.clone()));
    let unchanged = time::timeout(Duration::from_secs(600), changes.next()).await;
    assert!(unchanged.is_err(), "{unchanged:?}");
    answer.lock().unwrap().findings = vec![Finding {
        reason: "DiskFull".to_owned(),
        ..Finding::default()
    }];
    let changed = time::timeout(Duration::from_secs(12), changes.next()).await;
    assert_eq!(changed.unwrap(), Some(simple));
    asking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_no_cache_of_this_mirror() {
    let (nodes, _changes) = nodes();
    nodes.pod_event(
        &watcher::Event::Apply(pod("a", "node-a", "fd00::1")),
        Instant::now(),
    );
    let ask = async |_| {
        Ok::<_, Infallible>(Report {
            mirror: "uid-2".to_owned(),
            ..report()
        })
    };
    let ask = |address| Box::pin(ask(address));
    let _ = time::timeout(Duration::from_secs(1), nodes.ask_all(ask)).await;
    let survey = nodes.of(&mirror());
    assert_eq!(
        survey.nodes[0].answer,
        Answer::Unreachable("[fd00::1]:5119".to_owned())
    );
}
