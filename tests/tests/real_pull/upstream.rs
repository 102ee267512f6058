//! A real registry in one of the shapes of the field, and what it sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use larder_tests::prelude::*;
use larder_tests::real::DockerRegistry;
use larder_tests::real::docker_registry::{self, Options, PASSWORD, USER};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The repository of every image here.
pub(crate) const REPO: &str = "acme/app";
/// The name of the Secret that a registry with authentication demands.
const SECRET: &str = "upstream";
const SERVICE: &str = "registry.example.test";
/// How long a registry may take to write its log.
const LOGGED_WITHIN: Duration = Duration::from_secs(20);

/// How a registry authenticates and where its blobs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Everybody may pull, and the registry itself sends the blobs.
    Open,
    /// Everybody may pull; blobs are redirected to an nginx.
    Cdn,
    /// User and password.
    Basic,
    /// A token server gives JWTs; blobs are redirected to an nginx. The shape of Docker Hub.
    TokenAndCdn,
}

/// A running registry, its token server and its CDN.
pub(crate) struct Upstream {
    shape: Shape,
    registry: DockerRegistry,
    pub(crate) tokens: Option<TokenServer>,
    push_authorization: Option<String>,
    _files: TempDir,
}

impl Upstream {
    pub(crate) async fn start(shape: Shape) -> Result<Self> {
        let files = TempDir::new()?;
        let mut tokens = None;
        let mut push_authorization = None;
        let auth = match shape {
            Shape::Open | Shape::Cdn => docker_registry::Auth::Open,
            Shape::Basic => {
                let credential = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
                push_authorization = Some(format!("Basic {credential}"));
                docker_registry::Auth::Basic
            }
            Shape::TokenAndCdn => {
                let signer = Arc::new(TokenSigner::new("issuer.example.test"));
                let actions: &[&str] = &["pull", "push"];
                let token = signer.token(SERVICE, LOGGED_WITHIN, &[(REPO, actions)]);
                push_authorization = Some(format!("Bearer {token}"));
                let rules = TokenServer::builder().service(SERVICE).no_anonymous();
                let server = rules
                    .user(USER, PASSWORD, &["acme/*"])
                    .signed_by(&signer)
                    .start()
                    .await;
                let root_cert_bundle = files.path().join("issuer.pem");
                std::fs::write(&root_cert_bundle, signer.certificate_pem())?;
                let auth = docker_registry::Auth::Token {
                    realm: server.realm(),
                    service: SERVICE.to_owned(),
                    issuer: signer.issuer().to_owned(),
                    root_cert_bundle,
                };
                tokens = Some(server);
                auth
            }
        };
        let cdn = matches!(shape, Shape::Cdn | Shape::TokenAndCdn);
        let registry = DockerRegistry::start(Options {
            auth,
            cdn,
            ..Options::default()
        })
        .await?;
        Ok(Self {
            shape,
            registry,
            tokens,
            push_authorization,
            _files: files,
        })
    }

    /// How a cache is told to reach it at `url`: directly, or through something in between.
    pub(crate) fn endpoint(&self, url: &str) -> Endpoint {
        let endpoint = Endpoint::new(url).trust_loopback();
        match &self.tokens {
            _ if self.push_authorization.is_none() => endpoint,
            None => endpoint.credential(SECRET, &["acme/*"]),
            Some(tokens) => {
                let realm = tokens.url().replace("http://", "");
                endpoint.credential(SECRET, &["acme/*"]).trust_realm(&realm)
            }
        }
    }

    /// Writes the Secret that [`Upstream::endpoint`] names.
    pub(crate) fn write_secret(&self, node: &NodeProcess) {
        if self.push_authorization.is_some() {
            secrets::write_basic(&node.credentials_dir(), SECRET, USER, PASSWORD);
        }
    }

    pub(crate) fn url(&self) -> String {
        self.registry.url()
    }

    pub(crate) async fn push(&self, index: &Index, tag: &str) {
        index
            .push_http(&self.url(), REPO, tag, self.push_authorization.as_deref())
            .await;
    }

    /// How often it sent each of `digests`, whole or in part, as soon as it has logged each of them once.
    pub(crate) async fn transfers(&self, digests: &[String]) -> Result<BTreeMap<String, usize>> {
        let deadline = Instant::now() + LOGGED_WITHIN;
        loop {
            let counted = self.count(digests)?;
            if counted.values().all(|&count| count > 0) {
                return Ok(counted);
            }
            ensure!(
                Instant::now() < deadline,
                "not all were fetched: {counted:?}\n{}",
                self.registry.log()?
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn count(&self, digests: &[String]) -> Result<BTreeMap<String, usize>> {
        let has_cdn = matches!(self.shape, Shape::Cdn | Shape::TokenAndCdn);
        let log = self.registry.log()?;
        let cdn = self.registry.cdn().map_or(Ok(Vec::new()), |cdn| cdn.requests())?;
        let sent = |digest: &str| {
            if has_cdn && !log.contains(&format!("GET /v2/{REPO}/manifests/{digest} ")) {
                let uri = format!("/{}", docker_registry::blob_path(digest));
                let whole_or_part = cdn
                    .iter()
                    .filter(|access| access.uri == uri && access.status < 300);
                return whole_or_part.filter(|access| access.method == "GET").count();
            }
            let asked = log
                .lines()
                .filter(|line| line.contains("\"GET /v2/") && line.contains(digest));
            asked
                .filter(|line| line.contains("HTTP/1.1\" 200 ") || line.contains("HTTP/1.1\" 206 "))
                .count()
        };
        Ok(digests
            .iter()
            .map(|digest| (digest.clone(), sent(digest)))
            .collect())
    }
}
