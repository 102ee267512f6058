//! What lies on disk: it serves without an upstream, and what somebody else touched serves nobody.

use std::fs;

use super::*;

/// Pulls an image with one layer; returns it with the node, which has everything on disk.
async fn pulled(up: &FakeRegistry) -> (Image, NodeProcess) {
    let image = ImageBuilder::new().random_layer(7, 3 << 20).build();
    image.push_to(up, "acme/app", "v1");
    let node = NodeProcess::start(&MirrorConfig::new().with(registry(up).ttl("1h"))).await;
    pull(&node.url(), &image).await;
    (image, node)
}

/// Pulls the image as a runtime does and compares every byte.
async fn pull(base: &str, image: &Image) {
    let head = manifest_head(base, "v1").send().await;
    assert_eq!(head.header("docker-content-digest"), Some(image.digest.as_str()));
    let got = manifest(base, &image.digest).send().await;
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, Some(image.media_type))
    );
    assert_eq!(got.body, image.manifest);
    for (digest, bytes) in image.blobs() {
        let got = blob(base, &digest).send().await;
        assert_eq!((got.status, got.end), (200, End::Complete));
        assert!(got.body == bytes, "{digest}");
    }
}

/// E22: all of an image, without an upstream, after a clean end and after a kill.
#[tokio::test]
async fn e22_a_restarted_node_serves_its_disk_without_upstream() {
    let up = FakeRegistry::builder().start().await;
    let (image, mut node) = pulled(&up).await;
    up.close();
    node.restart().await;
    pull(&node.url(), &image).await;
    node.kill9().await;
    node.launch().await;
    pull(&node.url(), &image).await;
    let range = blob(&node.url(), &image.blobs()[1].0)
        .range("100-199")
        .send()
        .await;
    assert_eq!((range.status, range.body.len()), (206, 100));
}

/// Clients wait for the proof, not for the disk: returns when all of the image has its name there.
async fn stored(node: &NodeProcess, image: &Image) {
    for (digest, _) in image.blobs() {
        until("the blob has its name", async || {
            blob_file(node.cache_dir(), &digest).try_exists().unwrap()
        })
        .await;
    }
    // Until a fill has ended, its readers have the file open.
    until("no fill is left", async || {
        metric(&node.admin_url(), "larder_fills_running").await == 0
    })
    .await;
}

type Damage = fn(&Path);

