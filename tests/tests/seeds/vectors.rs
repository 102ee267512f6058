//! The golden vectors: content captured from real registries, which must pass byte for byte on every way.

use larder_tests::prelude::*;

use super::capture::vector;
use super::support::{Head, blob_head, head_of, manifest_head, node, of_namespace};

const REPO: &str = "acme/app";

struct Vector {
    tag: String,
    bytes: Vec<u8>,
    digest: String,
    media_type: String,
}

/// A way to ask for a manifest.
#[derive(Clone, Copy, Debug)]
struct Way {
    method: &'static str,
    by_tag: bool,
}

const WAYS: [Way; 4] = [
    Way {
        method: "HEAD",
        by_tag: true,
    },
    Way {
        method: "GET",
        by_tag: true,
    },
    Way {
        method: "HEAD",
        by_tag: false,
    },
    Way {
        method: "GET",
        by_tag: false,
    },
];

fn vectors() -> Vec<Vector> {
    let index = String::from_utf8(vector("INDEX.tsv")).unwrap();
    let read = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let bytes = vector(fields[0]);
        assert_eq!(bytes.len().to_string(), fields[1], "{}", fields[0]);
        let digest = format!("sha256:{}", fields[2]);
        assert_eq!(sha256(&bytes), digest, "{}", fields[0]);
        Vector {
            tag: fields[0].to_owned(),
            bytes,
            digest,
            media_type: fields[3].to_owned(),
        }
    };
    index.lines().map(read).collect()
}

impl Vector {
    fn is_manifest(&self) -> bool {
        self.media_type.contains("manifest")
    }

    fn add_to(&self, up: &FakeRegistry) {
        if self.is_manifest() {
            let digest = up.add_manifest(REPO, &self.tag, &self.media_type, self.bytes.clone());
            assert_eq!(digest, self.digest);
        } else {
            assert_eq!(up.add_blob(REPO, self.bytes.clone()), self.digest);
        }
    }

    /// Asks for it, and compares all that comes. `way.by_tag` means nothing to a blob.
    async fn check(&self, node: &NodeProcess, way: Way, when: &str) {
        let (kind, reference) = match (self.is_manifest(), way.by_tag) {
            (false, _) => ("blobs", &self.digest),
            (true, true) => ("manifests", &self.tag),
            (true, false) => ("manifests", &self.digest),
        };
        let url = format!("{}/v2/{REPO}/{kind}/{reference}?ns=up.test", node.url());
        let answer = Call::new(way.method, &url).send().await;
        let context = format!("{when}: {way:?} of {}", self.tag);
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{context}");
        assert_eq!(head_of(&answer), self.head(), "{context}");
        let body: &[u8] = if way.method == "HEAD" { &[] } else { &self.bytes };
        assert_eq!(answer.body, body, "{context}");
    }

    fn head(&self) -> Head {
        let head = if self.is_manifest() {
            manifest_head(&self.media_type, self.bytes.len(), &self.digest)
        } else {
            blob_head(self.bytes.len(), &self.digest)
        };
        of_namespace(head, "up.test")
    }
}

/// Cold on `WAYS[first]`, then warm on every way, then on every way after a restart without any upstream.
async fn pass_unchanged(first: usize) {
    let up = FakeRegistry::builder().start().await;
    let vectors = vectors();
    assert_eq!(vectors.len(), 9);
    for vector in &vectors {
        vector.add_to(&up);
    }
    let mut node = node("up.test", &up).await;
    for vector in &vectors {
        vector.check(&node, WAYS[first], "cold").await;
        for way in WAYS {
            vector.check(&node, way, "warm").await;
        }
    }
    up.close();
    node.restart().await;
    for vector in &vectors {
        for way in WAYS {
            vector.check(&node, way, "after a restart").await;
        }
    }
}

#[tokio::test]
async fn vectors_pass_unchanged_from_a_cold_head_by_tag() {
    pass_unchanged(0).await;
}

#[tokio::test]
async fn vectors_pass_unchanged_from_a_cold_get_by_tag() {
    pass_unchanged(1).await;
}

#[tokio::test]
async fn vectors_pass_unchanged_from_a_cold_head_by_digest() {
    pass_unchanged(2).await;
}

#[tokio::test]
async fn vectors_pass_unchanged_from_a_cold_get_by_digest() {
    pass_unchanged(3).await;
}
