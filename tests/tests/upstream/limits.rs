//! D.1: rate limits in every shape, and what still works while they last.

use std::time::Duration;

use larder_tests::prelude::*;
use larder_tests::scripted::Reply;

use super::support::*;

const UPGRADE: &str = "You have reached your pull rate limit. You may increase the limit by authenticating and \
    upgrading: https://www.docker.com/increase-rate-limit";

/// What Docker Hub and what stands before it have been seen to answer.
fn shapes() -> Vec<Reply> {
    let html =
        "<!DOCTYPE html><html><head><title>Access denied | Cloudflare</title></head><body>1015</body></html>";
    let json = |body: String| Reply::new(429, body).header("Content-Type", "application/json");
    vec![
        Reply::error(429, "TOOMANYREQUESTS", UPGRADE),
        json(format!(r#"{{"message":"toomanyrequests: {UPGRADE}"}}"#)),
        json(format!("toomanyrequests: {UPGRADE}")),
        Reply::new(429, "Too Many Requests (HAP429).\n").header("Content-Type", "text/plain"),
        Reply::new(429, "Too Many Requests"),
        Reply::new(429, html).header("Content-Type", "text/html; charset=UTF-8"),
        Reply::new(429, ""),
        Reply::new(429, "x").header("Retry-After", "soon"),
        Reply::error(403, "toomanyrequests", UPGRADE),
        Reply::error(503, "TOOMANYREQUESTS", UPGRADE),
    ]
}

/// What `Retry-After` says; 0 where it says nothing, which no test takes for an answer.
fn seconds(answer: &Answer) -> u64 {
    let value = answer.header("Retry-After");
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// D.1: with or without `Retry-After`, whatever the body: a cold pull is 429 with `Retry-After`, and upstream is left in
/// peace, because retrying may prolong it (hub-feedback #2197).
#[tokio::test]
async fn d1_a_limit_of_any_shape_is_a_429_and_is_not_hammered() {
    for reply in shapes() {
        let up = FakeRegistry::builder().start().await;
        push_image(&up);
        let shape = format!("{} {:?} {:?}", reply.status, reply.headers, reply.body);
        up.script(on_any(), Action::reply(reply));
        let node = node(at(&up)).await;
        for reference in ["v1", "v1", "v2", &sha256(b"x")] {
            let answer = manifest(&node, reference).await;
            assert_eq!(answer.status, 429, "{shape}: {}", answer.text());
            assert_eq!(answer.error_code(), "TOOMANYREQUESTS", "{shape}");
            assert!((1..=600).contains(&seconds(&answer)), "{shape}");
        }
        assert_eq!(up.requests().len(), 1, "{shape}");
    }
}

/// D.1: `Retry-After` in seconds or as a date is passed on, counted down.
#[tokio::test]
async fn d1_retry_after_is_passed_on() {
    for action in [
        Action::rate_limited(120),
        Action::rate_limited_until(Duration::from_secs(120)),
    ] {
        let up = FakeRegistry::builder().start().await;
        up.script(on_any(), action);
        let node = node(at(&up)).await;
        for _ in 0..2 {
            let answer = manifest(&node, "v1").await;
            assert!((90..=120).contains(&seconds(&answer)), "{}", seconds(&answer));
        }
    }
}

/// D.1: the abuse limit answers even token requests so.
#[tokio::test]
async fn d1_a_limited_token_server_is_a_429_too() {
    let tokens = TokenServer::builder().start().await;
    tokens.script(on_any(), Action::respond(429, "Too Many Requests (HAP429)"));
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    push_image(&up);
    let node = node(at(&up)).await;
    for _ in 0..3 {
        let answer = manifest(&node, "v1").await;
        assert_eq!((answer.status, seconds(&answer) > 0), (429, true));
    }
    assert_eq!(tokens.requests().len(), 1);
}

/// D.1 (harbor #18707, rpardini #54): what is here is served while upstream limits: tags stale and marked as such,
/// manifests by digest, blobs; and a limit on manifests does not hold back blobs, which the Hub does not count.
#[tokio::test]
async fn d1_what_is_here_is_served_while_upstream_limits() {
    // A tag is asked for by HEAD, whose answer has no body that could say what a 403 is about.
    for reply in shapes().into_iter().filter(|reply| reply.status == 429) {
        let up = FakeRegistry::builder().start().await;
        let image = push_image(&up);
        let node = node_for(Registry::new("up.test").endpoint(at(&up)).ttl("0s")).await;
        let (config, _) = &image.blobs()[0];
        assert_eq!(manifest(&node, "v1").await.status, 200);
        blob(&node, config).await.assert_whole(config);
        up.script(on_any_manifest(), Action::reply(reply));

        let stale = manifest(&node, "v1").await;
        assert_eq!((stale.status, &stale.body), (200, &image.manifest));
        assert!(stale.header("Warning").unwrap().starts_with("299 "));
        let head = Call::head(&url(&node, "manifests/v1")).send().await;
        assert_eq!(
            (head.status, head.header("Docker-Content-Digest")),
            (200, Some(image.digest.as_str()))
        );
        let by_digest = manifest(&node, &image.digest).await;
        assert_eq!((by_digest.status, by_digest.header("Warning")), (200, None));
        blob(&node, config).await.assert_whole(config);
        let layer = &image.layers[0].digest;
        blob(&node, layer).await.assert_whole(layer);
        assert_eq!(
            up.count(on_any_manifest()),
            2,
            "one GET before the limit, one HEAD into it"
        );
    }
}

/// D.1: a limit on blobs is a 429 as well, and does not hold back manifests.
#[tokio::test]
async fn d1_a_limit_on_blobs_is_theirs() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    up.script(on_any_blob(), Action::rate_limited(60));
    let node = node(at(&up)).await;
    let answer = blob(&node, &image.config_digest).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (429, "TOOMANYREQUESTS".to_owned())
    );
    assert!(seconds(&answer) > 1);
    assert_eq!(blob(&node, &image.layers[0].digest).await.status, 429);
    assert_eq!(up.count(on_any_blob()), 1);
    assert_eq!(manifest(&node, "v1").await.status, 200);
}

/// D.1: when the time that was named is over, pulls work again; a short rest of it is waited for.
#[tokio::test]
async fn d1_after_the_pause_pulls_work_again() {
    let up = FakeRegistry::builder().start().await;
    push_image(&up);
    up.script(on_any_manifest().once(), Action::rate_limited(1));
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "v1").await.status, 429);
    assert_eq!(manifest(&node, "v1").await.status, 200);
    let times = up.requests();
    let pause = times[1].request.at - times[0].request.at;
    assert!(pause >= Duration::from_millis(900), "{pause:?}");
}

