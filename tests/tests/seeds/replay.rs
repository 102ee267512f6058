//! Whole pulls as docker 19.03 was captured making them, with the captured registries as upstreams: what the cache sends
//! to each, and what it sends to docker.

use larder_tests::prelude::*;

use super::capture::{Capture, captured, jwt, opaque, redirect, vector};
use super::support::{
    assert_full_accept, blob_head, docker_get, head_of, lines, manifest_head, node, of_namespace,
};

/// A file of `data/vectors/` as a manifest, and what it is asked for by.
struct Step {
    reference: &'static str,
    file: &'static str,
    capture: &'static str,
    media_type: &'static str,
}

/// One captured pull.
struct Pull {
    ns: &'static str,
    repo: &'static str,
    manifests: &'static [Step],
}

const ALPINE: &str = "sha256:a15790640a6690aa1730c38cf0a440e2aa44aaca9b0e8931a9f2b0d7cc90fd65";

const HUB: Pull = Pull {
    ns: "docker.io",
    repo: "library/alpine",
    manifests: &[
        Step {
            reference: "latest",
            file: "hub-alpine-list.json",
            capture: "hub/manifest-list",
            media_type: media_type::DOCKER_LIST,
        },
        Step {
            reference: ALPINE,
            file: "hub-alpine-amd64.json",
            capture: "hub/manifest",
            media_type: media_type::DOCKER_MANIFEST,
        },
    ],
};

const ALIYUN: Pull = Pull {
    manifests: &[
        Step {
            capture: "aliyun/manifest-list",
            ..HUB.manifests[0]
        },
        Step {
            capture: "aliyun/manifest",
            ..HUB.manifests[1]
        },
    ],
    ..HUB
};

const GCR: Pull = Pull {
    ns: "gcr.io",
    repo: "google-containers/kube-controller-manager",
    manifests: &[
        Step {
            reference: "v1.16.10",
            file: "gcr-kcm-list.json",
            capture: "gcr/manifest-list",
            media_type: media_type::DOCKER_LIST,
        },
        Step {
            reference: "sha256:7ff962b6cdeff0bf4ab18f93adbec51aae32f4987e7c97566460247284bbde76",
            file: "gcr-kcm-amd64.json",
            capture: "gcr/manifest",
            media_type: media_type::DOCKER_MANIFEST,
        },
    ],
};

const QUAY: Pull = Pull {
    ns: "quay.io",
    repo: "watchdogpolska/alpine-curl",
    manifests: &[Step {
        reference: "latest",
        file: "quay-alpine-curl.json",
        capture: "quay/manifest",
        media_type: media_type::DOCKER_MANIFEST,
    }],
};

/// `up` answers `refusal` to everything without `token`.
fn demand(up: &FakeRegistry, token: &str, refusal: Capture) {
    let wanted = format!("Bearer {token}");
    let lacks = on_any().when(move |request| request.header("Authorization") != Some(&wanted));
    up.script(lacks, refusal.action());
}

impl Pull {
    fn script(&self, up: &FakeRegistry) {
        for step in self.manifests {
            let answer = captured(step.capture).body(vector(step.file));
            up.script(on_manifest(step.reference).repo(self.repo), answer.action());
        }
    }

    /// Pulls as docker does: the ping, each manifest, a blob. Compares every answer whole.
    async fn run(&self, node: &NodeProcess, blob: &str, content: &[u8]) {
        assert_eq!(docker_get(node, "").send().await.status, 200);
        for step in self.manifests {
            let path = format!("{}/manifests/{}?ns={}", self.repo, step.reference, self.ns);
            let answer = docker_get(node, &path).send().await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let bytes = vector(step.file);
            let head = manifest_head(step.media_type, bytes.len(), &sha256(&bytes));
            assert_eq!(head_of(&answer), of_namespace(head, self.ns), "{path}");
            assert_eq!(answer.body, bytes, "{path}");
        }
        let path = format!("{}/blobs/{blob}?ns={}", self.repo, self.ns);
        let answer = docker_get(node, &path).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(
            head_of(&answer),
            of_namespace(blob_head(content.len(), blob), self.ns)
        );
        assert_eq!(answer.body, content);
    }

