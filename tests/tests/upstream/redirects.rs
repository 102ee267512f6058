//! D.1, D.4 to D.9: redirects to CDNs and object stores: followed by hand, verbatim, without credentials, never kept.

use larder_tests::prelude::*;

use super::support::*;

const BLOB_BYTES: usize = 300_000;

/// A registry that wants `jane`'s token, and a node that has her password.
async fn private_registry() -> (TokenServer, FakeRegistry, InProcessNode) {
    let tokens = TokenServer::builder()
        .no_anonymous()
        .user("jane", "secret", &["*"])
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let node = node(with_secret(&up)).await;
    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "secret");
    (tokens, up, node)
}

/// D.1 (whatever Location says), D.7, D.8, D.9: signed URLs arrive byte for byte as they were signed, by any redirect
/// status, and no credential or cookie arrives with them; on the registry's own address but another port neither.
#[tokio::test]
async fn d1_d7_d8_d9_signed_urls_go_out_verbatim_and_without_credentials() {
    let (_tokens, up, node) = private_registry().await;
    for (address, template, status) in [
        ("127.0.0.2", Cdn::DOCKER_HUB, 307),
        ("127.0.0.2", Cdn::ALIYUN, 302),
        ("127.0.0.2", Cdn::GCS, 301),
        ("127.0.0.2", Cdn::CLOUDFRONT, 303),
        ("127.0.0.1", Cdn::CLOUDFRONT, 308),
        (
            "127.0.0.2",
            "/a%2Fb//c:{hex}?q=%7e~()*!&x=[1]&y={nonce}&z=a+b%20c;d=e,f&&=",
            307,
        ),
    ] {
        let cdn = Cdn::builder()
            .bind(address)
            .url_template(template)
            .rejects_authorization()
            .start()
            .await;
        up.redirect_blobs(status, &cdn);
        let digest = up.add_blob(REPO, random(BLOB_BYTES));
        let answer = blob(&node, &digest).await;
        answer.assert_whole(&digest);
        assert!(!cdn.saw_authorization(), "{template}");
        for exchange in cdn.requests() {
            assert_eq!(exchange.request.header("Cookie"), None);
            assert_eq!(exchange.request.header("Referer"), None);
        }
        for name in ["Location", "Set-Cookie", "X-Cache", "Via", "Age"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
    assert!(authorizations(&up).len() >= 6);
}

/// D.4: Artifact Registry's relative `Location`, with its own host's escapes.
#[tokio::test]
async fn d4_a_relative_location_is_on_the_same_host() {
    let up = FakeRegistry::builder().start().await;
    let content = random(BLOB_BYTES);
    let digest = up.add_blob(REPO, content.clone());
    up.script(
        on_blob(&digest),
        Action::redirect(302, "/artifacts-downloads/n%2Fx?sig=a%2Bb~"),
    );
    up.script(
        on_path("/artifacts-downloads/n%2Fx"),
        Action::respond(200, content),
    );
    let node = node(at(&up)).await;
    blob(&node, &digest).await.assert_whole(&digest);
    let last = up.requests().pop().unwrap();
    assert_eq!(last.request.target, "/artifacts-downloads/n%2Fx?sig=a%2Bb~");
}

/// D.5, A33: a signed URL that has expired is replaced by asking the registry again, whatever the store calls it.
#[tokio::test]
async fn d5_an_expired_redirect_is_asked_for_again() {
    for status in [400, 401, 403, 404, 410, 416] {
        let (_tokens, up, node) = private_registry().await;
        let cdn = Cdn::builder().bind("127.0.0.2").expired(status).start().await;
        let content = random(BLOB_BYTES);
        let digest = up.add_blob(REPO, content.clone());
        let expired = cdn.sign(content, &digest);
        cdn.expire_all();
        up.script(on_blob(&digest).once(), Action::redirect(307, expired));
        up.redirect_blobs(307, &cdn);
        blob(&node, &digest).await.assert_whole(&digest);
        assert_eq!(cdn.requests().len(), 2, "{status}");
    }
}

/// D.5: a signed URL that expires in the middle of a blob: the rest comes by another one, and no byte twice.
#[tokio::test]
async fn d5_a_redirect_that_expires_midway_is_asked_for_again() {
    let (_tokens, up, node) = private_registry().await;
    let cdn = Cdn::builder().bind("127.0.0.2").uses(1).start().await;
    up.redirect_blobs(307, &cdn);
    let digest = up.add_blob(REPO, random(3 << 20));
    cdn.script(on_any().times(2), Action::cut_fin(1 << 20));
    blob(&node, &digest).await.assert_whole(&digest);
    assert_eq!(cdn.count(on_any().ranged()), 2);
    assert_eq!(cdn.body_bytes_sent(&digest), 3 << 20);
}

/// D.5, A33: a store that refuses for good is no proof of absence.
#[tokio::test]
async fn d5_a_store_that_refuses_is_a_bad_gateway() {
    for status in [400, 401, 403, 404, 410] {
        let (_tokens, up, node) = private_registry().await;
        let cdn = Cdn::builder()
            .bind("127.0.0.2")
            .uses(0)
            .expired(status)
            .start()
            .await;
        up.redirect_blobs(307, &cdn);
        let digest = up.add_blob(REPO, random(BLOB_BYTES));
        let answer = blob(&node, &digest).await;
        assert_eq!((answer.status, answer.end), (502, End::Complete), "{status}");
        assert_eq!(answer.header("Location"), None);
    }
}

/// D.6: where a redirect leads depends on who asks and when, so none is kept: not one that is called permanent, nor one that
/// may be cached for a year (D.3).
#[tokio::test]
async fn d6_no_redirect_is_kept() {
    let up = FakeRegistry::builder().start().await;
    let near = Cdn::builder().start().await;
    let far = Cdn::builder().bind("127.0.0.2").start().await;
    let node = node(at(&up)).await;
    up.script(on_any_blob(), Action::header("Cache-Control", "max-age=31536000"));
    for (cdn, status, seen) in [(&near, 301, 1), (&far, 308, 1), (&near, 302, 2)] {
        up.redirect_blobs(status, cdn);
        let digest = up.add_blob(REPO, random(1000));
        blob(&node, &digest).await.assert_whole(&digest);
        assert_eq!(cdn.requests().len(), seen);
    }
    assert_eq!(up.count(on_any_blob()), 3);
}

/// D.5, D.9: URLs are signed for GET, so a HEAD that is redirected is answered without asking the store by HEAD.
#[tokio::test]
async fn d5_d9_a_head_never_goes_to_a_signed_url() {
    let (_tokens, up, node) = private_registry().await;
    let cdn = Cdn::builder().bind("127.0.0.2").start().await;
    up.redirect_blobs(307, &cdn);
    up.script(on_any_blob().head(), Action::redirect_to(307, &cdn));
    let digest = up.add_blob(REPO, random(BLOB_BYTES));
    let head = head_blob(&node, &digest).await;
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some("300000"))
    );
    assert_eq!(cdn.count(on_any().head()), 0);
    assert!(cdn.body_bytes_sent(&digest) <= 1, "the length alone was wanted");
    blob(&node, &digest).await.assert_whole(&digest);
}

