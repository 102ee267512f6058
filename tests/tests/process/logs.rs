//! The log: one line per request, in JSON when nobody looks, and no secret in it.

use serde_json::Value;

use super::*;

/// The access lines of the output so far.
fn access(output: &str) -> Vec<Value> {
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "access").collect()
}

/// Exactly one line per request, however it ends, with what explains it; and every line of the log is JSON.
#[tokio::test]
async fn each_request_has_one_line() {
    let up = registry_with_image().await;
    let digest = up.add_blob("acme/app", random(2 << 20));
    let node = NodeProcess::start(&MirrorConfig::new().registry("up.test", up.url())).await;
    let url = |path: &str| format!("{}/v2/acme/app/{path}?ns=up.test", node.url());
    let blob = url(&format!("blobs/{digest}"));
    let calls = [
        (Call::get(&url("manifests/v1")), "GET", 200, "tag", "ok"),
        (Call::head(&url("manifests/v1")), "HEAD", 200, "tag", "ok"),
        (Call::get(&blob), "GET", 200, "blob", "ok"),
        (Call::get(&blob).range("0-9"), "GET", 206, "blob", "ok"),
        (Call::get(&url("manifests/absent")), "GET", 404, "tag", "refused"),
        (
            Call::new("PUT", &url("manifests/v1")).body("{}"),
            "PUT",
            405,
            "other",
            "refused",
        ),
        (
            Call::get(&format!("{}/v2/", node.url())),
            "GET",
            200,
            "base",
            "ok",
        ),
    ];
    for (index, (call, method, status, kind, outcome)) in calls.into_iter().enumerate() {
        let answer = call.send().await;
        until("the line", async || access(&node.output()).len() > index).await;
        let lines = access(&node.output());
        assert_eq!(lines.len(), index + 1);
        let line = &lines[index];
        assert_eq!(line["method"], method, "{line}");
        assert_eq!(
            (&line["status"], &line["bytes"]),
            (&status.into(), &answer.received.into()),
            "{line}"
        );
        assert_eq!(
            (&line["kind"], &line["outcome"]),
            (&kind.into(), &outcome.into()),
            "{line}"
        );
        assert_eq!(line["level"], "INFO");
    }
    let lines = access(&node.output());
    assert_eq!(
        (&lines[0]["origin"], &lines[1]["origin"]),
        (&"upstream".into(), &"store".into())
    );
    assert_eq!(
        (&lines[2]["registry"], &lines[2]["repository"]),
        (&"up.test".into(), &"acme/app".into())
    );
    assert_eq!(lines[2]["reference"], digest);
    for line in node.output().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

/// A client that leaves has one line too, which says so and how much it was sent.
#[tokio::test]
async fn a_client_that_leaves_has_one_line() {
    let up = registry_with_image().await;
    let digest = up.add_blob("acme/app", random(8 << 20));
    up.script(on_any_blob(), Action::stall_after(4 << 20));
    let node = NodeProcess::start(&MirrorConfig::new().registry("up.test", up.url())).await;
    let url = format!("{}/v2/acme/app/blobs/{digest}?ns=up.test", node.url());
    assert_eq!(Call::get(&url).leave_after(1 << 20).send().await.end, End::Left);
    until("the line", async || !access(&node.output()).is_empty()).await;
    let lines = access(&node.output());
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["status"], &lines[0]["outcome"]),
        (&200.into(), &"client_left".into())
    );
    assert!(lines[0]["bytes"].as_u64().unwrap() >= 1 << 20);
}

/// A pull with a password, tokens and signed addresses leaves none of them in any line, at any level that a
/// person would set to look for a fault.
#[tokio::test]
async fn no_secret_is_logged() {
    const PASSWORD: &str = "hunter2-9f86d081";
    let tokens = TokenServer::builder()
        .no_anonymous()
        .user("robot", PASSWORD, &["*"])
        .start()
        .await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let cdn = Cdn::builder().start().await;
    let image = ImageBuilder::new().random_layer(1, 2 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    up.redirect_blobs(307, &cdn);
    // The CDN's failures are the interesting ones: errors like to name addresses.
    cdn.script(on_any().once(), Action::status(403));
    cdn.script(on_any().once(), Action::cut_fin(100));
    cdn.script(on_any().once(), Action::hangup_rst());
    tokens.script(on_any().once(), Action::hangup_rst());
    let endpoint = Endpoint::new(up.url())
        .credential("robot", &["**"])
        .trust_realm("127.0.0.1")
        .trust_loopback();
    let config = MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint));
    let mut node = NodeProcess::builder()
        .config(&config)
        .env("RUST_LOG", "debug")
        .prepare();
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", PASSWORD);
    node.launch().await;
    assert_eq!(status(&node.url(), "up.test").await, 200);
    for (digest, bytes) in image.blobs() {
        let url = format!("{}/v2/acme/app/blobs/{digest}?ns=up.test", node.url());
        let answer = Call::get(&url)
            .header("Authorization", "Bearer of-the-client-4c5d")
            .send()
            .await;
        assert!(answer.body == bytes, "{}", answer.status);
    }
    // A refused password is a failure with a log line of its own.
    tokens.set_password("robot", "another");
    tokens.revoke_all();
    Call::get(&format!("{}/v2/acme/app/manifests/absent?ns=up.test", node.url()))
        .send()
        .await;
    node.terminate().await;
    let output = node.output();
    assert!(
        output.contains("DEBUG") || output.contains("\"level\":\"DEBUG\""),
        "debug is on"
    );
    let used = up
        .requests()
        .into_iter()
        .filter_map(|e| e.request.header("Authorization").map(str::to_owned));
    let mut secrets: Vec<String> = used
        .filter_map(|value| value.split(' ').nth(1).map(str::to_owned))
        .collect();
    assert!(!secrets.is_empty());
    secrets.extend(tokens.requests().iter().filter_map(|e| {
        let value = e.request.header("Authorization")?;
        value.split(' ').nth(1).map(str::to_owned)
    }));
    secrets.extend(cdn.requests().iter().map(|e| e.request.query().to_owned()));
    secrets.extend([PASSWORD, "verify=", "of-the-client-4c5d"].map(str::to_owned));
    for secret in secrets {
        let line = output.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}
