//! Request targets: what parses means exactly the path that was written.
#![no_main]

use cache_node::http::route::{Resource, Route, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &str| {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let is_registry = |host: &str| host == "docker.io" || host.contains(':');
    let Ok(Route {
        written_name,
        resource,
        ..
    }) = parse(path, query, is_registry)
    else {
        return;
    };
    let (repo, endpoint) = match resource {
        Resource::Base => return assert!(matches!(path, "/v2" | "/v2/"), "{path}"),
        Resource::Manifest { repo, reference } => (repo, format!("manifests/{reference}")),
        Resource::Blob { repo, digest } => (repo, format!("blobs/{digest}")),
        Resource::Tags { repo, .. } => (repo, "tags/list".to_owned()),
        Resource::Referrers { repo, digest, .. } => (repo, format!("referrers/{digest}")),
    };
    assert_eq!(path, format!("/v2/{written_name}/{endpoint}"));
    let before = written_name
        .strip_suffix(repo.as_str())
        .expect("the repository is what the client wrote");
    assert!(
        before.is_empty() || (before.ends_with('/') && is_registry(&before[..before.len() - 1])),
        "{before}"
    );
});
