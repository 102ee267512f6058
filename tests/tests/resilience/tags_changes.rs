//! Tags that move, go, never change or never should have been; referrers and cosign's tags, which follow suit.

use super::*;

const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn image(architecture: &str) -> Image {
    ImageBuilder::new().architecture(architecture).build()
}

async fn expiring_node(up: &FakeRegistry) -> InProcessNode {
    let config = MirrorConfig::new().with(registry(up).ttl("0s").serve_stale_for("24h"));
    InProcessNode::start(&config, impatient()).await
}

/// E10
#[tokio::test]
async fn e10_a_moved_tag_moves_here() {
    let up = FakeRegistry::builder().start().await;
    let old = image("amd64").push_to(&up, "acme/app", "v1");
    let node = expiring_node(&up).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, old);
    let new = image("arm64").push_to(&up, "acme/app", "v1");
    let head = manifest_head(&node.url(), "v1").send().await;
    assert_eq!(head.header("docker-content-digest"), Some(new.as_str()));
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, new);
    up.close();
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, new);
    assert_eq!(
        manifest(&node.url(), &old).send().await.digest,
        old,
        "still here by digest"
    );
}

/// E10: a tag that upstream deleted is gone here too, and stays so when upstream fails.
#[tokio::test]
async fn e10_a_deleted_tag_is_gone() {
    let up = FakeRegistry::builder().start().await;
    let digest = image("amd64").push_to(&up, "acme/app", "v1");
    let config = MirrorConfig::new().with(registry(&up).ttl("0s").serve_stale_for("24h"));
    let mut node = NodeProcess::start(&config).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, digest);
    up.untag("acme/app", "v1");
    let gone = manifest(&node.url(), "v1").send().await;
    assert_eq!(
        (gone.status, gone.error_code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    up.close();
    assert_ne!(manifest(&node.url(), "v1").send().await.status, 200);
    node.kill9().await;
    node.launch().await;
    assert_ne!(
        manifest(&node.url(), "v1").send().await.status,
        200,
        "not back after a kill"
    );
    assert_eq!(
        manifest(&node.url(), &digest).send().await.status,
        200,
        "content outlives its names"
    );
}

/// `immutable`: asked once, never again, whatever its age; other tags are.
#[tokio::test]
async fn an_immutable_tag_is_never_asked_for_again() {
    let up = FakeRegistry::builder().start().await;
    let digest = image("amd64").push_to(&up, "acme/app", "v1.2");
    up.tag("acme/app", "latest", &digest);
    let config = MirrorConfig::new().with(registry(&up).ttl("0s").serve_stale_for("0s").immutable("v*"));
    let node = InProcessNode::start(&config, impatient()).await;
    for _ in 0..3 {
        assert_eq!(manifest(&node.url(), "v1.2").send().await.digest, digest);
        assert_eq!(manifest(&node.url(), "latest").send().await.digest, digest);
    }
    assert_eq!(up.count(on_manifest("v1.2")), 1);
    assert_eq!(up.count(on_manifest("latest").head()), 2);
    up.close();
    let answer = manifest(&node.url(), "v1.2").send().await;
    assert_eq!((answer.status, answer.header("warning")), (200, None));
}

/// E13: whoever hears of a digest asks for it next.
#[tokio::test]
async fn e13_a_cold_head_of_a_tag_fetches_the_manifest() {
    let up = FakeRegistry::builder().start().await;
    let image = image("amd64");
    let digest = image.push_to(&up, "acme/app", "v1");
    let node = node(&up).await;
    let head = manifest_head(&node.url(), "v1").send().await;
    assert_eq!(
        (head.status, head.header("docker-content-digest")),
        (200, Some(digest.as_str()))
    );
    assert_eq!(
        head.header("content-length"),
        Some(image.manifest.len().to_string().as_str())
    );
    assert_eq!(up.count(on_any_manifest()), 1);
    up.close();
    assert_eq!(manifest(&node.url(), &digest).send().await.body, image.manifest);
}

/// E13: a tag whose content cannot be had is no tag, and one whose content is lost is fetched anew.
#[tokio::test]
async fn e13_a_tag_is_never_answered_without_its_content() {
    let up = FakeRegistry::builder().start().await;
    let digest = image("amd64").push_to(&up, "acme/app", "v1");
    let node = InProcessNode::start(&MirrorConfig::new().with(registry(&up).ttl("1h")), impatient()).await;
    up.script(on_any_manifest().get().once(), Action::status(404));
    assert_eq!(manifest_head(&node.url(), "v1").send().await.status, 404);
    assert_eq!(manifest_head(&node.url(), "v1").send().await.status, 200);
    std::fs::remove_file(blob_file(&node.cache_dir(), &digest)).unwrap();
    assert_eq!(manifest_head(&node.url(), "v1").send().await.status, 200);
    up.close();
    assert_eq!(manifest(&node.url(), &digest).send().await.digest, digest);
}

/// Docker's first schema is what registries give to clients that do not say what they want: it is no answer to us.
#[tokio::test]
async fn schema_1_never_becomes_what_a_tag_means() {
    let up = FakeRegistry::builder().start().await;
    let old = up.add_manifest(
        "acme/app",
        "v1",
        SCHEMA1,
        r#"{"schemaVersion":1,"name":"acme/app"}"#,
    );
    let node = expiring_node(&up).await;
    for call in [manifest(&node.url(), "v1"), manifest_head(&node.url(), "v1")] {
        assert_eq!(call.send().await.status, 404);
    }
    let new = image("amd64").push_to(&up, "acme/app", "v1");
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, new);
    // A known tag does not become one either.
    up.tag("acme/app", "v1", &old);
    assert_eq!(manifest(&node.url(), "v1").send().await.status, 404);
    up.close();
    assert_ne!(manifest(&node.url(), "v1").send().await.digest, old);
}

