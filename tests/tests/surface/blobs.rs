//! B.0 rows 31–39 and 41–45: what breaks on the way from upstream is mended here, or ends as what clients can
//! resume from.

use larder_tests::prelude::*;

use crate::support::*;

/// Where the cuts of B.0 are.
const CUT: u64 = 300_000;

/// A blob that streams, on an upstream that follows `rules`, must come whole, right and with its length.
async fn assert_mended(rules: Vec<(On, Action)>) -> (FakeRegistry, String) {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(STREAMED));
    for (on, action) in rules {
        up.script(on, action);
    }
    let answer = Call::get(&blob_url(&node, &blob)).send().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    let length = STREAMED.to_string();
    assert_eq!(answer.header("Content-Length"), Some(length.as_str()));
    assert_eq!(answer.digest, blob);
    assert_eq!(mismatches(&node).await, 0);
    assert_whole(&node, &blob).await;
    (up, blob)
}

fn first() -> On {
    on_any_blob().get().once()
}

fn resumed() -> On {
    on_any_blob().get().ranged()
}

/// 31: a cut with FIN: we resume where it was cut, and the client never notices.
#[tokio::test]
async fn b31_a_cut_is_resumed_where_it_was() {
    let (up, blob) = assert_mended(vec![(first(), Action::cut_fin(CUT))]).await;
    let requests = up.requests_on(on_blob(&blob).get());
    assert_eq!(requests.len(), 2);
    let range = requests[1].request.header("Range");
    assert!(range.is_some_and(|range| range.starts_with(&format!("bytes={CUT}-"))));
    assert_eq!(
        up.body_bytes_sent(&blob),
        STREAMED as u64,
        "nothing crossed the WAN twice"
    );
}

/// 31: cut again and again, each time after some progress.
#[tokio::test]
async fn b31_many_cuts_with_progress_are_no_failure() {
    let (up, blob) = assert_mended(vec![(on_any_blob().get().times(9), Action::cut_fin(CUT))]).await;
    assert_eq!(up.count(on_blob(&blob).get()), 10);
}

/// 32: always cut, ranges ignored: nobody can complete it. What was sent is right and ends short with FIN, so
/// that a client can go on elsewhere.
#[tokio::test]
async fn b32_what_cannot_be_completed_ends_short_by_fin() {
    let (up, node) = pair().await;
    let content = random(STREAMED);
    let blob = up.add_blob(REPO, content.clone());
    up.script(
        on_any_blob().get(),
        Action::ignore_range().and(Action::cut_fin(CUT)),
    );
    let answer = Call::get(&blob_url(&node, &blob)).send().await;
    assert_eq!((answer.status, answer.end), (200, End::FinShort));
    // What the server had not written yet when it learned of the end is not sent any more.
    assert!(answer.received <= CUT);
    assert_eq!(answer.body, content.slice(..answer.body.len()));
    up.clear_script();
    assert_whole(&node, &blob).await;
}

/// 33: cut, then 200 with everything: what is there already is skipped.
#[tokio::test]
async fn b33_an_upstream_without_ranges_is_read_over() {
    let rules = vec![
        (first(), Action::cut_fin(CUT)),
        (resumed(), Action::ignore_range()),
    ];
    assert_mended(rules).await;
}

/// 34: cut, then 416.
#[tokio::test]
async fn b34_a_refused_range_is_asked_for_without_one() {
    let rules = vec![(first(), Action::cut_fin(CUT)), (resumed(), Action::status(416))];
    assert_mended(rules).await;
}

/// 35: cut, then 206 without `Content-Range`, or with one that is not what was asked for.
#[tokio::test]
async fn b35_a_part_that_does_not_say_which_is_not_believed() {
    for lie in [
        Action::without_header("Content-Range"),
        Action::content_range("bytes 0-9/10"),
        Action::content_range(format!("bytes {}-{}/{STREAMED}", CUT + 1, STREAMED - 1)),
        Action::content_range("nonsense"),
    ] {
        assert_mended(vec![(first(), Action::cut_fin(CUT)), (resumed(), lie)]).await;
    }
}

/// 36: RST kills a pull that goes straight to such an upstream; here it is a cut like any other.
#[tokio::test]
async fn b36_an_rst_is_resumed() {
    assert_mended(vec![(first(), Action::cut_rst(CUT))]).await;
}

