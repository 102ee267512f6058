//! The fake registry behaves like a real one, its CDN's URLs die, and its tokens open what they should.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::prelude::*;

fn by_path(registry: &FakeRegistry, path: &str) -> Call {
    Call::get(&format!("{}{path}", registry.url()))
}

#[tokio::test]
async fn an_image_can_be_pulled() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new()
        .layer(&[("etc/hello", b"hi")])
        .random_layer(1, 10_000)
        .build();
    let index = Index::of(vec![image.clone()]);
    let digest = index.push_to(&up, "acme/app", "latest");
    let ping = by_path(&up, "/v2/").send().await;
    assert_eq!((ping.status, ping.text().as_str()), (200, "{}"));
    for reference in ["latest", &digest] {
        let found = by_path(&up, &format!("/v2/acme/app/manifests/{reference}"))
            .send()
            .await;
        assert_eq!((found.status, &found.body), (200, &index.manifest));
        assert_eq!(found.header("Content-Type"), Some(media_type::OCI_INDEX));
        assert_eq!(found.header("Docker-Content-Digest"), Some(digest.as_str()));
    }
    let head = Call::head(&format!("{}/v2/acme/app/manifests/latest", up.url()))
        .send()
        .await;
    assert_eq!(
        head.header("Content-Length").unwrap(),
        index.manifest.len().to_string()
    );
    let known =
        by_path(&up, "/v2/acme/app/manifests/latest").header("If-None-Match", format!("\"{digest}\""));
    assert_eq!(known.send().await.status, 304);
    for (digest, bytes) in image.blobs() {
        assert_eq!(
            by_path(&up, &format!("/v2/acme/app/blobs/{digest}"))
                .send()
                .await
                .body,
            bytes
        );
    }
    let absent = by_path(&up, "/v2/acme/app/manifests/nope").send().await;
    assert_eq!(
        (absent.status, absent.error_code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
}

#[tokio::test]
async fn images_are_the_same_every_time() {
    let build = || ImageBuilder::new().docker().random_layer(3, 5000).build();
    assert_eq!(build().digest, build().digest);
}

#[tokio::test]
async fn tags_come_in_pages() {
    let up = FakeRegistry::builder().start().await;
    for tag in ["a", "b", "c"] {
        up.add_manifest("acme/app", tag, media_type::OCI_MANIFEST, "{}");
    }
    let first = by_path(&up, "/v2/acme/app/tags/list?n=2").send().await;
    assert_eq!(first.json(), json!({"name": "acme/app", "tags": ["a", "b"]}));
    assert_eq!(
        first.header("Link"),
        Some("</v2/acme/app/tags/list?last=b&n=2>; rel=\"next\"")
    );
    let second = by_path(&up, "/v2/acme/app/tags/list?last=b&n=2").send().await;
    assert_eq!(
        (second.json()["tags"].clone(), second.header("Link")),
        (json!(["c"]), None)
    );
    let none = by_path(&up, "/v2/acme/app/tags/list?n=0").send().await;
    assert_eq!(
        (none.json()["tags"].clone(), none.header("Link")),
        (json!([]), None)
    );
}

#[tokio::test]
async fn referrers_are_found_by_subject() {
    let up = FakeRegistry::builder().start().await;
    let subject = up.add_manifest("acme/app", "v1", media_type::OCI_MANIFEST, "{}");
    let signature = json!({"subject": {"digest": subject}, "artifactType": "application/x-sig"}).to_string();
    let digest = up.add_untagged_manifest("acme/app", media_type::OCI_MANIFEST, signature);
    let path = format!("/v2/acme/app/referrers/{subject}");
    let found = by_path(&up, &path).send().await;
    assert_eq!(found.header("Content-Type"), Some(media_type::OCI_INDEX));
    assert_eq!(found.json()["manifests"][0]["digest"], Value::from(digest));
    let filtered = by_path(&up, &format!("{path}?artifactType=other")).send().await;
    assert_eq!(filtered.header("OCI-Filters-Applied"), Some("artifactType"));
    assert_eq!(filtered.json()["manifests"], json!([]));
}

#[tokio::test]
async fn signed_urls_die_and_must_be_verbatim() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder()
        .bind("127.0.0.2")
        .uses(2)
        .expired(410)
        .start()
        .await;
    let content = random(100_000);
    let blob = up.add_blob("acme/app", content.clone());
    up.redirect_blobs(307, &cdn);
    let path = format!("/v2/acme/app/blobs/{blob}");
    let redirect = by_path(&up, &path).send().await;
    let location = redirect.header("Location").unwrap().to_owned();
    assert_eq!((redirect.status, redirect.received), (307, 0));
    assert!(
        location.starts_with(&format!("http://{}/", cdn.host())) && location.ends_with("dtQ%3D"),
        "{location}"
    );
    assert_eq!(Call::get(&location.replace("%3D", "=")).send().await.status, 403);
    assert_eq!(Call::head(&location).send().await.status, 403);
    assert_eq!(Call::get(&location).send().await.body, content);
    let part = Call::get(&location)
        .range("50000-")
        .header("Authorization", "Bearer x")
        .send()
        .await;
    assert_eq!((part.status, part.body), (206, content.slice(50_000..)));
    assert_eq!(Call::get(&location).send().await.status, 410);
    assert_eq!(
        (cdn.body_bytes_sent(&blob), cdn.saw_authorization()),
        (150_000, true)
    );
    assert_eq!(
        Call::head(&format!("{}{path}", up.url())).send().await.status,
        200
    );
}

