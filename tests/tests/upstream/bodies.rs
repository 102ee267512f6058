//! D.4, D.5, D.8, D.9: bodies that are cut, reset, encoded, of another length, or not the part that was asked for.

use larder_tests::prelude::*;
use larder_tests::scripted::Reply;

use super::support::*;

const MIB: u64 = 1 << 20;

/// D.8: MCR announces everything and ends each answer after 8 MiB; D.4, D.5: HTTP/2 streams that are reset midway. The
/// rest is asked for, by range, as often as it takes; the client notices nothing, and no byte is fetched twice.
#[tokio::test]
async fn d4_d5_d8_bodies_cut_midway_are_continued() {
    let authority = CertificateAuthority::new();
    let hosts = [
        (FakeRegistry::builder(), Action::cut_fin(8 * MIB)),
        (FakeRegistry::builder(), Action::cut_rst(8 * MIB)),
        (
            FakeRegistry::builder().http2().tls_by(&authority),
            Action::cut_rst(8 * MIB),
        ),
    ];
    for (index, (builder, cut)) in hosts.into_iter().enumerate() {
        let up = builder.start().await;
        let digest = up.add_virtual_blob(REPO, 20 * MIB);
        up.script(on_any_blob(), cut);
        let node = node(at(&up).ca("corp-ca")).await;
        secrets::write_ca(&node.credentials_dir(), "corp-ca", &authority.pem());
        let answer = Call::get(&url(&node, &format!("blobs/{digest}")))
            .discard_body()
            .send()
            .await;
        answer.assert_whole(&digest);
        assert_eq!(answer.header("Content-Length"), Some("20971520"), "{index}");
        let asked = up.requests_on(on_blob(&digest));
        assert!(
            asked
                .iter()
                .all(|exchange| exchange.request.http2 == (index == 2)),
            "{index}"
        );
        assert!(asked[1..].iter().all(|e| e.request.header("Range").is_some()));
        if index != 1 {
            // After an RST the receiver may lose what it had not read yet.
            assert_eq!(asked.len(), 3, "{index}");
            assert_eq!(up.body_bytes_sent(&digest), 20 * MIB, "{index}");
        }
    }
}

/// D.8: an empty blob, whose every range is a 416 `bytes */0`.
#[tokio::test]
async fn d8_an_empty_blob() {
    for head in [200, 401] {
        let up = FakeRegistry::builder().start().await;
        let digest = up.add_blob(REPO, "");
        if head != 200 {
            up.script(on_any().head(), Action::status(head));
        }
        let node = node(at(&up)).await;
        let answer = head_blob(&node, &digest).await;
        assert_eq!(
            (answer.status, answer.header("Content-Length")),
            (200, Some("0")),
            "{head}"
        );
        let ranged = Call::get(&url(&node, &format!("blobs/{digest}"))).range("0-");
        let ranged = ranged.send().await;
        assert_eq!(
            (ranged.status, ranged.header("Content-Range")),
            (416, Some("bytes */0"))
        );
        let answer = blob(&node, &digest).await;
        answer.assert_whole(&digest);
        assert_eq!(answer.header("Content-Length"), Some("0"));
    }
}

/// D.9: S3 and Apache label `.gz` objects as encoded. The bytes are the blob's all the same: its digest says so, and the
/// label is not passed on. By range too, when such a transfer is cut.
#[tokio::test]
async fn d9_a_blob_labelled_as_gzip_is_judged_by_its_digest() {
    for label in ["gzip", "x-gzip", "GZIP"] {
        for size in [50_000, 3 << 20] {
            let up = FakeRegistry::builder().start().await;
            let cdn = Cdn::builder().bind("127.0.0.2").start().await;
            up.redirect_blobs(307, &cdn);
            up.script(on_any().head(), Action::header("Content-Encoding", label));
            cdn.script(
                on_any().once(),
                Action::header("Content-Encoding", label).and(Action::cut_fin(30_000)),
            );
            cdn.script(on_any(), Action::header("Content-Encoding", label));
            let digest = up.add_blob(REPO, random(size));
            let node = node(at(&up)).await;
            let head = head_blob(&node, &digest).await;
            assert_eq!(
                (head.status, head.header("Content-Length")),
                (200, Some(size.to_string().as_str()))
            );
            for _ in 0..2 {
                let answer = blob(&node, &digest).await;
                answer.assert_whole(&digest);
                assert_eq!(answer.header("Content-Encoding"), None);
            }
            assert_eq!(cdn.body_bytes_sent(&digest), size as u64);
        }
    }
}

/// D.9: a true encoding has another digest, and nothing of it is kept; what is encoded on its way has no length, and is
/// not even begun; neither is what no store labels so.
#[tokio::test]
async fn d9_a_blob_that_is_really_encoded_is_refused() {
    let encoded = |label: &str| Action::header("Content-Encoding", label);
    for (action, size) in [
        (encoded("gzip").and(Action::body(random(40_000))), 50_000),
        (encoded("gzip").and(Action::chunked()), 3 << 20),
        (encoded("br"), 3 << 20),
        (encoded("zstd"), 50_000),
        (encoded("gzip, gzip").and(Action::chunked()), 50_000),
    ] {
        let up = FakeRegistry::builder().start().await;
        let digest = up.add_blob(REPO, random(size));
        up.script(on_any_blob(), action);
        let node = node(at(&up)).await;
        assert_eq!(blob(&node, &digest).await.status, 502);
        up.clear_script();
        blob(&node, &digest).await.assert_whole(&digest);
    }
}

