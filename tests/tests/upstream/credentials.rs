//! D.2 to D.5, D.7: which credentials there are, where they go, and what happens when they are wrong, missing or changed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use larder_tests::prelude::*;
use serde_json::json;

use super::support::*;

/// A registry whose tokens `jane` gets for everything, and everybody for `public/*`.
async fn registry() -> (TokenServer, FakeRegistry) {
    let rules = TokenServer::builder()
        .user("jane", "secret", &["*"])
        .anonymous(&["public/*"]);
    let tokens = rules.start().await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    (tokens, up)
}

async fn pull(node: &InProcessNode, repo: &str) -> Answer {
    Call::get(&format!("{}/v2/{repo}/manifests/v1?ns=up.test", node.url()))
        .send()
        .await
}

fn push(up: &FakeRegistry, repo: &str) {
    let image = ImageBuilder::new().layer(&[("a", repo.as_bytes())]).build();
    image.push_to(up, repo, "v1");
}

/// D.2, D.3 (robot accounts), D.4 (`_json_key` with a key of many lines and quotes): what users are called and what they
/// have as passwords survives Secrets of either kind and the way to the server.
#[tokio::test]
async fn d3_d4_users_and_passwords_survive_the_way() {
    const KEY: &str =
        "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN-----\\nMIIE+/=:\\n\"\n}";
    for (user, password) in [
        ("acme+robot", "ABC/def+="),
        ("$token", "t0k:en"),
        ("$oauthtoken", " leading and trailing "),
        ("_json_key", KEY),
        ("_json_key_base64", "eyJ0eXBlIjoi"),
        ("oauth2accesstoken", "ya29.a0AfH6SM"),
        ("AWS", &"E".repeat(2500)),
        ("käthe", "pässword"),
    ] {
        let rules = TokenServer::builder().no_anonymous().user(user, password, &["*"]);
        let tokens = rules.start().await;
        let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
        push_image(&up);
        let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let docker = |entry: serde_json::Value| json!({"auths": {up.host(): entry}}).to_string();
        for keys in [
            [("username", user), ("password", password)].as_slice(),
            &[("username", user), ("password", &format!("{password}\n"))],
            &[(".dockerconfigjson", &docker(json!({"auth": auth})))],
            &[(
                ".dockerconfigjson",
                &docker(json!({"username": user, "password": password})),
            )],
        ] {
            let node = node(with_secret(&up)).await;
            secrets::write_as_kubelet(&node.credentials_dir(), "hub", keys);
            assert_eq!(manifest(&node, "v1").await.status, 200, "{user} {:?}", keys[0].0);
        }
    }
}

