//! C.1 and rule 9 of protocol.md, section 0: nothing of upstream's answer but what the specification names
//! reaches a client, and nothing of a client reaches upstream.

use larder_tests::prelude::*;

use crate::support::*;

/// Every header that an answer of ours may have.
const OURS: [&str; 16] = [
    "accept-ranges",
    "allow",
    "connection",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "docker-content-digest",
    "docker-distribution-api-version",
    "etag",
    "link",
    "oci-filters-applied",
    "oci-namespace",
    "retry-after",
    "transfer-encoding",
    "warning",
];

/// What registries and CDNs add.
const FOREIGN: [(&str, &str); 12] = [
    ("Set-Cookie", "session=secret"),
    ("Age", "506"),
    ("Via", "1.1 varnish"),
    ("Server", "nginx/1.2"),
    ("X-Cache", "HIT"),
    ("X-Amz-Request-Id", "0123"),
    ("CF-Ray", "0123"),
    ("Cache-Control", "public, max-age=99"),
    ("Expires", "Thu, 01 Jan 2032 00:00:00 GMT"),
    ("Last-Modified", "Sat, 29 Oct 1994 19:43:31 GMT"),
    ("Strict-Transport-Security", "max-age=31536000"),
    ("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/token\""),
];

fn polluted() -> Action {
    let headers = FOREIGN.iter();
    headers.fold(Action::pass(), |action, (name, value)| {
        action.and(Action::set_header(*name, *value))
    })
}

fn assert_ours(answer: &Answer, what: &str) {
    for (name, value) in &answer.headers {
        let lower = name.to_ascii_lowercase();
        assert!(OURS.contains(&lower.as_str()), "{what}: {name}: {value}");
        assert_eq!(answer.header_all(name).len(), 1, "{what}: {name} is sent once");
    }
}

/// C.1: upstream's headers end here, on every kind of answer; the types have no parameters.
#[tokio::test]
async fn c1_no_header_of_upstream_s_leaks() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(
        on_path(format!("/v2/{REPO}/manifests/absent")),
        Action::status(404).and(polluted()),
    );
    up.script(
        on_path(format!("/v2/{REPO}/manifests/denied")),
        Action::status(403).and(polluted()),
    );
    up.script(on_any(), polluted());
    let referrers = format!("referrers/{}", image.digest);
    for url in [
        manifest_url(&node, "v1"),
        manifest_url(&node, &image.digest),
        manifest_url(&node, "absent"),
        manifest_url(&node, "denied"),
        blob_url(&node, &image.layers[0].digest),
        blob_url(&node, &image.layers[1].digest),
        listing_url(&node, "tags/list"),
        listing_url(&node, &referrers),
    ] {
        for call in [
            Call::head(&url),
            Call::get(&url),
            Call::get(&url),
            Call::get(&url).range("0-9"),
        ] {
            let answer = call.send().await;
            assert_ours(&answer, &url);
            let content_type = answer.header("Content-Type").expect("a type");
            assert!(!content_type.contains(';'), "{url}: {content_type}");
        }
    }
}

/// C.1: nor does anything of a CDN behind it, which no client is ever sent to.
#[tokio::test]
async fn c1_no_header_of_a_cdn_leaks() {
    let (up, node) = pair().await;
    let cdn = Cdn::builder()
        .bind("127.0.0.2")
        .rejects_authorization()
        .start()
        .await;
    cdn.script(on_any(), polluted());
    up.redirect_blobs(307, &cdn);
    for size in [2000, STREAMED] {
        let blob = up.add_blob(REPO, random(size));
        let answer = Call::get(&blob_url(&node, &blob)).send().await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(answer.digest, blob);
        assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
        assert_ours(&answer, "a blob of a CDN");
    }
}

/// C.1: never compressed, whatever the client offers.
#[tokio::test]
async fn c1_never_compressed() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let text = up.add_blob(REPO, "a".repeat(100_000));
    for url in [
        manifest_url(&node, "v1"),
        blob_url(&node, &text),
        listing_url(&node, "tags/list"),
        format!("{}/v2/", node.url()),
    ] {
        for _ in 0..2 {
            let call = Call::get(&url).header("Accept-Encoding", "gzip, deflate, br, zstd");
            let answer = call.send().await;
            assert_eq!((answer.status, answer.end), (200, End::Complete));
            assert_eq!(answer.header("Content-Encoding"), None);
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("Content-Length"), Some(length.as_str()));
        }
    }
}

/// B.0 05, rule 9: a client's credentials and cookies, its `ns` and its other headers go nowhere.
#[tokio::test]
async fn client_credentials_go_nowhere() {
    let (up, node) = pair().await;
    let cdn = Cdn::builder().bind("127.0.0.2").start().await;
    up.redirect_blobs(307, &cdn);
    let image = image();
    image.push_to(&up, REPO, "v1");
    let referrers = format!("referrers/{}", image.digest);
    for url in [
        manifest_url(&node, "v1"),
        blob_url(&node, &image.layers[0].digest),
        listing_url(&node, "tags/list"),
        listing_url(&node, &referrers),
    ] {
        for method in ["HEAD", "GET"] {
            let call = Call::new(method, &url)
                .header("Authorization", "Basic c2VjcmV0OnNlY3JldA==")
                .header("Proxy-Authorization", "Basic c2VjcmV0OnNlY3JldA==")
                .header("Cookie", "session=secret")
                .header("X-Forwarded-For", "10.0.0.1")
                .header("Referer", "http://secret.test/")
                .header("User-Agent", "secret-agent/1.0");
            assert_eq!(call.send().await.status, 200);
        }
    }
    let exchanges: Vec<_> = up.requests().into_iter().chain(cdn.requests()).collect();
    assert!(exchanges.len() > 4);
    for exchange in exchanges {
        let request = &exchange.request;
        assert_eq!(request.query_param("ns"), None);
        for (name, value) in &request.headers {
            assert!(!value.to_ascii_lowercase().contains("secret"), "{name}: {value}");
            assert!(!value.contains("c2VjcmV0"), "{name}: {value}");
        }
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "Referer",
            "X-Forwarded-For",
        ] {
            assert_eq!(request.header(name), None);
        }
    }
}

/// C.1: upstream's warnings are relayed.
#[tokio::test]
async fn c1_warnings_are_relayed() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let warning = "299 - \"this image is deprecated\"";
    up.script(on_any(), Action::header("Warning", warning));
    for url in [manifest_url(&node, "v1"), listing_url(&node, "tags/list")] {
        let answer = Call::get(&url).send().await;
        assert_eq!((answer.status, answer.header("Warning")), (200, Some(warning)));
    }
    let digest = image.digest.clone();
    let other = FakeRegistry::builder().start().await;
    image.push_to(&other, REPO, "v1");
    other.script(on_any(), Action::header("Warning", warning));
    let node = crate::support::node(&other).await;
    let by_digest = Call::get(&manifest_url(&node, &digest)).send().await;
    assert_eq!(by_digest.header("Warning"), Some(warning), "by digest too");
}