#[tokio::test]
async fn a_rule_can_redirect_one_blob() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder()
        .ttl(Duration::ZERO)
        .url_template(Cdn::CLOUDFRONT)
        .start()
        .await;
    let blob = up.add_virtual_blob("acme/app", 1 << 20);
    up.script(on_blob(&blob).once(), Action::redirect_to(302, &cdn));
    let path = format!("/v2/acme/app/blobs/{blob}");
    let redirect = by_path(&up, &path).send().await;
    assert_eq!(
        Call::get(redirect.header("Location").unwrap())
            .send()
            .await
            .status,
        403
    );
    assert_eq!(by_path(&up, &path).send().await.digest, blob);
}

fn token_of(answer: &Answer) -> String {
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_open_what_they_were_given_for() {
    let tokens = TokenServer::builder()
        .anonymous(&["library/*"])
        .user("u", "p", &["acme/*"])
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let blob = up.add_blob("acme/app", random(10));
    let path = format!("/v2/acme/app/blobs/{blob}");
    let rule = up.script(on_blob(&blob).once(), Action::status(503));
    let refused = by_path(&up, &path).send().await;
    let realm = tokens.realm();
    let expected =
        format!("Bearer realm=\"{realm}\",service=\"fake-registry\",scope=\"repository:acme/app:pull\"");
    assert_eq!(
        (refused.status, refused.header("WWW-Authenticate")),
        (401, Some(expected.as_str()))
    );
    assert_eq!(by_path(&up, "/v2/").send().await.status, 401);

    let ask = format!("{realm}?service=fake-registry&scope=repository%3Aacme%2Fapp%3Apull");
    let anonymous = token_of(&Call::get(&ask).send().await);
    let with = |token: &str| by_path(&up, &path).header("Authorization", format!("Bearer {token}"));
    let insufficient = with(&anonymous).send().await;
    assert!(
        insufficient
            .header("WWW-Authenticate")
            .unwrap()
            .ends_with("error=\"insufficient_scope\"")
    );
    assert_eq!(
        rule.acted(),
        0,
        "a rule does not act on what authentication refuses"
    );

    let wrong = Call::get(&ask)
        .header("Authorization", "Basic dTp3cm9uZw==")
        .send()
        .await;
    assert_eq!(wrong.status, 401);
    let token = token_of(&Call::get(&ask).header("Authorization", "Basic dTpw").send().await);
    assert_eq!(
        (with(&token).send().await.status, with(&token).send().await.status),
        (503, 200)
    );
    tokens.revoke_all();
    assert_eq!(with(&token).send().await.status, 401);
    assert_eq!(tokens.count(on_any().has_header("Authorization")), 2);
}

#[tokio::test]
async fn token_answers_take_the_shapes_of_real_servers() {
    let builder = TokenServer::builder()
        .keys(TokenKeys::AccessToken)
        .expires_in(None)
        .lifetime(Duration::ZERO);
    let tokens = builder
        .opaque()
        .token_bytes(4200)
        .refresh_token("r", "u")
        .user("u", "p", &["*"])
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let form = "grant_type=refresh_token&refresh_token=r&scope=repository%3Aa%3Apull&service=s";
    let answer = Call::new("POST", &tokens.realm()).body(form).send().await.json();
    let token = answer["access_token"].as_str().unwrap().to_owned();
    assert!(token.len() >= 4200 && token.contains('+') && token.contains('/') && token.ends_with("=="));
    assert_eq!(
        (&answer["token"], &answer["expires_in"]),
        (&Value::Null, &Value::Null)
    );
    let expired = by_path(&up, "/v2/a/tags/list")
        .header("Authorization", format!("Bearer {token}"))
        .send()
        .await;
    assert!(
        expired
            .header("WWW-Authenticate")
            .unwrap()
            .ends_with("error=\"invalid_token\"")
    );
}

#[tokio::test]
async fn a_realm_can_live_on_the_registry_and_passwords_can_do() {
    let auth = Auth::bearer_on_own_host("/v2/token", TokenServer::builder()).open_ping();
    let up = FakeRegistry::builder().auth(auth).start().await;
    up.add_manifest("a", "v1", media_type::OCI_MANIFEST, "{}");
    assert_eq!(by_path(&up, "/v2/").send().await.status, 200);
    let challenge = by_path(&up, "/v2/a/tags/list").send().await;
    assert!(
        challenge
            .header("WWW-Authenticate")
            .unwrap()
            .contains(&format!("realm=\"{}/v2/token\"", up.url()))
    );
    let token = token_of(&by_path(&up, "/v2/token?scope=repository:a:pull").send().await);
    let listed = by_path(&up, "/v2/a/tags/list")
        .header("Authorization", format!("Bearer {token}"))
        .send()
        .await;
    assert_eq!(listed.status, 200);

    let basic = Auth::basic(&[("u", "p")]).challenge(&["BASIC realm=\"Sonatype Nexus Repository Manager\""]);
    let up = FakeRegistry::builder().auth(basic).start().await;
    let refused = by_path(&up, "/v2/a/tags/list").send().await;
    assert!(refused.header("WWW-Authenticate").unwrap().starts_with("BASIC "));
    assert_eq!(
        by_path(&up, "/v2/")
            .header("Authorization", "Basic dTpw")
            .send()
            .await
            .status,
        200
    );
}

/// A client on this address of loopback.
fn client_at(address: IpAddr) -> reqwest::Client {
    reqwest::Client::builder().local_address(address).build().unwrap()
}

#[tokio::test]
async fn each_client_s_fetches_are_counted_wherever_the_bytes_came_from() {
    let tokens = TokenServer::builder().bind("127.0.0.4").start().await;
    let cdn = Cdn::builder().bind("127.0.0.3").start().await;
    let auth = Auth::bearer(&tokens);
    let up = FakeRegistry::builder().bind("127.0.0.2").auth(auth).start().await;
    up.redirect_blobs(307, &cdn);
    let (one, other) = (up.add_blob("a", random(10)), up.add_blob("a", random(20)));
    let (first, second): (IpAddr, IpAddr) = ("127.0.0.5".parse().unwrap(), "127.0.0.6".parse().unwrap());
    for (peer, digest) in [(first, &one), (second, &one), (second, &other)] {
        let client = client_at(peer);
        let ask = format!("{}?scope=repository:a:pull", tokens.realm());
        let token = client.get(ask).send().await.unwrap().bytes().await.unwrap();
        let token: Value = serde_json::from_slice(&token).unwrap();
        let blob = || client.get(format!("{}/v2/a/blobs/{digest}", up.url()));
        assert_eq!(blob().send().await.unwrap().status(), 401);
        let answer = blob()
            .bearer_auth(token["token"].as_str().unwrap())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
    let expected = BTreeMap::from([
        ((first, one.clone()), 1),
        ((second, one), 1),
        ((second, other), 1),
    ]);
    assert_eq!(up.blob_fetches(), expected);
    assert_eq!(cdn.blob_fetches(), expected);
    assert_eq!(tokens.blob_fetches(), BTreeMap::new());
    assert!(tokens.host().starts_with("127.0.0.4:") && tokens.requests()[0].request.peer == first);
}

#[tokio::test]
async fn a_host_can_have_a_port_of_its_own_choice() {
    let free = FakeRegistry::builder().bind("127.0.0.2").start().await;
    let address: SocketAddr = free.host().parse().unwrap();
    let up = FakeRegistry::builder()
        .bind("127.0.0.3")
        .port(address.port())
        .start()
        .await;
    assert_eq!(up.host(), format!("127.0.0.3:{}", address.port()));
    assert_eq!(by_path(&up, "/v2/").send().await.status, 200);
}
