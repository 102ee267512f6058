//! One call from its first request to an answer that is one: challenges answered, redirects followed by hand, refusals
//! turned into errors, tries and slots counted.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::Instant;

use super::auth::{self, Auth, Target};
use super::governor::{Governor, Permit};
use super::identity::Identity;
use super::retry::retry;
use super::transport::{Transport, place};
use super::{Error, Kind, Limits, Observer, RequestKind, Validator, body, guard, headers, refusal};
use crate::config::Registry;
use crate::credentials::CredentialStore;
use crate::oci::RepoName;

/// More hops than any registry needs: registry, other registry, its front, a CDN.
const REDIRECTS_MAX: usize = 5;

/// What is asked of the endpoint.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) kind: RequestKind,
    pub(super) url: Url,
    pub(super) identity: Identity,
    /// As the endpoint names it.
    pub(super) repo: RepoName,
    pub(super) headers: HeaderMap,
    /// Sent as `If-Range` to the origin that it came from only.
    pub(super) if_range: Option<Validator>,
}

/// A response that answers the request: 200, 206, 304 to a condition, or to HEAD a redirect that only GET may follow.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) url: Url,
    method: Method,
}

impl Answer {
    pub(super) fn is_not_modified(&self) -> bool {
        self.response.status() == StatusCode::NOT_MODIFIED
    }

    pub(super) fn place(&self) -> String {
        place(&self.method, &self.url)
    }

    /// # Errors
    /// [`Kind::Protocol`] for a web page where the API was asked: a portal or a proxy speaks, not the registry.
    pub(super) fn refuse_html(&self) -> Result<(), Error> {
        match headers::content_type(self.response.headers()) {
            Some(media_type) if media_type.as_str() == "text/html" => Err(Error::new(
                Kind::Protocol,
                format!("{}: a web page", self.place()),
            )),
            _ => Ok(()),
        }
    }
}

pub(super) struct Exchange {
    pub(super) registry: Arc<Registry>,
    pub(super) limits: Limits,
    pub(super) credentials: Arc<CredentialStore>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) transport: Arc<Transport>,
    pub(super) auth: Arc<Auth>,
    governor: Governor,
}

impl Exchange {
    pub(super) fn new(
        registry: Arc<Registry>,
        credentials: Arc<CredentialStore>,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let transport = Transport::new(Arc::clone(&registry), Arc::clone(&credentials), limits.clone())?;
        Ok(Self {
            auth: Arc::new(Auth::new(
                Arc::clone(&registry),
                Arc::clone(&observer),
                limits.idle,
            )),
            governor: Governor::new(&limits),
            transport: Arc::new(transport),
            registry,
            limits,
            credentials,
            observer,
        })
    }

    pub(super) async fn identity(&self, upstream_repo: &RepoName) -> Identity {
        Identity::select(&self.registry, &self.credentials, upstream_repo.as_str()).await
    }

    /// Asks until there is an answer, within the limits. The permit is held as long as the answer's body is wanted.
    pub(super) async fn call(&self, request: &Request) -> Result<(Answer, Permit), Error> {
        self.governed(request, || self.observed(request, self.attempt(request)))
            .await
    }

    /// As [`Self::call`], but the body belongs to the try: one that is cut is asked for again.
    pub(super) async fn call_whole(
        &self,
        request: &Request,
        bytes_max: usize,
    ) -> Result<(HeaderMap, Bytes), Error> {
        let attempt = || async {
            let answer = self.attempt(request).await?;
            answer.refuse_html()?;
            let (place, headers) = (answer.place(), answer.response.headers().clone());
            let body = body::read(&place, answer.response, bytes_max, self.limits.idle).await?;
            Ok((headers, body))
        };
        let (whole, _permit) = self
            .governed(request, || self.observed(request, attempt()))
            .await?;
        Ok(whole)
    }