/// What may become of a file of 3 MiB or less.
const DAMAGES: [(&str, Damage); 4] = [
    ("truncated", |file| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("rewritten with the same length", |file| {
        let length = fs::metadata(file).unwrap().len();
        fs::write(file, random(usize::try_from(length).unwrap())).unwrap();
    }),
    ("replaced", |file| {
        let other = file.with_extension("other");
        fs::write(&other, random(3 << 20)).unwrap();
        fs::rename(other, file).unwrap();
    }),
    ("removed", |file| fs::remove_file(file).unwrap()),
];

/// E5: a file that was truncated, rewritten, replaced or removed is fetched again, never served.
#[tokio::test]
async fn e5_a_changed_blob_is_fetched_again() {
    let up = FakeRegistry::builder().start().await;
    let (image, node) = pulled(&up).await;
    for (round, (name, damage)) in DAMAGES.into_iter().enumerate() {
        stored(&node, &image).await;
        for (digest, _) in image.blobs() {
            damage(&blob_file(node.cache_dir(), &digest));
        }
        pull(&node.url(), &image).await;
        for (digest, _) in image.blobs() {
            assert_eq!(up.count(on_blob(&digest).get()), round + 2, "{name}");
        }
    }
}

/// E5: the same, done while no process ran that could have noticed; the manifest, too.
#[tokio::test]
async fn e5_a_blob_changed_between_two_lives_is_fetched_again() {
    let up = FakeRegistry::builder().start().await;
    let (image, mut node) = pulled(&up).await;
    for (round, (name, damage)) in DAMAGES.into_iter().enumerate() {
        node.terminate().await;
        damage(&blob_file(node.cache_dir(), &image.digest));
        for (digest, _) in image.blobs() {
            damage(&blob_file(node.cache_dir(), &digest));
        }
        node.launch().await;
        pull(&node.url(), &image).await;
        for (digest, _) in image.blobs() {
            assert_eq!(up.count(on_blob(&digest).get()), round + 2, "{name}");
        }
    }
}

/// E5, E9: records beside the content that cannot be read cost a fetch, not the start, and not a wrong answer.
#[tokio::test]
async fn e5_e9_damaged_records_cost_a_fetch() {
    let up = FakeRegistry::builder().start().await;
    let (image, mut node) = pulled(&up).await;
    let hex = image.digest.strip_prefix("sha256:").unwrap();
    let media_type = node.cache_dir().join("manifests/sha256").join(hex);
    let ledger = node.cache_dir().join("tags.jsonl");
    for damaged in ["", "\u{0}\u{0}", "text/html\r\nX: y"] {
        node.terminate().await;
        fs::write(&media_type, damaged).unwrap();
        let mut lines = fs::read(&ledger).unwrap();
        lines.extend_from_slice(b"\xff\xfe{\"registry\":\n{}\n{\"registry\":\"up.te");
        fs::write(&ledger, lines).unwrap();
        node.launch().await;
        pull(&node.url(), &image).await;
    }
}

/// E5: a journal that lies about the length cannot keep the blob from being had.
#[tokio::test]
async fn e5_a_lying_journal_is_found_out() {
    let up = FakeRegistry::builder().start().await;
    let content = random(6 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    let hex = digest.strip_prefix("sha256:").unwrap();
    for line in [
        "length 100\n",
        "length 99999999\n",
        "synced 0 6291456\n",
        "nonsense\n",
    ] {
        up.script(on_any_blob().once(), Action::stall_after(4 << 20));
        let mut node = NodeProcess::start(&mirror(&up)).await;
        let left = blob(&node.url(), &digest).leave_after(3 << 20).send().await;
        assert_eq!(left.end, End::Left);
        node.terminate().await;
        let journal = node
            .cache_dir()
            .join("partials/sha256")
            .join(format!("{hex}.journal"));
        let mut text = fs::read_to_string(&journal).unwrap();
        text.push_str(line);
        fs::write(&journal, text).unwrap();
        node.launch().await;
        let mut answer = blob(&node.url(), &digest).send().await;
        if answer.status != 200 || answer.end != End::Complete {
            answer = blob(&node.url(), &digest).send().await;
        }
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{line}");
        assert!(answer.body == content, "{line}");
    }
}

/// E5: the same for a manifest, whose next answer must not come from the damaged file.
#[tokio::test]
async fn e5_a_changed_manifest_is_fetched_again() {
    let up = FakeRegistry::builder().start().await;
    let (image, node) = pulled(&up).await;
    let file = blob_file(node.cache_dir(), &image.digest);
    for content in ["{}".to_owned(), "x".repeat(image.manifest.len())] {
        fs::write(&file, content).unwrap();
        pull(&node.url(), &image).await;
    }
    fs::write(&file, "{}").unwrap();
    up.close();
    assert_eq!(manifest(&node.url(), &image.digest).send().await.status, 502);
}

/// E5: a damaged partial cannot become a blob: the proof is of what is on disk.
#[tokio::test]
async fn e5_a_damaged_partial_is_never_served() {
    let up = FakeRegistry::builder().start().await;
    let content = random(6 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob().once(), Action::stall_after(4 << 20));
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let left = blob(&node.url(), &digest).leave_after(3 << 20).send().await;
    assert_eq!(left.end, End::Left);
    node.terminate().await;
    let hex = digest.strip_prefix("sha256:").unwrap();
    let partial = node
        .cache_dir()
        .join("partials/sha256")
        .join(format!("{hex}.data"));
    let mut bytes = fs::read(&partial).unwrap();
    bytes[5 << 10] ^= 1;
    fs::write(&partial, bytes).unwrap();
    node.launch().await;
    let first = blob(&node.url(), &digest).send().await;
    assert_eq!(first.end, End::FinShort, "found out before the end");
    assert!(!blob_file(node.cache_dir(), &digest).try_exists().unwrap());
    let second = blob(&node.url(), &digest).send().await;
    assert_eq!(second.end, End::Complete);
    assert!(second.body == content);
}

/// E4, E23: what earlier lives left under temporary names is gone, and nothing of it hangs a pull.
#[tokio::test]
async fn e4_e23_leftovers_of_earlier_lives_are_swept() {
    let up = FakeRegistry::builder().start().await;
    let (image, mut node) = pulled(&up).await;
    node.terminate().await;
    fs::write(node.cache_dir().join("tmp/leftover"), "x").unwrap();
    let layer = image.blobs()[1].0.clone();
    let hex = layer.strip_prefix("sha256:").unwrap();
    for kind in ["data", "journal"] {
        let name = format!("partials/sha256/{hex}.{kind}");
        fs::write(node.cache_dir().join(name), "x").unwrap();
    }
    node.launch().await;
    assert_eq!(files_in(node.cache_dir(), "tmp"), 0);
    assert_eq!(files_in(node.cache_dir(), "partials/sha256"), 0);
    up.close();
    pull(&node.url(), &image).await;
}
