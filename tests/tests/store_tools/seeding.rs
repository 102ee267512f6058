//! From one cache to another, without a registry in between.

use tokio::io::AsyncReadExt as _;

use super::*;

/// What a node needs to have for an export of 192 MiB: far less than that.
const EXPORT_BYTES: usize = 192 << 20;
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Exports on one cache and imports on another, each of them running or stopped.
#[tokio::test]
async fn a_seeded_node_needs_no_upstream() {
    for (from_live, to_live) in [(true, true), (false, false), (true, false), (false, true)] {
        let scene = Scene::start(from_live).await;
        let stick = tempfile::tempdir().unwrap();
        let file = stick.path().join("images.tar");
        let file = file.to_str().unwrap();
        let said = tell(scene.cache(), &["export", "--repository", "acme/app", file])
            .await
            .good();
        assert!(said.ends_with("1 image exported; 0 left out\n"), "{said}");
        scene.up.close();

        let mut node = NodeProcess::builder().config(&cache_only()).prepare();
        if to_live {
            node.launch().await;
        }
        let said = tell(node.cache_dir(), &["import", file]).await.good();
        assert!(
            said.contains("imported    up.test/acme/app:v1  sha256:"),
            "{said}"
        );
        assert_eq!(listed(node.cache_dir(), &[]).await, all_of(&scene.app));
        let again = ask(node.cache_dir(), &["import", file]).await;
        assert_eq!(again["objects"], 0, "all of it is here already");
        if !to_live {
            node.launch().await;
        }
        pull(&node, "acme/app", "v1", &scene.app).await;
        tell(node.cache_dir(), &["verify"]).await.good();
        node.restart().await;
        pull(&node, "acme/app", "v1", &scene.app).await;
    }
}

/// What was checked a while ago on one node has been checked a while ago on the other.
#[tokio::test]
async fn imported_tags_age_as_they_did() {
    let mut scene = Scene::start(false).await;
    let ledger = scene.cache().join("tags.jsonl");
    let old = age_ledger(&fs::read_to_string(&ledger).unwrap(), 2 * 3_600_000);
    fs::write(&ledger, old).unwrap();
    let stick = tempfile::tempdir().unwrap();
    let file = stick.path().join("images.tar");
    tell(scene.cache(), &["export", file.to_str().unwrap()])
        .await
        .good();
    let moved = image(7);
    moved.push_to(&scene.up, "acme/app", "v1");
    let mut node = NodeProcess::builder().config(&mirror(&scene.up)).prepare();
    tell(node.cache_dir(), &["import", file.to_str().unwrap()])
        .await
        .good();
    node.launch().await;
    pull(&node, "acme/app", "v1", &moved).await;
    // What this node has learned since is not unlearned.
    let said = ask(node.cache_dir(), &["import", file.to_str().unwrap()]).await;
    assert_eq!(said["keptNewer"][0]["name"], "up.test/acme/app:v1");
    assert_eq!(said["images"][0]["name"], "up.test/acme/team/tool:v2");
    pull(&node, "acme/app", "v1", &moved).await;
    scene.node.launch().await;
}

fn age_ledger(ledger: &str, by_ms: u64) -> String {
    let lines = ledger.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["checkedAt"] = (line["checkedAt"].as_u64().unwrap() - by_ms).into();
        format!("{line}\n")
    });
    lines.collect()
}

/// An index goes with those platforms that are here, and says which are not.
#[tokio::test]
async fn an_index_goes_with_the_platforms_that_are_here() {
    let up = FakeRegistry::builder().start().await;
    let platform = |name, seed| {
        ImageBuilder::new()
            .architecture(name)
            .random_layer(seed, LAYER_BYTES)
            .build()
    };
    let index = Index::of(vec![
        platform("amd64", 1),
        platform("arm64", 2),
        platform("s390x", 3),
    ]);
    index.push_to(&up, "acme/app", "v1");
    let node = NodeProcess::start(&mirror(&up)).await;
    let url = |reference: &str| format!("{}/v2/acme/app/manifests/{reference}?ns=up.test", node.url());
    assert_eq!(Call::get(&url("v1")).send().await.status, 200);
    let nothing = tell(node.cache_dir(), &["export", "-"]).await;
    assert!(
        nothing.code == 1 && nothing.err.contains("no image that is here as a whole"),
        "{nothing:?}"
    );
    let [here, gone, never] = &index.images[..] else {
        unreachable!()
    };
    pull_by_digest(&node, "acme/app", here).await;
    pull_by_digest(&node, "acme/app", gone).await;
    let lost = gone.blobs()[1].0.clone();
    tell(node.cache_dir(), &["evict", "--digest", &lost]).await.good();

    let stick = tempfile::tempdir().unwrap();
    let file = stick.path().join("images.tar");
    let said = ask(node.cache_dir(), &["export", file.to_str().unwrap()]).await;
    assert_eq!(said["images"][0]["digest"], index.digest);
    assert_eq!(
        said["images"][0]["missing"],
        serde_json::json!([lost, never.digest])
    );
    let mut other = NodeProcess::builder().config(&cache_only()).prepare();
    tell(other.cache_dir(), &["import", file.to_str().unwrap()])
        .await
        .good();
    other.launch().await;
    let url = format!("{}/v2/acme/app/manifests/v1?ns=up.test", other.url());
    assert_eq!(Call::get(&url).send().await.body, index.manifest);
    pull_by_digest(&other, "acme/app", here).await;
}

