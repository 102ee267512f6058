//! What the captured clients send, and what a right answer of the cache looks like, header by header.

use std::collections::BTreeMap;

use larder_tests::prelude::*;

/// The header lines of an answer, names in lower case.
pub(super) type Head = BTreeMap<String, String>;

/// docker 19.03 escapes the parentheses with backslashes.
pub(super) const DOCKER_AGENT: &str = r"docker/19.03.12 go/go1.13.10 git-commit/48a66213fe kernel/4.19.84-microsoft-standard os/linux arch/amd64 UpstreamClient(Docker-Client/19.03.12 \(linux\))";

/// What docker 19.03 accepts; it rotates the order from request to request.
pub(super) const DOCKER_ACCEPT: [&str; 6] = [
    "application/json",
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// What the cache must ask for, whatever its client accepts.
pub(super) const ACCEPT_MUST_HAVE: [&str; 4] = [
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
];

/// A node that serves `host` from `up`.
pub(super) async fn node(host: &str, up: &FakeRegistry) -> NodeProcess {
    NodeProcess::start(&MirrorConfig::new().registry(host, up.url())).await
}

/// A GET of `/v2/PATH` as docker 19.03 makes it, six `Accept` lines included.
pub(super) fn docker_get(node: &NodeProcess, path: &str) -> Call {
    let call = Call::get(&format!("{}/v2/{path}", node.url()))
        .header("User-Agent", DOCKER_AGENT)
        .header("Accept-Encoding", "gzip");
    DOCKER_ACCEPT
        .iter()
        .fold(call, |call, accept| call.header("Accept", *accept))
}

/// A GET of `/v2/PATH`.
pub(super) async fn get(node: &NodeProcess, path: &str) -> Answer {
    Call::get(&format!("{}/v2/{path}", node.url())).send().await
}

/// The whole head of an answer but its date. Panics if a header comes twice.
pub(super) fn head_of(answer: &Answer) -> Head {
    let mut head = Head::new();
    for (name, value) in &answer.headers {
        let again = head.insert(name.to_ascii_lowercase(), value.clone());
        assert_eq!(again, None, "{name} comes twice");
    }
    assert!(head.remove("date").is_some(), "an answer has a date");
    head
}

fn head(lines: &[(&str, &str)]) -> Head {
    lines
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The head of a right answer with a manifest, on a connection that the client wants closed.
pub(super) fn manifest_head(media_type: &str, length: usize, digest: &str) -> Head {
    head(&[
        ("connection", "close"),
        ("content-length", &length.to_string()),
        ("content-type", media_type),
        ("docker-content-digest", digest),
        ("docker-distribution-api-version", "registry/2.0"),
        ("etag", &format!("\"{digest}\"")),
    ])
}

/// The head of a right answer with a whole blob, on a connection that the client wants closed.
pub(super) fn blob_head(length: usize, digest: &str) -> Head {
    let mut head = manifest_head("application/octet-stream", length, digest);
    head.insert("accept-ranges".to_owned(), "bytes".to_owned());
    head
}

/// `head` with `OCI-Namespace`, as for a request with `?ns=`.
pub(super) fn of_namespace(mut head: Head, ns: &str) -> Head {
    head.insert("oci-namespace".to_owned(), ns.to_owned());
    head
}

/// `METHOD TARGET` of every request so far.
pub(super) fn lines(host: &ScriptedHost) -> Vec<String> {
    let line = |exchange: &std::sync::Arc<Exchange>| {
        format!("{} {}", exchange.request.method, exchange.request.target)
    };
    host.requests().iter().map(line).collect()
}

/// Asserts that every manifest request accepted all types and nothing encoded.
pub(super) fn assert_full_accept(host: &ScriptedHost) {
    for exchange in host.requests_on(on_any_manifest()) {
        let accept = exchange.request.header_all("Accept").join(", ");
        let accepted: Vec<_> = accept.split(',').map(str::trim).collect();
        for wanted in ACCEPT_MUST_HAVE {
            assert!(accepted.contains(&wanted), "{exchange} accepts only {accept}");
        }
        assert_eq!(exchange.request.header_all("Accept-Encoding"), ["identity"]);
    }
}
