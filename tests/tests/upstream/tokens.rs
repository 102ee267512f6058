//! D.2, D.8: what token servers answer, how long it is good for, and how often they are asked.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use larder_tests::prelude::*;

use super::support::*;

async fn registry(rules: larder_tests::token::TokenRules) -> (TokenServer, FakeRegistry) {
    let tokens = rules.start().await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    (tokens, up)
}

/// D.2, D.8: `token`, `access_token`, both; opaque, 4 KiB and more, without `expires_in` (then 60 s), with an `issued_at`
/// in the past, in the future, in other zones, or not a time at all. Whatever it is, it serves more than one request.
#[tokio::test]
async fn d2_d8_tokens_of_every_shape_are_used_and_kept() {
    let text = |text: &str| IssuedAt::Text(text.to_owned());
    let server = TokenServer::builder;
    let shapes = [
        server().keys(TokenKeys::Token),
        server().keys(TokenKeys::AccessToken).expires_in(None),
        server().keys(TokenKeys::Both).opaque(),
        server().opaque().token_bytes(5000),
        server().expires_in(None).issued_at(IssuedAt::Absent),
        server().expires_in(Some(0)),
        server().expires_in(Some(-1)),
        server().expires_in(Some(i64::MAX)),
        server().issued_at(IssuedAt::Now(-86_400)),
        server().issued_at(IssuedAt::Now(86_400)),
        server().issued_at(text("2020-08-20T08:18:42.575597053+02:00")),
        server().issued_at(text("Thu, 20 Aug 2020 06:18:42 GMT")),
        server().issued_at(text("")),
    ];
    for (index, rules) in shapes.into_iter().enumerate() {
        let (tokens, up) = registry(rules).await;
        let image = push_image(&up);
        let node = node(at(&up)).await;
        assert_eq!(manifest(&node, "v1").await.status, 200, "shape {index}");
        let digest = &image.layers[0].digest;
        blob(&node, digest).await.assert_whole(digest);
        assert_eq!(tokens.requests().len(), 1, "shape {index}");
        assert_eq!(authorizations(&up).len(), 2, "shape {index}");
    }
}

/// D.2: `issued_at` and `expires_in` may be missing, null or of the wrong type, and there may be more fields.
#[tokio::test]
async fn d2_odd_fields_in_a_tokens_answer_do_no_harm() {
    for answer in [
        r#"{"token":"t","expires_in":"300","issued_at":1597904322}"#,
        r#"{"token":"t","expires_in":null,"issued_at":null,"refresh_token":"r","scope":"x"}"#,
        r#"{"access_token":"t","expires_in":300.5}"#,
        r#"{"token":"","access_token":"t"}"#,
        r#"{"token":null,"access_token":"t"}"#,
    ] {
        let tokens = TokenServer::builder().start().await;
        tokens.script(on_any(), Action::respond(200, answer.to_owned()));
        let up = FakeRegistry::builder().start().await;
        let challenge = format!(r#"Bearer realm="{}""#, tokens.realm());
        let without_token = on_any().when(|request| request.header("Authorization") != Some("Bearer t"));
        up.script(without_token, Action::challenge(&[&challenge]));
        push_image(&up);
        let node = node(at(&up)).await;
        assert_eq!(manifest(&node, "v1").await.status, 200, "{answer}");
    }
}

/// D.2: an answer without a usable token is upstream's failure, not absence.
#[tokio::test]
async fn d2_an_unusable_token_answer_is_a_bad_gateway() {
    for answer in [
        "",
        "<html>portal</html>",
        "{}",
        r#"{"token":"a\nb"}"#,
        r#"{"token":5}"#,
    ] {
        let (tokens, up) = registry(TokenServer::builder()).await;
        tokens.script(on_any(), Action::respond(200, answer.to_owned()));
        push_image(&up);
        let node = node(at(&up)).await;
        let refused = manifest(&node, "v1").await;
        assert_eq!(refused.status, 502, "{answer}: {}", refused.text());
    }
}

/// D.2: a token that the registry no longer takes is replaced, once, and the client notices nothing.
#[tokio::test]
async fn d2_a_refused_token_is_replaced() {
    let (tokens, up) = registry(TokenServer::builder()).await;
    push_image(&up);
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 200);
    tokens.revoke_all();
    let digest = up.add_blob(REPO, random(1000));
    blob(&node, &digest).await.assert_whole(&digest);
    assert_eq!(tokens.requests().len(), 2);
}