/// D.7: public.ecr.aws answers a blob's HEAD with 401 even to a good token, or hangs up; D.5: 403. GET works.
#[tokio::test]
async fn d5_d7_a_refused_head_of_a_blob_says_nothing_about_it() {
    for action in [
        Action::status(401),
        Action::challenge(&[r#"Bearer realm="http://127.0.0.1:9/token""#]),
        Action::status(403),
        Action::status(405),
        Action::hangup_fin(),
    ] {
        let (_tokens, up, node) = private_registry().await;
        up.script(on_any_blob().head(), action);
        let digest = up.add_blob(REPO, random(BLOB_BYTES));
        let head = head_blob(&node, &digest).await;
        assert_eq!(
            (head.status, head.header("Content-Length")),
            (200, Some("300000"))
        );
        blob(&node, &digest).await.assert_whole(&digest);
    }
}

/// D.4 and D.7 by way of E: addresses that a redirect must not lead to: link-local and metadata, private, special ones.
#[tokio::test]
async fn d7_redirects_to_private_addresses_are_refused() {
    for location in [
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/latest/meta-data/",
        "http://10.0.0.1/x",
        "http://192.168.1.1/x",
        "http://[fd00:ec2::254]/x",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/x",
        "http://0xa9.0xfe.0xa9.0xfe/x",
    ] {
        let up = FakeRegistry::builder().start().await;
        let digest = up.add_blob(REPO, random(1000));
        up.script(on_any_blob(), Action::redirect(307, location));
        let node = node(at(&up)).await;
        assert_eq!(blob(&node, &digest).await.status, 502, "{location}");
        let metrics = metrics(&node).await;
        assert!(metrics.contains(r#"outcome="blocked""#), "{location}\n{metrics}");
        assert_eq!(up.requests().len(), 1, "{location}: asking again cannot help");
    }
}

/// The same for a realm that a challenge names.
#[tokio::test]
async fn d2_realms_at_private_addresses_are_refused() {
    let up = FakeRegistry::builder().start().await;
    push_image(&up);
    up.script(
        on_any(),
        Action::challenge(&[r#"Bearer realm="http://169.254.169.254/token""#]),
    );
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 502);
    let metrics = metrics(&node).await;
    assert!(metrics.contains(r#"outcome="blocked""#), "{metrics}");
}

/// An address that must not be led to is reached when the administrator names it. (0.0.0.0 is one, and leads here.)
#[tokio::test]
async fn d7_a_trusted_redirect_is_followed() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder().start().await;
    for (trust, expected) in [(None, 502), (Some("0.0.0.0/32"), 200)] {
        let content = random(1000);
        let digest = up.add_blob(REPO, content.clone());
        let location = cdn.sign(content, &digest).replace("127.0.0.1", "0.0.0.0");
        up.script(on_blob(&digest), Action::redirect(307, location));
        let endpoint = Endpoint::new(up.url());
        let node = node(match trust {
            Some(pattern) => endpoint.trust_redirect(pattern),
            None => endpoint,
        })
        .await;
        assert_eq!(blob(&node, &digest).await.status, expected);
        assert_eq!(cdn.requests().len(), usize::from(expected == 200));
    }
}

/// Redirects without end, or to nowhere, end soon.
#[tokio::test]
async fn d6_redirects_without_end_end() {
    for location in ["", "/v2/acme/app/manifests/v1", "ftp://127.0.0.1/x", "http://"] {
        let up = FakeRegistry::builder().start().await;
        push_image(&up);
        up.script(on_any_manifest(), Action::redirect(307, location));
        let node = node(at(&up)).await;
        let answer = manifest(&node, "v1").await;
        assert_eq!(answer.status, 502, "{location:?}");
        assert!(up.requests().len() <= 18, "{location:?}: {}", up.requests().len());
    }
}
