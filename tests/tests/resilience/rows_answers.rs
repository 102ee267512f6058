//! Rows about what a client is told: heads, media types, ranges, errors, lists.

use super::*;

fn url(base: &str, path: &str) -> String {
    format!("{base}/v2/acme/app/{path}?ns=up.test")
}

/// E8: the head of a HEAD is that of the GET, cold and warm, and a HEAD of a blob moves no content.
#[tokio::test]
async fn e8_a_head_is_the_head_of_the_get() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(1, 5 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    let node = node(&up).await;
    let (layer, bytes) = image.blobs()[1].clone();
    let cold = Call::head(&url(&node.url(), &format!("blobs/{layer}")))
        .send()
        .await;
    assert_eq!(cold.status, 200);
    assert_eq!(
        cold.header("content-length"),
        Some(bytes.len().to_string().as_str())
    );
    assert_eq!(up.body_bytes_sent(&layer), 0);
    let wanted = [
        "content-length",
        "content-type",
        "docker-content-digest",
        "etag",
        "accept-ranges",
    ];
    for path in [
        "manifests/v1",
        &format!("manifests/{}", image.digest),
        &format!("blobs/{layer}"),
    ] {
        let head = Call::head(&url(&node.url(), path)).send().await;
        let get = Call::get(&url(&node.url(), path)).send().await;
        let warm = Call::head(&url(&node.url(), path)).send().await;
        for name in wanted {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
            assert_eq!(warm.header(name), get.header(name), "{path} {name}");
        }
        let length = head.header("content-length").unwrap();
        assert_eq!(length, get.body.len().to_string());
        assert!(head.body.is_empty() && head.end == End::Complete);
    }
}

/// E8: an empty blob has length 0 in its HEAD, and an error to a HEAD has no body but its headers.
#[tokio::test]
async fn e8_empty_blobs_and_errors_have_their_own_heads() {
    let up = FakeRegistry::builder().start().await;
    let empty = up.add_blob("acme/app", "");
    let node = node(&up).await;
    for _ in 0..2 {
        let head = Call::head(&url(&node.url(), &format!("blobs/{empty}")))
            .send()
            .await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("0")));
        assert_eq!(blob(&node.url(), &empty).send().await.end, End::Complete);
    }
    let absent = manifest_head(&node.url(), "absent").send().await;
    assert_eq!(
        (absent.status, absent.header("content-type")),
        (404, Some("application/json"))
    );
    assert!(absent.body.is_empty());
}

/// E9: upstream's media type is kept with the digest; without one the document's own, then its structure.
#[tokio::test]
async fn e9_a_manifest_keeps_its_media_type() {
    let up = FakeRegistry::builder().start().await;
    let unnamed_index = r#"{"schemaVersion":2,"manifests":[]}"#;
    let unnamed_image = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    let named = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
        media_type::DOCKER_LIST
    );
    up.add_manifest(
        "acme/app",
        "told",
        media_type::DOCKER_MANIFEST,
        unnamed_image.to_owned() + "\n",
    );
    for (tag, body) in [
        ("index", unnamed_index),
        ("image", unnamed_image),
        ("list", &named),
    ] {
        up.add_manifest("acme/app", tag, "", body.to_owned());
        up.script(on_manifest(tag), Action::without_header("Content-Type"));
    }
    let mut node = NodeProcess::start(&MirrorConfig::new().with(registry(&up).ttl("1h"))).await;
    for round in ["cold", "warm", "restarted"] {
        if round == "restarted" {
            node.restart().await;
        }
        for (tag, expected) in [
            ("told", media_type::DOCKER_MANIFEST),
            ("index", media_type::OCI_INDEX),
            ("image", media_type::OCI_MANIFEST),
            ("list", media_type::DOCKER_LIST),
        ] {
            let head = manifest_head(&node.url(), tag).send().await;
            assert_eq!(head.header("content-type"), Some(expected), "{tag} {round}");
        }
    }
}

/// E9: a blob is bytes, whatever the CDN calls it, and a manifest asked for as a blob is bytes too.
#[tokio::test]
async fn e9_a_blob_is_octets() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob("acme/app", random(1000));
    up.script(
        on_any_blob(),
        Action::set_header("Content-Type", "text/plain; charset=utf-8"),
    );
    let node = node(&up).await;
    let answer = blob(&node.url(), &digest).send().await;
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
}