/// D.2: a token is replaced when it expires, without waiting for the registry to refuse it.
#[tokio::test]
async fn d2_an_expired_token_is_replaced_before_it_is_refused() {
    let (tokens, up) = registry(TokenServer::builder().expires_in(Some(1))).await;
    let node = node(at(&up)).await;
    let deadline = Instant::now() + SOON;
    while tokens.requests().len() < 2 {
        let digest = up.add_blob(REPO, random(100));
        blob(&node, &digest).await.assert_whole(&digest);
        assert!(Instant::now() < deadline, "the token is used for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = up.requests_on(on_any_blob());
    let refused = refused.iter().filter(|exchange| exchange.status() == Some(401));
    assert_eq!(refused.count(), 1, "only the first request, which had no token");
}

/// D.2: however many pulls need the same token, it is asked for once; another repository needs another.
#[tokio::test]
async fn d2_tokens_are_asked_for_once() {
    let (tokens, up) = registry(TokenServer::builder()).await;
    tokens.script(on_any(), Action::delay_head(Duration::from_millis(150)));
    let node = node(at(&up)).await;
    let digests: Vec<_> = (0..20).map(|_| up.add_blob(REPO, random(100))).collect();
    let answers = join_all(digests.iter().map(|digest| blob(&node, digest))).await;
    for (answer, digest) in answers.iter().zip(&digests) {
        answer.assert_whole(digest);
    }
    assert_eq!(tokens.requests().len(), 1);
    tokens.revoke_all();
    let digests: Vec<_> = (0..20).map(|_| up.add_blob(REPO, random(100))).collect();
    let answers = join_all(digests.iter().map(|digest| blob(&node, digest))).await;
    for (answer, digest) in answers.iter().zip(&digests) {
        answer.assert_whole(digest);
    }
    assert_eq!(tokens.requests().len(), 2, "also when all are refused at once");
    let other = up.add_blob("other/app", random(100));
    let other = format!("{}/v2/other/app/blobs/{other}?ns=up.test", node.url());
    assert_eq!(Call::get(&other).send().await.status, 200);
    assert_eq!(scopes(&tokens)[2].as_deref(), Some("repository:other/app:pull"));
}

/// D.2: a token with less scope than was asked for is a refusal by the registry; asking again and again does not help.
#[tokio::test]
async fn d2_a_token_of_less_scope_ends_as_absence() {
    let (tokens, up) = registry(TokenServer::builder().anonymous(&["public/*"])).await;
    push_image(&up);
    let node = node(at(&up)).await;
    let answer = manifest(&node, "v1").await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (404, "NAME_UNKNOWN".to_owned())
    );
    assert!(tokens.requests().len() <= 2, "{}", tokens.requests().len());
    assert!(
        up.count(on_any_manifest()) <= 3,
        "{}",
        up.count(on_any_manifest())
    );
}

/// D.3, D.5: a token server that answers 401 or 403 means "private or not existing"; 400 and 404 say that something is
/// wrong with the question; 5xx that it is broken. Only the first says anything about the image.
#[tokio::test]
async fn d3_d5_refusals_of_the_token_server() {
    for (status, expected) in [
        (401, 404),
        (403, 403),
        (400, 502),
        (404, 502),
        (500, 502),
        (503, 502),
    ] {
        let (tokens, up) = registry(TokenServer::builder()).await;
        tokens.script(on_any(), Action::status(status));
        push_image(&up);
        let node = node(at(&up)).await;
        let answer = manifest(&node, "v1").await;
        assert_eq!(answer.status, expected, "{status}: {}", answer.text());
        assert_eq!(answer.header("WWW-Authenticate"), None);
    }
}

/// D.2: the token server failing for a moment is not the client's business.
#[tokio::test]
async fn d2_a_token_server_that_stumbles_is_asked_again() {
    let (tokens, up) = registry(TokenServer::builder()).await;
    tokens.script(on_any().once(), Action::status(503));
    tokens.script(on_any().nth(1), Action::hangup_fin());
    push_image(&up);
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 200);
    assert_eq!(tokens.requests().len(), 3);
}

