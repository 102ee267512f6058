//! A7 to A11: tokens as Docker Hub, gcr and quay give them.

use std::time::Duration;

use larder_tests::prelude::*;
use larder_tests::scripted::Body;

use super::capture::jwt;
use super::support::{get, node};

/// How long a token with one second to live may take until it is replaced.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);

async fn registry(tokens: &TokenServer) -> FakeRegistry {
    FakeRegistry::builder().auth(Auth::bearer(tokens)).start().await
}

/// Pulls a new blob of `repo`.
async fn pull(node: &NodeProcess, up: &FakeRegistry, repo: &str) {
    let blob = up.add_blob(repo, random(100));
    let answer = get(node, &format!("{repo}/blobs/{blob}?ns=up.test")).await;
    assert_eq!((answer.status, answer.digest), (200, blob));
}

/// Pulls until the cache has asked for a second token.
async fn pull_until_replaced(tokens: &TokenServer) {
    let up = registry(tokens).await;
    let node = node("up.test", &up).await;
    let replaced = async {
        while tokens.count(on_any()) < 2 {
            pull(&node, &up, "acme/app").await;
        }
    };
    let replaced = tokio::time::timeout(REPLACED_WITHIN, replaced).await;
    assert!(replaced.is_ok(), "the token is used beyond its lifetime");
}

/// A7: both names of the token, more than 4 KiB of it, and a lifetime that is used.
#[tokio::test]
async fn a7_a_large_token_is_asked_for_once_and_sent_whole() {
    for keys in [TokenKeys::Both, TokenKeys::Token, TokenKeys::AccessToken] {
        let tokens = TokenServer::builder().keys(keys).token_bytes(5000).start().await;
        let up = registry(&tokens).await;
        let node = node("up.test", &up).await;
        for _ in 0..3 {
            pull(&node, &up, "acme/app").await;
        }
        assert_eq!(tokens.count(on_any()), 1, "{keys:?}");
        let sent = up.requests_on(on_any_blob().has_header("Authorization"));
        assert_eq!(sent.len(), 3);
        let header = sent[0].request.header("Authorization").unwrap();
        assert_eq!(header.len(), "Bearer ".len() + 5000);
        assert_eq!(
            up.count(on_any_blob().lacks_header("Authorization")),
            1,
            "the first one learns"
        );
    }
}

/// A7: the lifetime counts from `issued_at`.
#[tokio::test]
async fn a7_a_lifetime_counts_from_the_issue() {
    let tokens = TokenServer::builder()
        .expires_in(Some(300))
        .issued_at(IssuedAt::Now(-299))
        .start()
        .await;
    pull_until_replaced(&tokens).await;
}

/// A8: gcr's `issued_at` has a numeric zone and eight digits of a fraction.
#[tokio::test]
async fn a8_any_rfc_3339_time_of_issue_is_understood() {
    let tokens = TokenServer::builder()
        .keys(TokenKeys::Token)
        .opaque()
        .expires_in(Some(43_200))
        .start()
        .await;
    // Written when it is asked for, so that one second is left of the token's twelve hours.
    let issued_long_ago = Action::with(|_, reply| {
        let body = reply.body.content.read(0, reply.body.len as usize);
        let mut answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        answer["issued_at"] =
            as_gcr_writes(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(43_199)).into();
        reply.body = Body::whole(answer.to_string());
    });
    tokens.script(on_any(), issued_long_ago);
    pull_until_replaced(&tokens).await;
}

fn as_gcr_writes(time: jiff::Timestamp) -> String {
    let there = jiff::tz::Offset::from_seconds(-7 * 3600).unwrap();
    let text = format!("{:.8}-07:00", there.to_datetime(time));
    assert_eq!(text.len(), "2020-08-19T20:38:43.00565746-07:00".len(), "{text}");
    text
}

/// A8: opaque tokens with `+`, `/` and `=` are sent as they are, and may live for twelve hours.
#[tokio::test]
async fn a8_opaque_tokens_are_sent_verbatim() {
    let tokens = TokenServer::builder()
        .keys(TokenKeys::Token)
        .opaque()
        .token_bytes(420)
        .expires_in(Some(43_200))
        .issued_at(IssuedAt::Text("2020-08-19T20:38:43.00565746-07:00".to_owned()))
        .start()
        .await;
    let up = registry(&tokens).await;
    let node = node("up.test", &up).await;
    pull(&node, &up, "acme/app").await;
    pull(&node, &up, "acme/app").await;
    assert_eq!(
        tokens.count(on_any()),
        1,
        "a time of issue long ago comes of a wrong clock"
    );
    let sent = up.requests_on(on_any_blob().has_header("Authorization"));
    let header = sent[0].request.header("Authorization").unwrap();
    assert!(['+', '/', '='].iter().all(|c| header.contains(*c)), "{header}");
}

