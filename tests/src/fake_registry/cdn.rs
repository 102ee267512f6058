//! The object store behind a registry: signed URLs that are used up or expire, and headers of its own.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::scripted::{Action, Content, Handler, HostSetup, Reply, Request, ScriptedHost, host_setup};

/// A running CDN. Requests, rules and addresses are those of the [`ScriptedHost`] it derefs to.
pub struct Cdn {
    host: ScriptedHost,
    signer: Arc<Signer>,
}

impl Deref for Cdn {
    type Target = ScriptedHost;

    fn deref(&self) -> &ScriptedHost {
        &self.host
    }
}

/// What a CDN is started with.
pub struct CdnBuilder {
    host: HostSetup,
    rules: Rules,
}

struct Rules {
    url: String,
    uses: u64,
    ttl: Option<Duration>,
    expired: u16,
    rejects_authorization: bool,
    head_status: u16,
}

host_setup!(CdnBuilder);

impl Cdn {
    /// URLs as Docker Hub's Cloudflare has them (seed row A25).
    pub const DOCKER_HUB: &str =
        "/registry-v2/docker/registry/v2/blobs/sha256/{hex}/data?verify={nonce}-RDid%2FdtQ%3D";
    /// URLs as Aliyun's OSS has them (seed row A27).
    pub const ALIYUN: &str = "/docker/registry/v2/blobs/sha256/{hex}/data?Expires={nonce}&OSSAccessKeyId=id&Signature=%2FNOGZkZ%2BX7w%3D";
    /// Unsigned URLs with a colon in the path, as gcr's storage has them (seed row A28).
    pub const GCS: &str = "/artifacts.example.appspot.com/containers/images/sha256:{hex}";
    /// URLs in CloudFront's alphabet, as quay has them (seed row A30).
    pub const CLOUDFRONT: &str = "/sha256/{hex}?Expires={nonce}&Signature=aB~c-d_e__&Key-Pair-Id=KEY";

    /// A CDN on 127.0.0.1 whose URLs work for ever, to be changed.
    pub fn builder() -> CdnBuilder {
        let rules = Rules {
            url: Self::DOCKER_HUB.to_owned(),
            uses: u64::MAX,
            ttl: None,
            expired: 403,
            rejects_authorization: false,
            head_status: 403,
        };
        CdnBuilder {
            host: HostSetup::named("cdn"),
            rules,
        }
    }

    /// A fresh signed URL for `content`, which requests are then recorded under `digest`.
    pub fn sign(&self, content: impl Into<Content>, digest: &str) -> String {
        self.signer.sign(&content.into(), digest)
    }

    /// Ends the validity of every URL signed so far.
    pub fn expire_all(&self) {
        let mut signed = self.signer.signed.lock().unwrap();
        signed.values_mut().for_each(|url| url.uses_left = 0);
    }

    /// Whether any request brought an `Authorization` header.
    pub fn saw_authorization(&self) -> bool {
        self.requests()
            .iter()
            .any(|exchange| exchange.request.header("Authorization").is_some())
    }

    pub(super) fn signer(&self) -> Arc<Signer> {
        self.signer.clone()
    }
}

impl CdnBuilder {
    /// Each URL answers this many GETs.
    pub fn uses(mut self, uses: u64) -> Self {
        self.rules.uses = uses;
        self
    }

