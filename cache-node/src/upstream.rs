//! The registry client: what `pull` and `fill` ask of one registry of the configuration.
//!
//! One [`Upstream`] per registry. It follows redirects by hand, answers challenges, keeps tokens, holds back after a 429,
//! and tries again what may pass; what it hands back is unproved: nothing here knows digests. It never forwards a
//! client's header or query, never keeps a redirect, and never logs a query, a token or a password.

mod answer;
mod auth;
mod body;
pub mod challenge;
mod error;
mod exchange;
mod governor;
mod guard;
mod headers;
mod identity;
mod limits;
pub mod listing;
mod probe;
mod realm;
mod refusal;
mod resolve;
mod retry;
mod scope;
mod token;
mod transport;

use std::fmt;
use std::sync::Arc;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use crate::config::Registry;
use crate::credentials::CredentialStore;
use crate::oci::{Digest, MediaType, Reference, RepoName};

pub use answer::{BlobBody, Listing, Manifest, ManifestHead, Page, RangeRequest, Validator};
pub use error::{Error, Kind};
pub use limits::{Limits, NoObserver, Observer, RequestKind};
pub use scope::{CredentialKey, Repository, Salt, Scope};
pub use transport::authorities;

use exchange::{Answer, Exchange, Request};
use governor::Permit;
use identity::Identity;

