//! The `/v2/` surface: one typed parse of the request, one decision of `pull`, one place that renders answers.

pub mod conditional;
pub mod error;
pub mod multipart;
pub mod range;
pub mod route;

mod access_log;
mod content;
mod identity;
mod listener;
mod refusal;

use std::time::Instant;

use axum::body::Body;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, WARNING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::metrics::Metrics;
use crate::pull::{self, Cache, ListingAnswer, ManifestAnswer, Origin, Subject, Target};
use crate::store::Manifest;

use access_log::Access;
use error::{Error, ErrorCode, Status};
use route::{Resource, Route, Selector};

pub use identity::Prover;
pub use listener::{ConnectionLimits, serve};

/// Tells docker 19.03 that this is a registry of the second generation.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// All warnings of one answer together (distribution-spec, "Warnings").
const WARNINGS_BYTES_MAX: usize = 4096;

/// Answers one request of a container runtime.
pub async fn answer<B>(
    cache: &Cache,
    metrics: &std::sync::Arc<Metrics>,
    request: Request<B>,
) -> Response<Body> {
    let started = Instant::now();
    let is_head = request.method() == Method::HEAD;
    let mut access = Access::new(std::sync::Arc::clone(metrics), &request, started);
    let mut response = match respond(cache, &request, &mut access).await {
        Ok(response) => response,
        Err(error) => error.to_response(is_head).map(Body::from),
    };
    response
        .headers_mut()
        .insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    access.attach(response, is_head)
}

async fn respond<B>(
    cache: &Cache,
    request: &Request<B>,
    access: &mut Access,
) -> Result<Response<Body>, Error> {
    let is_head = request.method() == Method::HEAD;
    if !is_head && request.method() != Method::GET {
        return Err(Error::method_not_allowed());
    }
    let targets = cache.targets();
    let uri = request.uri();
    let route = route::parse(uri.path(), uri.query(), |host| targets.by_host(host).is_some())?;
    if route.resource == Resource::Base {
        access.kind = "base";
        return Ok(base());
    }
    let target = match &route.registry {
        Selector::Ns(host) | Selector::Path(host) => targets.by_host(host),
        Selector::Default => targets.default(),
    };
    let target =
        target.ok_or_else(|| refusal::from_pull(&pull::Error::UnknownRegistry, Subject::Manifest))?;
    access.target(&target, &route);
    if let Some(repository) = route.resource.repository() {
        target.admit(repository).map_err(|error| {
            access.refusal = error.metric_label();
            refusal::from_pull(&error, Subject::Manifest)
        })?;
    }
    let mut response = resource(cache, &target, &route, request.headers(), is_head, access).await?;
    if let Selector::Ns(host) = &route.registry
        && let Ok(host) = HeaderValue::from_str(host)
    {
        response.headers_mut().insert(OCI_NAMESPACE, host);
    }
    Ok(response)
}

async fn resource(
    cache: &Cache,
    target: &Target,
    route: &Route,
    headers: &HeaderMap,
    is_head: bool,
    access: &mut Access,
) -> Result<Response<Body>, Error> {
    match &route.resource {
        Resource::Base => Ok(base()),
        Resource::Manifest { repo, reference } => {
            let answer = cache.manifest(target, repo, reference).await;
            let answer = answer.map_err(|error| refusal::from_pull(&error, Subject::Manifest))?;
            access.origin(answer.origin);
            manifest(answer, headers, is_head)
        }
        Resource::Blob { repo, digest } if is_head => {
            let length = cache.blob_length(target, repo, digest).await;
            let (length, origin) = length.map_err(|error| refusal::from_pull(&error, Subject::Blob))?;
            access.origin(origin);
            content::head(digest, length, headers)
        }
        Resource::Blob { repo, digest } => {
            let opened = cache
                .blob(target, repo, digest, content::first_byte(headers))
                .await;
            let (blob, length, origin) = opened.map_err(|error| refusal::from_pull(&error, Subject::Blob))?;
            access.origin(origin);
            content::get(digest, blob, length, headers)
        }
        Resource::Tags { repo, query, .. } => {
            let answer = cache.tags(target, repo, query.as_deref()).await;
            listing(answer, route, "tags/list", is_head, access)
        }
        Resource::Referrers {
            repo,
            digest,
            artifact_type,
            query,
        } => {
            let answer = cache
                .referrers(target, repo, digest, artifact_type.as_deref(), query.as_deref())
                .await;
            listing(answer, route, &format!("referrers/{digest}"), is_head, access)
        }
    }
}

