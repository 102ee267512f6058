//! Rows about fetching: one transfer, whoever comes and goes, bounded and never half.

use super::*;

/// E1: however many ask, blobs and manifests cross once.
#[tokio::test]
async fn e1_a_herd_causes_one_transfer() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(1, 4 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    up.script(on_any(), Action::delay_head(Duration::from_millis(100)));
    let node = node(&up).await;
    for answer in at_once(50, manifest(&node.url(), "v1")).await {
        assert_eq!((answer.status, &answer.digest), (200, &image.digest));
    }
    assert_eq!(up.count(on_any_manifest()), 1);
    for (digest, bytes) in image.blobs() {
        for answer in at_once(50, blob(&node.url(), &digest)).await {
            answer.assert_whole(&digest);
        }
        assert_eq!(up.count(on_blob(&digest)), 1);
        assert_eq!(up.body_bytes_sent(&digest), bytes.len() as u64);
    }
}

/// E1: manifests by digest, which no tag has named before.
#[tokio::test]
async fn e1_a_herd_for_a_digest_causes_one_request() {
    let up = FakeRegistry::builder().start().await;
    let digest = ImageBuilder::new().build().push_to(&up, "acme/app", "v1");
    up.script(on_any(), Action::delay_head(Duration::from_millis(100)));
    let node = node(&up).await;
    for answer in at_once(50, manifest(&node.url(), &digest)).await {
        assert_eq!((answer.status, &answer.digest), (200, &digest));
    }
    assert_eq!(up.count(on_any()), 1);
}

