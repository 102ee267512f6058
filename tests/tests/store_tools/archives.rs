//! Archives that are not what they should be: refused with one error, and nothing of them is kept.

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::*;

const NAME: &str = "up.test/acme/app:v1";

/// An archive in the making: path, type and content of each member.
struct Archive(Vec<(String, EntryType, Vec<u8>)>);

impl Archive {
    /// All of an image, with the index last, as some programs write it.
    fn of(image: &Image) -> Self {
        let mut members = vec![(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        )];
        members.extend(
            image
                .blobs()
                .into_iter()
                .map(|(digest, bytes)| (blob_path(&digest), bytes.to_vec())),
        );
        members.push((blob_path(&image.digest), image.manifest.to_vec()));
        members.push(("index.json".to_owned(), index(image, &json!({})).into_bytes()));
        let files = members
            .into_iter()
            .map(|(path, content)| (path, EntryType::Regular, content));
        Self(files.collect())
    }

    /// The content of the member at `path`.
    fn at(&mut self, path: &str) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|(known, ..)| known == path).unwrap().2
    }

    fn without(mut self, path: &str) -> Self {
        self.0.retain(|(known, ..)| known != path);
        self
    }

    fn with(mut self, path: &str, kind: EntryType, content: &[u8]) -> Self {
        self.0.push((path.to_owned(), kind, content.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (path, kind, content) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.set_link_name("/etc/passwd").unwrap();
            }
            // Not by `set_path`, which refuses what these tests are about.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, &content[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// The index of an image under [`NAME`], with some fields of its descriptor replaced.
fn index(image: &Image, changes: &Value) -> String {
    let mut descriptor = json!({
        "mediaType": image.media_type, "digest": image.digest, "size": image.manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": NAME},
    });
    for (key, value) in changes.as_object().unwrap() {
        descriptor[key] = value.clone();
    }
    json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string()
}

/// Imports it from the standard input.
async fn import(cache: &Path, archive: &[u8]) -> Said {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    run(store(cache, &["import", "-"]).stdin(file.reopen().unwrap())).await
}

/// The archive is refused with a message that has all these words, by a running and by a stopped cache, and both are
/// as they were.
async fn refused(what: &str, archive: &[u8], words: &[&str]) {
    let mut node = NodeProcess::builder().config(&cache_only()).start().await;
    let resident = image(99);
    let said = import(node.cache_dir(), &Archive::of(&resident).bytes()).await;
    said.good();
    for is_live in [true, false] {
        if !is_live {
            node.terminate().await;
        }
        let said = import(node.cache_dir(), archive).await.bad();
        assert_eq!(said.lines().count(), 1, "{what}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{what}: {said}");
        assert_eq!(listed(node.cache_dir(), &[]).await, all_of(&resident), "{what}");
        assert_eq!(ask(node.cache_dir(), &["stat"]).await["names"], 1, "{what}");
        let left: Vec<_> = fs::read_dir(node.cache_dir().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

#[tokio::test]
async fn a_good_archive_is_taken_whatever_its_order() {
    let node = NodeProcess::builder().config(&cache_only()).start().await;
    let image = image(1);
    let mut archive = Archive::of(&image)
        .with("blobs/", EntryType::Directory, b"")
        .with("manifest.json", EntryType::Regular, b"[]")
        .with(&blob_path(&sha256(b"extra")), EntryType::Regular, b"extra");
    archive.0.reverse();
    import(node.cache_dir(), &archive.bytes()).await.good();
    assert_eq!(
        listed(node.cache_dir(), &[]).await,
        all_of(&image),
        "what no image names is not kept"
    );
    pull(&node, "acme/app", "v1", &image).await;
}

#[tokio::test]
async fn members_that_lead_elsewhere_are_refused() {
    let archive = || Archive::of(&image(1));
    for (path, kind, words) in [
        ("../escaped", EntryType::Regular, ["../escaped", "leads out"]),
        ("/etc/escaped", EntryType::Regular, ["/etc/escaped", "absolute"]),
        (
            "blobs/../../escaped",
            EntryType::Regular,
            ["escaped", "leads out"],
        ),
        (
            "blobs/sha256/link",
            EntryType::Symlink,
            ["blobs/sha256/link", "symbolic link"],
        ),
        (
            "blobs/sha256/link",
            EntryType::Link,
            ["blobs/sha256/link", "hard link"],
        ),
        ("pipe", EntryType::Fifo, ["pipe", "neither a file nor"]),
        (
            "blobs/sha256/short",
            EntryType::Regular,
            ["blobs/sha256/short", "not a digest"],
        ),
        (
            "blobs/md5/00",
            EntryType::Regular,
            ["blobs/md5/00", "neither sha256 nor sha512"],
        ),
    ] {
        refused(path, &archive().with(path, kind, b"").bytes(), &words).await;
    }
}

#[tokio::test]
async fn content_that_is_not_its_digests_is_refused() {
    let image = image(1);
    let layer = image.blobs()[1].0.clone();
    let mut wrong = Archive::of(&image);
    wrong.at(&blob_path(&layer))[7] ^= 1;
    refused(
        "a changed byte",
        &wrong.bytes(),
        &[&layer, "is not what its name says"],
    )
    .await;
    let mut short = Archive::of(&image);
    short.at(&blob_path(&layer)).pop();
    refused(
        "a byte less",
        &short.bytes(),
        &[&layer, "is not what its name says"],
    )
    .await;
    let missing = Archive::of(&image).without(&blob_path(&layer));
    refused("no layer", &missing.bytes(), &[NAME, &layer, "is missing"]).await;
    let missing = Archive::of(&image).without(&blob_path(&image.digest));
    refused(
        "no manifest",
        &missing.bytes(),
        &[NAME, &image.digest, "is missing"],
    )
    .await;
}

#[tokio::test]
async fn an_index_that_does_not_hold_is_refused() {
    let image = image(1);
    let other = json!({"mediaType": media_type::DOCKER_MANIFEST});
    let layer = &image.blobs()[1].0;
    let as_manifest = json!({"digest": layer, "size": image.blobs()[1].1.len()});
    for (changes, words) in [
        (other, [NAME, "is of the type"]),
        (json!({"mediaType": "text/html"}), ["manifests[0]", "text/html"]),
        (json!({"size": 1}), [NAME, "instead of 1"]),
        (json!({"digest": "sha256:x"}), ["manifests[0]", "digest"]),
        (as_manifest, [layer, "is no manifest"]),
        (
            json!({"annotations": {"org.opencontainers.image.ref.name": "v1"}}),
            ["\"v1\"", "is not the whole name"],
        ),
        (
            json!({"annotations": {"dev.larder.checked-at": "soon"}}),
            ["dev.larder.checked-at", "no time"],
        ),
    ] {
        let mut archive = Archive::of(&image);
        *archive.at("index.json") = index(&image, &changes).into_bytes();
        refused(&changes.to_string(), &archive.bytes(), &words).await;
    }
    let broken = |path: &str, content: &[u8]| {
        let mut archive = Archive::of(&image);
        *archive.at(path) = content.to_vec();
        archive.bytes()
    };
    refused("no JSON", &broken("index.json", b"{"), &["index.json"]).await;
    refused(
        "another version",
        &broken("oci-layout", br#"{"imageLayoutVersion":"2"}"#),
        &["oci-layout", "1.0.0"],
    )
    .await;
    for file in ["oci-layout", "index.json"] {
        let archive = Archive::of(&image).without(file).bytes();
        refused(file, &archive, &["it has no", file]).await;
    }
}

#[tokio::test]
async fn damaged_and_monstrous_archives_are_refused() {
    let image = image(1);
    let whole = Archive::of(&image).bytes();
    refused("nothing", b"", &["truncated"]).await;
    refused("text", &[b'x'; 2048], &["no tar"]).await;
    refused(
        "cut in a layer",
        &whole[..whole.len() / 2],
        &["cannot read sha256:"],
    )
    .await;
    refused(
        "cut before the end mark",
        &whole[..whole.len() - 1024],
        &["truncated"],
    )
    .await;
    let twice = Archive::of(&image).with("index.json", EntryType::Regular, b"{}");
    refused("two indexes", &twice.bytes(), &["index.json", "twice"]).await;
    let claims = |path: &str, size: u64| {
        let mut header = Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let blob = blob_path(&sha256(b"bomb"));
    refused(
        "a blob of exabytes",
        &claims(&blob, 1 << 62),
        &[&blob, "do not fit"],
    )
    .await;
    refused(
        "an index of gigabytes",
        &claims("index.json", 1 << 32),
        &["index.json", "too long"],
    )
    .await;
}

#[tokio::test]
async fn a_directory_is_read_without_following_links() {
    let image = image(1);
    let dir = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::builder().config(&cache_only()).prepare();
    for (path, _, content) in Archive::of(&image).0 {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let link = dir.path().join(blob_path(&sha256(b"link")));
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let path = dir.path().to_str().unwrap();
    let said = tell(node.cache_dir(), &["import", path]).await.bad();
    assert!(said.contains(link.to_str().unwrap()), "{said}");
    fs::remove_file(&link).unwrap();
    tell(node.cache_dir(), &["import", path]).await.good();
    node.launch().await;
    pull(&node, "acme/app", "v1", &image).await;
}
