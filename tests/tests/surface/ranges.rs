//! C.1, end-2: ranges and conditions on blobs, as the conformance suite and the clients of B have them; cold, on
//! its way, and here.

use std::time::Duration;

use larder_tests::prelude::*;

use crate::support::*;

/// The conformance suite's blob.
const SUITE: usize = 4096;

/// What a range of a blob means: 206 with these bytes, or `None` for 416.
const CASES: [(&str, Option<(usize, usize)>); 12] = [
    ("500-1499", Some((500, 1500))),
    ("500-", Some((500, SUITE))),
    ("-500", Some((SUITE - 500, SUITE))),
    ("2000-5000", Some((2000, SUITE))),
    ("0-0", Some((0, 1))),
    ("0-", Some((0, SUITE))),
    ("-9999", Some((0, SUITE))),
    ("4095-4095", Some((4095, SUITE))),
    ("500-0", None),
    ("5000-10000", None),
    ("4096-", None),
    ("-0", None),
];

fn assert_range(answer: &Answer, content: &[u8], range: Option<(usize, usize)>, spec: &str) {
    let size = content.len();
    match range {
        Some((start, end)) => {
            assert_eq!((answer.status, answer.end), (206, End::Complete), "{spec}");
            let content_range = format!("bytes {start}-{}/{size}", end - 1);
            assert_eq!(
                answer.header("Content-Range"),
                Some(content_range.as_str()),
                "{spec}"
            );
            let length = (end - start).to_string();
            assert_eq!(answer.header("Content-Length"), Some(length.as_str()), "{spec}");
            assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
            assert_eq!(answer.body, content[start..end], "{spec}");
        }
        None => {
            assert_refusal(answer, 416, "RANGE_INVALID", false);
            let content_range = format!("bytes */{size}");
            assert_eq!(
                answer.header("Content-Range"),
                Some(content_range.as_str()),
                "{spec}"
            );
        }
    }
}

/// C.1: the suite's ranges and the edges, first of a cold blob, then of a stored one.
#[tokio::test]
async fn c1_single_ranges() {
    let (up, node) = pair().await;
    for (spec, range) in CASES {
        let content = random(SUITE);
        let blob = up.add_blob(REPO, content.clone());
        for _ in 0..2 {
            let answer = Call::get(&blob_url(&node, &blob)).range(spec).send().await;
            assert_range(&answer, &content, range, spec);
        }
        assert_eq!(up.body_bytes_sent(&blob), SUITE as u64, "{spec}: one transfer");
    }
}

/// C.1: what is no range is ignored: 200 with everything.
#[tokio::test]
async fn c1_what_is_no_range_is_ignored() {
    let (up, node) = pair().await;
    let content = random(SUITE);
    let blob = up.add_blob(REPO, content.clone());
    for header in [
        "bytes=a-b",
        "bytes=0--1",
        "bytes=",
        "lines=0-1",
        "bytes 0-1",
        "0-1",
    ] {
        let answer = Call::get(&blob_url(&node, &blob))
            .header("Range", header)
            .send()
            .await;
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{header}");
        assert_eq!(answer.header("Content-Range"), None);
        assert_eq!(answer.body, content);
    }
}

/// C.1: a blob of zero bytes, with and without a range.
#[tokio::test]
async fn c1_an_empty_blob() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, "");
    let url = blob_url(&node, &blob);
    for call in [Call::head(&url), Call::get(&url), Call::head(&url)] {
        let answer = call.send().await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(answer.header("Content-Length"), Some("0"));
        assert_eq!(answer.header("Docker-Content-Digest"), Some(blob.as_str()));
    }
    let answer = Call::get(&url).range("0-").send().await;
    assert_range(&answer, b"", None, "0- of nothing");
}

/// B.4: several ranges, as zstd:chunked asks for them.
#[tokio::test]
async fn c1_several_ranges_are_multipart() {
    let (up, node) = pair().await;
    for size in [SUITE, STREAMED] {
        let content = random(size);
        let blob = up.add_blob(REPO, content.clone());
        for _ in 0..2 {
            let answer = Call::get(&blob_url(&node, &blob))
                .range("0-9, 500-999,-100")
                .send()
                .await;
            assert_eq!((answer.status, answer.end), (206, End::Complete));
            assert_eq!(answer.header("Content-Range"), None);
            let content_type = answer.header("Content-Type").expect("a type").to_owned();
            let boundary = content_type
                .strip_prefix("multipart/byteranges; boundary=")
                .expect("a boundary");
            let mut expected = Vec::new();
            for (start, end) in [(0, 10), (500, 1000), (size - 100, size)] {
                let head = format!(
                    "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{}/{size}\r\n\r\n",
                    end - 1
                );
                expected.extend_from_slice(head.as_bytes());
                expected.extend_from_slice(&content[start..end]);
            }
            expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
            assert_eq!(answer.body, expected);
        }
    }
}

