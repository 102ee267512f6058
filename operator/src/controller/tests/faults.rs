//! What the API server may answer instead.

use super::*;
use crate::controller::memory::REFUSED_RETRY_MAX;
use crate::fixtures::Fault;

const INTERNAL: Fault = Fault::Status(500, "etcd is tired", "");

#[tokio::test(start_paused = true)]
async fn errors_are_retried_ever_later() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    // Its removal is the only thing that happens: all tries but the first are made for the error's sake.
    let daemon_set = path("daemonsets", "simple");
    server.fail(Method::PATCH, &daemon_set, 6, INTERNAL);
    server.remove(&daemon_set);
    // At 0, 1, 3, 7, 15, 31 and 63 s, each wait up to a fifth shorter.
    let removed = tokio::time::Instant::now();
    for (tenths, tries) in [(7, 1), (23, 2), (55, 3), (119, 4), (247, 5), (503, 6), (640, 7)] {
        tokio::time::sleep_until(removed + Duration::from_millis(tenths * 100)).await;
        assert_eq!(server.applied(&daemon_set), 1 + tries, "after {tenths}/10 s");
    }
    assert!(server.get(&daemon_set).is_some());
    assert_eq!(server.applied(&path("configmaps", "simple")), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_calls_wrong_is_said_and_not_tried_hot() {
    let server = server();
    let daemon_set = path("daemonsets", "simple");
    let wrong = Fault::Status(422, "affinity: bad operator", "");
    server.fail(Method::PATCH, &daemon_set, 1, wrong);
    let _leading = server.lead();
    settle().await;
    let (status, message) = server.condition("Ready").unwrap();
    assert_eq!(status, "False", "{message}");
    assert!(message.contains("affinity: bad operator"), "{message}");
    // Neither by time nor by what happens to others of its objects.
    server.remove(&path("services", "simple"));
    settle().await;
    assert_eq!(server.applied(&daemon_set), 1);
    tokio::time::sleep(REFUSED_RETRY_MAX).await;
    assert_eq!(server.applied(&daemon_set), 2);
    assert!(server.get(&daemon_set).is_some());
    let (_, message) = server.condition("Ready").unwrap();
    assert!(!message.contains("affinity: bad operator"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_forbids_is_said_and_soon_tried_again() {
    let server = server();
    let daemon_set = path("daemonsets", "simple");
    let forbidden = Fault::Status(403, "denied: every container must run another image", "");
    server.fail(Method::PATCH, &daemon_set, 3, forbidden);
    let _leading = server.lead();
    server
        .until("it is tried", |server| server.applied(&daemon_set) == 1)
        .await;
    // At 0, 2, 6 and 14 s.
    for (seconds, tries) in [(1, 1), (2, 2), (2, 2), (2, 3), (6, 3), (2, 4)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(server.applied(&daemon_set), tries);
        let (_, message) = server.condition("Ready").unwrap();
        let is_said = message.contains("denied: every container must run another image");
        assert!(is_said || tries == 4, "{message}");
    }
    assert!(server.get(&daemon_set).is_some());
    settle().await;
    let (_, message) = server.condition("Ready").unwrap();
    assert!(!message.contains("denied"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_specification_is_tried_again_once_it_is_changed() {
    let server = server();
    let daemon_set = path("daemonsets", "simple");
    server.fail(Method::PATCH, &daemon_set, 1, Fault::Status(422, "bad", ""));
    let _leading = server.lead();
    settle().await;
    let mut changed = server.get(&simple()).unwrap();
    changed["spec"]["node"] = json!({"port": 6000});
    changed["metadata"]["generation"] = 4.into();
    server.put(&simple(), changed);
    settle().await;
    assert_eq!(server.applied(&daemon_set), 2);
    assert!(server.get(&daemon_set).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_invalid_specification_is_said_and_waited_for() {
    let server = Server::default();
    let mut wrong = document(spec("quay.io"));
    wrong["spec"]["cache"] = json!({"path": "/etc"});
    server.put(&simple(), wrong);
    let _leading = server.lead();
    settle().await;
    let (status, message) = server.condition("Ready").unwrap();
    assert_eq!(status, "False");
    assert!(
        message.contains("spec.cache.path: /etc does not lie under"),
        "{message}"
    );
    assert_eq!(server.count(|asked| asked.is_apply()), 0);
    let before = server.asked().len();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(changes(&server, before), [""; 0]);
    let mut right = server.get(&simple()).unwrap();
    right["spec"]["cache"] = json!({"path": "/var/lib/larder"});
    server.put(&simple(), right);
    settle().await;
    assert!(server.get(&path("daemonsets", "simple")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_conflict_over_the_finalizer_is_tried_again() {
    let server = server();
    server.fail(Method::PATCH, &simple(), 1, Fault::Status(409, "modified", ""));
    let _leading = server.lead();
    carried_out(&server).await;
    assert_eq!(server.count(writes_to(&simple())), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_is_given_up() {
    let server = server();
    let service = path("services", "simple");
    server.fail(Method::PATCH, &service, 1, Fault::Silence);
    let _leading = server.lead();
    settle().await;
    assert_eq!(server.applied(&service), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(server.get(&path("daemonsets", "simple")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_written_later() {
    for fault in [INTERNAL, Fault::Status(409, "modified", "")] {
        let server = server();
        server.fail(Method::PATCH, "/simple/status", 2, fault);
        let _leading = server.lead();
        carried_out(&server).await;
        assert_eq!(server.count(writes_to(&format!("{}/status", simple()))), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_goes_while_its_status_is_written_is_let_go() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let statuses = || server.count(writes_to(&format!("{}/status", simple())));
    let before = statuses();
    let gone = Fault::Status(404, "not found", "");
    server.fail(Method::PATCH, "/simple/status", 99, gone);
    let mut daemon_set = server.get(&path("daemonsets", "simple")).unwrap();
    daemon_set["status"] = json!({"observedGeneration": 1, "desiredNumberScheduled": 1});
    server.put(&path("daemonsets", "simple"), daemon_set);
    settle().await;
    assert_eq!(statuses(), before + 1);
    server.remove(&simple());
    settle().await;
    assert_eq!(statuses(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn expired_watches_are_begun_anew_and_nothing_is_missed() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    server.expire_watches();
    let mut changed = server.get(&simple()).unwrap();
    changed["spec"] = spec("gcr.io");
    server.put(&simple(), changed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let config_map = server.get(&path("configmaps", "simple")).unwrap();
    assert!(
        config_map["data"]["mirror.yaml"]
            .as_str()
            .unwrap()
            .contains("gcr.io")
    );
    assert_eq!(server.applied(&path("daemonsets", "simple")), 1);
}

#[tokio::test(start_paused = true)]
async fn watches_that_lag_cause_no_second_apply() {
    for plural in ["serviceaccounts", "configmaps", "services", "daemonsets"] {
        let server = server();
        server.lag(plural, Duration::from_millis(500));
        let _leading = server.lead();
        carried_out(&server).await;
        assert_eq!(paths().map(|path| server.applied(&path)), [1; 4], "{plural}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_definition_and_says_so() {
    let server = server();
    server.fail(
        Method::GET,
        MIRRORS,
        4,
        Fault::Status(404, "404 page not found", ""),
    );
    let leading = server.lead();
    let waits_for = leading.waits_for.clone();
    server
        .until("it says so", |_| {
            let waits_for = waits_for.borrow();
            waits_for.as_deref() == Some("the CustomResourceDefinition registrymirrors.larder.dev")
        })
        .await;
    carried_out(&server).await;
    assert_eq!(*leading.waits_for.borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_again_when_its_watch_is() {
    let server = server();
    let leading = server.lead();
    carried_out(&server).await;
    server.fail(Method::GET, MIRRORS, 2, Fault::Status(503, "starting", ""));
    server.end_watches();
    settle().await;
    assert_eq!(*leading.waits_for.borrow(), None);
    let mut changed = server.get(&simple()).unwrap();
    changed["spec"] = spec("gcr.io");
    server.put(&simple(), changed);
    settle().await;
    let config_map = server.get(&path("configmaps", "simple")).unwrap();
    assert!(config_map["data"].to_string().contains("gcr.io"));
}

#[tokio::test(start_paused = true)]
async fn it_outlives_an_api_server_that_is_away() {
    let server = server();
    for collection in [
        "registrymirrors",
        "daemonsets",
        "configmaps",
        "services",
        "serviceaccounts",
        "pods",
    ] {
        server.fail(
            Method::GET,
            &format!("/{collection}"),
            3,
            Fault::Status(503, "starting", ""),
        );
    }
    let _leading = server.lead();
    carried_out(&server).await;
}
