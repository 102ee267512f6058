//! C.1, end-8 and end-12: tags and referrers pass through, with their pages on us.

use larder_tests::prelude::*;
use serde_json::json;

use crate::support::*;

/// What `Link` says of the next page, as a target on us.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("Link")?;
    let target = link
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    assert!(target.is_some(), "{link}");
    target.map(str::to_owned)
}

/// All pages from `path` on, which must all be on us.
async fn pages(node: &InProcessNode, path: &str) -> Vec<serde_json::Value> {
    let mut path = Some(path.to_owned());
    let mut pages = Vec::new();
    while let Some(target) = path {
        assert!(target.starts_with("/v2/"), "{target}");
        let answer = Call::get(&format!("{}{target}", node.url())).send().await;
        assert_eq!(
            (answer.status, answer.end),
            (200, End::Complete),
            "{}",
            answer.text()
        );
        pages.push(answer.json());
        assert!(pages.len() < 20);
        path = next(&answer);
    }
    pages
}

fn tags_of(pages: &[serde_json::Value]) -> Vec<String> {
    let lists = pages.iter().filter_map(|page| page["tags"].as_array());
    let tags = lists.flatten().filter_map(|tag| tag.as_str());
    tags.map(str::to_owned).collect()
}

/// C.1, end-8a and end-8b: `n`, `last`, and `Link` on us however the registry was named; upstream's may be relative,
/// absolute, or have parameters of its own.
#[tokio::test]
async fn c1_tags_in_pages() {
    let up = FakeRegistry::builder().start().await;
    let node = InProcessNode::start(&mirror(&up).default_registry("up.test"), brisk()).await;
    let image = image();
    let all = ["a", "b", "c", "d", "e"];
    for tag in all {
        image.push_to(&up, REPO, tag);
    }
    let prefixed = format!("/v2/up.test/{REPO}/tags/list");
    let plain = format!("/v2/{REPO}/tags/list");
    for (first, is_ns) in [
        (format!("{plain}?n=2&ns=up.test"), true),
        (format!("{plain}?ns=up.test&n=2"), true),
        (format!("{prefixed}?n=2"), false),
        (format!("{plain}?n=2"), false),
    ] {
        let pages = pages(&node, &first).await;
        assert_eq!(
            (pages.len(), tags_of(&pages)),
            (3, all.map(str::to_owned).to_vec())
        );
        assert_eq!(pages[0]["name"], REPO);
        let answer = Call::get(&format!("{}{first}", node.url())).send().await;
        let link = next(&answer).expect("a next page");
        assert_eq!(link.contains("&ns="), is_ns, "{link}");
        let path = if first.starts_with(&prefixed) {
            &prefixed
        } else {
            &plain
        };
        assert!(link.starts_with(path.as_str()), "{link}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
    }
    let get = async |query: &str| {
        let answer = Call::get(&format!("{}{plain}?{query}", node.url())).send().await;
        (answer.status, answer.json()["tags"].clone(), next(&answer))
    };
    assert_eq!(get("last=c").await, (200, json!(["d", "e"]), None));
    assert_eq!(get("n=0").await, (200, json!([]), None));
    assert_eq!(get("n=100").await, (200, json!(all), None));
    let head = Call::head(&format!("{}{plain}", node.url())).send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(
        up.requests()
            .iter()
            .all(|exchange| exchange.request.query_param("ns").is_none())
    );
}

/// C.1, D.3: a `Link` that is absolute and pages by parameters of its own.
#[tokio::test]
async fn c1_links_of_every_shape_lead_to_us() {
    for shape in [
        "<https://elsewhere.test/v2/other/tags/list?next_page=g%3D%3D&n=2>; rel=\"next\"".to_owned(),
        format!("</v2/{REPO}/tags/list?next_page=g%3D%3D&n=2>;rel=next"),
        "<?next_page=g%3D%3D&n=2>; rel=\"next\"".to_owned(),
    ] {
        let (up, node) = pair().await;
        image().push_to(&up, REPO, "a");
        up.script(on_tags().once(), Action::set_header("Link", shape));
        let pages = pages(&node, &format!("/v2/{REPO}/tags/list?ns=up.test")).await;
        assert_eq!(pages.len(), 2);
        let asked = up.requests_on(on_tags());
        assert_eq!(asked[1].request.query(), "next_page=g%3D%3D&n=2");
        assert_eq!(asked[1].request.path(), format!("/v2/{REPO}/tags/list"));
    }
}

/// C.1: tags are asked for to learn what is new: every list is upstream's own word.
#[tokio::test]
async fn c1_tags_are_never_old() {
    let (up, node) = pair().await;
    let image = image();
    for tag in ["a", "b"] {
        image.push_to(&up, REPO, tag);
        let answer = Call::get(&listing_url(&node, "tags/list")).send().await;
        let tags = answer.json()["tags"].clone();
        assert!(
            tags.as_array().is_some_and(|tags| tags.contains(&json!(tag))),
            "{tags}"
        );
    }
    let absent = Call::get(&format!("{}/v2/acme/absent/tags/list?ns=up.test", node.url()))
        .send()
        .await;
    assert_refusal(&absent, 404, "NAME_UNKNOWN", false);
}

fn signature(subject: &str, artifact_type: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": sha256(b"{}")},
        "layers": [],
        "subject": {"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": subject},
    })
    .to_string()
}

