//! The proof that the runtime's port is ours: who gets it, when it says that the cache shall not be used, and that it
//! is nobody's business in logs and counts.

use cache_node::identity::{IDENTITY_PATH, IdentityKey, new_challenge};

use tempfile::TempDir;

use super::*;

fn config() -> MirrorConfig {
    MirrorConfig::new().registry("up.test", "http://127.0.0.1:1")
}

/// A cache with this state directory.
async fn start(state: &TempDir) -> NodeProcess {
    NodeProcess::builder()
        .config(&config())
        .arg("--state-dir")
        .arg(state.path())
        .start()
        .await
}

#[tokio::test]
async fn the_challenge_is_answered_and_not_logged() {
    let state = tempfile::tempdir().unwrap();
    let node = start(&state).await;
    let challenge = new_challenge().unwrap();
    let url = format!("{}{IDENTITY_PATH}", node.url());
    let proof = Call::get(&format!("{url}?challenge={challenge}")).send().await;
    assert_eq!(
        (proof.status, proof.header("content-type")),
        (200, Some("text/plain"))
    );
    let key = IdentityKey::read(state.path()).unwrap();
    assert!(key.is_answer(&challenge, &proof.text()));
    assert_eq!(Call::get(&url).send().await.status, 400);
    assert_eq!(Call::get(&format!("{}/v2/", node.url())).send().await.status, 200);

    let requests = async |kind: &str| {
        let metrics = node.metrics().await;
        let is_counted = |line: &&str| line.starts_with("larder_requests_total{") && line.contains(kind);
        metrics
            .lines()
            .filter(is_counted)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    until("the ping is counted", async || !requests("base").await.is_empty()).await;
    assert_eq!(requests("other").await, Vec::<String>::new());
    assert!(!node.output().contains("identity"), "{}", node.output());
}

#[tokio::test]
async fn without_a_state_directory_there_is_no_such_page() {
    let node = NodeProcess::start(&config()).await;
    let url = format!(
        "{}{IDENTITY_PATH}?challenge={}",
        node.url(),
        new_challenge().unwrap()
    );
    assert_eq!(Call::get(&url).send().await.status, 404);
}

#[tokio::test]
async fn a_new_process_has_a_new_key() {
    let state = tempfile::tempdir().unwrap();
    let mut node = start(&state).await;
    let challenge = new_challenge().unwrap();
    let url = format!("{}{IDENTITY_PATH}?challenge={challenge}", node.url());
    let before = Call::get(&url).send().await.text();
    node.restart().await;
    let after = Call::get(&url).send().await.text();
    assert_ne!(before, after);
    assert!(
        IdentityKey::read(state.path())
            .unwrap()
            .is_answer(&challenge, &after)
    );
}

/// With every place taken no pull is answered, so the challenge is not answered either; it is as soon as one is free.
#[tokio::test]
async fn a_cache_with_no_place_left_does_not_claim_to_work() {
    let mut limits = Limits::default();
    limits.connections.connections = 1;
    let node = InProcessNode::start(&config(), limits).await;
    let url = format!(
        "{}{IDENTITY_PATH}?challenge={}",
        node.url(),
        new_challenge().unwrap()
    );
    let place = tokio::net::TcpStream::connect(node.url().trim_start_matches("http://"))
        .await
        .unwrap();
    let mut asked = tokio::spawn(Call::get(&url).send());
    let early = tokio::time::timeout(Duration::from_millis(500), &mut asked).await;
    assert!(early.is_err(), "answered with every place taken");
    drop(place);
    assert_eq!(asked.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_unusable_state_directory_is_said_and_is_1() {
    let cache = tempfile::tempdir().unwrap();
    let [listen, admin] = ["127.0.0.1"; 2].map(free);
    let mut command = cache_node(&["serve", "--listen", &listen, "--admin", &admin]);
    command
        .arg("--cache-dir")
        .arg(cache.path())
        .args(["--state-dir", "/nonexistent/state"]);
    let (code, _, errors) = said(command.output().await.unwrap());
    assert_eq!(code, 1);
    assert!(
        errors.contains("--state-dir") && errors.contains("/nonexistent/state"),
        "{errors}"
    );
}
