use super::*;
use proptest::prelude::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn is_registry(host: &str) -> bool {
    ["up.test", "127.0.0.1:6000", "[::1]:5000"].contains(&host)
}

fn parsed(path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    parse(path, query, is_registry)
}

fn manifest(repo: &str, reference: &str) -> Resource {
    Resource::Manifest {
        repo: repo.parse().unwrap(),
        reference: reference.parse().unwrap(),
    }
}

fn refused(path: &str) -> (u16, &'static str) {
    let error = parsed(path, None).unwrap_err();
    (
        http::StatusCode::from(error.status()).as_u16(),
        error.code().as_str(),
    )
}

#[test]
fn the_base_has_two_spellings() {
    for path in ["/v2", "/v2/"] {
        let route = parsed(path, None).unwrap();
        assert_eq!(
            (route.registry, route.resource),
            (Selector::Default, Resource::Base)
        );
    }
    assert_eq!(
        parsed("/v2/", Some("ns=up.test")).unwrap().registry,
        Selector::Ns("up.test".into())
    );
}

#[test]
fn ns_wins_and_then_the_path_is_all_repository() {
    let route = parsed("/v2/up.test/app/manifests/v1", Some("x=1&ns=127.0.0.1%3A6000")).unwrap();
    assert_eq!(route.registry, Selector::Ns("127.0.0.1:6000".into()));
    assert_eq!(route.resource, manifest("up.test/app", "v1"));
    let route = parsed("/v2/up.test/app/manifests/v1", Some("ns=&ns2=x")).unwrap();
    assert_eq!(route.registry, Selector::Path("up.test".into()));
    assert_eq!(
        parsed("/v2/a/manifests/v1", Some("ns=%ff")),
        Err(RouteError::Query("ns"))
    );
}

#[test]
fn a_configured_registry_is_split_off_before_the_name_grammar() {
    for host in ["up.test", "127.0.0.1:6000", "[::1]:5000"] {
        let route = parsed(&format!("/v2/{host}/library/app/manifests/v1"), None).unwrap();
        assert_eq!(route.registry, Selector::Path(host.into()));
        assert_eq!(route.written_name, format!("{host}/library/app"));
        assert_eq!(route.resource, manifest("library/app", "v1"));
    }
    let route = parsed("/v2/other.test/app/manifests/v1", None).unwrap();
    assert_eq!(
        (route.registry, route.resource),
        (Selector::Default, manifest("other.test/app", "v1"))
    );
    assert_eq!(
        refused("/v2/other.test:5000/app/manifests/v1"),
        (400, "NAME_INVALID")
    );
    assert_eq!(refused("/v2/up.test/manifests/v1"), (400, "NAME_INVALID"));
}

#[test]
fn names_may_have_segments_called_like_endpoints() {
    for name in [
        "manifests",
        "blobs/manifests",
        "tags/list",
        "a/manifests/b",
        "a/blobs/uploads",
    ] {
        let route = parsed(&format!("/v2/{name}/manifests/{DIGEST}"), None).unwrap();
        assert_eq!(route.resource, manifest(name, DIGEST));
        let route = parsed(&format!("/v2/{name}/tags/list"), None).unwrap();
        assert!(matches!(route.resource, Resource::Tags { repo, .. } if repo.as_str() == name));
    }
}

#[test]
fn lists_keep_what_registries_page_with() {
    let route = parsed(
        "/v2/a/tags/list",
        Some("n=0&ns=up.test&last=v%2B1&next_page=x%3D"),
    )
    .unwrap();
    let expected = Resource::Tags {
        repo: "a".parse().unwrap(),
        n: Some(0),
        last: Some("v+1".into()),
        query: Some("n=0&last=v%2B1&next_page=x%3D".into()),
    };
    assert_eq!(route.resource, expected);
    let path = format!("/v2/a/referrers/{DIGEST}");
    let route = parsed(&path, Some("artifactType=application/vnd.x+json")).unwrap();
    assert!(
        matches!(route.resource, Resource::Referrers { artifact_type: Some(kind), .. }
        if kind == "application/vnd.x+json")
    );
    assert_eq!(
        parsed("/v2/a/tags/list", Some("n=-1")),
        Err(RouteError::Query("n"))
    );
    let route = parsed("/v2/a/tags/list", Some("ns=up.test")).unwrap();
    assert!(matches!(
        route.resource,
        Resource::Tags {
            n: None,
            last: None,
            query: None,
            ..
        }
    ));
}

/// Row C.3 of the protocol notes: malformed is 400 with the fitting code, never 500.
#[test]
fn what_is_malformed_is_refused_with_the_fitting_code() {
    for path in [
        "/v2/a%2Fb/manifests/v1",
        "/v2/a/manifests/%76",
        "/v2//manifests/v1",
        "/v2/a//manifests/v1",
        "/v2//",
        "/v2/a/manifests/",
        "/v2/a/../b/manifests/v1",
        "/v2/./a/manifests/v1",
        "/v2/a\\b/manifests/v1",
        "/v2/é/manifests/v1",
        "/v2/A/manifests/v1",
        "/v2/manifests/v1",
        "/v2/tags/list",
    ] {
        assert_eq!(refused(path), (400, "NAME_INVALID"), "{path}");
    }
    for path in [
        "/v2/a/blobs/:",
        "/v2/a/manifests/sha256:baddigeststring",
        "/v2/a/referrers/x",
    ] {
        assert_eq!(refused(path), (400, "DIGEST_INVALID"), "{path}");
    }
    assert_eq!(refused("/v2/a/manifests/-x"), (400, "MANIFEST_INVALID"));
    assert_eq!(
        refused(&format!("/v2/a/manifests/{}", "x".repeat(129))),
        (400, "MANIFEST_INVALID")
    );
}

#[test]
fn everything_else_does_not_exist() {
    for path in [
        "",
        "/",
        "/v1/_ping",
        "/v2x/",
        "//v2/",
        "/v2/_catalog",
        "/v2/a",
        "/v2/a/b/c",
        "/v2/a/tags/x",
        "/v2/a/blobs/uploads",
        "/v2/a/blobs/uploads/",
        "/v2/a/blobs/uploads/1-2",
        "/livez",
    ] {
        assert_eq!(refused(path), (404, "UNSUPPORTED"), "{path:?}");
    }
}

proptest! {
    #[test]
    fn never_panics(path: String, query: Option<String>) {
        let _ = parsed(&path, query.as_deref());
        let _ = parsed(&format!("/v2/{path}"), query.as_deref());
        let _ = parsed(&format!("/v2/{path}/tags/list"), query.as_deref());
    }

    #[test]
    fn what_is_accepted_reads_back_to_the_same_path(
        host in "(up\\.test/|127\\.0\\.0\\.1:6000/|\\[::1\\]:5000/|other/)?",
        name in "[a-z0-9./%\\\\-]{0,12}",
        endpoint in "(manifests/[a-z0-9:._-]{0,9}|tags/list|blobs/uploads)",
    ) {
        let path = format!("/v2/{host}{name}/{endpoint}");
        if let Ok(route) = parsed(&path, None) {
            prop_assert_eq!(format!("/v2/{}/{endpoint}", route.written_name), path);
            let (Resource::Manifest { repo, .. } | Resource::Tags { repo, .. }) = route.resource else {
                return Err(TestCaseError::fail("another endpoint than asked for"));
            };
            let prefix = match route.registry {
                Selector::Path(host) => format!("{host}/"),
                _ => String::new(),
            };
            prop_assert_eq!(format!("{prefix}{repo}"), route.written_name);
        }
    }
}