/// E5: an empty 200 to a revalidation is no answer.
#[tokio::test]
async fn e5_an_empty_answer_replaces_nothing() {
    let up = FakeRegistry::builder().start().await;
    let old = image("amd64").push_to(&up, "acme/app", "v1");
    let node = expiring_node(&up).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, old);
    image("arm64").push_to(&up, "acme/app", "v1");
    up.script(on_any_manifest().get(), Action::body(""));
    let answer = manifest(&node.url(), "v1").send().await;
    assert_eq!((answer.status, &answer.digest), (200, &old));
    assert!(answer.header("warning").is_some());
}

fn referrers(base: &str, subject: &str) -> Call {
    Call::get(&format!("{base}/v2/acme/app/referrers/{subject}?ns=up.test"))
}

/// An image with one signature that refers to it; returns the image's digest.
fn signed(up: &FakeRegistry) -> String {
    let subject = image("amd64").push_to(up, "acme/app", "v1");
    let signature = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"a/b","subject":{{"digest":"{subject}"}},"config":{{}},"layers":[]}}"#,
        media_type::OCI_MANIFEST
    );
    up.add_untagged_manifest("acme/app", media_type::OCI_MANIFEST, signature);
    subject
}

/// Referrers: fresh without a request, one request when expired, the last known list when upstream fails.
#[tokio::test]
async fn referrers_follow_the_rules_of_tags() {
    let up = FakeRegistry::builder().start().await;
    let subject = signed(&up);
    let config = MirrorConfig::new().with(registry(&up).ttl("1h").serve_stale_for("24h"));
    let node = InProcessNode::start(&config, impatient()).await;
    let first = referrers(&node.url(), &subject).send().await;
    assert_eq!(first.json()["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(referrers(&node.url(), &subject).send().await.body, first.body);
    assert_eq!(up.count(on_referrers()), 1, "fresh");
    age_ledger(&node.cache_dir(), i64::try_from(TWO_HOURS_MS).unwrap());
    let node = node.restart(impatient()).await;
    up.script(on_referrers().nth(1), Action::status(503));
    up.script(on_referrers(), Action::status(429));
    let stale = referrers(&node.url(), &subject).send().await;
    assert_eq!((stale.status, &stale.body), (200, &first.body));
    assert!(stale.header("warning").is_some());
    assert_eq!(stale_answers(&node.admin_url()).await, 1);
}

/// Referrers: 404 stays 404 and ends what was known, a refusal is never covered.
#[tokio::test]
async fn referrers_that_are_gone_or_refused_are_not_covered() {
    let up = FakeRegistry::builder().start().await;
    let subject = signed(&up);
    let node = expiring_node(&up).await;
    assert_eq!(referrers(&node.url(), &subject).send().await.status, 200);
    up.script(on_referrers().once(), Action::status(403));
    assert_eq!(referrers(&node.url(), &subject).send().await.status, 403);
    up.script(on_referrers().once(), Action::status(404));
    assert_eq!(referrers(&node.url(), &subject).send().await.status, 404);
    up.close();
    assert_ne!(referrers(&node.url(), &subject).send().await.status, 200);
}

/// cosign's tags are tags: unsigned stays unsigned, signed is remembered, and what is new is seen.
#[tokio::test]
async fn cosigns_tags_follow_the_rules_of_tags() {
    let up = FakeRegistry::builder().start().await;
    let subject = image("amd64").push_to(&up, "acme/app", "v1");
    let tag = format!("{}.sig", subject.replace(':', "-"));
    let node = expiring_node(&up).await;
    for _ in 0..2 {
        let unsigned = manifest(&node.url(), &tag).send().await;
        assert_eq!(
            (unsigned.status, unsigned.error_code().as_str()),
            (404, "MANIFEST_UNKNOWN")
        );
    }
    let signature = image("signature").push_to(&up, "acme/app", &tag);
    assert_eq!(manifest(&node.url(), &tag).send().await.digest, signature);
    assert_eq!(manifest(&node.url(), &tag).send().await.digest, signature);
    assert_eq!(up.count(on_manifest(&tag).head()), 1, "the last one");
    up.close();
    let stale = manifest(&node.url(), &tag).send().await;
    assert_eq!((stale.status, &stale.digest), (200, &signature));
    assert!(stale.header("warning").is_some());
}
