use kube::api::ObjectMeta;

use super::*;

fn metadata(version: &str, generation: Option<i64>) -> ObjectMeta {
    ObjectMeta {
        uid: Some("uid".to_owned()),
        resource_version: Some(version.to_owned()),
        generation,
        ..ObjectMeta::default()
    }
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_a_cap_and_begin_anew_after_a_success() {
    let memory = Memory::default();
    let expected = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
    for seconds in expected.map(Duration::from_secs) {
        let wait = memory.failed("uid");
        assert!(
            wait <= seconds && wait >= seconds.mul_f64(1.0 - JITTER),
            "{wait:?}"
        );
    }
    for _ in 0..100 {
        assert!(memory.failed("uid") <= BACKOFF_MAX);
    }
    assert!(memory.failed("other") <= BACKOFF_MIN);
    memory.succeeded("uid");
    assert!(memory.failed("uid") <= BACKOFF_MIN);
}

#[tokio::test(start_paused = true)]
async fn a_status_is_due_after_five_seconds() {
    let memory = Memory::default();
    assert_eq!(memory.status_due_in("uid"), None);
    memory.status_written("uid");
    assert_eq!(memory.status_due_in("uid"), Some(STATUS_EVERY));
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(memory.status_due_in("uid"), Some(Duration::from_secs(2)));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(memory.status_due_in("uid"), None);
}

#[test]
fn what_was_applied_need_not_be_applied_again_until_something_changes() {
    let memory = Memory::default();
    let after = metadata("2", None);
    assert_eq!(memory.need("uid", "Service", 7, None), Need::Apply);
    memory.applied("uid", "Service", 7, &after);
    let need = |desired, live: Option<&ObjectMeta>| memory.need("uid", "Service", desired, live);
    assert_eq!(need(7, Some(&after)), Need::Nothing);
    assert_eq!(need(8, Some(&after)), Need::Apply, "something else is wanted");
    assert_eq!(
        need(7, Some(&metadata("3", None))),
        Need::Apply,
        "somebody changed it"
    );
    assert_eq!(need(7, None), Need::Apply, "somebody removed it");
    assert_eq!(memory.need("other", "Service", 7, Some(&after)), Need::Apply);
    memory.retain(|uid| uid != "uid");
    assert_eq!(need(7, Some(&after)), Need::Apply);
}

#[test]
fn the_status_of_what_has_a_generation_is_nobodys_change() {
    let memory = Memory::default();
    memory.applied("uid", "DaemonSet", 7, &metadata("1", Some(1)));
    let need = |live: &ObjectMeta| memory.need("uid", "DaemonSet", 7, Some(live));
    assert_eq!(need(&metadata("9", Some(1))), Need::Nothing);
    assert_eq!(need(&metadata("9", Some(2))), Need::Apply);
    let mut labelled = metadata("9", Some(1));
    labelled.labels = Some([("a".to_owned(), "b".to_owned())].into());
    assert_eq!(need(&labelled), Need::Apply);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_asked_for_again_after_a_while_or_when_it_differs() {
    let memory = Memory::default();
    memory.refused("uid", "DaemonSet", 7, "no", false);
    let need = |desired| memory.need("uid", "DaemonSet", desired, None);
    assert_eq!(need(7), Need::Refused("no".to_owned()));
    assert_eq!(need(8), Need::Apply);
    assert_eq!(memory.refusal_ends_in("uid"), Some(REFUSED_RETRY_MAX));
    tokio::time::advance(REFUSED_RETRY_MAX).await;
    assert_eq!(need(7), Need::Apply);
    assert_eq!(memory.refusal_ends_in("uid"), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_asked_for_again_soon_and_then_ever_later() {
    let memory = Memory::default();
    for seconds in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        memory.refused("uid", "DaemonSet", 7, "no", true);
        let wait = Duration::from_secs(seconds);
        assert_eq!(memory.refusal_ends_in("uid"), Some(wait));
        tokio::time::advance(wait).await;
        assert_eq!(memory.need("uid", "DaemonSet", 7, None), Need::Apply);
    }
    memory.refused("uid", "DaemonSet", 8, "no", true);
    assert_eq!(
        memory.refusal_ends_in("uid"),
        Some(FORBIDDEN_RETRY_MIN),
        "another object"
    );
}