fn identity_secret(node: &InProcessNode, host: &str, entry: serde_json::Value) {
    let config = serde_json::json!({"auths": {host: entry}}).to_string();
    secrets::write_as_kubelet(&node.credentials_dir(), "hub", &[(".dockerconfigjson", &config)]);
}

/// D.2, D.8: an identity token is exchanged by POST, and the answer may be an `access_token` without `expires_in`.
#[tokio::test]
async fn d2_d8_an_identity_token_is_exchanged_by_post() {
    let rules = TokenServer::builder()
        .no_anonymous()
        .user("jane", "x", &["*"])
        .refresh_token("id+token/=", "jane")
        .keys(TokenKeys::AccessToken)
        .expires_in(None);
    let (tokens, up) = registry(rules).await;
    let image = push_image(&up);
    let node = node(with_secret(&up)).await;
    identity_secret(
        &node,
        &up.host(),
        serde_json::json!({"identitytoken": "id+token/="}),
    );
    assert_eq!(manifest(&node, "v1").await.status, 200);
    let digest = &image.layers[0].digest;
    blob(&node, digest).await.assert_whole(digest);
    assert_eq!(
        (tokens.requests().len(), tokens.count(on_any().method("POST"))),
        (1, 1)
    );
    let form = String::from_utf8(tokens.requests()[0].request.body.to_vec()).unwrap();
    for field in [
        "grant_type=refresh_token",
        "service=fake-registry",
        "refresh_token=id%2Btoken%2F%3D",
        "scope=repository%3Aacme%2Fapp%3Apull",
    ] {
        assert!(form.split('&').any(|pair| pair == field), "{field} in {form}");
    }
    assert_eq!(authorizations(&tokens), [""; 0]);
}

/// D.2: servers without the exchange answer POST with 404 (GCR), 401 (Artifactory), 400 (ACR) or 405: then GET with Basic.
#[tokio::test]
async fn d2_a_refused_post_falls_back_to_get() {
    for status in [404, 401, 400, 405] {
        let rules = TokenServer::builder()
            .no_anonymous()
            .user("<token>", "idtoken", &["*"]);
        let (tokens, up) = registry(rules).await;
        tokens.script(on_any().method("POST"), Action::status(status));
        push_image(&up);
        let node = node(with_secret(&up)).await;
        identity_secret(&node, &up.host(), serde_json::json!({"identitytoken": "idtoken"}));
        assert_eq!(manifest(&node, "v1").await.status, 200, "{status}");
        assert_eq!(tokens.count(on_any().get()), 1, "{status}");
    }
}

/// D.8: ACR's zero user with a refresh token as its password, by GET with Basic; an identity token keeps that user.
#[tokio::test]
async fn d8_acrs_user_of_zeros_works_with_get() {
    const ZERO: &str = "00000000-0000-0000-0000-000000000000";
    for entry in [
        serde_json::json!({"username": ZERO, "password": "refresh"}),
        serde_json::json!({"username": ZERO, "identitytoken": "refresh"}),
    ] {
        let rules = TokenServer::builder()
            .no_anonymous()
            .no_post()
            .user(ZERO, "refresh", &["*"]);
        let (_tokens, up) = registry(rules).await;
        push_image(&up);
        let node = node(with_secret(&up)).await;
        identity_secret(&node, &up.host(), entry.clone());
        assert_eq!(manifest(&node, "v1").await.status, 200, "{entry}");
    }
}
