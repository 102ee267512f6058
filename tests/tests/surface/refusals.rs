//! B.0 rows 03–11 and 30, C.1 errors, E11: what a client is told when upstream fails, for every kind of object. Never a
//! challenge, never a redirect, never 500, and within 25 s.

use std::time::Duration;

use larder_tests::prelude::*;

use crate::support::*;

/// One kind of object: its URL on a node, and the codes for absent and malformed.
struct Object {
    url: String,
    absent: &'static str,
    malformed: &'static str,
}

fn objects(node: &InProcessNode, digest: &str) -> Vec<Object> {
    let object = |url, absent, malformed| Object {
        url,
        absent,
        malformed,
    };
    vec![
        object(manifest_url(node, "v1"), "MANIFEST_UNKNOWN", "MANIFEST_INVALID"),
        object(manifest_url(node, digest), "MANIFEST_UNKNOWN", "MANIFEST_INVALID"),
        object(blob_url(node, digest), "BLOB_UNKNOWN", "DIGEST_INVALID"),
        object(listing_url(node, "tags/list"), "NAME_UNKNOWN", "MANIFEST_INVALID"),
        object(
            listing_url(node, &format!("referrers/{digest}")),
            "NAME_UNKNOWN",
            "MANIFEST_INVALID",
        ),
    ]
}

/// What a client is told when upstream does `action` to everything; `code` says it for one kind of object.
async fn assert_all(action: Action, status: u16, code: impl Fn(&Object) -> &'static str) {
    let up = FakeRegistry::builder().start().await;
    let node = InProcessNode::start(&mirror(&up), impatient()).await;
    image().push_to(&up, REPO, "v1");
    up.script(on_any(), action);
    for object in objects(&node, &sha256(b"digest")) {
        for method in ["HEAD", "GET"] {
            let answer = Call::new(method, &object.url).send().await;
            assert_refusal(&answer, status, code(&object), method == "HEAD");
            assert!(answer.head_after.is_some_and(|after| after < ANSWER_MAX));
            assert_eq!(answer.header("Retry-After").is_some(), status == 429);
        }
    }
}

/// 03, 08, 11, 30: upstream's status and ours.
#[tokio::test]
async fn b03_b08_b11_b30_statuses() {
    for (upstream, status) in [(500, 502), (502, 502), (503, 502), (504, 504), (408, 504)] {
        assert_all(Action::status(upstream), status, |_| "UNAVAILABLE").await;
    }
    assert_all(Action::status(400), 400, |object| object.malformed).await;
    assert_all(Action::status(401), 404, |_| "NAME_UNKNOWN").await;
    assert_all(Action::status(403), 403, |_| "DENIED").await;
    assert_all(Action::status(404), 404, |object| object.absent).await;
    assert_all(Action::status(410), 404, |object| object.absent).await;
    assert_all(Action::status(429), 429, |_| "TOOMANYREQUESTS").await;
}

/// 11, 30: upstreams that do not even answer.
#[tokio::test]
async fn b11_b30_broken_upstreams() {
    for action in [
        Action::hangup_fin(),
        Action::hangup_rst(),
        Action::raw("SSH-2.0-OpenSSH_9.2\r\n"),
        Action::raw("HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n"),
        Action::respond(204, ""),
        Action::redirect(307, "http://127.0.0.1:1/nobody"),
    ] {
        assert_all(action, 502, |_| "UNAVAILABLE").await;
    }
}

/// 11, 47: an upstream that hangs.
#[tokio::test]
async fn b11_b47_a_silent_upstream_is_504() {
    assert_all(Action::hang(), 504, |_| "UNAVAILABLE").await;
}

/// 11: an upstream that refuses connections, and one that does not speak TLS.
#[tokio::test]
async fn b11_an_unreachable_upstream_is_502() {
    let no_tls = FakeRegistry::builder().start().await;
    let closed = FakeRegistry::builder().start().await;
    closed.close();
    for url in [closed.url(), no_tls.url().replace("http://", "https://")] {
        let mirror = MirrorConfig::new().registry("up.test", url);
        let node = InProcessNode::start(&mirror, impatient()).await;
        for object in objects(&node, &sha256(b"digest")) {
            for method in ["HEAD", "GET"] {
                let answer = Call::new(method, &object.url).send().await;
                assert_refusal(&answer, 502, "UNAVAILABLE", method == "HEAD");
            }
        }
    }
}

