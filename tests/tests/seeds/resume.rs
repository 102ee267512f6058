//! A33 to A36: a download that is cut, goes on, and counts its bytes right.

use std::sync::Arc;

use larder_tests::prelude::*;

use super::support::{get, head_of, node};

const REPO: &str = "watchdogpolska/alpine-curl";
const BLOB_BYTES: usize = 2 << 20;
/// Where the first transfer is cut.
const CUT_AT: u64 = 300_000;

fn ranges(host: &ScriptedHost, on: On) -> Vec<Option<String>> {
    let range = |exchange: &Arc<Exchange>| exchange.request.header("Range").map(str::to_owned);
    host.requests_on(on).iter().map(range).collect()
}

/// A33, A35: refused in the middle, the cache asks the registry for a new address and goes on behind the last byte
/// that it has.
#[tokio::test]
async fn a33_a35_an_address_that_is_refused_is_asked_for_again() {
    for status in [403, 410, 404, 400] {
        let up = FakeRegistry::builder().start().await;
        let cdn = Cdn::builder().url_template(Cdn::CLOUDFRONT).start().await;
        up.redirect_blobs(302, &cdn);
        cdn.script(on_any().nth(1), Action::cut_fin(CUT_AT));
        // The first rule counts only what reaches it: the second request here is the resumption.
        cdn.script(on_any().ranged().nth(1), Action::respond(status, "<Error/>"));
        let digest = up.add_blob(REPO, random(BLOB_BYTES));
        let node = node("quay.io", &up).await;
        let answer = get(&node, &format!("{REPO}/blobs/{digest}?ns=quay.io")).await;
        assert_eq!(
            (answer.status, answer.end, &answer.digest),
            (200, End::Complete, &digest),
            "{status}"
        );
        let rest = Some(format!("bytes={CUT_AT}-{}", BLOB_BYTES - 1));
        assert_eq!(ranges(&cdn, on_any()), [None, rest.clone(), rest], "{status}");
        assert_eq!(up.count(on_blob(&digest).get()), 3, "{status}: three addresses");
        assert_eq!(
            cdn.body_bytes_sent(&digest),
            BLOB_BYTES as u64,
            "{status}: no byte twice"
        );
    }
}

/// A33: 416 too sends the cache back to the registry.
#[tokio::test]
async fn a33_a_range_that_is_refused_is_asked_for_at_another_address() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder().url_template(Cdn::CLOUDFRONT).start().await;
    up.redirect_blobs(302, &cdn);
    cdn.script(on_any().nth(1), Action::cut_fin(CUT_AT));
    cdn.script(on_any().ranged().nth(1), Action::respond(416, ""));
    let digest = up.add_blob(REPO, random(BLOB_BYTES));
    let node = node("quay.io", &up).await;
    let answer = get(&node, &format!("{REPO}/blobs/{digest}?ns=quay.io")).await;
    answer.assert_whole(&digest);
    assert_eq!(
        ranges(&cdn, on_any())[..2],
        [None, Some(format!("bytes={CUT_AT}-{}", BLOB_BYTES - 1))]
    );
    assert_eq!(
        up.count(on_blob(&digest).get()),
        cdn.count(on_any()),
        "an address for each try"
    );
}

/// A33: refusing for ever ends in a short answer, after bounded tries.
#[tokio::test]
async fn a33_the_tries_are_bounded() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder().start().await;
    up.redirect_blobs(302, &cdn);
    cdn.script(on_any(), Action::respond(403, "<Error/>"));
    let digest = up.add_blob(REPO, random(BLOB_BYTES));
    let node = node("quay.io", &up).await;
    let answer = get(&node, &format!("{REPO}/blobs/{digest}?ns=quay.io")).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (502, "UNAVAILABLE")
    );
    let tries = cdn.count(on_any());
    assert!((2..=10).contains(&tries), "{tries}");
}

/// A34, A35: the first byte is byte 0, the last one of a range is in it, and nothing lies behind the last byte.
#[tokio::test]
async fn a34_a35_ranges_begin_at_zero_and_include_their_last_byte() {
    let up = FakeRegistry::builder().start().await;
    let content = random(1000);
    let digest = up.add_blob(REPO, content.clone());
    let node = node("quay.io", &up).await;
    let url = format!("{}/v2/{REPO}/blobs/{digest}?ns=quay.io", node.url());
    for when in ["cold", "warm"] {
        for (range, bytes) in [
            ("0-0", 0..1),
            ("1-100", 1..101),
            ("101-", 101..1000),
            ("0-999", 0..1000),
            ("999-", 999..1000),
            ("999-5000", 999..1000),
        ] {
            let answer = Call::get(&url).range(range).send().await;
            assert_eq!(answer.status, 206, "{when} {range}");
            let head = head_of(&answer);
            let content_range = format!("bytes {}-{}/1000", bytes.start, bytes.end - 1);
            assert_eq!(head["content-range"], content_range, "{when}");
            assert_eq!(head["content-length"], bytes.len().to_string(), "{when} {range}");
            assert_eq!(answer.body, content[bytes], "{when} {range}");
        }
        let behind = Call::get(&url).range("1000-").send().await;
        assert_eq!(
            (behind.status, behind.header("content-range")),
            (416, Some("bytes */1000")),
            "{when}"
        );
    }
    assert_eq!(up.body_bytes_sent(&digest), 1000, "all of it from one transfer");
}

/// A36: an address that has expired when the rest is asked for is not asked at all.
#[tokio::test]
async fn a36_a_download_outlives_its_signed_address() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Arc::new(Cdn::builder().url_template(Cdn::ALIYUN).start().await);
    up.redirect_blobs(307, &cdn);
    let weak = Arc::downgrade(&cdn);
    let expire = Action::with(move |_, _| {
        if let Some(cdn) = weak.upgrade() {
            cdn.expire_all();
        }
    });
    cdn.script(on_any().times(3), expire.and(Action::cut_fin(CUT_AT)));
    let digest = up.add_blob(REPO, random(BLOB_BYTES));
    let node = node("quay.io", &up).await;
    let answer = get(&node, &format!("{REPO}/blobs/{digest}?ns=quay.io")).await;
    answer.assert_whole(&digest);
    let statuses: Vec<_> = cdn.requests().iter().map(|exchange| exchange.status()).collect();
    assert_eq!(statuses, [Some(200), Some(206), Some(206), Some(206)]);
    assert_eq!(cdn.body_bytes_sent(&digest), BLOB_BYTES as u64, "no byte twice");
}