/// E11: what upstream says, and what a client hears: never 401, never 500, never a success, always our JSON.
#[tokio::test]
async fn e11_e19_statuses_are_mapped() {
    let up = FakeRegistry::builder().start().await;
    let mut limits = impatient();
    limits.upstream.rate_limit_pause_default = Duration::ZERO;
    let node = InProcessNode::start(&mirror(&up), limits).await;
    for (upstream, expected) in [
        (404, &[404][..]),
        (401, &[404, 403]),
        (403, &[403, 404]),
        (429, &[429]),
        (400, &[400, 404]),
        (405, &[400, 404]),
        (408, &[502, 503, 504]),
        (500, &[502, 503, 504]),
        (502, &[502, 503, 504]),
        (503, &[502, 503, 504]),
        (504, &[502, 503, 504]),
        (301, &[502]),
        (204, &[502]),
    ] {
        up.clear_script();
        let page =
            Action::respond(upstream, "<html>nginx</html>").and(Action::header("Content-Type", "text/html"));
        let limited = Action::header("Retry-After", "0");
        up.script(on_any(), if upstream == 429 { page.and(limited) } else { page });
        let digest = sha256(upstream.to_string().as_bytes());
        let paths = [
            "manifests/v1",
            &format!("manifests/{digest}"),
            &format!("blobs/{digest}"),
            "tags/list",
        ];
        for path in paths {
            let answer = Call::get(&url(&node.url(), path)).send().await;
            assert!(
                expected.contains(&answer.status),
                "{upstream} for {path} became {}",
                answer.status
            );
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert!(!answer.error_code().is_empty() && !answer.text().contains("nginx"));
            assert_eq!(answer.header("retry-after").is_some(), upstream == 429);
            let head = Call::head(&url(&node.url(), path)).send().await;
            assert!(
                expected.contains(&head.status),
                "{upstream} for HEAD {path} became {}",
                head.status
            );
        }
    }
}

/// E11: 429 keeps upstream's `Retry-After`, and what is here needs no upstream.
#[tokio::test]
async fn e11_a_limit_is_passed_on_but_not_for_what_is_here() {
    let up = FakeRegistry::builder().start().await;
    let (here, other) = (
        up.add_blob("acme/app", random(1000)),
        up.add_blob("acme/app", random(1000)),
    );
    let node = node(&up).await;
    assert_eq!(blob(&node.url(), &here).send().await.status, 200);
    up.script(on_any(), Action::rate_limited(120));
    let limited = blob(&node.url(), &other).send().await;
    assert_eq!(
        (limited.status, limited.error_code().as_str()),
        (429, "TOOMANYREQUESTS")
    );
    let seconds: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((100..=120).contains(&seconds), "{seconds}");
    assert_eq!(blob(&node.url(), &here).send().await.status, 200);
}

/// E11: whatever fails below HTTP is upstream's failure, within the time that a client waits.
#[tokio::test]
async fn e11_failures_below_http_are_502_503_504() {
    let silent = FakeRegistry::builder().start().await;
    silent.script(on_any(), Action::hang());
    let closed = FakeRegistry::builder().start().await;
    closed.close();
    let garbage = FakeRegistry::builder().start().await;
    garbage.script(on_any(), Action::raw("SSH-2.0-OpenSSH\r\n"));
    let hangup = FakeRegistry::builder().start().await;
    hangup.script(on_any(), Action::hangup_fin());
    let untrusted = FakeRegistry::builder().tls().start().await;
    let plain = FakeRegistry::builder().start().await;
    let mut limits = impatient();
    limits.upstream.connect = Duration::from_millis(500);
    limits.upstream.header = Duration::from_millis(200);
    limits.upstream.total = Duration::from_secs(2);
    let hosts = [
        ("silent.test", silent.url()),
        ("closed.test", closed.url()),
        ("garbage.test", garbage.url()),
        ("hangup.test", hangup.url()),
        ("untrusted.test", untrusted.url()),
        ("nottls.test", plain.url().replace("http:", "https:")),
        ("nowhere.test", "http://nowhere.invalid".to_owned()),
    ];
    let config = hosts.iter().fold(MirrorConfig::new(), |config, (host, url)| {
        config.registry(host, url)
    });
    let node = InProcessNode::start(&config, limits).await;
    let digest = sha256(b"never");
    for (host, _) in &hosts {
        for path in ["manifests/v1", &format!("blobs/{digest}")] {
            let url = format!("{}/v2/acme/app/{path}?ns={host}", node.url());
            let answer = Call::get(&url).timeout(Duration::from_secs(25)).send().await;
            assert!(
                matches!(answer.status, 502..=504),
                "{host} {path} became {}",
                answer.status
            );
            assert_eq!(answer.error_code(), "UNAVAILABLE");
        }
    }
}

/// E11: a manifest that cannot be kept is still an answer: the disk's trouble is not the pull's.
#[tokio::test]
async fn e11_a_manifest_is_answered_without_a_disk() {
    let up = FakeRegistry::builder().start().await;
    let digest = ImageBuilder::new().build().push_to(&up, "acme/app", "v1");
    let node = node(&up).await;
    std::fs::remove_dir_all(node.cache_dir()).unwrap();
    for reference in ["v1", &digest] {
        let answer = manifest(&node.url(), reference).send().await;
        assert_eq!((answer.status, &answer.digest), (200, &digest));
    }
}