/// 03, 04, 06, 07: a challenge of upstream's is ours to answer, and never shown to a client, which would answer it with
/// its user's credentials.
#[tokio::test]
async fn b03_b04_b07_no_challenge_reaches_a_client() {
    let refusing = TokenServer::builder().no_anonymous().start().await;
    let bearer = format!("Bearer realm=\"{}\",service=\"s\"", refusing.realm());
    let gone = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"s\"";
    for lines in [
        &[][..],
        &["Basic realm=\"registry\""],
        &[bearer.as_str()],
        &[gone],
        &["Digest realm=\"r\""],
        &["nonsense"],
    ] {
        let (up, node) = pair().await;
        image().push_to(&up, REPO, "v1");
        up.script(on_any(), Action::challenge(lines));
        for object in objects(&node, &sha256(b"digest")) {
            for method in ["HEAD", "GET"] {
                let answer = Call::new(method, &object.url).send().await;
                let status = answer.status;
                assert!([403, 404, 502, 504].contains(&status), "{lines:?}: {status}");
                assert_eq!(answer.header("WWW-Authenticate"), None);
                assert_refusal(&answer, status, &code_of(&answer), method == "HEAD");
            }
        }
    }
}

fn code_of(answer: &Answer) -> String {
    if answer.body.is_empty() {
        String::new()
    } else {
        answer.error_code()
    }
}

/// 06: a token for everybody is fetched here, and the client knows nothing of it.
#[tokio::test]
async fn b06_tokens_are_our_own_business() {
    let tokens = TokenServer::builder().start().await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let node = node(&up).await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    assert_eq!(
        Call::get(&manifest_url(&node, "v1")).send().await.body,
        image.manifest
    );
    for (digest, _) in image.blobs() {
        assert_whole(&node, &digest).await;
    }
    assert_eq!(tokens.count(on_any()), 1);
}

/// 10: upstream's 429 is passed on with its pause, and upstream is left alone for that long.
#[tokio::test]
async fn b10_a_limit_is_passed_on_and_kept_to() {
    let cases = [
        (Action::rate_limited(7), 6..=7),
        (Action::rate_limited_until(Duration::from_secs(100)), 95..=100),
        (Action::status(429), 1..=60),
        (Action::error(503, "TOOMANYREQUESTS", "slow down"), 1..=60),
    ];
    for (action, pause) in cases {
        for on_blobs in [false, true] {
            let (up, node) = pair().await;
            image().push_to(&up, REPO, "v1");
            let rule = up.script(on_any(), action.clone());
            let blob = blob_url(&node, &sha256(b"digest"));
            let url = if on_blobs { blob } else { manifest_url(&node, "v1") };
            for method in ["GET", "HEAD", "GET"] {
                let answer = Call::new(method, &url).send().await;
                assert_refusal(&answer, 429, "TOOMANYREQUESTS", method == "HEAD");
                let after = answer.header("Retry-After").expect("a pause");
                let after: u64 = after.parse().expect("in seconds");
                assert!(pause.contains(&after), "{after}");
            }
            assert_eq!(rule.acted(), 1, "upstream is asked no more");
        }
    }
}

/// 10: a limit on manifests says nothing of blobs, nor the other way round; what is here is served whatever upstream says.
#[tokio::test]
async fn b10_a_limit_stops_nothing_that_is_here() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
    assert_whole(&node, &image.config_digest).await;
    up.script(on_any_manifest(), Action::rate_limited(100));
    assert_eq!(Call::get(&manifest_url(&node, "v2")).send().await.status, 429);
    assert_eq!(
        Call::get(&manifest_url(&node, "v1")).send().await.body,
        image.manifest
    );
    assert_whole(&node, &image.layers[0].digest).await;
    up.script(on_any(), Action::rate_limited(100));
    assert_eq!(
        Call::get(&blob_url(&node, &image.layers[1].digest))
            .send()
            .await
            .status,
        429
    );
    assert_whole(&node, &image.layers[0].digest).await;
}

/// 30: a redirect's target that refuses knows nothing of what there is: that is no 403 or 404 of the registry's.
#[tokio::test]
async fn b30_a_cdn_s_refusal_is_not_the_registry_s() {
    for status in [400, 401, 403, 404, 410] {
        let (up, node) = pair().await;
        let cdn = Cdn::builder().start().await;
        up.redirect_blobs(307, &cdn);
        let blob = up.add_blob(REPO, random(2000));
        let rule = cdn.script(on_any(), Action::status(status));
        let answer = Call::get(&blob_url(&node, &blob)).send().await;
        assert_refusal(&answer, 502, "UNAVAILABLE", false);
        assert!(rule.acted() > 1, "the redirect was asked for again");
        cdn.clear_script();
        assert_whole(&node, &blob).await;
    }
}
