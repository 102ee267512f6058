//! A request as it was on the wire, and what a registry would make of it.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

/// One request, nothing normalised.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, for example `GET`.
    pub method: String,
    /// Path and query exactly as on the wire.
    pub target: String,
    /// Header lines in their order and spelling (HTTP/2: lower case; `:authority` shows as `host`).
    pub headers: Vec<(String, String)>,
    /// The request's body.
    pub body: Bytes,
    /// When the request had been read.
    pub at: Instant,
    /// Number of the connection, counted from 1 per host.
    pub connection: u64,
    /// Where the connection came from.
    pub peer: IpAddr,
    /// Whether it came over HTTP/2.
    pub http2: bool,
}

/// What a target asks for, in a registry's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/v2/`
    Ping,
    /// `/v2/<repo>/manifests/<reference>`
    Manifest {
        /// Repository name.
        repo: String,
        /// Tag or digest.
        reference: String,
    },
    /// `/v2/<repo>/blobs/<digest>`
    Blob {
        /// Repository name.
        repo: String,
        /// Digest as asked for.
        digest: String,
    },
    /// `/v2/<repo>/tags/list`
    Tags {
        /// Repository name.
        repo: String,
    },
    /// `/v2/<repo>/referrers/<digest>`
    Referrers {
        /// Repository name.
        repo: String,
        /// Digest of the subject.
        digest: String,
    },
    /// Anything else: a token endpoint, a signed URL, nonsense.
    Other,
}

impl Request {
    /// The raw path, without the query.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The raw query, without `?`; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first value of a query parameter, decoded.
    pub fn query_param(&self, name: &str) -> Option<String> {
        form_values(self.query(), name).into_iter().next()
    }

    /// All values of a header, in order. Names are compared without regard to case.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_all(name).first().copied()
    }

    /// Whether this is a GET.
    pub fn is_get(&self) -> bool {
        self.method == "GET"
    }

    /// Whether this is a HEAD.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// What the request asks for.
    pub fn kind(&self) -> Kind {
        let path = self.path();
        let Some(rest) = path.strip_prefix("/v2/") else {
            return if path == "/v2" { Kind::Ping } else { Kind::Other };
        };
        if rest.is_empty() {
            return Kind::Ping;
        }
        if let Some(repo) = rest.strip_suffix("/tags/list") {
            return Kind::Tags { repo: repo.into() };
        }
        let Some((head, last)) = rest.rsplit_once('/') else {
            return Kind::Other;
        };
        let Some((repo, what)) = head.rsplit_once('/') else {
            return Kind::Other;
        };
        let (repo, last) = (repo.to_owned(), last.replace("%3A", ":").replace("%3a", ":"));
        match what {
            "manifests" => Kind::Manifest {
                repo,
                reference: last,
            },
            "blobs" => Kind::Blob { repo, digest: last },
            "referrers" => Kind::Referrers { repo, digest: last },
            _ => Kind::Other,
        }
    }

    /// The repository the request names, if any.
    pub fn repo(&self) -> Option<String> {
        match self.kind() {
            Kind::Manifest { repo, .. }
            | Kind::Blob { repo, .. }
            | Kind::Tags { repo }
            | Kind::Referrers { repo, .. } => Some(repo),
            Kind::Ping | Kind::Other => None,
        }
    }
}

/// All values of `name` in a query string or a form body, decoded.
pub(crate) fn form_values(form: &str, name: &str) -> Vec<String> {
    let pairs = form
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .filter(|(key, _)| decode(key) == name)
        .map(|(_, value)| decode(value))
        .collect()
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8_lossy()
        .into_owned()
}