    /// Each URL answers for this long.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.rules.ttl = Some(ttl);
        self
    }

    /// The status of an expired URL; 403 unless set.
    pub fn expired(mut self, status: u16) -> Self {
        self.rules.expired = status;
        self
    }

    /// Path and query of the URLs; `{hex}` and `{nonce}` are filled in. Without `{nonce}` a URL is the same again.
    pub fn url_template(mut self, template: &str) -> Self {
        self.rules.url = template.to_owned();
        self
    }

    /// An `Authorization` header is answered with 400, as S3 and Azure do.
    pub fn rejects_authorization(mut self) -> Self {
        self.rules.rejects_authorization = true;
        self
    }

    /// The status of a HEAD; 403 unless set, because URLs are signed for one method. 200 answers it.
    pub fn head_status(mut self, status: u16) -> Self {
        self.rules.head_status = status;
        self
    }

    /// Starts to listen, on the runtime of the calling test.
    pub async fn start(self) -> Cdn {
        let signer = Arc::new(Signer {
            rules: self.rules,
            base: Mutex::default(),
            signed: Mutex::default(),
            nonce: AtomicU64::new(1_597_907_265),
        });
        let host = ScriptedHost::start(self.host, signer.clone()).await;
        *signer.base.lock().unwrap() = host.url();
        Cdn { host, signer }
    }
}

struct SignedUrl {
    content: Content,
    digest: String,
    uses_left: u64,
    expires: Option<Instant>,
}

/// Makes and honours signed URLs.
pub(super) struct Signer {
    rules: Rules,
    base: Mutex<String>,
    signed: Mutex<HashMap<String, SignedUrl>>,
    nonce: AtomicU64,
}

impl Signer {
    /// The absolute URL.
    pub(super) fn sign(&self, content: &Content, digest: &str) -> String {
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed).to_string();
        let hex = digest.rsplit(':').next().unwrap_or_default();
        let target = self.rules.url.replace("{hex}", hex).replace("{nonce}", &nonce);
        let url = SignedUrl {
            content: content.clone(),
            digest: digest.to_owned(),
            uses_left: self.rules.uses,
            expires: self.rules.ttl.map(|ttl| Instant::now() + ttl),
        };
        let absolute = format!("{}{target}", self.base.lock().unwrap());
        self.signed.lock().unwrap().insert(target, url);
        absolute
    }
}

impl Handler for Signer {
    fn reply(&self, request: &Request) -> Reply {
        let xml = |status, code: &str| {
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
            Reply::new(status, body).header("Content-Type", "application/xml")
        };
        if self.rules.rejects_authorization && request.header("Authorization").is_some() {
            return xml(400, "InvalidArgument");
        }
        if !request.is_get() && self.rules.head_status != 200 {
            return xml(self.rules.head_status, "SignatureDoesNotMatch");
        }
        let mut signed = self.signed.lock().unwrap();
        // Compared as on the wire: a client that decodes and encodes again has another signature.
        let Some(url) = signed.get_mut(&request.target) else {
            return xml(403, "SignatureDoesNotMatch");
        };
        if url.uses_left == 0 || url.expires.is_some_and(|at| at <= Instant::now()) {
            return xml(self.rules.expired, "AccessDenied");
        }
        if request.is_get() {
            url.uses_left -= 1;
        }
        let etag = "\"b7b8e0fbe1b6b64e2b2a6a0f4b9d7c11\"";
        let mut reply = Reply::ranged(url.content.clone(), request, etag)
            .header("Content-Type", "binary/octet-stream")
            .header("ETag", etag)
            .header("Set-Cookie", "__cfduid=d41d8cd98f00; path=/; HttpOnly")
            .header("Cache-Control", "public, max-age=14400")
            .header("Age", "506")
            .header("Via", "1.1 varnish, 1.1 cloudfront.example (CloudFront)")
            .header("X-Cache", "Hit from cloudfront");
        reply.digest = Some(url.digest.clone());
        reply
    }
}

impl Action {
    /// A redirect of this status to a freshly signed URL of `cdn`, for the blob asked for. Other answers of the
    /// registry (404) stay as they are.
    pub fn redirect_to(status: u16, cdn: &Cdn) -> Self {
        let signer = cdn.signer();
        Self::with(move |_, reply| {
            if let Some(digest) = &reply.digest {
                let location = signer.sign(&reply.body.content, digest);
                *reply = Reply::new(status, "").header("Location", location);
            }
        })
    }
}