/// Always 200 and never upstream's business: a challenge here would draw the clients' credentials to us.
fn base() -> Response<Body> {
    let mut response = Response::new(Body::from("{}"));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, 2.into());
    response
}

fn manifest(answer: ManifestAnswer, request: &HeaderMap, is_head: bool) -> Result<Response<Body>, Error> {
    let ManifestAnswer {
        manifest,
        origin,
        warnings,
    } = answer;
    let Manifest {
        digest,
        media_type,
        body,
    } = manifest;
    let etag = conditional::etag(&digest);
    let outcome = conditional::evaluate(request, &etag);
    let mut response = match outcome {
        conditional::Outcome::PreconditionFailed => return Err(refusal::precondition_failed()),
        conditional::Outcome::NotModified => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        conditional::Outcome::Proceed => {
            let length = body.len();
            let mut response = Response::new(if is_head { Body::empty() } else { Body::from(body) });
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, header_value(media_type.as_str())?);
            headers.insert(CONTENT_LENGTH, length.into());
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(DOCKER_CONTENT_DIGEST, header_value(&digest.to_string())?);
    headers.insert(ETAG, header_value(&etag)?);
    warn(headers, &warnings, origin);
    Ok(response)
}

fn listing(
    answer: Result<ListingAnswer, pull::Error>,
    route: &Route,
    path: &str,
    is_head: bool,
    access: &mut Access,
) -> Result<Response<Body>, Error> {
    let ListingAnswer { listing, origin } =
        answer.map_err(|error| refusal::from_pull(&error, Subject::Listing))?;
    access.origin(origin);
    let length = listing.body.len();
    let mut response = Response::new(if is_head {
        Body::empty()
    } else {
        Body::from(listing.body)
    });
    let headers = response.headers_mut();
    let media_type = listing
        .media_type
        .as_ref()
        .map_or("application/json", |media_type| media_type.as_str());
    headers.insert(CONTENT_TYPE, header_value(media_type)?);
    headers.insert(CONTENT_LENGTH, length.into());
    if let Some(next) = &listing.next {
        let ns = match &route.registry {
            Selector::Ns(host) => format!("&ns={}", encode(host)),
            Selector::Path(_) | Selector::Default => String::new(),
        };
        let link = format!("</v2/{}/{path}?{next}{ns}>; rel=\"next\"", route.written_name);
        headers.insert(LINK, header_value(&link)?);
    }
    if let Some(filters) = &listing.filters_applied {
        headers.insert(OCI_FILTERS_APPLIED, header_value(filters)?);
    }
    warn(headers, &listing.warnings, origin);
    Ok(response)
}

/// Relays upstream's warnings, and adds ours when the answer may be out of date.
fn warn(headers: &mut HeaderMap, warnings: &[String], origin: Origin) {
    const STALE: &str = "299 - \"upstream could not be asked; this is its last known answer\"";
    let stale = (origin == Origin::Stale).then_some(STALE);
    let mut left = WARNINGS_BYTES_MAX;
    for warning in stale.into_iter().chain(warnings.iter().map(String::as_str)) {
        let Some(rest) = left.checked_sub(warning.len()) else {
            break;
        };
        left = rest;
        if let Ok(value) = HeaderValue::from_str(warning) {
            headers.append(WARNING, value);
        }
    }
}

/// What upstream sent may hold what no header can.
fn header_value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| {
        let message = "the upstream registry's answer cannot be passed on";
        Error::new(Status::BadGateway, ErrorCode::Unavailable, message)
    })
}

fn encode(host: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(host, percent_encoding::NON_ALPHANUMERIC)
}