/// E12: a 206 is honest on a miss, in a fill, from the store, and when upstream ignores ranges.
#[tokio::test]
async fn e12_a_206_is_always_honest() {
    for ignores_ranges in [false, true] {
        let up = FakeRegistry::builder().start().await;
        let content = random(3 << 20);
        let digest = up.add_blob("acme/app", content.clone());
        if ignores_ranges {
            up.script(on_any_blob(), Action::ignore_range());
        }
        let node = node(&up).await;
        let size = content.len();
        for _ in ["miss", "store"] {
            for (range, bytes) in [
                ("1000-1999", 1000..2000),
                ("3145000-", 3_145_000..size),
                ("-100", size - 100..size),
                ("3145000-9999999999", 3_145_000..size),
            ] {
                let answer = blob(&node.url(), &digest).range(range).send().await;
                assert_eq!((answer.status, answer.end), (206, End::Complete), "{range}");
                let told = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
                assert_eq!(answer.header("content-range"), Some(told.as_str()));
                assert!(answer.body == content[bytes], "{range}");
            }
            let beyond = blob(&node.url(), &digest).range("3145728-").send().await;
            assert_eq!(beyond.status, 416);
            assert_eq!(beyond.header("content-range"), Some("bytes */3145728"));
            for nonsense in ["0--1", "a-b"] {
                let whole = blob(&node.url(), &digest).range(nonsense).send().await;
                assert_eq!((whole.status, &whole.digest), (200, &digest), "{nonsense}");
            }
            let head = Call::head(&url(&node.url(), &format!("blobs/{digest}")))
                .send()
                .await;
            assert_eq!(head.header("accept-ranges"), Some("bytes"));
        }
    }
}

/// E19: every error is our own JSON, for every kind of request that finds nothing.
#[tokio::test]
async fn e19_every_error_is_json() {
    let up = FakeRegistry::builder().start().await;
    let node = node(&up).await;
    for (path, status) in [
        ("/v2/acme/app/manifests/absent?ns=up.test", 404),
        ("/v2/acme/app/manifests/absent?ns=unknown.test", 404),
        ("/v2/acme/app/blobs/sha256:short?ns=up.test", 400),
        ("/v2/Acme/app/manifests/v1?ns=up.test", 400),
        ("/v2/acme/app/tags/list?ns=up.test", 404),
        ("/v2/_catalog", 404),
        ("/", 404),
        ("/v1/_ping", 404),
    ] {
        let answer = Call::get(&format!("{}{path}", node.url())).send().await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        assert!(!answer.error_code().is_empty());
    }
    let put = Call::new("PUT", &url(&node.url(), "manifests/v1"))
        .body("{}")
        .send()
        .await;
    assert_eq!((put.status, put.error_code().as_str()), (405, "UNSUPPORTED"));
}

/// E21: `ns` and the path prefix choose the upstream and go no further; a port in the prefix is no repository.
#[tokio::test]
async fn e21_the_namespace_is_not_forwarded() {
    let up = FakeRegistry::builder().start().await;
    let digest = ImageBuilder::new().build().push_to(&up, "acme/app", "v1");
    let config = mirror(&up)
        .registry("local.test:5000", up.url())
        .default_registry("up.test");
    let node = InProcessNode::start(&config, impatient()).await;
    for path in [
        "acme/app/manifests/v1?ns=up.test",
        "up.test/acme/app/manifests/v1",
        "local.test:5000/acme/app/manifests/v1",
        "acme/app/manifests/v1?ns=local.test%3A5000",
        "acme/app/manifests/v1",
    ] {
        let answer = Call::get(&format!("{}/v2/{path}", node.url())).send().await;
        assert_eq!((answer.status, &answer.digest), (200, &digest), "{path}");
    }
    for exchange in up.requests() {
        assert_eq!(exchange.request.target, "/v2/acme/app/manifests/v1");
    }
}

/// E21: pages of tags: `n` and `last` reach upstream, and the `Link` leads back to us and on to the end.
#[tokio::test]
async fn e21_tags_are_paged_through_us() {
    let up = FakeRegistry::builder().start().await;
    let digest = ImageBuilder::new().build().push_to(&up, "acme/app", "t0");
    (1..5).for_each(|i| up.tag("acme/app", &format!("t{i}"), &digest));
    let node = node(&up).await;
    let mut next = Some("/v2/acme/app/tags/list?ns=up.test&n=2".to_owned());
    let mut tags = Vec::new();
    while let Some(path) = next {
        let page = Call::get(&format!("{}{path}", node.url())).send().await;
        assert_eq!(page.status, 200);
        tags.extend(page.json()["tags"].as_array().unwrap().clone());
        next = page.header("link").map(|link| {
            let path = link.strip_prefix('<').unwrap().split('>').next().unwrap();
            path.to_owned()
        });
    }
    assert_eq!(tags, ["t0", "t1", "t2", "t3", "t4"]);
    assert!(up.requests().iter().all(|e| !e.request.target.contains("ns=")));
    let after = Call::get(&format!(
        "{}/v2/acme/app/tags/list?ns=up.test&last=t3",
        node.url()
    ));
    assert_eq!(after.send().await.json()["tags"], serde_json::json!(["t4"]));
}
