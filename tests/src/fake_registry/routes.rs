//! The answers of a healthy registry: OCI distribution spec 1.1, pull side.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::auth::Auth;
use super::catalog::{Catalog, Manifest};
use crate::scripted::{Content, Handler, Kind, Reply, Request};

/// How many tags a page has unless `n` says otherwise.
const TAGS_PAGE_DEFAULT: usize = 1000;

/// The registry's request handler.
pub(super) struct Routes {
    catalog: Arc<Mutex<Catalog>>,
    auth: Option<Auth>,
}

impl Routes {
    pub(super) fn new(catalog: Arc<Mutex<Catalog>>, auth: Option<Auth>) -> Self {
        Self { catalog, auth }
    }

    fn route(&self, request: &Request) -> Reply {
        if !request.is_get() && !request.is_head() {
            return Reply::error(405, "UNSUPPORTED", "the operation is unsupported")
                .header("Allow", "GET, HEAD");
        }
        let catalog = self.catalog.lock().unwrap();
        match request.kind() {
            Kind::Ping => json_reply("{}".to_owned(), "application/json; charset=utf-8"),
            Kind::Manifest { repo, reference } => match catalog.manifest(&repo, &reference) {
                Some(found) => manifest(request, found),
                None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            },
            Kind::Blob { repo, digest } => match (catalog.blob(&repo, &digest), catalog.blob_redirect()) {
                (Some(content), Some((status, signer))) if request.is_get() => {
                    Reply::new(status, "").header("Location", signer.sign(&content, &digest))
                }
                (Some(content), _) => blob(request, content, &digest),
                (None, _) => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            },
            Kind::Tags { repo } => match catalog.tags(&repo) {
                Some(all) => tags(request, &repo, all),
                None => Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            },
            Kind::Referrers { repo, digest } => referrers(request, &catalog, &repo, &digest),
            Kind::Other => {
                Reply::new(404, "404 page not found\n").header("Content-Type", "text/plain; charset=utf-8")
            }
        }
    }
}

impl Handler for Routes {
    fn gate(&self, request: &Request) -> Option<Reply> {
        self.auth.as_ref()?.refuse(request)
    }

    fn reply(&self, request: &Request) -> Reply {
        if let Some(token) = self.auth.as_ref().and_then(|auth| auth.own_token(request)) {
            return token;
        }
        self.route(request)
            .header("Docker-Distribution-Api-Version", "registry/2.0")
    }
}

fn json_reply(body: String, media_type: &str) -> Reply {
    Reply::new(200, body).header("Content-Type", media_type)
}

fn manifest(request: &Request, manifest: Manifest) -> Reply {
    let Manifest {
        digest,
        media_type,
        bytes,
    } = manifest;
    let etag = format!("\"{digest}\"");
    if matches_etag(request, &etag) {
        return Reply::new(304, "")
            .header("Etag", etag)
            .header("Docker-Content-Digest", digest);
    }
    let mut reply = Reply::new(200, bytes)
        .header("Content-Type", media_type)
        .header("Docker-Content-Digest", digest.clone())
        .header("Etag", etag);
    reply.digest = Some(digest);
    reply
}

fn blob(request: &Request, content: Content, digest: &str) -> Reply {
    let etag = format!("\"{digest}\"");
    if matches_etag(request, &etag) {
        return Reply::new(304, "")
            .header("Etag", etag)
            .header("Docker-Content-Digest", digest);
    }
    let mut reply = Reply::ranged(content, request, &etag)
        .header("Content-Type", "application/octet-stream")
        .header("Docker-Content-Digest", digest)
        .header("Etag", etag)
        .header("Cache-Control", "max-age=31536000");
    reply.digest = Some(digest.to_owned());
    reply
}

fn matches_etag(request: &Request, etag: &str) -> bool {
    let validators = request.header_all("If-None-Match").join(",");
    validators
        .split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == etag || one == "*")
}

fn tags(request: &Request, repo: &str, all: Vec<String>) -> Reply {
    let n = match request.query_param("n").map(|n| n.parse::<usize>()) {
        None => TAGS_PAGE_DEFAULT,
        Some(Ok(n)) => n,
        Some(Err(_)) => {
            return Reply::error(
                400,
                "PAGINATION_NUMBER_INVALID",
                "invalid number of results requested",
            );
        }
    };
    let last = request.query_param("last").unwrap_or_default();
    let mut rest = all.into_iter().filter(|tag| *tag > last);
    let page: Vec<_> = rest.by_ref().take(n).collect();
    let reply = json_reply(
        json!({"name": repo, "tags": page}).to_string(),
        "application/json",
    );
    match (page.last(), rest.next()) {
        (Some(end), Some(_)) => reply.header(
            "Link",
            format!("</v2/{repo}/tags/list?last={end}&n={n}>; rel=\"next\""),
        ),
        _ => reply,
    }
}

fn referrers(request: &Request, catalog: &Catalog, repo: &str, digest: &str) -> Reply {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let mut manifests = catalog.referrers(repo, digest);
    let wanted = request.query_param("artifactType");
    if let Some(wanted) = &wanted {
        manifests.retain(|descriptor| descriptor["artifactType"] == wanted.as_str());
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let reply = json_reply(index.to_string(), INDEX);
    if wanted.is_some() {
        reply.header("OCI-Filters-Applied", "artifactType")
    } else {
        reply
    }
}