/// A9: quay tells no lifetime and forbids HTTP caches to keep the answer; the token is kept until a 401.
#[tokio::test]
async fn a9_a_token_without_a_lifetime_is_kept_until_it_is_refused() {
    let tokens = TokenServer::builder()
        .keys(TokenKeys::Token)
        .expires_in(None)
        .issued_at(IssuedAt::Absent)
        .start()
        .await;
    let no_store = Action::header("Cache-Control", "no-cache, no-store, must-revalidate");
    tokens.script(on_any(), no_store);
    let up = registry(&tokens).await;
    let node = node("up.test", &up).await;
    for _ in 0..3 {
        pull(&node, &up, "acme/app").await;
    }
    assert_eq!(
        tokens.count(on_any()),
        1,
        "HTTP's cache headers say nothing of tokens"
    );
    tokens.revoke_all();
    pull(&node, &up, "acme/app").await;
    assert_eq!(tokens.count(on_any()), 2, "a 401 asks for another one");
}

/// A10: a client that brings a token from elsewhere: it goes nowhere, and nobody is challenged.
#[tokio::test]
async fn a10_a_clients_authorization_is_neither_forwarded_nor_logged_nor_a_key() {
    let up = FakeRegistry::builder().start().await;
    up.add_manifest(
        "openshift/okd",
        "latest",
        media_type::OCI_MANIFEST,
        r#"{"schemaVersion":2}"#,
    );
    let config = MirrorConfig::new().registry("quay.io", up.url());
    let node = NodeProcess::builder()
        .config(&config)
        .env("RUST_LOG", "trace")
        .start()
        .await;
    let url = format!("{}/v2/openshift/okd/manifests/latest?ns=quay.io", node.url());
    let token = jwt(134, 399, 342);
    let with = Call::get(&url)
        .header("Authorization", format!("Bearer {token}"))
        .send()
        .await;
    let without = Call::get(&url).send().await;
    assert_eq!((with.status, without.status), (200, 200));
    assert_eq!(with.body, without.body);
    assert_eq!(up.count(on_any()), 1, "one entry for both");
    assert_eq!(up.count(on_any().has_header("Authorization")), 0);
    let output = node.output();
    assert!(output.contains("openshift/okd"), "the log says something");
    assert!(!output.contains(&token[..100]), "the log does not hold the token");
}

/// A10: what upstream refuses becomes a 404 or 403, never a challenge that would draw credentials to us.
#[tokio::test]
async fn a10_upstreams_challenge_is_never_passed_on() {
    let tokens = TokenServer::builder().no_anonymous().start().await;
    let up = registry(&tokens).await;
    let blob = up.add_blob("acme/private", "content");
    let node = node("up.test", &up).await;
    for path in [
        format!("blobs/{blob}"),
        "manifests/latest".to_owned(),
        "tags/list".to_owned(),
    ] {
        let answer = get(&node, &format!("acme/private/{path}?ns=up.test")).await;
        assert!(matches!(answer.status, 403 | 404), "{path}: {}", answer.status);
        assert_eq!(answer.header("www-authenticate"), None);
        assert!(
            ["DENIED", "NAME_UNKNOWN"].contains(&answer.error_code().as_str()),
            "{}",
            answer.text()
        );
    }
}

/// A11: without a Secret, token requests are anonymous, and each is for one repository.
#[tokio::test]
async fn a11_token_requests_are_anonymous_and_for_one_repository() {
    let tokens = TokenServer::builder().start().await;
    let up = registry(&tokens).await;
    let node = node("up.test", &up).await;
    for repo in ["acme/one", "acme/two", "acme/one"] {
        pull(&node, &up, repo).await;
    }
    assert_eq!(tokens.count(on_any().has_header("Authorization")), 0);
    let scopes: Vec<_> = tokens
        .requests()
        .iter()
        .map(|exchange| {
            exchange
                .request
                .query()
                .split('&')
                .filter(|p| p.starts_with("scope="))
                .collect::<Vec<_>>()
                .join("&")
        })
        .collect();
    assert_eq!(
        scopes,
        [
            "scope=repository%3Aacme%2Fone%3Apull",
            "scope=repository%3Aacme%2Ftwo%3Apull"
        ]
    );
}