/// E2, E3: the first client is no leader: it goes, and those behind it notice nothing.
#[tokio::test]
async fn e2_e3_followers_survive_the_first_client() {
    let up = FakeRegistry::builder().start().await;
    let content = random(8 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(
        on_any_blob(),
        Action::pause_after(4 << 20, Duration::from_millis(500)),
    );
    let node = node(&up).await;
    let first = tokio::spawn(blob(&node.url(), &digest).leave_after(1 << 20).send());
    up.wait_for_count(on_blob(&digest), 1, SOON).await;
    let others = at_once(10, blob(&node.url(), &digest)).await;
    assert_eq!(first.await.unwrap().end, End::Left);
    for answer in others {
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert!(answer.body == content);
    }
    assert_eq!(up.count(on_blob(&digest)), 1);
    assert_eq!(up.body_bytes_sent(&digest), 8 << 20);
}

/// E2: readers of any part of a cold blob race, and each has its own bytes.
#[tokio::test]
async fn e2_racing_ranges_get_their_own_bytes() {
    let up = FakeRegistry::builder().start().await;
    let content = random(6 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob(), Action::rate(16 << 20));
    let node = node(&up).await;
    let calls = (0..12_usize).map(|i| {
        let (start, end) = (i * 500_000, i * 500_000 + 70_000);
        let call = blob(&node.url(), &digest).range(&format!("{start}-{}", end - 1));
        tokio::spawn(async move { (start..end, call.send().await) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (range, answer) = call.await.unwrap();
        assert_eq!((answer.status, answer.end), (206, End::Complete));
        assert!(answer.body == content[range.clone()], "{range:?}");
    }
    assert_eq!(blob(&node.url(), &digest).send().await.digest, digest);
}

/// E3: nobody is left, and the fill ends all the same.
#[tokio::test]
async fn e3_a_fill_outlives_its_only_client() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_virtual_blob("acme/app", 24 << 20);
    let node = node(&up).await;
    let left = blob(&node.url(), &digest).leave_after(64 << 10).send().await;
    assert_eq!(left.end, End::Left);
    until("the blob is stored", async || {
        blob_file(&node.cache_dir(), &digest).try_exists().unwrap()
    })
    .await;
    up.close();
    let whole = blob(&node.url(), &digest).discard_body().send().await;
    assert_eq!((whole.status, &whole.digest), (200, &digest));
    assert_eq!(up.body_bytes_sent(&digest), 24 << 20);
}

/// E4: an upstream that is silent in the middle of a body is left and asked for the rest.
#[tokio::test]
async fn e4_a_stalled_body_is_resumed() {
    let up = FakeRegistry::builder().start().await;
    let content = random(4 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob().once(), Action::stall_after(2 << 20));
    let mut limits = impatient();
    limits.fill.idle = Duration::from_millis(300);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let whole = blob(&node.url(), &digest).send().await;
    assert_eq!((whole.status, whole.end), (200, End::Complete));
    assert!(whole.body == content);
    assert_eq!(up.count(on_blob(&digest).ranged()), 1);
}

/// E4: one that never brings anything more ends the answer short, by FIN, and no task is left.
#[tokio::test]
async fn e4_an_upstream_that_stays_silent_ends_the_fill() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob("acme/app", random(4 << 20));
    up.script(on_any_blob().once(), Action::stall_after(2 << 20));
    up.script(on_any_blob(), Action::hang());
    let mut limits = impatient();
    limits.fill.idle = Duration::from_millis(100);
    limits.fill.resumes = 2;
    limits.upstream.header = Duration::from_millis(100);
    limits.upstream.total = Duration::from_millis(300);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let cut = blob(&node.url(), &digest).send().await;
    assert_eq!((cut.status, cut.end), (200, End::FinShort));
    until("the fill has ended", async || {
        metric(&node.admin_url(), "larder_fills_running").await == 0
    })
    .await;
}

/// E4: a repository that hangs holds up nobody else: no lock is held over the network.
#[tokio::test]
async fn e4_what_hangs_holds_up_nothing_else() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(1, 2 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    up.script(on_any().repo("acme/slow"), Action::hang());
    let node = node(&up).await;
    let slow = format!("{}/v2/acme/slow", node.url());
    let digest = sha256(b"never");
    let hanging: Vec<_> = [
        "manifests/v1".to_owned(),
        format!("manifests/{digest}"),
        format!("blobs/{digest}"),
    ]
    .iter()
    .map(|path| tokio::spawn(Call::get(&format!("{slow}/{path}?ns=up.test")).send()))
    .collect();
    up.wait_for_count(on_any().repo("acme/slow"), 3, SOON).await;
    assert_eq!(manifest(&node.url(), "v1").send().await.digest, image.digest);
    for (digest, _) in image.blobs() {
        assert_eq!(blob(&node.url(), &digest).send().await.digest, digest);
    }
    assert!(hanging.iter().all(|call| !call.is_finished()), "they hang still");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

/// E4: fills are bounded; the one too many is told to come back, and what is filling is never refused.
#[tokio::test]
async fn e4_fills_are_bounded_in_number() {
    let up = FakeRegistry::builder().start().await;
    let running = up.add_blob("acme/app", random(4 << 20));
    let other = up.add_blob("acme/app", random(4 << 20));
    up.script(on_blob(&running), Action::stall_after(2 << 20));
    let mut limits = impatient();
    limits.fill.fills = 1;
    limits.fill.head = Duration::from_millis(400);
    let node = InProcessNode::start(&mirror(&up), limits).await;
    let first = blob(&node.url(), &running).leave_after(1 << 20).send().await;
    assert_eq!(first.end, End::Left);
    let refused = blob(&node.url(), &other).send().await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let joined = blob(&node.url(), &running).leave_after(1 << 20).send().await;
    assert_eq!((joined.status, joined.end), (200, End::Left));
}

/// E5: a page or an error document with status 200 is no blob: 502, nothing kept, and right as soon as upstream is.
#[tokio::test]
async fn e5_a_page_is_never_stored_as_a_blob() {
    let bodies = [
        (
            "text/html",
            "<!DOCTYPE html><html><body>Sign in to the hotel's network</body></html>",
        ),
        (
            "application/json",
            r#"{"errors":[{"code":"UNKNOWN","message":"try later"}]}"#,
        ),
        ("application/octet-stream", "neither a page nor the blob"),
    ];
    for (kind, body) in bodies {
        let up = FakeRegistry::builder().start().await;
        let content = random(200_000);
        let digest = up.add_blob("acme/app", content.clone());
        up.script(
            on_any_blob(),
            Action::respond(200, body).and(Action::header("Content-Type", kind)),
        );
        let node = node(&up).await;
        let answer = blob(&node.url(), &digest).send().await;
        assert_eq!(answer.status, 502, "{kind}");
        assert!(!answer.text().contains("hotel"));
        assert!(!blob_file(&node.cache_dir(), &digest).try_exists().unwrap());
        up.clear_script();
        assert!(blob(&node.url(), &digest).send().await.body == content, "{kind}");
    }
}

/// E5: a body that ends short, in whatever way, is never kept as whole, and never passed on as whole.
#[tokio::test]
async fn e5_a_truncated_body_is_completed_or_refused() {
    let cuts = [
        ("fin", Action::cut_fin(1 << 20)),
        ("rst", Action::cut_rst(1 << 20)),
        ("chunked abort", Action::chunked_abort(1 << 20)),
        ("clean but short", Action::shorten_to(1 << 20)),
        ("chunked, clean but short", Action::chunked_short(1 << 20)),
    ];
    for (name, cut) in cuts {
        let up = FakeRegistry::builder().start().await;
        let image = ImageBuilder::new().random_layer(3, 3 << 20).build();
        image.push_to(&up, "acme/app", "v1");
        let (digest, content) = image.blobs()[1].clone();
        up.script(on_blob(&digest).get().once(), cut);
        let node = node(&up).await;
        // The manifest tells the blob's length.
        manifest(&node.url(), "v1").send().await;
        let mut answer = blob(&node.url(), &digest).send().await;
        if answer.status != 200 {
            answer = blob(&node.url(), &digest).send().await;
        }
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{name}");
        assert!(answer.body == content, "{name}");
    }
}

/// E5: a 206 that nobody asked for, or of another range than was asked for, is not stored as the whole.
#[tokio::test]
async fn e5_an_unasked_206_is_not_the_whole() {
    let up = FakeRegistry::builder().start().await;
    let content = random(3 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    let half = Action::shorten_to(1 << 20)
        .and(Action::set_status(206))
        .and(Action::content_range(format!(
            "bytes 0-{}/{}",
            (1 << 20) - 1,
            3 << 20
        )));
    up.script(on_any_blob().once(), half);
    let node = node(&up).await;
    let mut answer = blob(&node.url(), &digest).send().await;
    if answer.status != 200 {
        assert_eq!(answer.status, 502);
        answer = blob(&node.url(), &digest).send().await;
    }
    assert_eq!(answer.end, End::Complete);
    assert!(answer.body == content);
}

/// E5: a blob that was missing once is not missing for ever.
#[tokio::test]
async fn e5_a_missing_blob_is_asked_for_again() {
    let up = FakeRegistry::builder().start().await;
    let content = random(1000);
    let digest = sha256(&content);
    let node = node(&up).await;
    assert_eq!(blob(&node.url(), &digest).send().await.status, 404);
    up.add_blob("acme/app", content.clone());
    assert_eq!(blob(&node.url(), &digest).send().await.body, content);
}

/// E23: two names for one content, asked for at once, while temporary files come and go.
#[tokio::test]
async fn e23_concurrent_writers_of_one_content_agree() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().build();
    let content = random(3 << 20);
    let digest = sha256(&content);
    for repo in ["acme/app", "acme/other"] {
        up.add_blob(repo, content.clone());
        for tag in ["one", "two"] {
            image.push_to(&up, repo, tag);
        }
    }
    let node = node(&up).await;
    let mut calls = Vec::new();
    for repo in ["acme/app", "acme/other"] {
        for path in ["manifests/one", "manifests/two", &format!("blobs/{digest}")] {
            let url = format!("{}/v2/{repo}/{path}?ns=up.test", node.url());
            calls.extend((0..5).map(|_| tokio::spawn(Call::get(&url).send())));
        }
    }
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert!(answer.body == content || answer.body == image.manifest);
    }
    assert_eq!(up.body_bytes_sent(&digest), 3 << 20, "once for both names");
    until("nothing temporary is left", async || {
        files_in(&node.cache_dir(), "tmp") + files_in(&node.cache_dir(), "partials/sha256") == 0
    })
    .await;
}
