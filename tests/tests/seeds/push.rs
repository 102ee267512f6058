//! A37 to A41: a push, as docker 19.03 was captured at it. The cache is for pulls only, and says so at the first write.

use larder_tests::prelude::*;

use super::support::{DOCKER_AGENT, head_of, lines, node};

const REPO: &str = "shinhwagk/test";
const LAYER: &str = "sha256:8a29a15cefaeccf6545f7ecf11298f9672d2f0cdaf9e357a95133ac3ad3e1f07";
/// An opaque state with `%3D`, `_` and `-` in it, and of the captured length.
const STATE: &str = "qsWre6eZdna8HRM54T3rk-EHe7jJUodzV2yQH1uIJq57Ik5hbWUiOiJzaGluaHdhZ2svdGVzdCIsIlVVSUQiOiI2ODlmNGY2YS00MmIxLTQyZTEtODU0OS1mZGYyMmQ4YjYxYmMi_LCJPZmZzZXQiOjAsIlN0YXJ0ZWRBdCI6IjIwMjAtMDktMjFUMDU6MjU6MTMuODA4ODk0M1oifQ%3D%3D";

fn assert_refused(answer: &Answer, what: &str) {
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (405, "UNSUPPORTED"),
        "{what}"
    );
    let head = head_of(answer);
    assert_eq!(head["allow"], "GET, HEAD", "{what}");
    assert_eq!(head["content-type"], "application/json", "{what}");
    for absent in ["location", "range", "docker-upload-uuid", "www-authenticate"] {
        assert!(!head.contains_key(absent), "{what} is answered with {absent}");
    }
}

/// A37, A38, A39, A41: every write of the captured push is refused, without an address of ours to go on at, whatever
/// its query says, and without a word to upstream.
#[tokio::test]
async fn a37_a38_a39_a41_writes_are_refused_and_go_nowhere() {
    let up = FakeRegistry::builder().start().await;
    let node = node("docker.io", &up).await;
    let uploads = format!("/v2/{REPO}/blobs/uploads/");
    let session = format!("{uploads}689f4f6a-42b1-42e1-8549-fdf22d8b61bc?_state={STATE}");
    let last = format!("{session}&digest={}", LAYER.replace(':', "%3A"));
    let manifest = format!("/v2/{REPO}/manifests/latest");
    for (method, target) in [
        ("POST", &uploads),
        ("PATCH", &session),
        ("PUT", &last),
        ("PUT", &manifest),
        ("DELETE", &manifest),
        ("DELETE", &format!("/v2/{REPO}/blobs/{LAYER}")),
    ] {
        for ns in ["", "ns=docker.io"] {
            let joint = if ns.is_empty() {
                ""
            } else if target.contains('?') {
                "&"
            } else {
                "?"
            };
            let call = Call::new(method, &format!("{}{target}{joint}{ns}", node.url()))
                .header("User-Agent", DOCKER_AGENT)
                .header("Content-Type", "");
            assert_refused(&call.send().await, &format!("{method} {target}"));
        }
    }
    assert_eq!(up.connections(), 0, "{:?}", lines(&up));
}

/// A38: a read with such a query is no upload session either.
#[tokio::test]
async fn a38_an_upload_session_cannot_be_read() {
    let up = FakeRegistry::builder().start().await;
    let node = node("docker.io", &up).await;
    let url = format!(
        "{}/v2/{REPO}/blobs/uploads/689f4f6a?_state={STATE}&ns=docker.io",
        node.url()
    );
    let answer = Call::get(&url).send().await;
    assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
    assert_eq!(up.connections(), 0);
}

/// A39: the `Range` of an upload has no unit. For a blob it is none, and the answer is whole.
#[tokio::test]
async fn a39_a_range_without_a_unit_is_none() {
    let up = FakeRegistry::builder().start().await;
    let content = random(2797);
    let digest = up.add_blob(REPO, content.clone());
    let node = node("docker.io", &up).await;
    let url = format!("{}/v2/{REPO}/blobs/{digest}?ns=docker.io", node.url());
    for range in ["0-0", "0-2796"] {
        let answer = Call::get(&url).header("Range", range).send().await;
        assert_eq!((answer.status, &answer.body[..]), (200, &content[..]), "{range}");
        assert_eq!(answer.header("content-range"), None);
    }
}

/// A40: the answer to a HEAD has no body even when it is an error with a length: the next answer on the same
/// connection begins where its head ends.
#[tokio::test]
async fn a40_a_head_that_fails_has_no_body() {
    let up = FakeRegistry::builder().start().await;
    let node = node("docker.io", &up).await;
    let mut connection = Connection::open(&node.url().replace("http://", ""))
        .await
        .unwrap();
    for (path, status) in [
        (format!("{REPO}/blobs/{LAYER}?ns=docker.io"), 404),
        (format!("{REPO}/manifests/latest?ns=docker.io"), 404),
        (format!("{REPO}/manifests/latest?ns=unknown.test"), 404),
        (format!("{REPO}/blobs/sha256:none?ns=docker.io"), 400),
        ("UPPER/manifests/latest".to_owned(), 400),
    ] {
        let url = format!("{}/v2/{path}", node.url());
        let head = connection.send(Call::head(&url)).await;
        assert_eq!((head.status, head.received), (status, 0), "{path}");
        let ping = connection.send(Call::get(&format!("{}/v2/", node.url()))).await;
        assert_eq!((ping.status, ping.text().as_str()), (200, "{}"), "after {path}");
        let get = Call::get(&url).send().await;
        assert_eq!(get.status, status, "{path}");
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
    }
}
