//! The push side of the distribution specification, as far as a test needs it.

use bytes::Bytes;

use crate::client::{Answer, Call};
use crate::scripted::Content;

/// A blob is sent in pieces of this size, so that a large one is never in memory.
const PIECE_BYTES: u64 = 16 << 20;

/// A registry to push to: `http://HOST:PORT`, a repository, and a whole `Authorization` header if it wants one.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) registry: &'a str,
    pub(super) repo: &'a str,
    pub(super) authorization: Option<&'a str>,
}

impl Target<'_> {
    pub(super) async fn blob(&self, digest: &str, content: &Content) {
        let start = Call::new(
            "POST",
            &format!("{}/v2/{}/blobs/uploads/", self.registry, self.repo),
        );
        let mut location = self.location(&self.send(202, start, "start an upload").await);
        let mut sent = 0;
        while sent < content.len() {
            let len = PIECE_BYTES.min(content.len() - sent);
            let piece = Call::new("PATCH", &location)
                .header("Content-Type", "application/octet-stream")
                .header("Content-Range", format!("{sent}-{}", sent + len - 1))
                .body(content.read(sent, len as usize));
            location = self.location(&self.send(202, piece, "upload a piece").await);
            sent += len;
        }
        let joint = if location.contains('?') { '&' } else { '?' };
        let end = Call::new("PUT", &format!("{location}{joint}digest={digest}")).body("");
        self.send(201, end, "upload a blob").await;
    }

    pub(super) async fn manifest(&self, reference: &str, media_type: &str, bytes: Bytes) {
        let url = format!("{}/v2/{}/manifests/{reference}", self.registry, self.repo);
        let put = Call::new("PUT", &url)
            .header("Content-Type", media_type)
            .body(bytes);
        self.send(201, put, "upload a manifest").await;
    }

    fn location(&self, answer: &Answer) -> String {
        let location = answer.header("Location").expect("an upload has a Location");
        if location.starts_with('/') {
            format!("{}{location}", self.registry)
        } else {
            location.to_owned()
        }
    }

    async fn send(&self, status: u16, call: Call, what: &str) -> Answer {
        let answer = match self.authorization {
            Some(value) => call.header("Authorization", value).send().await,
            None => call.send().await,
        };
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        answer
    }
}