/// C.1, end-12a and end-12b: the list, its filter, its type, and the empty list of what has none.
#[tokio::test]
async fn c1_referrers() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    for kind in ["application/x+sig", "application/x+sbom"] {
        up.add_untagged_manifest(REPO, media_type::OCI_MANIFEST, signature(&image.digest, kind));
    }
    let url = listing_url(&node, &format!("referrers/{}", image.digest));
    for _ in 0..2 {
        let all = Call::get(&url).send().await;
        assert_eq!(
            (all.status, all.header("Content-Type")),
            (200, Some(media_type::OCI_INDEX))
        );
        assert_eq!(all.json()["manifests"].as_array().map(Vec::len), Some(2));
        assert_eq!(all.header("OCI-Filters-Applied"), None);
        for encoded in ["application/x+sig", "application%2Fx%2Bsig"] {
            let some = Call::get(&format!("{url}&artifactType={encoded}")).send().await;
            assert_eq!(some.header("OCI-Filters-Applied"), Some("artifactType"));
            let manifests = some.json()["manifests"].clone();
            assert_eq!(manifests.as_array().map(Vec::len), Some(1), "{manifests}");
            assert_eq!(manifests[0]["artifactType"], "application/x+sig");
        }
        let none = Call::get(&listing_url(&node, &format!("referrers/{}", sha256(b"none"))))
            .send()
            .await;
        assert_eq!(
            (none.status, none.header("Content-Type")),
            (200, Some(media_type::OCI_INDEX))
        );
        assert_eq!(none.json()["manifests"], json!([]));
    }
    let asked = up.requests_on(on_referrers());
    let with_filter = asked
        .iter()
        .filter_map(|exchange| exchange.request.query_param("artifactType"));
    assert_eq!(
        with_filter.collect::<Vec<_>>(),
        ["application/x+sig"],
        "asked once, then known"
    );
}

/// C.1: a registry without the API stays one: clients then look for the tag schema.
#[tokio::test]
async fn c1_referrers_404_stays_404() {
    let (up, node) = pair().await;
    let digest = sha256(b"subject");
    up.script(on_referrers(), Action::status(404));
    let url = listing_url(&node, &format!("referrers/{digest}"));
    for _ in 0..2 {
        assert_refusal(&Call::get(&url).send().await, 404, "NAME_UNKNOWN", false);
    }
    let image = image();
    let fallback = digest.replace(':', "-");
    image.push_to(&up, REPO, &fallback);
    assert_eq!(
        Call::get(&manifest_url(&node, &fallback)).send().await.body,
        image.manifest
    );
}

/// C.1: pages of referrers, with `Link` on us.
#[tokio::test]
async fn c1_referrers_in_pages() {
    let (up, node) = pair().await;
    let subject = sha256(b"subject");
    let link =
        format!("<https://up.test/v2/{REPO}/referrers/{subject}?artifactType=a%2Fb&page=2>; rel=\"next\"");
    up.script(on_referrers().once(), Action::set_header("Link", link));
    let first = format!("/v2/{REPO}/referrers/{subject}?artifactType=a/b&ns=up.test");
    assert_eq!(pages(&node, &first).await.len(), 2);
    let asked = up.requests_on(on_referrers());
    assert_eq!(asked[1].request.query(), "artifactType=a%2Fb&page=2");
}
