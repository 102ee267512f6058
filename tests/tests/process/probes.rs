//! Registries are asked whether they are there and take our credentials, so that a person hears of it without a pull.

use std::fs;

use super::*;

fn mirror(registry: Registry) -> MirrorConfig {
    MirrorConfig::new().object("uid", 1).with(registry)
}

fn with_secret(up: &FakeRegistry) -> MirrorConfig {
    let endpoint = Endpoint::new(up.url())
        .credential("robot", &["acme/*"])
        .trust_realm("127.0.0.0/8");
    mirror(Registry::new("up.test").endpoint(endpoint))
}

#[tokio::test]
async fn an_unreachable_registry_is_found_without_a_pull() {
    let up = FakeRegistry::builder().start().await;
    let url = up.url();
    up.close();
    let node = attentive_node(&mirror(Registry::new("up.test").endpoint(Endpoint::new(&url)))).await;
    until_standing(&node, &[("UpstreamUnreachable", "up.test", "")]).await;
    // A changed registry is asked again soon.
    up.reopen().await;
    let changed = mirror(Registry::new("up.test").endpoint(Endpoint::new(&url)).ttl("7m"));
    fs::write(node.config_path(), changed.to_yaml()).unwrap();
    until_standing(&node, &[]).await;
    assert_eq!(up.count(on_any()), up.count(on_ping().get()), "nothing but pings");
}

/// Tokens: refused and taken without a repository in the scope, nothing that counts as a pull is asked.
#[tokio::test]
async fn wrong_credentials_are_found_without_a_pull() {
    let tokens = TokenServer::builder()
        .user("robot", "right", &["acme/*"])
        .no_anonymous()
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let node = attentive_node(&with_secret(&up)).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "wrong");
    until_standing(&node, &[("CredentialsRefused", "up.test", "robot")]).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "right");
    until("asked with the right password", async || {
        tokens
            .requests()
            .iter()
            .any(|exchange| exchange.status() == Some(200))
    })
    .await;
    until_standing(&node, &[]).await;
    for exchange in tokens.requests() {
        assert_eq!(exchange.request.query_param("scope"), None);
    }
    assert_eq!(up.count(on_any()), up.count(on_ping().get()), "nothing but pings");
}

#[tokio::test]
async fn a_password_that_a_basic_challenge_refuses_is_found() {
    let up = FakeRegistry::builder()
        .auth(Auth::basic(&[("robot", "right")]))
        .start()
        .await;
    let node = attentive_node(&with_secret(&up)).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "wrong");
    until_standing(&node, &[("CredentialsRefused", "up.test", "robot")]).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "right");
    until("asked with the right password", async || {
        let accepted = up.requests_on(on_ping().has_header("Authorization"));
        accepted.iter().any(|exchange| exchange.status() == Some(200))
    })
    .await;
    until_standing(&node, &[]).await;
}

/// A realm that must not see the credential never does, and a token that the registry itself takes goes to it alone.
#[tokio::test]
async fn a_probe_shows_credentials_to_nobody_else() {
    let tokens = TokenServer::builder().start().await;
    let up = FakeRegistry::builder().start().await;
    let challenge = format!(
        r#"Bearer realm="{}""#,
        tokens.realm().replace("127.0.0.1", "localhost")
    );
    up.script(on_any(), Action::challenge(&[&challenge]));
    let endpoint = Endpoint::new(up.url()).credential("robot", &["acme/*"]);
    let node = attentive_node(&mirror(Registry::new("up.test").endpoint(endpoint))).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "secret");
    until_standing(&node, &[("CredentialsRefused", "up.test", "robot")]).await;
    assert_eq!(tokens.requests().len(), 0);
}