/// D.2: a `token` Secret and a `registrytoken` are sent to the registry as they are; no token server is asked.
#[tokio::test]
async fn d2_a_bearer_secret_is_sent_as_it_is() {
    let tokens = TokenServer::builder().start().await;
    let up = FakeRegistry::builder().start().await;
    push_image(&up);
    let challenge = format!(r#"Bearer realm="{}""#, tokens.realm());
    let refused = on_any().when(|request| request.header("Authorization") != Some("Bearer s3cr+t/="));
    up.script(refused, Action::challenge(&[&challenge]));
    let docker = json!({"auths": {up.host(): {"registrytoken": "s3cr+t/="}}}).to_string();
    for keys in [("token", "s3cr+t/="), (".dockerconfigjson", &docker)] {
        let node = node(with_secret(&up)).await;
        secrets::write_as_kubelet(&node.credentials_dir(), "hub", &[keys]);
        assert_eq!(manifest(&node, "v1").await.status, 200, "{}", keys.0);
    }
    assert_eq!(tokens.requests().len(), 0);
}

/// D.3 (quay: 401), D.5 (ghcr: 403 DENIED): a credential that the token server refuses is left aside, so that public
/// images still come; private ones are refused without a challenge.
#[tokio::test]
async fn d3_d5_bad_credentials_do_not_break_public_pulls() {
    for status in [401, 403] {
        let (tokens, up) = registry().await;
        push(&up, "public/app");
        push(&up, "private/app");
        tokens.script(
            on_any().has_header("Authorization"),
            Action::error(status, "DENIED", "denied"),
        );
        let node = node(with_secret(&up)).await;
        secrets::write_basic(&node.credentials_dir(), "hub", "jane", "wrong");
        assert_eq!(pull(&node, "public/app").await.status, 200, "{status}");
        let private = pull(&node, "private/app").await;
        assert_eq!(private.status, 404, "{status}");
        assert_eq!(private.header("WWW-Authenticate"), None);
    }
}

/// D.7, D.9: with Basic alone, wrong passwords (an ECR token of yesterday) end as absence, not as a challenge.
#[tokio::test]
async fn d7_a_refused_password_ends_as_absence() {
    let up = FakeRegistry::builder()
        .auth(Auth::basic(&[("AWS", "today")]))
        .start()
        .await;
    push_image(&up);
    let node = node(with_secret(&up)).await;
    secrets::write_basic(&node.credentials_dir(), "hub", "AWS", "yesterday");
    for _ in 0..2 {
        let answer = manifest(&node, "v1").await;
        assert_eq!(
            (answer.status, answer.error_code()),
            (404, "NAME_UNKNOWN".to_owned())
        );
        assert_eq!(answer.header("WWW-Authenticate"), None);
    }
}

/// D.7: the Secret is read again when it changes (kubelet swaps `..data`), without a restart; so is its key's kind.
#[tokio::test]
async fn d7_a_changed_secret_is_read_again() {
    let rules = TokenServer::builder().no_anonymous().user("jane", "old", &["*"]);
    let tokens = rules.start().await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let node = node(with_secret(&up)).await;
    let dir = node.credentials_dir();
    secrets::write_basic(&dir, "hub", "jane", "old");
    pull_until(&node, &up, 200).await;
    tokens.set_password("jane", "new");
    tokens.revoke_all();
    pull_until(&node, &up, 404).await;
    secrets::write_basic(&dir, "hub", "jane", "new");
    pull_until(&node, &up, 200).await;

    tokens.set_password("jane", "newer");
    tokens.revoke_all();
    pull_until(&node, &up, 404).await;
    secrets::write_docker_config(&dir, "hub", &up.host(), "jane", "newer");
    pull_until(&node, &up, 200).await;
}

/// D.2: a Secret that is missing takes nothing but private images, of its own registry; when it comes it is used.
#[tokio::test]
async fn d2_a_missing_secret_leaves_public_images_and_other_registries() {
    let (_tokens, up) = registry().await;
    push(&up, "public/app");
    push(&up, "private/app");
    let (_other_tokens, other) = registry().await;
    push(&other, "private/app");
    let other_endpoint = at(&other).credential("present", &["*/*"]);
    let config = MirrorConfig::new()
        .with(Registry::new("up.test").endpoint(with_secret(&up)))
        .with(Registry::new("other.test").endpoint(other_endpoint));
    let node = start(&config).await;
    secrets::write_basic(&node.credentials_dir(), "present", "jane", "secret");
    assert_eq!(pull(&node, "public/app").await.status, 200);
    assert_eq!(pull(&node, "private/app").await.status, 404);
    let elsewhere = format!("{}/v2/private/app/manifests/v1?ns=other.test", node.url());
    assert_eq!(Call::get(&elsewhere).send().await.status, 200);

    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "secret");
    pull_until(&node, &up, 200).await;
    assert_eq!(pull(&node, "private/app").await.status, 200);
}

/// D.2: a Secret that makes no sense, or is for another registry, is as good as none.
#[tokio::test]
async fn d2_an_unusable_secret_leaves_public_images() {
    let (tokens, up) = registry().await;
    push(&up, "public/app");
    for keys in [
        [(".dockerconfigjson", "{")].as_slice(),
        &[(".dockerconfigjson", "{\"auths\":{}}")],
        &[(
            ".dockerconfigjson",
            r#"{"auths":{"other.test":{"auth":"amFuZTpzZWNyZXQ="}}}"#,
        )],
        &[("username", "jane")],
        &[("token", "two words")],
        &[("other", "x")],
    ] {
        let node = node(with_secret(&up)).await;
        secrets::write_as_kubelet(&node.credentials_dir(), "hub", keys);
        assert_eq!(pull(&node, "public/app").await.status, 200, "{keys:?}");
    }
    assert_eq!(authorizations(&tokens), [""; 0]);
}

/// D.2: a credential is for the repositories that its rule names, and for no other.
#[tokio::test]
async fn d2_a_credential_is_for_its_repositories_alone() {
    let (tokens, up) = registry().await;
    push(&up, "private/app");
    push(&up, "public/app");
    let node = node(at(&up).credential("hub", &["private/*"])).await;
    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "secret");
    assert_eq!(pull(&node, "public/app").await.status, 200);
    assert_eq!(authorizations(&tokens), [""; 0]);
    assert_eq!(pull(&node, "private/app").await.status, 200);
    // jane:secret
    assert_eq!(authorizations(&tokens), ["Basic amFuZTpzZWNyZXQ="]);
}
