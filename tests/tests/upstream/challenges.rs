//! D.2: what a 401 asks for, in every shape that registries write it in.

use larder_tests::prelude::*;

use super::support::*;

/// Every one means: a token from `{realm}`.
const SHAPES: &[&[&str]] = &[
    &[r#"Bearer realm="{realm}",service="{service}",scope="{scope}""#],
    &[r#"bearer Realm="{realm}", SERVICE="{service}""#],
    &[r#"BEARER realm="{realm}""#],
    &["Bearer realm={realm},service={service}"],
    &["Negotiate", r#"Bearer realm="{realm}",service="{service}""#],
    &[
        r#"Basic realm="registry""#,
        r#"Bearer realm="{realm}",service="{service}""#,
    ],
    &[r#"Negotiate oRQwEqADCgEB==, NTLM, Bearer realm="{realm}",service="{service}""#],
    &[r#"Basic realm="a, b", Bearer realm="{realm}",service="{service}""#],
    &[r#"Bearer realm="{realm}",service="{service}", Digest qop="auth, auth-int", nonce="x=y""#],
    &[r#"Bearer scope="repository:acme/app:pull,push",realm="{realm}",service="{service}""#],
    &[r#"Bearer error="insufficient_scope",realm="{realm}",service="{service}""#],
    &[r#"Bearer error="invalid_token", error_description="a \"b\", c=d",realm="{realm}""#],
    &[r#"Bearer realm="{realm}",service="{service}",scope="repository:user/image:pull""#],
    &[r#"Bearer realm="{realm}",service="{service}",scope="aws""#],
    &[r#"Bearer realm="{realm}",service="{service}",scope="""#],
];

/// D.2 (several lines, several in one, case, quoted commas and quotes, unknown schemes, `error`, missing `scope` and
/// `service`), D.5 and D.7 (placeholder scopes replaced by the real repository, `pull` alone asked for), D.3 and D.4 (a
/// scope without repository, or none, is a 401 there: there always is one).
#[tokio::test]
async fn d2_d5_challenges_of_every_shape_are_answered() {
    for shape in SHAPES {
        let tokens = TokenServer::builder().start().await;
        let auth = Auth::bearer(&tokens).challenge(shape);
        let up = FakeRegistry::builder().auth(auth).start().await;
        let image = push_image(&up);
        let node = node(at(&up)).await;
        let answer = manifest(&node, "v1").await;
        assert_eq!((answer.status, &answer.body), (200, &image.manifest), "{shape:?}");
        assert_eq!(
            scopes(&tokens),
            [Some("repository:acme/app:pull".to_owned())],
            "{shape:?}"
        );
        assert_eq!(authorizations(&tokens), [""; 0], "{shape:?}");
        assert_eq!(
            authorizations(&up).len(),
            1,
            "{shape:?}: one request with the token"
        );
    }
}

/// D.2: `service` is passed on as it came, and left out where it did not come.
#[tokio::test]
async fn d2_the_service_is_passed_on_as_it_came() {
    for (shape, service) in [
        (
            r#"Bearer realm="{realm}",service="a service+/=""#,
            Some("a service+/="),
        ),
        (r#"Bearer realm="{realm}""#, None),
    ] {
        let tokens = TokenServer::builder().start().await;
        let auth = Auth::bearer(&tokens).challenge(&[shape]);
        let up = FakeRegistry::builder().auth(auth).start().await;
        push_image(&up);
        let node = node(at(&up)).await;
        assert_eq!(manifest(&node, "v1").await.status, 200);
        let asked = &tokens.requests()[0].request;
        assert_eq!(asked.query_param("service").as_deref(), service);
    }
}

/// D.2: a 401 without `WWW-Authenticate` on a request is answered by the challenge of `/v2/`, learned once.
#[tokio::test]
async fn d2_a_401_without_challenge_falls_back_to_the_ping() {
    let tokens = TokenServer::builder().start().await;
    let auth = Auth::bearer(&tokens).challenge(&[]);
    let up = FakeRegistry::builder().auth(auth).start().await;
    let image = push_image(&up);
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 200);
    for (digest, _) in image.blobs() {
        blob(&node, &digest).await.assert_whole(&digest);
    }
    tokens.revoke_all();
    let late = up.add_blob(REPO, random(50));
    blob(&node, &late).await.assert_whole(&late);
    assert_eq!(up.count(on_ping()), 1);
}

/// D.9: a 200 ping although resources need a token.
#[tokio::test]
async fn d9_a_resource_may_challenge_though_the_ping_does_not() {
    let tokens = TokenServer::builder().start().await;
    let up = FakeRegistry::builder()
        .auth(Auth::bearer(&tokens).open_ping())
        .start()
        .await;
    push_image(&up);
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 200);
}

/// D.2: a relative realm belongs to the registry's own host.
#[tokio::test]
async fn d2_a_relative_realm_is_the_registrys_own() {
    let auth = Auth::bearer_on_own_host("/v2/token", TokenServer::builder())
        .challenge(&[r#"Bearer realm="/v2/token",service="{service}""#]);
    let up = FakeRegistry::builder().auth(auth).start().await;
    push_image(&up);
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 200);
    assert_eq!(up.count(on_path("/v2/token")), 1);
}

/// D.2, D.9: Basic, and `BASIC` as Nexus writes it.
#[tokio::test]
async fn d2_d9_basic_in_any_case() {
    for challenge in [
        r#"Basic realm="Registry""#,
        r#"BASIC realm="Sonatype Nexus Repository Manager""#,
        "basic",
    ] {
        let auth = Auth::basic(&[("jane", "se:cret")]).challenge(&[challenge]);
        let up = FakeRegistry::builder().auth(auth).start().await;
        push_image(&up);
        let node = node(with_secret(&up)).await;
        secrets::write_basic(&node.credentials_dir(), "hub", "jane", "se:cret");
        assert_eq!(manifest(&node, "v1").await.status, 200, "{challenge}");
        // jane:se:cret
        assert_eq!(authorizations(&up), ["Basic amFuZTpzZTpjcmV0"]);
    }
}

/// D.2: nobody can answer this, so the client hears of it as absence, at once, and never as a challenge.
#[tokio::test]
async fn d2_what_cannot_be_answered_is_no_challenge_to_the_client() {
    for lines in [
        &["Negotiate"][..],
        &[],
        &[r#"Bearer service="no realm""#],
        &[r#"Basic realm="x""#],
        &["\"=,,="],
    ] {
        let up = FakeRegistry::builder().start().await;
        push_image(&up);
        up.script(on_any(), Action::challenge(lines));
        let node = node(at(&up)).await;
        let answer = manifest(&node, "v1").await;
        assert_eq!(answer.status, 404, "{lines:?}: {}", answer.text());
        assert_eq!(answer.error_code(), "NAME_UNKNOWN", "{lines:?}");
        assert_eq!(answer.header("WWW-Authenticate"), None);
        assert!(up.requests().len() <= 3, "{lines:?}: {}", up.requests().len());
    }
}

/// D.2 (CVE-2026-33540): a realm outside the registry's domain gets no credential; listed in trust.realms it does, and
/// without a credential there is nothing to leak.
#[tokio::test]
async fn d2_a_foreign_realm_gets_no_credential() {
    let tokens = TokenServer::builder()
        .user("jane", "secret", &["*"])
        .bind("127.0.0.2")
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    push_image(&up);
    let refusing = node(with_secret(&up)).await;
    secrets::write_basic(&refusing.credentials_dir(), "hub", "jane", "secret");
    let refused = manifest(&refusing, "v1").await;
    assert_eq!((refused.status, refused.error_code()), (403, "DENIED".to_owned()));
    assert_eq!(tokens.requests().len(), 0);
    assert_eq!(authorizations(&up), [""; 0]);

    assert_eq!(manifest(&node(at(&up)).await, "v1").await.status, 200);
    assert_eq!(authorizations(&tokens), [""; 0]);

    for pattern in [tokens.host(), "127.0.0.2".to_owned(), "127.0.0.0/30".to_owned()] {
        let trusting = node(with_secret(&up).trust_realm(&pattern)).await;
        secrets::write_basic(&trusting.credentials_dir(), "hub", "jane", "secret");
        assert_eq!(manifest(&trusting, "v1").await.status, 200, "{pattern}");
        // jane:secret
        assert_eq!(
            authorizations(&tokens).pop().unwrap(),
            "Basic amFuZTpzZWNyZXQ=",
            "{pattern}"
        );
    }
}

/// D.2: a realm in plain http of a registry in https gets nothing, not even an anonymous question.
#[tokio::test]
async fn d2_an_http_realm_of_an_https_registry_is_refused() {
    for has_secret in [true, false] {
        let tokens = TokenServer::builder()
            .user("jane", "secret", &["*"])
            .start()
            .await;
        let auth = Auth::bearer(&tokens);
        let up = FakeRegistry::builder().tls().auth(auth).start().await;
        push_image(&up);
        let endpoint = if has_secret { with_secret(&up) } else { at(&up) };
        let node = node(endpoint.ca("corp-ca")).await;
        secrets::write_ca(&node.credentials_dir(), "corp-ca", &up.ca_pem());
        secrets::write_basic(&node.credentials_dir(), "hub", "jane", "secret");
        assert_eq!(manifest(&node, "v1").await.status, 403);
        assert_eq!(tokens.requests().len(), 0);
    }
}

/// D.2: a realm that redirects keeps the credential on its own host.
#[tokio::test]
async fn d2_a_realm_that_redirects_elsewhere_leaks_nothing() {
    let elsewhere = TokenServer::builder()
        .user("jane", "secret", &["*"])
        .bind("127.0.0.2")
        .start()
        .await;
    let tokens = TokenServer::builder().start().await;
    tokens.script(on_any(), Action::redirect(307, elsewhere.realm()));
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    push_image(&up);
    let node = node(with_secret(&up)).await;
    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "secret");
    assert_eq!(manifest(&node, "v1").await.status, 502);
    assert_eq!(elsewhere.requests().len(), 0);
}