/// The longest manifest accepted; the distribution specification asks registries for at least 4 MiB.
pub const MANIFEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest page of a listing accepted.
pub const LISTING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The client of one registry. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Upstream {
    exchange: Arc<Exchange>,
    /// With what every request is made; without it, each with what there is when it is made.
    identity: Option<Identity>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("registry", &self.exchange.registry.host)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// A client of `registry`. Contacts nobody.
    ///
    /// # Errors
    /// [`Kind::Tls`] when the TLS configuration cannot be built.
    pub fn new(
        registry: Arc<Registry>,
        credentials: Arc<CredentialStore>,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let exchange = Exchange::new(registry, credentials, limits, observer)?;
        Ok(Self {
            exchange: Arc::new(exchange),
            identity: None,
        })
    }

    /// This client with the credential that requests for `repo` are made with at this moment, for that repository alone,
    /// and what such requests prove something for: a credential that changes meanwhile changes neither.
    pub async fn scoped(&self, repo: &RepoName, salt: &Salt) -> (Self, Scope) {
        let registry = &self.exchange.registry;
        let name = registry.upstream_repository(repo);
        let identity = self.exchange.identity(&name).await;
        let scope = Scope {
            repository: Repository {
                registry: registry.host.as_str().into(),
                name,
            },
            credential: identity.key().clone(),
            fingerprint: identity.fingerprint(salt),
        };
        let client = Self {
            exchange: Arc::clone(&self.exchange),
            identity: Some(identity),
        };
        (client, scope)
    }

    /// Asks what manifest `reference` means, without fetching it.
    ///
    /// # Errors
    /// Any [`Kind`] but those of bodies.
    pub async fn head_manifest(
        &self,
        repo: &RepoName,
        reference: &Reference,
        if_none_match: Option<&Digest>,
    ) -> Result<ManifestHead, Error> {
        let mut headers = headers::accepting_manifests();
        if let Some(digest) = if_none_match
            && let Ok(value) = HeaderValue::try_from(format!("\"{digest}\""))
        {
            headers.insert(header::IF_NONE_MATCH, value);
        }
        let mut request = self
            .request(
                repo,
                RequestKind::Manifest,
                "manifests",
                &reference.to_string(),
                headers,
            )
            .await;
        request.method = Method::HEAD;
        let (mut answer, _permit) = self.exchange.call(&request).await?;
        if answer.response.status().is_redirection() && !answer.is_not_modified() {
            // The target answers GET alone: ask for the manifest and leave its body.
            request.method = Method::GET;
            (answer, _) = self.exchange.call(&request).await?;
        }
        if answer.is_not_modified() {
            return Ok(ManifestHead::NotModified);
        }
        let headers = answer.response.headers();
        answer.refuse_html()?;
        Ok(ManifestHead::Found {
            digest: headers::content_digest(headers),
            media_type: headers::media_type(headers),
            length: headers::content_length(headers).filter(|length| *length > 0),
            warnings: headers::warnings(headers),
        })
    }

    /// Fetches the manifest that `reference` means.
    ///
    /// # Errors
    /// Any [`Kind`] but [`Kind::RangeNotSatisfiable`].
    pub async fn get_manifest(&self, repo: &RepoName, reference: &Reference) -> Result<Manifest, Error> {
        let headers = headers::accepting_manifests();
        let request = self
            .request(
                repo,
                RequestKind::Manifest,
                "manifests",
                &reference.to_string(),
                headers,
            )
            .await;
        let (headers, body) = self.exchange.call_whole(&request, MANIFEST_BYTES_MAX).await?;
        Ok(Manifest {
            digest_header: headers::content_digest(&headers),
            media_type: headers::media_type(&headers),
            body,
            warnings: headers::warnings(&headers),
        })
    }

    /// Begins to fetch a blob, or a part of it. There is no limit on the body's length or duration, only on its pauses.
    ///
    /// # Errors
    /// Any [`Kind`]; [`Kind::RangeNotSatisfiable`] when the blob ends before the range begins.
    pub async fn open_blob(
        &self,
        repo: &RepoName,
        digest: &Digest,
        range: Option<RangeRequest>,
    ) -> Result<BlobBody, Error> {
        let mut request = self.blob_request(repo, digest).await;
        if let Some(range) = &range {
            request.headers.insert(header::RANGE, headers::range(range)?);
            request.if_range = range.if_range.clone();
        }
        let (answer, permit) = self.exchange.call(&request).await?;
        self.blob_body(answer, permit)
    }

    fn blob_body(&self, answer: Answer, permit: Permit) -> Result<BlobBody, Error> {
        let headers = answer.response.headers();
        // Only a 206 is a part; a `Content-Range` on anything else says nothing of the body.
        let is_part = answer.response.status() == StatusCode::PARTIAL_CONTENT;
        let part = headers::content_range(headers).filter(|_| is_part);
        let (offset, total) = match part {
            Some(part) => (part.start, part.total),
            None => (0, headers::content_length(headers)),
        };
        Ok(BlobBody {
            offset,
            total,
            is_labelled_text: headers::is_labelled_text(headers),
            validator: headers::strong_etag(headers).map(|etag| Validator {
                etag,
                origin: answer.url.origin().ascii_serialization(),
            }),
            body: body::stream(answer, self.exchange.limits.idle, permit),
        })
    }

    /// A blob's length in bytes, if the registry tells it. Transfers no body to speak of.
    ///
    /// # Errors
    /// Any [`Kind`] but those of bodies.
    pub async fn blob_length(&self, repo: &RepoName, digest: &Digest) -> Result<Option<u64>, Error> {
        let mut request = self.blob_request(repo, digest).await;
        request.method = Method::HEAD;
        match self.exchange.call(&request).await {
            Ok((answer, _permit)) if answer.response.status().is_success() => {
                answer.refuse_html()?;
                let length = headers::content_length(answer.response.headers());
                // Some registries leave out the length, or send 0, where they have no body to send.
                let is_empty_blob = *digest == Digest::of(digest.algorithm(), b"");
                if length.is_some_and(|length| length > 0 || is_empty_blob) {
                    return Ok(length);
                }
            }
            Ok(_) => {}
            Err(error) if head_is_refused(error.kind()) => {}
            Err(error) => return Err(error),
        }
        request.method = Method::GET;
        request
            .headers
            .insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        match self.exchange.call(&request).await {
            Ok((answer, _permit)) => {
                answer.refuse_html()?;
                let headers = answer.response.headers();
                let length = match headers::content_range(headers) {
                    Some(part) => part.total,
                    None => headers::content_length(headers),
                };
                body::discard(answer.response).await;
                Ok(length)
            }
            Err(error) => match error.kind() {
                Kind::RangeNotSatisfiable { total: Some(0) } => Ok(Some(0)),
                _ => Err(error),
            },
        }
    }

    /// Fetches one page of the tags of `repo`.
    ///
    /// # Errors
    /// Any [`Kind`] but [`Kind::RangeNotSatisfiable`].
    pub async fn list_tags(&self, repo: &RepoName, page: Page<'_>) -> Result<Listing, Error> {
        let headers = headers::accepting("application/json");
        let mut request = self
            .request(repo, RequestKind::Manifest, "tags", "list", headers)
            .await;
        match page {
            Page::Query(query) => request.url.set_query(Some(query)),
            Page::Of { n, last } => {
                let n = n.map(|n| ("n", n.to_string()));
                let last = last.map(|last| ("last", last.to_owned()));
                add_query(&mut request.url, n.into_iter().chain(last));
            }
        }
        self.list(&request).await
    }

    /// Fetches one page of the manifests that name `digest` as their subject: the first one, or that of an earlier
    /// [`Listing::next`].
    ///
    /// # Errors
    /// Any [`Kind`] but [`Kind::RangeNotSatisfiable`].
    pub async fn list_referrers(
        &self,
        repo: &RepoName,
        digest: &Digest,
        artifact_type: Option<&str>,
        next: Option<&str>,
    ) -> Result<Listing, Error> {
        let headers = headers::accepting(MediaType::OCI_INDEX);
        let mut request = self
            .request(
                repo,
                RequestKind::Manifest,
                "referrers",
                &digest.to_string(),
                headers,
            )
            .await;
        match next {
            Some(query) => request.url.set_query(Some(query)),
            None => {
                let filter = artifact_type.map(|kind| ("artifactType", kind.to_owned()));
                add_query(&mut request.url, filter);
            }
        }
        self.list(&request).await
    }

    async fn list(&self, request: &Request) -> Result<Listing, Error> {
        let (headers, body) = self.exchange.call_whole(request, LISTING_BYTES_MAX).await?;
        Ok(Listing {
            body,
            media_type: headers::media_type(&headers),
            next: listing::next_query(headers::values(&headers, &header::LINK)),
            filters_applied: headers::text(&headers, "oci-filters-applied"),
            warnings: headers::warnings(&headers),
        })
    }

    async fn blob_request(&self, repo: &RepoName, digest: &Digest) -> Request {
        let headers = headers::accepting("*/*");
        self.request(repo, RequestKind::Blob, "blobs", &digest.to_string(), headers)
            .await
    }

    async fn request(
        &self,
        repo: &RepoName,
        kind: RequestKind,
        what: &str,
        which: &str,
        headers: HeaderMap,
    ) -> Request {
        let upstream_repo = self.exchange.registry.upstream_repository(repo);
        let identity = match &self.identity {
            Some(identity) => identity.clone(),
            None => self.exchange.identity(&upstream_repo).await,
        };
        Request {
            method: Method::GET,
            kind,
            url: self
                .exchange
                .registry
                .endpoint
                .api_url(&format!("{upstream_repo}/{what}/{which}")),
            identity,
            repo: upstream_repo,
            headers,
            if_range: None,
        }
    }
}

/// Whether a HEAD failed in a way that says nothing about GET: public.ecr.aws and presigned URLs refuse it, others hang up.
fn head_is_refused(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Unauthorized
            | Kind::Denied
            | Kind::RedirectRefused(_)
            | Kind::Status(400 | 405 | 501)
            | Kind::Connect
            | Kind::Protocol
    )
}

fn add_query(url: &mut Url, pairs: impl IntoIterator<Item = (&'static str, String)>) {
    let mut pairs = pairs.into_iter().peekable();
    if pairs.peek().is_some() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
}

#[cfg(test)]
mod tests;