    async fn governed<T, F>(&self, request: &Request, attempt: impl Fn() -> F) -> Result<(T, Permit), Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + self.limits.total;
        let admission = self.governor.admit(request.identity.key(), request.kind);
        let permit = tokio::time::timeout_at(deadline, admission)
            .await
            .map_err(|_| Error::new(Kind::Timeout, "no free slot for another request"))??;
        let value = retry(&self.limits, deadline, attempt).await?;
        Ok((value, permit))
    }

    async fn observed<T>(
        &self,
        request: &Request,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = attempt.await.map_err(|error| match error.kind() {
            Kind::RateLimited { retry_after } => {
                let pause = self
                    .governor
                    .hold_back(request.identity.key(), request.kind, retry_after);
                error.with_kind(Kind::RateLimited {
                    retry_after: Some(pause),
                })
            }
            _ => error,
        });
        let outcome = result.as_ref().map_or_else(Error::metric_label, |_| "ok");
        self.observer.request(&self.registry.host, request.kind, outcome);
        if let Err(error) = &result {
            tracing::debug!(registry = self.registry.host, kind = request.kind.as_str(), %error, "upstream request failed");
        }
        result
    }

    /// One try: from the endpoint, over its redirects, to an answer.
    async fn attempt(&self, request: &Request) -> Result<Answer, Error> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.ask(request, &url).await?;
            let Some(target) = redirect_target(&url, &response) else {
                return judge(request, url, response).await;
            };
            if guard::is_downgrade(&url, &target) {
                return Err(Error::new(
                    Kind::Protocol,
                    format!("{}: redirects from https to http", place(&request.method, &url)),
                ));
            }
            if request.method == Method::HEAD && repository_in_path(&target).is_none() {
                // Signed addresses are good for GET alone.
                return Ok(Answer {
                    response,
                    url,
                    method: Method::HEAD,
                });
            }
            body::discard(response).await;
            url = target;
        }
        Err(Error::new(
            Kind::Protocol,
            format!("{}: too many redirects", place(&request.method, &request.url)),
        ))
    }

    /// Asks one server, and answers its challenge once.
    async fn ask(&self, request: &Request, url: &Url) -> Result<Response, Error> {
        let is_endpoint = url.origin() == request.url.origin();
        let repo = if is_endpoint {
            Some(request.repo.as_str())
        } else {
            repository_in_path(url)
        };
        let anonymous = Identity::ANONYMOUS;
        let target = Target {
            url,
            repo,
            identity: if is_endpoint {
                &request.identity
            } else {
                &anonymous
            },
        };
        // What is no registry has no challenge that we would answer.
        if !is_endpoint && repo.is_none() {
            return self.send(request, url, None).await;
        }
        let sent = self.auth.known(&self.transport, target).await?;
        let response = self.send(request, url, sent.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = auth::challenges(&response);
        body::discard(response).await;
        let header = self
            .auth
            .after_refusal(&self.transport, target, challenges, sent.as_ref())
            .await?;
        self.send(request, url, header.as_ref()).await
    }

    async fn send(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        let mut headers = request.headers.clone();
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        if let Some(validator) = &request.if_range
            && validator.origin == url.origin().ascii_serialization()
        {
            headers.insert(header::IF_RANGE, validator.etag.clone());
        }
        let response = self
            .transport
            .send(request.method.clone(), url, headers, None)
            .await?;
        tracing::debug!(
            registry = self.registry.host,
            kind = request.kind.as_str(),
            host = url.host_str(),
            status = response.status().as_u16(),
            "upstream answered"
        );
        Ok(response)
    }
}

/// Whether `response`, from `url`, answers `request`; an error otherwise.
async fn judge(request: &Request, url: Url, response: Response) -> Result<Answer, Error> {
    let place = place(&request.method, &url);
    let status = response.status();
    let broken = |why| Err(Error::new(Kind::Protocol, format!("{place}: {why}")));
    match status.as_u16() {
        200 => {}
        206 if is_part_asked_for(request, response.headers()) => {}
        206 => return broken("a part that was not asked for"),
        304 if request.headers.contains_key(header::IF_NONE_MATCH) => {}
        100..=399 => return broken("a status that is no answer"),
        status => {
            let error = refusal::error(place, response).await;
            let is_registry = url == request.url || repository_in_path(&url).is_some();
            return Err(match error.kind() {
                // Only a registry knows what there is; anything else knows only that this address is no longer good.
                Kind::NotFound | Kind::Unauthorized | Kind::Denied | Kind::Status(400) if !is_registry => {
                    error.with_kind(Kind::RedirectRefused(status))
                }
                _ => error,
            });
        }
    }
    // A blob's digest decides whether the label is true; a manifest is never a gzip file.
    let may_be_label = request.kind == RequestKind::Blob && headers::is_labelled_gzip(response.headers());
    if headers::is_encoded(response.headers()) && !may_be_label {
        return broken("the content is encoded, so its bytes are not those of the digest");
    }
    Ok(Answer {
        response,
        url,
        method: request.method.clone(),
    })
}

