//! The client against a small server on loopback; every seed's and every real registry's exchange is in `tests/`.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request as ServerRequest;
use axum::response::Response as ServerResponse;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::*;
use crate::config::Config;
use crate::oci::Algorithm;

mod redirects;

/// What the server saw: method, path with query, `Authorization`.
type Seen = Arc<Mutex<Vec<String>>>;

struct Server {
    address: SocketAddr,
    seen: Seen,
}

impl Server {
    async fn start(
        answer: impl Fn(&str, &HeaderMap, SocketAddr) -> ServerResponse + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let app = axum::Router::new().fallback(move |request: ServerRequest| {
            let line = format!("{} {}", request.method(), request.uri());
            let authorization = request
                .headers()
                .get("authorization")
                .map(|v| v.to_str().unwrap());
            log.lock()
                .unwrap()
                .push(authorization.map_or_else(|| line.clone(), |a| format!("{line} {a}")));
            let response = answer(&line, request.headers(), address);
            async { response }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> ServerResponse {
    let mut response = ServerResponse::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// The Secret of a user whose password is `pw`.
fn basic(username: &str) -> Secret {
    Secret(vec![
        ("username", username.to_owned()),
        ("password", "pw".to_owned()),
    ])
}

/// The files of a Secret.
struct Secret(Vec<(&'static str, String)>);

/// A client with a Secret of its own, which lives as long as the client.
struct Client {
    upstream: Upstream,
    _credentials: tempfile::TempDir,
}

impl std::ops::Deref for Client {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstream
    }
}

fn upstream(server: &Server, secret: Option<Secret>) -> Client {
    let credentials = tempfile::tempdir().unwrap();
    let rule = if secret.is_some() {
        "[{secretName: secret, repositories: ['**']}]"
    } else {
        "[]"
    };
    if let Some(Secret(files)) = secret {
        std::fs::create_dir(credentials.path().join("secret")).unwrap();
        for (key, value) in files {
            std::fs::write(credentials.path().join("secret").join(key), value).unwrap();
        }
    }
    let config = Config::parse(&format!(
        "{{apiVersion: larder.dev/v1alpha1, kind: RegistryMirror, metadata: {{name: test}}, spec: {{registries: \
         [{{host: registry.test, endpoints: [{{url: 'http://{}', credentials: {rule}}}]}}]}}}}",
        server.address
    ))
    .unwrap();
    let store = CredentialStore::new(Some(credentials.path().to_owned()));
    let limits = Limits {
        header: Duration::from_secs(5),
        idle: Duration::from_millis(200),
        backoff_first: Duration::from_millis(1),
        ..Limits::default()
    };
    let registry = Arc::clone(&config.registries[0]);
    Client {
        upstream: Upstream::new(registry, Arc::new(store), limits, Arc::new(NoObserver)).unwrap(),
        _credentials: credentials,
    }
}

fn repo() -> RepoName {
    "a/b".parse().unwrap()
}

fn tag() -> Reference {
    "latest".parse().unwrap()
}

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"content")
}

async fn whole(blob: BlobBody) -> Result<Vec<u8>, Error> {
    blob.body
        .try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}

/// A registry whose manifests need a token, and whose token server knows the user `good` and nobody.
fn token_registry(line: &str, headers: &HeaderMap, address: SocketAddr) -> ServerResponse {
    let authorization = headers
        .get("authorization")
        .map_or("", |value| value.to_str().unwrap());
    if line.contains("/token?") {
        return match authorization {
            "" => reply(200, &[], r#"{"token":"anonymous","expires_in":300}"#),
            "Basic Z29vZDpwdw==" => reply(200, &[], r#"{"access_token":"good"}"#),
            _ => reply(401, &[], "true"),
        };
    }
    if authorization.starts_with("Bearer ") {
        return reply(
            200,
            &[("content-type", "application/vnd.oci.image.index.v1+json")],
            "{}",
        );
    }
    let challenge = format!(
        r#"Negotiate, BEARER realm="http://{address}/token",service="s",scope="repository:user/image:pull""#
    );
    reply(401, &[("www-authenticate", &challenge)], "true")
}

#[tokio::test]
async fn a_challenge_costs_one_token_and_a_warm_request_nothing() {
    let server = Server::start(token_registry).await;
    let upstream = upstream(&server, None);
    let manifest = upstream.get_manifest(&repo(), &tag()).await.unwrap();
    assert_eq!(manifest.media_type.unwrap().as_str(), MediaType::OCI_INDEX);
    assert_eq!(manifest.body, "{}");
    assert_eq!(
        server.seen(),
        [
            "GET /v2/a/b/manifests/latest",
            "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull",
            "GET /v2/a/b/manifests/latest Bearer anonymous",
        ]
    );
    upstream.head_manifest(&repo(), &tag(), None).await.unwrap();
    assert_eq!(server.seen(), ["HEAD /v2/a/b/manifests/latest Bearer anonymous"]);
}

#[tokio::test]
async fn a_broken_secret_does_not_break_public_pulls() {
    for (username, bearer) in [("good", "Bearer good"), ("bad", "Bearer anonymous")] {
        let server = Server::start(token_registry).await;
        let upstream = upstream(&server, Some(basic(username)));
        let (_, scope) = upstream.scoped(&repo(), &Salt::random().unwrap()).await;
        assert_eq!(scope.credential, CredentialKey::Secret("secret".into()));
        assert!(scope.fingerprint.is_some());
        upstream.get_manifest(&repo(), &tag()).await.unwrap();
        assert!(server.seen().last().unwrap().ends_with(bearer));
    }
}

#[tokio::test]
async fn a_credential_never_goes_to_a_foreign_realm() {
    let server = Server::start(|_, _, _| {
        reply(
            401,
            &[("www-authenticate", r#"Bearer realm="http://evil.test/token""#)],
            "",
        )
    })
    .await;
    let error = upstream(&server, Some(basic("good")))
        .get_manifest(&repo(), &tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("trust.realms"), "{error}");
}

#[tokio::test]
async fn basic_challenges_are_answered_with_basic_and_refused_ones_without() {
    let server = Server::start(|_, headers, _| match headers.get("authorization") {
        Some(value) if value == "Basic Z29vZDpwdw==" => reply(200, &[], "{}"),
        _ => reply(401, &[("www-authenticate", r#"BASIC realm="Nexus""#)], ""),
    })
    .await;
    upstream(&server, Some(basic("good")))
        .get_manifest(&repo(), &tag())
        .await
        .unwrap();
    for credential in [Some(basic("bad")), None] {
        let error = upstream(&server, credential)
            .get_manifest(&repo(), &tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthorized);
    }
}

#[tokio::test]
async fn an_identity_token_is_posted_and_falls_back_to_get() {
    let server = Server::start(|line, headers, address| match line {
        line if line.starts_with("POST /token") => reply(404, &[], ""),
        _ => token_registry(line, headers, address),
    })
    .await;
    let config = format!(
        r#"{{"auths":{{"{}":{{"username":"good","identitytoken":"pw"}}}}}}"#,
        server.address
    );
    let credential = Secret(vec![(".dockerconfigjson", config)]);
    upstream(&server, Some(credential))
        .get_manifest(&repo(), &tag())
        .await
        .unwrap();
    assert_eq!(
        server.seen()[1..3],
        [
            "POST /token".to_owned(),
            "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull Basic Z29vZDpwdw==".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_at_once_and_for_its_kind_only() {
    let server = Server::start(|line, _, _| match line {
        line if line.contains("/manifests/") => reply(429, &[("retry-after", "120")], ""),
        _ => reply(503, &[], r#"{"message":"toomanyrequests: slow down"}"#),
    })
    .await;
    let upstream = upstream(&server, None);
    for requests in [1, 0] {
        let error = upstream.get_manifest(&repo(), &tag()).await.unwrap_err();
        let Kind::RateLimited {
            retry_after: Some(pause),
        } = error.kind()
        else {
            panic!("{error}");
        };
        assert_eq!(pause.as_secs_f64().round(), 120.0);
        assert_eq!(server.seen().len(), requests);
    }
    let error = upstream.open_blob(&repo(), &digest(), None).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::RateLimited { .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn passing_faults_are_tried_again_and_bodies_watched() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let server = Server::start(
        move |line, _, _| match (line, count.fetch_add(1, Ordering::Relaxed)) {
            (line, _) if line.contains("/blobs/") => {
                let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>("con")]);
                reply(
                    200,
                    &[],
                    Body::from_stream(pieces.chain(futures_util::stream::pending())),
                )
            }
            (_, 0) => reply(502, &[], ""),
            (_, 1) => reply(200, &[("content-type", "text/html; charset=utf-8")], "<html>"),
            _ => reply(200, &[], "{}"),
        },
    )
    .await;
    let upstream = upstream(&server, None);
    let manifest = upstream.get_manifest(&repo(), &tag()).await.unwrap();
    assert_eq!((manifest.media_type, tries.load(Ordering::Relaxed)), (None, 3));
    let blob = upstream.open_blob(&repo(), &digest(), None).await.unwrap();
    assert_eq!(blob.total, None);
    assert_eq!(whole(blob).await.unwrap_err().kind(), Kind::Timeout);
}

#[tokio::test]
async fn a_length_is_had_although_head_is_refused() {
    let server = Server::start(|line, headers, _| match (line, headers.contains_key("range")) {
        (line, _) if line.starts_with("HEAD") => reply(403, &[], ""),
        (_, true) => reply(206, &[("content-range", "bytes 0-0/926491594")], "x"),
        _ => reply(500, &[], ""),
    })
    .await;
    let length = upstream(&server, None)
        .blob_length(&repo(), &digest())
        .await
        .unwrap();
    assert_eq!(length, Some(926_491_594));
}

#[tokio::test]
async fn listings_keep_the_next_query_verbatim() {
    let server = Server::start(|_, _, address| {
        let link = format!(r#"<http://{address}/v2/a/b/tags/list?n=1&last=x%2B>; rel="next""#);
        reply(
            200,
            &[
                ("link", &link),
                ("warning", r#"299 - "old""#),
                ("oci-filters-applied", "artifactType"),
            ],
            "{}",
        )
    })
    .await;
    let upstream = upstream(&server, None);
    let page = Page::Of {
        n: Some(1),
        last: Some("a+"),
    };
    let listing = upstream.list_tags(&repo(), page).await.unwrap();
    let next = listing.next.unwrap();
    assert_eq!(listing.warnings, [r#"299 - "old""#]);
    upstream.list_tags(&repo(), Page::Query(&next)).await.unwrap();
    upstream
        .list_referrers(&repo(), &digest(), Some("a/b+c"), None)
        .await
        .unwrap();
    assert_eq!(
        server.seen(),
        [
            "GET /v2/a/b/tags/list?n=1&last=a%2B".to_owned(),
            "GET /v2/a/b/tags/list?n=1&last=x%2B".to_owned(),
            format!("GET /v2/a/b/referrers/{}?artifactType=a%2Fb%2Bc", digest()),
        ]
    );
}