/// D.9: a manifest is no gzip file, so a label on it is always wrong.
#[tokio::test]
async fn d9_a_manifest_labelled_as_encoded_is_refused() {
    for label in ["gzip", "x-gzip", "br"] {
        let up = FakeRegistry::builder().start().await;
        push_image(&up);
        up.script(on_any_manifest(), Action::header("Content-Encoding", label));
        let node = node(at(&up)).await;
        let answer = manifest(&node, "v1").await;
        assert_eq!(answer.status, 502, "{label}");
        assert_eq!(answer.header("Content-Encoding"), None);
        up.clear_script();
        assert_eq!(manifest(&node, "v1").await.status, 200);
    }
}

/// D.9: GCS inflates what it holds compressed for whoever asks for identity: no length, ranges ignored, other bytes. Of a
/// layer that a manifest describes not a byte goes out; of an unknown blob, never all, and nothing is kept.
#[tokio::test]
async fn d9_an_inflated_blob_is_never_passed_on_as_whole() {
    for (is_known, framing) in [
        (true, Action::pass()),
        (true, Action::chunked()),
        (false, Action::pass()),
        (false, Action::chunked()),
    ] {
        let up = FakeRegistry::builder().start().await;
        let image = ImageBuilder::new().random_layer(7, 2 << 20).build();
        image.push_to(&up, REPO, "v1");
        let layer = &image.layers[0].digest;
        let inflated = Action::reply(Reply::new(200, random(5 << 20)));
        up.script(on_any_blob().get(), inflated.and(framing));
        let node = node(at(&up)).await;
        if is_known {
            assert_eq!(manifest(&node, "v1").await.status, 200);
        }
        let answer = blob(&node, layer).await;
        let is_whole = answer.status == 200 && answer.end == End::Complete;
        assert!(!is_whole, "{} {:?}", answer.status, answer.end);
        assert!(answer.received < 5 << 20);
        up.clear_script();
        blob(&node, layer).await.assert_whole(layer);
    }
}

/// A 206 that does not say which part it is, or is another part than was asked for, is never spliced: the blob is asked
/// for whole.
#[tokio::test]
async fn d9_a_part_that_was_not_asked_for_is_never_spliced() {
    let size = 3 * MIB;
    let last = size - 1;
    for (name, lie) in [
        ("no Content-Range", Action::without_header("Content-Range")),
        (
            "another start, by the header alone",
            Action::content_range(format!("bytes 0-{last}/{size}")),
        ),
        (
            "another start, truly",
            Action::bytes_from(17).and(Action::content_range(format!("bytes 17-{last}/{size}"))),
        ),
        (
            "backwards",
            Action::content_range(format!("bytes {last}-0/{size}")),
        ),
        (
            "beyond the end",
            Action::content_range(format!("bytes {}-{size}/{size}", MIB)),
        ),
        ("no numbers", Action::content_range("bytes */*")),
        (
            "another unit",
            Action::content_range(format!("items {}-{last}/{size}", MIB)),
        ),
        ("the whole", Action::ignore_range()),
        ("416", Action::status(416)),
    ] {
        let up = FakeRegistry::builder().start().await;
        let digest = up.add_blob(REPO, random(3 << 20));
        up.script(on_any_blob().unranged().once(), Action::cut_fin(MIB));
        let lying = up.script(on_any_blob().ranged(), lie);
        let node = node(at(&up)).await;
        let answer = blob(&node, &digest).await;
        assert_eq!(answer.digest, digest, "{name}");
        answer.assert_whole(&digest);
        assert!(lying.acted() >= 1, "{name}");
    }
}

/// A 206 to a request without a range is no answer, whatever it says of itself.
#[tokio::test]
async fn d9_a_part_of_what_was_asked_for_whole_is_refused() {
    for action in [
        Action::set_status(206),
        Action::set_status(206).and(Action::content_range("bytes 0-49999/100000")),
    ] {
        let up = FakeRegistry::builder().start().await;
        let digest = up.add_blob(REPO, random(50_000));
        up.script(on_any_blob().get(), action.clone());
        push_image(&up);
        up.script(on_any_manifest().get(), action);
        let node = node(at(&up)).await;
        assert_eq!(blob(&node, &digest).await.status, 502);
        assert_eq!(manifest(&node, "v1").await.status, 502);
        up.clear_script();
        blob(&node, &digest).await.assert_whole(&digest);
    }
}

/// A part that lies about where it begins looks right until the digest is known: then the answer ends short, nothing is
/// kept, and the next pull is whole.
#[tokio::test]
async fn d9_a_part_that_lies_is_found_out_by_the_digest() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob(REPO, random(3 << 20));
    up.script(on_any_blob().unranged().once(), Action::cut_fin(MIB));
    up.script(on_any_blob().ranged(), Action::bytes_from(17));
    let node = node(at(&up)).await;
    let answer = blob(&node, &digest).await;
    assert_eq!((answer.status, answer.end), (200, End::FinShort));
    assert!(answer.received <= (3 << 20) - (64 << 10), "{}", answer.received);
    assert!(
        metrics(&node)
            .await
            .contains(r#"larder_digest_mismatches_total{registry="up.test"} 1"#)
    );
    up.clear_script();
    blob(&node, &digest).await.assert_whole(&digest);
}