/// Whether a 206 is the beginning, at least, of the range that was asked for.
fn is_part_asked_for(request: &Request, headers: &HeaderMap) -> bool {
    let Some(part) = headers::content_range(headers) else {
        return false;
    };
    let asked = request
        .headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let Some((start, last)) = asked.and_then(|value| value.strip_prefix("bytes=")?.split_once('-')) else {
        return false;
    };
    start.parse() == Ok(part.start)
        && last
            .parse()
            .map_or(last.is_empty(), |last: u64| part.end - 1 <= last)
}

/// Where a redirect leads. `url` keeps the escapes of a signed address as they are.
pub(super) fn redirect_target(url: &Url, response: &Response) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    let target = url.join(str::from_utf8(location.as_bytes()).ok()?).ok()?;
    matches!(target.scheme(), "http" | "https").then_some(target)
}

/// The repository that `url` names, if it is an address of a registry's API: then the server is a registry, whose word
/// on what exists counts, and which may challenge.
fn repository_in_path(url: &Url) -> Option<&str> {
    let path = url.path().strip_prefix("/v2/")?;
    let (repo_and_what, _) = path.rsplit_once('/')?;
    let (repo, what) = repo_and_what.rsplit_once('/')?;
    let is_api = matches!(what, "manifests" | "blobs" | "tags" | "referrers");
    (is_api && repo.parse::<RepoName>().is_ok()).then_some(repo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(status: u16, location: &str) -> Option<String> {
        let response = http::Response::builder()
            .status(status)
            .header("location", location)
            .body("")
            .unwrap();
        let url = "https://registry.example/v2/a/blobs/sha256:00".parse().unwrap();
        redirect_target(&url, &Response::from(response)).map(String::from)
    }

    #[test]
    fn a_location_is_used_as_it_came() {
        for location in [
            "https://cdn.example/data?verify=1597907265-RDid%2FdtQ%3D",
            "https://oss.example/data?Expires=1&Signature=%2FNOGZ%2BkZX7w%3D",
            "https://storage.example/artifacts/sha256:ab?x=a~b-c_d__&Key-Pair-Id=K",
            "http://127.0.0.1:1/a%2Fb:c~d/%7E?q=%20+",
        ] {
            assert_eq!(target(302, location).as_deref(), Some(location));
        }
        assert_eq!(
            target(307, "/artifacts-downloads/x%2Fy").as_deref(),
            Some("https://registry.example/artifacts-downloads/x%2Fy")
        );
        assert_eq!(
            target(308, "//cdn.example/x").as_deref(),
            Some("https://cdn.example/x")
        );
        for (status, location) in [
            (300, "/x"),
            (304, "/x"),
            (302, "ftp://a/b"),
            (302, "https://"),
            (302, "file:///etc"),
        ] {
            assert_eq!(target(status, location), None, "{status} {location}");
        }
    }

    #[test]
    fn registries_are_known_by_their_paths() {
        let repo = |path: &str| {
            let url: Url = format!("https://h{path}").parse().unwrap();
            repository_in_path(&url).map(str::to_owned)
        };
        assert_eq!(repo("/v2/a/b/c/manifests/latest").as_deref(), Some("a/b/c"));
        assert_eq!(repo("/v2/a/blobs/sha256:00").as_deref(), Some("a"));
        for path in [
            "/registry-v2/docker/registry/v2/blobs/sha256/a2/x/data",
            "/v2/blobs/x",
            "/v2/",
            "/v2/A/blobs/x",
            "/",
        ] {
            assert_eq!(repo(path), None, "{path}");
        }
    }
}