    /// Twice the same for the client, once for upstream: `token_request` comes after the first refusal, if at all.
    async fn run_twice(&self, up: &FakeRegistry, blob: &str, content: &[u8], token_request: Option<&str>) {
        let node = node(self.ns, up).await;
        self.run(&node, blob, content).await;
        self.run(&node, blob, content).await;
        let of = |what: &str| format!("GET /v2/{}/{what}", self.repo);
        let mut expected: Vec<_> = self
            .manifests
            .iter()
            .map(|step| of(&format!("manifests/{}", step.reference)))
            .collect();
        expected.push(of(&format!("blobs/{blob}")));
        if let Some(token_request) = token_request {
            let first = expected[0].clone();
            expected.insert(0, first);
            if !token_request.is_empty() {
                expected.insert(1, token_request.to_owned());
            }
        }
        assert_eq!(lines(up), expected);
        assert_full_accept(up);
        for exchange in up.requests() {
            let request = &exchange.request;
            assert_eq!(request.header_all("Accept-Encoding"), ["identity"], "{exchange}");
            assert_eq!(request.header("Cookie"), None, "{exchange}");
        }
    }
}

/// The `Authorization` of every request.
fn authorizations(host: &ScriptedHost) -> Vec<Option<String>> {
    let value =
        |exchange: &std::sync::Arc<Exchange>| exchange.request.header("Authorization").map(str::to_owned);
    host.requests().iter().map(value).collect()
}

/// A1, A7, A11, A12, A14, A16, A23, A25, A26: `docker pull alpine` from Docker Hub.
#[tokio::test]
async fn replay_docker_hub() {
    let auth = FakeRegistry::builder().start().await;
    let token = jwt(1411, 288, 342);
    auth.script(
        on_path("/token"),
        captured("hub/token").fill("token", &token).action(),
    );
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder()
        .url_template(Cdn::DOCKER_HUB)
        .rejects_authorization()
        .start()
        .await;
    let realm = format!("{}/token", auth.url());
    demand(&up, &token, captured("hub/ping").fill("realm", &realm));
    HUB.script(&up);
    let content = random(1509);
    let (blob, target) = redirect("hub", &up, &cdn, HUB.repo, &content);
    HUB.run_twice(&up, &blob, &content, Some("")).await;
    let bearer = Some(format!("Bearer {token}"));
    assert_eq!(
        authorizations(&up),
        [None, bearer.clone(), bearer.clone(), bearer]
    );
    assert_eq!(
        lines(&auth),
        ["GET /token?service=registry.docker.io&scope=repository%3Alibrary%2Falpine%3Apull"]
    );
    assert_eq!(authorizations(&auth), [None]);
    assert_eq!(lines(&cdn), [format!("GET {target}")]);
    assert_eq!(authorizations(&cdn), [None]);
}

/// A4, A27: `docker pull alpine` from Aliyun's mirror, where nothing asks for a token.
#[tokio::test]
async fn replay_a4_aliyun() {
    let up = FakeRegistry::builder().start().await;
    up.script(on_ping(), captured("aliyun/ping").action());
    let cdn = Cdn::builder()
        .url_template(Cdn::ALIYUN)
        .rejects_authorization()
        .start()
        .await;
    ALIYUN.script(&up);
    let content = random(1509);
    let (blob, target) = redirect("aliyun", &up, &cdn, ALIYUN.repo, &content);
    ALIYUN.run_twice(&up, &blob, &content, None).await;
    assert_eq!(authorizations(&up), [None, None, None]);
    assert_eq!(lines(&cdn), [format!("GET {target}")]);
    assert_eq!(authorizations(&cdn), [None]);
}

/// A2, A8, A15, A28, A29: `docker pull gcr.io/google-containers/kube-controller-manager:v1.16.10`.
#[tokio::test]
async fn replay_gcr() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder()
        .url_template(Cdn::GCS)
        .rejects_authorization()
        .start()
        .await;
    let token = opaque(420);
    up.script(
        on_path("/v2/token"),
        captured("gcr/token").fill("token", &token).action(),
    );
    let realm = format!("{}/v2/token", up.url());
    demand(&up, &token, captured("gcr/ping").fill("realm", &realm));
    GCR.script(&up);
    let content = random(1786);
    let (blob, target) = redirect("gcr", &up, &cdn, GCR.repo, &content);
    let token_request =
        "GET /v2/token?service=gcr.io&scope=repository%3Agoogle-containers%2Fkube-controller-manager%3Apull";
    GCR.run_twice(&up, &blob, &content, Some(token_request)).await;
    let bearer = Some(format!("Bearer {token}"));
    assert_eq!(
        authorizations(&up),
        [None, None, bearer.clone(), bearer.clone(), bearer]
    );
    assert_eq!(lines(&cdn), [format!("GET {target}")]);
    assert_eq!(authorizations(&cdn), [None]);
}