/// D.1: an expired tag costs a HEAD, for a GET counts; the limit's headers are for us, and stay here.
#[tokio::test]
async fn d1_revalidation_is_a_head_and_the_limits_headers_stay_here() {
    let up = FakeRegistry::builder().start().await;
    push_image(&up);
    let told = Action::header("ratelimit-limit", "100;w=21600")
        .and(Action::header("ratelimit-remaining", "20;w=21600"))
        .and(Action::header("docker-ratelimit-source", "192.0.2.1"));
    up.script(on_any_manifest(), told);
    let node = node_for(Registry::new("up.test").endpoint(at(&up)).ttl("0s")).await;
    for _ in 0..3 {
        let answer = manifest(&node, "v1").await;
        assert_eq!(answer.status, 200);
        for name in [
            "ratelimit-limit",
            "ratelimit-remaining",
            "docker-ratelimit-source",
        ] {
            assert_eq!(answer.header(name), None);
        }
    }
    assert_eq!(
        (
            up.count(on_any_manifest().get()),
            up.count(on_any_manifest().head())
        ),
        (1, 2)
    );
}

/// D.1: a limit in the middle of a blob: the rest is asked for when the time is over; when that is too long, the answer
/// ends short, and upstream is left in peace all the same.
#[tokio::test]
async fn d1_a_limit_midway_is_waited_for_or_ends_short() {
    for (retry_after_s, end) in [(1, End::Complete), (60, End::FinShort)] {
        let up = FakeRegistry::builder().start().await;
        let digest = up.add_blob(REPO, random(3 << 20));
        up.script(on_any_blob().unranged().once(), Action::cut_fin(1 << 20));
        up.script(on_any_blob().ranged().once(), Action::rate_limited(retry_after_s));
        let node = node(at(&up)).await;
        let answer = blob(&node, &digest).await;
        assert_eq!((answer.status, answer.end), (200, end));
        if end == End::Complete {
            answer.assert_whole(&digest);
            assert_eq!(up.count(on_any_blob()), 3);
        } else {
            assert!(answer.received <= 1 << 20);
            assert_eq!(up.count(on_any_blob()), 2);
        }
    }
}
