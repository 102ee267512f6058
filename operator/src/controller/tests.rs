//! The whole controller against the scripted API server, in fake time.

#[path = "tests/deletion.rs"]
mod deletion;
#[path = "tests/faults.rs"]
mod faults;
#[path = "tests/strangers.rs"]
mod strangers;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::fixtures::{MIRRORS, Server, document, path};

/// Its path among all mirrors.
fn simple() -> String {
    format!("{MIRRORS}/simple")
}

fn spec(host: &str) -> Value {
    json!({"registries": [{"host": host}]})
}

/// All its objects.
fn paths() -> [String; 4] {
    ["serviceaccounts", "configmaps", "services", "daemonsets"].map(|plural| path(plural, "simple"))
}

/// A server that has the mirror `simple`.
fn server() -> Server {
    let server = Server::default();
    server.put(&simple(), document(spec("quay.io")));
    server
}

/// Gives what has been started time to come to rest.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

async fn carried_out(server: &Server) {
    server
        .until("the mirror is carried out", |server| {
            server.get(&path("daemonsets", "simple")).is_some() && server.condition("Ready").is_some()
        })
        .await;
    settle().await;
}

fn changes(server: &Server, from: usize) -> Vec<String> {
    let asked = server.asked();
    let writes = asked[from..].iter().filter(|asked| asked.is_write());
    writes
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_carried_out_and_nothing_is_written_for_ten_minutes() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    for path in paths() {
        assert_eq!(server.applied(&path), 1, "{path}");
    }
    assert_eq!(
        server.get(&simple()).unwrap()["metadata"]["finalizers"],
        json!(["larder.dev/withdraw"])
    );
    let before = server.asked().len();
    // Longer than it takes until everything is looked at again.
    tokio::time::sleep(crate::controller::RESYNC + Duration::from_secs(60)).await;
    assert_eq!(changes(&server, before), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_others_read_is_never_asked_for() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let asked = server.asked();
    assert!(!asked.iter().any(|asked| asked.path.contains("secrets")));
    let of_config_maps = asked.iter().filter(|asked| asked.path.contains("configmaps"));
    for asked in of_config_maps {
        let is_own = asked.path == path("configmaps", "simple");
        assert!(
            is_own || asked.query.contains("labelSelector=larder.dev%2Fmirror"),
            "{asked:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_and_configuration_come_before_the_pods_that_need_them() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let applied: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|asked| asked.is_apply())
        .collect();
    let order: Vec<_> = applied.iter().map(|asked| asked.path.clone()).collect();
    assert_eq!(order, paths());
    for asked in applied {
        assert!(
            asked.query.contains("fieldManager=larder-operator"),
            "{}",
            asked.query
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_document_changes_the_config_map_alone() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let mut changed = server.get(&simple()).unwrap();
    changed["spec"] = spec("gcr.io");
    changed["metadata"]["generation"] = 4.into();
    server.put(&simple(), changed);
    settle().await;
    let config_map = server.get(&path("configmaps", "simple")).unwrap();
    let text = config_map["data"]["mirror.yaml"].as_str().unwrap();
    assert!(
        text.contains("gcr.io") && text.contains("generation: 4"),
        "{text}"
    );
    assert_eq!(paths().map(|path| server.applied(&path)), [1, 2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changes_or_removes_is_put_right() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    for path in paths() {
        // Twice the same.
        for times in [2, 3] {
            let mut foreign = server.get(&path).unwrap();
            foreign["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody".into();
            server.put(&path, foreign);
            settle().await;
            assert_eq!(server.applied(&path), times, "{path}");
        }
        server.remove(&path);
        settle().await;
        assert!(server.get(&path).is_some(), "{path}");
        assert_eq!(server.applied(&path), 4, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_of_a_rollout_applies_nothing_and_writes_few_statuses() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let before = server.asked().len();
    for ready in 0..100 {
        let mut daemon_set = server.get(&path("daemonsets", "simple")).unwrap();
        daemon_set["status"] = json!({
            "observedGeneration": 1, "desiredNumberScheduled": 100 + ready, "currentNumberScheduled": 100 + ready,
            "numberReady": ready, "numberMisscheduled": 0,
        });
        server.put(&path("daemonsets", "simple"), daemon_set);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    settle().await;
    let writes = changes(&server, before);
    let statuses = writes
        .iter()
        .filter(|write| write.ends_with("/simple/status"))
        .count();
    // 20 s, one in 5 s, and the last.
    assert_eq!(statuses, 5, "{writes:?}");
    assert!(
        !writes.iter().any(|write| write.contains("daemonsets")),
        "{writes:?}"
    );
    let nodes = &server.get(&simple()).unwrap()["status"]["nodes"];
    assert_eq!(nodes["desired"], 199, "the last is never lost");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told_to() {
    let server = server();
    let mut leading = server.lead();
    carried_out(&server).await;
    leading.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), &mut leading.ended)
        .await
        .unwrap()
        .unwrap();
    let before = server.asked().len();
    server.remove(&path("services", "simple"));
    settle().await;
    assert_eq!(changes(&server, before), [""; 0]);
}

/// Whether the request is one that changes the object.
fn writes_to(path: &str) -> impl Fn(&crate::fixtures::Asked) -> bool {
    move |asked| asked.method == Method::PATCH && asked.path == path
}