/// A3, A9, A15, A17, A30, A31: `docker pull quay.io/watchdogpolska/alpine-curl`. The blob is the captured one.
#[tokio::test]
async fn replay_quay() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder()
        .url_template(Cdn::CLOUDFRONT)
        .rejects_authorization()
        .start()
        .await;
    let token = jwt(134, 399, 342);
    up.script(
        on_path("/v2/auth"),
        captured("quay/token").fill("token", &token).action(),
    );
    let realm = format!("{}/v2/auth", up.url());
    demand(&up, &token, captured("quay/ping").fill("realm", &realm));
    QUAY.script(&up);
    let content = vector("quay-alpine-curl-config.json");
    let (blob, target) = redirect("quay", &up, &cdn, QUAY.repo, &content);
    let token_request = "GET /v2/auth?service=quay.io&scope=repository%3Awatchdogpolska%2Falpine-curl%3Apull";
    QUAY.run_twice(&up, &blob, &content, Some(token_request)).await;
    let bearer = Some(format!("Bearer {token}"));
    assert_eq!(authorizations(&up), [None, None, bearer.clone(), bearer]);
    assert_eq!(lines(&cdn), [format!("GET {target}")]);
    assert_eq!(authorizations(&cdn), [None]);
}

/// A3, A19, A20, A22: quay over HTTP/2, where there are no reason phrases and names are in lower case.
#[tokio::test]
async fn replay_a3_quay_over_http2() {
    const OKD: &str = "sha256:8cf7e06dd4095f2cd54e13fdb6fd313abbeb6e03d568f17956d97433623093c2";
    let up = FakeRegistry::builder().http2().tls().start().await;
    let token = jwt(134, 399, 342);
    up.script(
        on_path("/v2/auth"),
        Action::respond(200, format!(r#"{{"token":"{token}"}}"#)),
    );
    let realm = format!("{}/v2/auth", up.url());
    demand(&up, &token, captured("quay-h2/ping").fill("realm", &realm));
    up.script(on_manifest("12"), captured("quay-h2/unknown").action());
    let manifest = vector("quay-okd-by-digest.json");
    up.script(
        on_manifest(OKD),
        captured("quay-h2/manifest").body(manifest.clone()).action(),
    );
    let layer = up.add_blob("openshift/okd-content", vector("gzip-empty-tar-32.bin"));
    let registry = Registry::new("quay.io").endpoint(Endpoint::new(up.url()).ca("quay-ca"));
    let mut node = NodeProcess::builder()
        .config(&MirrorConfig::new().with(registry))
        .prepare();
    secrets::write_ca(&node.credentials_dir(), "quay-ca", &up.ca_pem());
    node.launch().await;
    let unknown = docker_get(&node, "library/node/manifests/12?ns=quay.io")
        .send()
        .await;
    assert_eq!(
        (unknown.status, unknown.error_code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    let known = docker_get(
        &node,
        &format!("openshift/okd-content/manifests/{OKD}?ns=quay.io"),
    )
    .send()
    .await;
    let head = manifest_head(media_type::DOCKER_MANIFEST, 736, OKD);
    assert_eq!(head_of(&known), of_namespace(head, "quay.io"));
    assert_eq!(known.body, manifest);
    let blob = docker_get(&node, &format!("openshift/okd-content/blobs/{layer}?ns=quay.io"))
        .send()
        .await;
    assert_eq!(head_of(&blob), of_namespace(blob_head(32, &layer), "quay.io"));
    let scope = |repo: &str| format!("GET /v2/auth?service=quay.io&scope=repository%3A{repo}%3Apull");
    assert_eq!(
        lines(&up),
        [
            "GET /v2/library/node/manifests/12".to_owned(),
            scope("library%2Fnode"),
            "GET /v2/library/node/manifests/12".to_owned(),
            scope("openshift%2Fokd-content"),
            format!("GET /v2/openshift/okd-content/manifests/{OKD}"),
            format!("GET /v2/openshift/okd-content/blobs/{layer}"),
        ]
    );
    assert!(
        up.requests().iter().all(|exchange| exchange.request.http2),
        "all over HTTP/2"
    );
    assert_full_accept(&up);
}
