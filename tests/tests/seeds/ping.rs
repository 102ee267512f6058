//! A1 to A6: the ping, and the challenges that answer it.

use larder_tests::prelude::*;

use super::capture::{Capture, captured};
use super::support::{DOCKER_AGENT, docker_get, get, head_of, lines, node};

const REPO: &str = "library/alpine";

/// A registry whose requests without a token get `refusal`, whose realm stands on `realm_host` at `realm_path`.
fn demand_token(up: &FakeRegistry, realm_host: &ScriptedHost, realm_path: &str, refusal: Capture) {
    let token = r#"{"token":"made-up","expires_in":300}"#;
    realm_host.script(on_path(realm_path), Action::respond(200, token));
    let refusal = refusal.fill("realm", &format!("{}{realm_path}", realm_host.url()));
    up.script(on_any().lacks_header("Authorization"), refusal.action());
}

/// Pulls one blob, and returns the requests at the registry.
async fn pull(node: &NodeProcess, up: &FakeRegistry) -> Vec<String> {
    let blob = up.add_blob(REPO, "content");
    let answer = get(node, &format!("{REPO}/blobs/{blob}?ns=docker.io")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    let token = up.requests_on(on_blob(&blob).header("Authorization", "Bearer made-up"));
    assert!(!token.is_empty(), "{:?}", lines(up));
    lines(up)
}

/// A1, A7: Docker Hub's challenge has no scope; the cache computes it. The error's `detail` is null.
#[tokio::test]
async fn a1_the_scope_is_computed_where_a_resource_challenges_without_one() {
    let up = FakeRegistry::builder().start().await;
    let auth = FakeRegistry::builder().start().await;
    demand_token(&up, &auth, "/token", captured("hub/ping"));
    let node = node("docker.io", &up).await;
    pull(&node, &up).await;
    assert_eq!(up.count(on_ping()), 0, "the resource's own challenge suffices");
    let asked = lines(&auth);
    assert_eq!(
        asked,
        ["GET /token?service=registry.docker.io&scope=repository%3Alibrary%2Falpine%3Apull"]
    );
}

/// A1: a 401 without any challenge sends the cache to the ping for one.
#[tokio::test]
async fn a1_the_challenge_is_taken_from_the_ping_where_the_resource_has_none() {
    let up = FakeRegistry::builder().start().await;
    let auth = FakeRegistry::builder().start().await;
    up.script(
        on_any_blob().lacks_header("Authorization"),
        Action::challenge(&[]),
    );
    demand_token(&up, &auth, "/token", captured("hub/ping"));
    let node = node("docker.io", &up).await;
    pull(&node, &up).await;
    assert_eq!(up.count(on_ping().lacks_header("Authorization")), 1);
    assert_eq!(
        auth.requests()[0].request.query_param("scope").as_deref(),
        Some("repository:library/alpine:pull")
    );
}

/// A2: gcr writes `Docker-Distribution-API-Version` and `WWW-Authenticate`, has no `detail`, and its realm is on the
/// registry itself.
#[tokio::test]
async fn a2_the_realm_may_be_on_the_registry_itself() {
    let up = FakeRegistry::builder().start().await;
    demand_token(&up, &up, "/v2/token", captured("gcr/ping"));
    let node = node("docker.io", &up).await;
    let asked = pull(&node, &up).await;
    let token = "GET /v2/token?service=gcr.io&scope=repository%3Alibrary%2Falpine%3Apull";
    assert_eq!(asked.iter().filter(|line| *line == token).count(), 1, "{asked:?}");
}

/// A3: quay's 401 is a text/html `true` with an upper-case reason. (Over HTTP/2 in `replay`.)
#[tokio::test]
async fn a3_a_401_need_not_be_json() {
    let up = FakeRegistry::builder().start().await;
    demand_token(&up, &up, "/v2/auth", captured("quay/ping"));
    let node = node("docker.io", &up).await;
    let asked = pull(&node, &up).await;
    let token = "GET /v2/auth?service=quay.io&scope=repository%3Alibrary%2Falpine%3Apull";
    assert_eq!(asked.iter().filter(|line| *line == token).count(), 1, "{asked:?}");
}

/// A4, A5: our ping is always a 200 `{}` of our own, which docker 19.03 takes for a v2 registry by its header.
#[tokio::test]
async fn a4_a5_our_ping_is_answered_without_upstream_and_without_a_challenge() {
    let up = FakeRegistry::builder().start().await;
    up.script(
        on_any(),
        captured("hub/ping").fill("realm", "http://127.0.0.1:1/").action(),
    );
    let node = node("docker.io", &up).await;
    for target in ["/v2/", "/v2", "/v2/?ns=docker.io", "/v2/?ns=unknown.test"] {
        for method in ["GET", "HEAD"] {
            let answer = Call::new(method, &format!("{}{target}", node.url())).send().await;
            assert_eq!(answer.status, 200, "{method} {target}");
            let head = head_of(&answer);
            assert_eq!(head["docker-distribution-api-version"], "registry/2.0");
            assert_eq!(
                (head["content-length"].as_str(), head["content-type"].as_str()),
                ("2", "application/json")
            );
            assert!(!head.contains_key("www-authenticate"));
            let body = if method == "HEAD" { "" } else { "{}" };
            assert_eq!(answer.text(), body, "{method} {target}");
        }
    }
    assert_eq!(up.connections(), 0, "nobody upstream is asked for it");
}

/// A6: docker's agent string is opaque, and `Connection: close` is honoured.
#[tokio::test]
async fn a6_dockers_ping_is_answered_and_its_connection_closed() {
    let up = FakeRegistry::builder().start().await;
    let node = node("docker.io", &up).await;
    let call = || docker_get(&node, "");
    let host = node.url().replace("http://", "");
    let mut connection = Connection::open(&host).await.unwrap();
    for _ in 0..2 {
        let kept = connection.send(call()).await;
        assert_eq!(
            (kept.status, kept.end, kept.header("connection")),
            (200, End::Complete, None)
        );
    }
    let last = connection.send(call().header("Connection", "close")).await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(
        connection.send(call()).await.end,
        End::NoHead,
        "the connection is closed"
    );
}

/// A6: the agent string of the client is its own business: upstream sees ours.
#[tokio::test]
async fn a6_the_clients_agent_does_not_reach_upstream() {
    let up = FakeRegistry::builder().start().await;
    up.add_manifest(REPO, "latest", media_type::OCI_MANIFEST, r#"{"schemaVersion":2}"#);
    let node = node("docker.io", &up).await;
    assert_eq!(
        docker_get(&node, "alpine/manifests/latest?ns=docker.io")
            .send()
            .await
            .status,
        200
    );
    let asked = &up.requests()[0].request;
    assert_ne!(asked.header("User-Agent"), Some(DOCKER_AGENT));
    assert!(
        asked.header("User-Agent").is_some_and(|agent| !agent.is_empty()),
        "{asked:?}"
    );
}
