//! Rows about upstreams: credentials, redirects, HTTP/2, streaming, and none at all.

use super::*;

/// Docker Hub's shape: a token server beside the registry, with one user who may pull everything.
async fn with_tokens() -> (TokenServer, FakeRegistry) {
    let tokens = TokenServer::builder()
        .no_anonymous()
        .user("robot", "hunter2", &["*"])
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    (tokens, up)
}

/// A configuration that speaks to `up` by the Secret `robot`.
fn as_robot(up: &FakeRegistry) -> MirrorConfig {
    let endpoint = Endpoint::new(up.url())
        .credential("robot", &["**"])
        .trust_realm("127.0.0.1")
        .trust_loopback();
    MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint))
}

/// E14: a 401 is not remembered: as soon as there is a credential the pull works, without a restart.
#[tokio::test]
async fn e14_a_refusal_is_not_cached() {
    let (_tokens, up) = with_tokens().await;
    let digest = up.add_blob("acme/app", random(1000));
    let mut limits = impatient();
    limits.poll = Duration::from_millis(20);
    let node = InProcessNode::start(&as_robot(&up), limits).await;
    let refused = blob(&node.url(), &digest).send().await;
    assert!(matches!(refused.status, 403 | 404), "{}", refused.status);
    assert_eq!(refused.header("www-authenticate"), None);
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "hunter2");
    until("the new Secret is used", async || {
        blob(&node.url(), &digest).send().await.status == 200
    })
    .await;
}

/// E14: a token that upstream no longer takes is replaced once for all who notice at the same time.
#[tokio::test]
async fn e14_a_lost_token_is_renewed_once() {
    let (tokens, up) = with_tokens().await;
    let blobs: Vec<_> = (0..20).map(|_| up.add_blob("acme/app", random(1000))).collect();
    let node = InProcessNode::start(&as_robot(&up), impatient()).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "hunter2");
    assert_eq!(blob(&node.url(), &blobs[0]).send().await.status, 200);
    let before = tokens.requests().len();
    tokens.revoke_all();
    tokens.script(on_any(), Action::delay_head(Duration::from_millis(300)));
    let calls: Vec<_> = blobs[1..]
        .iter()
        .map(|digest| tokio::spawn(blob(&node.url(), digest).send()))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    assert_eq!(tokens.requests().len() - before, 1);
}

/// E14: a registry that wants a password on every request gets it, and nobody else does.
#[tokio::test]
async fn e14_basic_works_and_stays_with_its_host() {
    let up = FakeRegistry::builder()
        .auth(Auth::basic(&[("robot", "hunter2")]))
        .start()
        .await;
    let cdn = Cdn::builder()
        .bind("127.0.0.2")
        .rejects_authorization()
        .start()
        .await;
    let digest = up.add_blob("acme/app", random(2 << 20));
    up.redirect_blobs(307, &cdn);
    let node = InProcessNode::start(&as_robot(&up), impatient()).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "hunter2");
    assert_eq!(blob(&node.url(), &digest).send().await.digest, digest);
    assert!(!cdn.saw_authorization());
}

/// E14: a client's own credential, whatever it is, opens nothing and goes nowhere.
#[tokio::test]
async fn e14_a_clients_credential_is_not_forwarded() {
    let up = FakeRegistry::builder()
        .auth(Auth::basic(&[("robot", "hunter2")]))
        .start()
        .await;
    let digest = up.add_blob("acme/app", random(1000));
    let node = node(&up).await;
    let own = blob(&node.url(), &digest).header("Authorization", "Basic cm9ib3Q6aHVudGVyMg==");
    let answer = own.header("Cookie", "session=1").send().await;
    assert!(matches!(answer.status, 403 | 404), "{}", answer.status);
    assert_eq!(up.count(on_any().has_header("Authorization")), 0);
    assert_eq!(up.count(on_any().has_header("Cookie")), 0);
}

/// E17: a signed address is used once; every transfer, resumed ones too, asks the registry for a new one.
#[tokio::test]
async fn e17_a_redirect_is_resolved_for_every_request() {
    for expired in [403, 410, 416] {
        let up = FakeRegistry::builder().start().await;
        let cdn = Cdn::builder().uses(1).expired(expired).start().await;
        let content = random(4 << 20);
        let digest = up.add_blob("acme/app", content.clone());
        up.redirect_blobs(307, &cdn);
        cdn.script(on_any().once(), Action::cut_fin(1 << 20));
        cdn.script(on_any().once(), Action::status(expired));
        let node = node(&up).await;
        let answer = blob(&node.url(), &digest).send().await;
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{expired}");
        assert!(answer.body == content);
        assert!(up.count(on_blob(&digest)) >= 3, "{}", up.count(on_blob(&digest)));
        let mut targets: Vec<_> = cdn.requests().iter().map(|e| e.request.target.clone()).collect();
        targets.sort();
        let asked = targets.len();
        targets.dedup();
        assert_eq!(targets.len(), asked, "an address was used twice");
        assert_eq!(answer.header("location"), None);
    }
}