/// C.1: `If-Range` holds for our own strong tag alone.
#[tokio::test]
async fn c1_if_range() {
    let (up, node) = pair().await;
    let content = random(SUITE);
    let blob = up.add_blob(REPO, content.clone());
    let url = blob_url(&node, &blob);
    let etag = Call::head(&url)
        .send()
        .await
        .header("ETag")
        .expect("a tag")
        .to_owned();
    let range = |tag: String| Call::get(&url).range("500-1499").header("If-Range", tag).send();
    assert_range(&range(etag.clone()).await, &content, Some((500, 1500)), "our tag");
    for tag in [
        format!("W/{etag}"),
        "\"another\"".to_owned(),
        "Sat, 29 Oct 1994 19:43:31 GMT".to_owned(),
    ] {
        let answer = range(tag).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, content);
    }
}

/// C.1: `If-None-Match` and `If-Match`, on blobs and manifests, GET and HEAD.
#[tokio::test]
async fn c1_conditions() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let layer = &image.layers[1];
    for (url, digest) in [
        (blob_url(&node, &layer.digest), &layer.digest),
        (manifest_url(&node, "v1"), &image.digest),
    ] {
        let etag = Call::get(&url)
            .send()
            .await
            .header("ETag")
            .expect("a tag")
            .to_owned();
        assert_eq!(etag, format!("\"{digest}\""));
        for method in ["GET", "HEAD"] {
            let ask = |name: &str, value: String| Call::new(method, &url).header(name, value).send();
            for known in [
                etag.clone(),
                format!("W/{etag}"),
                format!("\"x\", {etag}"),
                "*".to_owned(),
            ] {
                let answer = ask("If-None-Match", known).await;
                assert_eq!((answer.status, answer.end), (304, End::Complete));
                assert_eq!(answer.header("ETag"), Some(etag.as_str()));
                assert!(answer.body.is_empty());
            }
            assert_eq!(ask("If-None-Match", "\"another\"".to_owned()).await.status, 200);
            assert_eq!(ask("If-Match", etag.clone()).await.status, 200);
            assert_eq!(ask("If-Match", "\"another\"".to_owned()).await.status, 412);
        }
    }
}

/// C.1: a HEAD has the GET's headers, whatever its `Range`; it starts no transfer and waits for no proof.
#[tokio::test]
async fn c1_head_of_a_blob() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(STREAMED));
    let url = blob_url(&node, &blob);
    let assert_head = |answer: Answer| {
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(
            answer.header("Content-Length"),
            Some(STREAMED.to_string().as_str())
        );
        assert_eq!(answer.header("Docker-Content-Digest"), Some(blob.as_str()));
        assert_eq!(answer.header("Accept-Ranges"), Some("bytes"));
        assert_eq!(answer.header("Content-Range"), None);
        assert_eq!(answer.header("ETag"), Some(format!("\"{blob}\"").as_str()));
        assert!(answer.body.is_empty());
    };
    assert_head(Call::head(&url).send().await);
    assert_head(Call::head(&url).range("0-9").send().await);
    assert_eq!(up.body_bytes_sent(&blob), 0);
    up.script(on_blob(&blob).get(), Action::stall_after(2 << 20));
    assert_eq!(Call::get(&url).leave_after(1 << 20).send().await.status, 200);
    let asked = up.requests().len();
    assert_head(Call::head(&url).send().await);
    assert_eq!(up.requests().len(), asked, "a running fill knows it already");
}

/// DESIGN §4: an explicit range of up to 4 MiB is answered unproved; anything that reads to the end waits for proof.
#[tokio::test]
async fn the_end_is_withheld_until_proof_but_not_from_explicit_ranges() {
    let (up, node) = pair().await;
    let content = random(6 << 20);
    let (size, withheld) = (content.len(), WITHHELD as usize);
    let blob = up.add_blob(REPO, content.clone());
    // The proof cannot come: a gap stays open.
    up.script(on_any_blob().get().unranged(), Action::stall_after(1 << 20));
    let url = blob_url(&node, &blob);
    for spec in ["-1000".to_owned(), format!("{}-{}", size - withheld, size - 1)] {
        let answer = Call::get(&url).range(&spec).send().await;
        assert_eq!((answer.status, answer.end), (206, End::Complete), "{spec}");
        assert_eq!(answer.body[..], content[size - answer.body.len()..]);
    }
    let patience = Duration::from_millis(300);
    let open = format!("{}-", size - withheld - 1000);
    let large = format!("{}-{}", size - (5 << 20), size - 1);
    for (spec, most) in [(open, 1000), (large, (5 << 20) - withheld)] {
        let answer = Call::get(&url).range(&spec).timeout(patience).send().await;
        assert_eq!((answer.status, answer.end), (206, End::TimedOut), "{spec}");
        assert!(answer.received as usize <= most, "{spec}: {}", answer.received);
    }
}