/// 37: chunked, without a length.
#[tokio::test]
async fn b37_an_unknown_length_is_no_trouble() {
    for (size, framing) in [
        (STREAMED, Action::chunked()),
        (STREAMED, Action::until_close()),
        (2000, Action::chunked()),
        (0, Action::chunked()),
    ] {
        let (up, node) = pair().await;
        let blob = up.add_blob(REPO, random(size));
        up.script(on_any_blob().get(), framing);
        assert_whole(&node, &blob).await;
        let warm = Call::get(&blob_url(&node, &blob)).send().await;
        assert_eq!(warm.header("Content-Length"), Some(size.to_string().as_str()));
        assert_eq!(warm.digest, blob);
        assert_eq!(up.count(on_blob(&blob).get()), 1);
    }
}

/// 38: chunked and cleanly short. Where a manifest says the length we go on; where nobody knows it, the client
/// must not be told that this is the end.
#[tokio::test]
async fn b38_a_clean_end_that_is_short_is_no_end() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let layer = &image.layers[0].digest;
    assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
    up.script(first(), Action::chunked_short(CUT));
    assert_whole(&node, layer).await;

    let unnamed = up.add_blob(REPO, random(STREAMED));
    up.script(on_blob(&unnamed).get().once(), Action::chunked_short(2 << 20));
    let answer = Call::get(&blob_url(&node, &unnamed)).send().await;
    assert_eq!((answer.status, answer.end), (200, End::FinShort));
    assert!(answer.received <= (2 << 20) - WITHHELD);
    assert_whole(&node, &unnamed).await;
}

/// 39: chunked, without the last chunk.
#[tokio::test]
async fn b39_aborted_chunks_are_resumed() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(STREAMED));
    up.script(first(), Action::chunked_abort(CUT));
    assert_whole(&node, &blob).await;
    let requests = up.requests_on(on_blob(&blob).get());
    let range = requests[1].request.header("Range");
    assert!(range.is_some_and(|range| range.starts_with(&format!("bytes={CUT}-"))));
}

/// 41, 42: another length than the manifest's is upstream's fault: refused before a byte is sent, and asked again.
#[tokio::test]
async fn b41_b42_another_length_than_the_manifest_s_is_refused() {
    for wrong in [Action::lengthen_by(100), Action::shorten_to(2 << 20)] {
        let (up, node) = pair().await;
        let image = image();
        image.push_to(&up, REPO, "v1");
        let layer = &image.layers[0].digest;
        assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 200);
        up.script(on_any_blob().get(), wrong.clone());
        let answer = Call::get(&blob_url(&node, layer)).send().await;
        assert_refusal(&answer, 502, "UNAVAILABLE", false);
        up.clear_script();
        up.script(first(), wrong);
        assert_whole(&node, layer).await;
    }
}

/// 41, 42: where no manifest says the length, the digest does.
#[tokio::test]
async fn b41_b42_a_wrong_length_never_ends_well() {
    for wrong in [Action::lengthen_by(100), Action::shorten_to(2 << 20)] {
        let (up, node) = pair().await;
        let blob = up.add_blob(REPO, random(STREAMED));
        up.script(on_any_blob().get(), wrong);
        let answer = Call::get(&blob_url(&node, &blob)).send().await;
        assert_eq!((answer.status, answer.end), (200, End::FinShort));
        assert_eq!(mismatches(&node).await, 1);
        up.clear_script();
        assert_whole(&node, &blob).await;
    }
}

/// 43, 44, 45: an encoding is neither passed on nor stored, and never asked for. (An object that is only *labelled* as gzip
/// has the bytes of its digest: that is a quirk of upstreams, D.9.)
#[tokio::test]
async fn b43_b44_b45_nothing_encoded_passes() {
    for coding in ["br", "zstd", "gzip, br"] {
        let (up, node) = pair().await;
        for size in [2000, STREAMED] {
            let blob = up.add_blob(REPO, random(size));
            let rule = up.script(on_blob(&blob), Action::header("Content-Encoding", coding));
            let answer = Call::get(&blob_url(&node, &blob))
                .header("Accept-Encoding", "gzip, br, zstd")
                .send()
                .await;
            assert_refusal(&answer, 502, "UNAVAILABLE", false);
            assert_eq!(answer.header("Content-Encoding"), None);
            assert!(rule.acted() > 0);
            for exchange in up.requests_on(on_blob(&blob)) {
                assert_eq!(exchange.request.header_all("Accept-Encoding"), ["identity"]);
            }
        }
        up.clear_script();
    }
}