/// Content under sha512 has longer names.
#[tokio::test]
async fn longer_digests_travel_too() {
    let up = FakeRegistry::builder().start().await;
    let config = up.add_blob_sha512("acme/app", random(100));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [],
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": config, "size": 100},
    });
    up.add_manifest("acme/app", "v1", media_type::OCI_MANIFEST, manifest.to_string());
    let node = NodeProcess::start(&mirror(&up)).await;
    for path in ["manifests/v1", &format!("blobs/{config}")] {
        let url = format!("{}/v2/acme/app/{path}?ns=up.test", node.url());
        assert_eq!(Call::get(&url).send().await.status, 200);
    }
    until("the blob has its name", async || {
        object(node.cache_dir(), &config).try_exists().unwrap()
    })
    .await;
    let stick = tempfile::tempdir().unwrap();
    let file = stick.path().join("images.tar");
    tell(node.cache_dir(), &["export", file.to_str().unwrap()])
        .await
        .good();
    let other = NodeProcess::builder().config(&cache_only()).start().await;
    tell(other.cache_dir(), &["import", file.to_str().unwrap()])
        .await
        .good();
    assert!(listed(other.cache_dir(), &[]).await.contains(&config));
}

#[tokio::test]
async fn what_is_rotten_is_not_exported() {
    for is_live in [true, false] {
        let scene = Scene::start(is_live).await;
        let layer = scene.tool.blobs()[1].0.clone();
        rot(scene.cache(), &layer);
        let stick = tempfile::tempdir().unwrap();
        let file = stick.path().join("images.tar");
        let said = tell(scene.cache(), &["export", file.to_str().unwrap()])
            .await
            .bad();
        assert!(
            said.contains(&layer) && said.contains("not what its digest says"),
            "{said}"
        );
        assert!(!listed(scene.cache(), &[]).await.contains(&layer));
        let other = tempfile::tempdir().unwrap();
        let said = tell(other.path(), &["import", file.to_str().unwrap()])
            .await
            .bad();
        assert!(said.contains(&layer), "{said}");
        let end = fs::read(&file).unwrap();
        assert!(!end.ends_with(&[0; 1024]), "nobody may take it for whole");
    }
}

/// Neither side holds more of an export than it is sending.
#[tokio::test]
async fn a_big_export_takes_little_memory() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new()
        .uncompressed()
        .random_layer(1, EXPORT_BYTES)
        .build();
    image.push_to(&up, "acme/app", "v1");
    let node = NodeProcess::start(&mirror(&up)).await;
    let base = format!("{}/v2/acme/app", node.url());
    for path in ["manifests/v1".to_owned(), format!("blobs/{}", image.blobs()[0].0)] {
        assert_eq!(
            Call::get(&format!("{base}/{path}?ns=up.test"))
                .send()
                .await
                .status,
            200
        );
    }
    let layer = image.blobs()[1].0.clone();
    let url = format!("{base}/blobs/{layer}?ns=up.test");
    assert_eq!(Call::get(&url).discard_body().send().await.status, 200);
    until("the layer has its name", async || {
        object(node.cache_dir(), &layer).try_exists().unwrap()
    })
    .await;
    let before = peak_bytes(node.pid()).unwrap();
    let mut command = store(node.cache_dir(), &["export", "-"]);
    let mut export = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = export.stdout.take().unwrap();
    let (mut piece, mut total, mut peak) = (vec![0; 1 << 20], 0, 0);
    loop {
        let read = out.read(&mut piece).await.unwrap();
        if read == 0 {
            break;
        }
        total += read;
        if total < EXPORT_BYTES {
            peak = peak.max(peak_bytes(export.id().unwrap()).unwrap_or(peak));
        }
    }
    assert!(export.wait().await.unwrap().success());
    assert!(total > EXPORT_BYTES);
    let growth = peak_bytes(node.pid()).unwrap() - before;
    assert!(growth < GROWTH_BYTES_MAX, "the node grew by {growth} bytes");
    assert!(peak < GROWTH_BYTES_MAX, "the command line took {peak} bytes");
}

/// The most memory that a process has had, in bytes; `None` of one that has just ended.
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    Some(kibibytes << 10)
}