/// E17: no signed address is ever written down.
#[tokio::test]
async fn e17_no_address_is_stored() {
    fn all_files(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let nested = entries.map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => all_files(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            // The socket of the tools.
            _ => Vec::new(),
        });
        nested.flatten().collect()
    }
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder().start().await;
    let digest = up.add_blob("acme/app", "x".repeat(2 << 20));
    up.redirect_blobs(302, &cdn);
    cdn.script(on_any(), Action::stall_after(1 << 20));
    let node = node(&up).await;
    assert_eq!(
        blob(&node.url(), &digest).leave_after(100 << 10).send().await.end,
        End::Left
    );
    let files = all_files(&node.cache_dir());
    assert!(!files.is_empty());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains("verify="),
            "{}",
            file.display()
        );
    }
}

/// E18: an HTTP/2 stream that is reset in the middle of a layer is resumed there; the client notices nothing.
#[tokio::test]
async fn e18_a_reset_stream_is_resumed() {
    let up = FakeRegistry::builder().http2().tls().start().await;
    let content = random(6 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob().nth(1), Action::cut_rst(2 << 20));
    up.script(on_any_blob().once(), Action::cut_fin(2 << 20));
    let endpoint = Endpoint::new(up.url()).insecure();
    let config = MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint));
    let node = InProcessNode::start(&config, impatient()).await;
    let answer = blob(&node.url(), &digest).send().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert!(answer.body == content);
    let requests = up.requests_on(on_blob(&digest));
    assert!(requests.iter().all(|e| e.request.http2), "{requests:?}");
    assert_eq!(requests.len(), 3);
    assert_eq!(up.count(on_blob(&digest).ranged()), 2);
}

/// E20: bytes go out as they come in: the client has most of a blob of which upstream still holds the end back.
#[tokio::test]
async fn e20_a_cold_blob_streams() {
    let up = FakeRegistry::builder().start().await;
    let content = random(8 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob(), Action::stall_after(6 << 20));
    let node = node(&up).await;
    let early = blob(&node.url(), &digest)
        .leave_after((6 << 20) - (64 << 10))
        .send()
        .await;
    assert_eq!((early.status, early.end), (200, End::Left));
    assert!(early.body == content[..early.body.len()]);
}

/// E20: memory does not grow with the blob.
#[tokio::test]
async fn e20_memory_is_bounded() {
    const PEAK_KIB_MAX: u64 = 100 << 10;
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_virtual_blob("acme/app", 192 << 20);
    let node = NodeProcess::start(&mirror(&up)).await;
    for answer in at_once(4, blob(&node.url(), &digest).discard_body()).await {
        assert_eq!((answer.status, &answer.digest), (200, &digest));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < PEAK_KIB_MAX, "{peak_kib} KiB");
}

/// E22: what is here by digest asks nobody, however long upstream has been away.
#[tokio::test]
async fn e22_digests_need_no_upstream() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(1, 2 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    let config = MirrorConfig::new().with(registry(&up).ttl("0s").serve_stale_for("24h"));
    let node = InProcessNode::start(&config, impatient()).await;
    let pull = async || {
        assert_eq!(manifest(&node.url(), "v1").send().await.digest, image.digest);
        assert_eq!(
            manifest(&node.url(), &image.digest).send().await.digest,
            image.digest
        );
        for (digest, _) in image.blobs() {
            assert_eq!(blob(&node.url(), &digest).send().await.digest, digest);
        }
    };
    pull().await;
    let asked = up.requests().len();
    up.close();
    pull().await;
    up.reopen().await;
    pull().await;
    let later = up.requests();
    assert!(
        later[asked..]
            .iter()
            .all(|e| e.request.target.ends_with("/manifests/v1")),
        "only the tag"
    );
}

/// E24: a head is sent once, however often upstream had to be asked for it.
#[tokio::test]
async fn e24_retries_do_not_show_in_the_head() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(1, 3 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    let layer = image.blobs()[1].0.clone();
    up.script(on_any_manifest().once(), Action::status(503));
    up.script(on_any_blob().once(), Action::status(503));
    up.script(on_any_blob().once(), Action::cut_fin(1 << 20));
    let node = node(&up).await;
    for path in ["manifests/v1", &format!("blobs/{layer}")] {
        let answer = Call::get(&format!("{}/v2/acme/app/{path}?ns=up.test", node.url()))
            .send()
            .await;
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{path}");
        let mut names: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        names.sort();
        let mut once = names.clone();
        once.dedup();
        assert_eq!(names, once, "{path}");
        assert_eq!(answer.header("oci-namespace"), Some("up.test"));
        assert_eq!(
            answer.header("docker-content-digest"),
            Some(answer.digest.as_str())
        );
    }
    assert_eq!(up.count(on_blob(&layer)), 3);
}
