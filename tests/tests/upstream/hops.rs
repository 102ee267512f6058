//! D.6, D.9: registries that redirect to another registry, which challenges for itself.

use larder_tests::prelude::*;

use super::support::*;

const THERE: &str = "k8s-artifacts/images/app";

struct Pair {
    front: FakeRegistry,
    back: FakeRegistry,
    back_tokens: TokenServer,
    image: Image,
}

/// `front` sends every manifest and blob of [`REPO`] to [`THERE`] on `back`, whose tokens are its own.
async fn redirecting(front: FakeRegistry, status: u16) -> Pair {
    let back_tokens = TokenServer::builder().bind("127.0.0.3").start().await;
    let auth = Auth::bearer(&back_tokens);
    let back = FakeRegistry::builder().bind("127.0.0.3").auth(auth).start().await;
    let image = push_image(&front);
    image.push_to(&back, THERE, "v1");
    let base = back.url();
    let to_back = move |request: &larder_tests::scripted::Request,
                        reply: &mut larder_tests::scripted::Reply| {
        let location = format!("{base}{}", request.path().replace(REPO, THERE));
        *reply = larder_tests::scripted::Reply::new(status, "").header("Location", location);
    };
    front.script(on_any_manifest(), Action::with(to_back.clone()));
    front.script(on_any_blob(), Action::with(to_back));
    Pair {
        front,
        back,
        back_tokens,
        image,
    }
}

async fn pull_all(node: &InProcessNode, image: &Image) {
    let head = Call::head(&url(node, "manifests/v1")).send().await;
    assert_eq!((head.status, head.header("Location")), (200, None));
    assert_eq!(head.header("Docker-Content-Digest"), Some(image.digest.as_str()));
    assert_eq!(manifest(node, "v1").await.body, image.manifest);
    for (digest, bytes) in image.blobs() {
        let head = head_blob(node, &digest).await;
        assert_eq!(
            (head.status, head.header("Content-Length")),
            (200, Some(bytes.len().to_string().as_str()))
        );
        blob(node, &digest).await.assert_whole(&digest);
    }
}

/// D.6: registry.k8s.io sends manifests and blobs, HEAD too, to another path on `pkg.dev`, which has a challenge of its own.
#[tokio::test]
async fn d6_manifests_and_blobs_may_redirect_to_another_registry() {
    for status in [307, 302, 301] {
        let pair = redirecting(FakeRegistry::builder().start().await, status).await;
        let node = node(at(&pair.front)).await;
        pull_all(&node, &pair.image).await;
        assert!(pair.back_tokens.requests().len() <= 2, "tokens are kept");
        assert!(
            scopes(&pair.back_tokens)
                .iter()
                .all(|scope| scope.as_deref() == Some("repository:k8s-artifacts/images/app:pull")),
            "{:?}",
            scopes(&pair.back_tokens)
        );
        assert_eq!(authorizations(&pair.front), [""; 0]);
    }
}

/// D.9: lscr.io and Scarf have users of their own and send to ghcr.io, which must see none of it: neither the password,
/// nor a token, nor a `token` Secret; and its token server must not either.
#[tokio::test]
async fn d9_the_other_registry_gets_no_credential_of_the_first() {
    for (keys, sent) in [
        (
            [("username", "jane"), ("password", "secret")].as_slice(),
            "Basic amFuZTpzZWNyZXQ=",
        ),
        (&[("token", "s3cret")], "Bearer s3cret"),
    ] {
        let front = FakeRegistry::builder().start().await;
        let refused = on_any().when(move |request| request.header("Authorization") != Some(sent));
        front.script(refused, Action::challenge(&[r#"Basic realm="front""#]));
        let pair = redirecting(front, 307).await;
        let node = node(with_secret(&pair.front)).await;
        secrets::write_as_kubelet(&node.credentials_dir(), "hub", keys);
        pull_all(&node, &pair.image).await;
        assert!(authorizations(&pair.front).contains(&sent.to_owned()));
        assert_eq!(authorizations(&pair.back_tokens), [""; 0]);
        for seen in authorizations(&pair.back) {
            assert!(seen.starts_with("Bearer ") && seen != sent, "{seen}");
        }
    }
}

/// D.6: the other registry's word on what exists counts, and it may redirect once more, to its store.
#[tokio::test]
async fn d6_the_other_registry_may_redirect_once_more_and_may_say_404() {
    let pair = redirecting(FakeRegistry::builder().start().await, 307).await;
    let cdn = Cdn::builder()
        .bind("127.0.0.2")
        .rejects_authorization()
        .start()
        .await;
    pair.back.redirect_blobs(302, &cdn);
    let node = node(at(&pair.front)).await;
    pull_all(&node, &pair.image).await;
    assert!(cdn.count(on_any().get()) >= 2 && cdn.count(on_any().head()) == 0);
    let absent = manifest(&node, "absent").await;
    assert_eq!(
        (absent.status, absent.error_code()),
        (404, "MANIFEST_UNKNOWN".to_owned())
    );
    let absent = blob(&node, &sha256(b"absent")).await;
    assert_eq!(
        (absent.status, absent.error_code()),
        (404, "BLOB_UNKNOWN".to_owned())
    );
}

/// D.6: an expired tag is revalidated along the same way, by HEAD.
#[tokio::test]
async fn d6_a_tag_is_revalidated_through_the_redirect() {
    let pair = redirecting(FakeRegistry::builder().start().await, 307).await;
    let registry = Registry::new("up.test").endpoint(at(&pair.front)).ttl("0s");
    let node = node_for(registry).await;
    assert_eq!(manifest(&node, "v1").await.status, 200);
    assert_eq!(manifest(&node, "v1").await.status, 200);
    assert!(pair.back.count(on_any_manifest().head()) >= 1);
    let moved = ImageBuilder::new().layer(&[("b", b"2")]).build();
    moved.push_to(&pair.back, THERE, "v1");
    assert_eq!(manifest(&node, "v1").await.body, moved.manifest);
}
