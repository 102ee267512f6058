//! What the process takes from the machine around it: authorities for every registry, descriptors, addresses.

use std::fs;

use super::*;

/// Missing, it is a condition and no reason not to start; there, it is trusted; changed, it is read again.
#[tokio::test]
async fn a_ca_bundle_for_every_registry_may_come_later() {
    let authority = CertificateAuthority::new();
    let up = FakeRegistry::builder().tls_by(&authority).start().await;
    ImageBuilder::new().build().push_to(&up, "acme/app", "v1");
    let files = tempfile::tempdir().unwrap();
    let bundle = files.path().join("ca.crt");
    let registry = Registry::new("up.test")
        .endpoint(Endpoint::new(up.url()))
        .ttl("0s")
        .serve_stale_for("0s");
    let node = NodeProcess::builder()
        .config(&MirrorConfig::new().with(registry))
        .arg("--ca-bundle")
        .arg(&bundle)
        .start()
        .await;
    let reasons = async || {
        let report = Call::get(&format!("{}/conditions", node.metrics_url()))
            .send()
            .await;
        let conditions = report.json()["conditions"].as_array().unwrap().clone();
        let reasons = conditions
            .iter()
            .map(|c| c["reason"].as_str().unwrap().to_owned());
        reasons.collect::<Vec<_>>()
    };
    until("the bundle is missed", async || {
        reasons().await.contains(&"CaBundleMissing".to_owned())
    })
    .await;
    assert_eq!(status(&node.url(), "up.test").await, 502);
    fs::write(&bundle, authority.pem()).unwrap();
    until("it is trusted", async || {
        status(&node.url(), "up.test").await == 200
    })
    .await;
    until("nothing is missed", async || reasons().await.is_empty()).await;
    fs::write(&bundle, CertificateAuthority::new().pem()).unwrap();
    until("another one is trusted", async || {
        status(&node.url(), "up.test").await == 502
    })
    .await;
}

#[tokio::test]
async fn the_process_may_open_as_many_files_as_the_machine_allows() {
    let node = NodeProcess::start(&MirrorConfig::new().registry("up.test", "http://127.0.0.1:1")).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}

/// Kubelet puts an IPv6 address in without brackets; every address at once is warned of.
#[tokio::test]
async fn the_metrics_address_may_lack_brackets() {
    for (ip, is_warned_of) in [("::1", false), ("::", true)] {
        let cache = tempfile::tempdir().unwrap();
        let [listen, admin] = ["127.0.0.1"; 2].map(free);
        let metrics = free("::1").replace("[::1]", ip);
        let mut command = cache_node(&[
            "serve",
            "--listen",
            &listen,
            "--admin",
            &admin,
            "--metrics",
            &metrics,
        ]);
        let mut child = spawn(command.arg("--cache-dir").arg(cache.path()));
        until_ready(&admin).await;
        let port = metrics.rsplit(':').next().unwrap();
        assert_eq!(
            Call::get(&format!("http://[::1]:{port}/livez"))
                .send()
                .await
                .status,
            200
        );
        child.start_kill().unwrap();
        let errors = String::from_utf8(child.wait_with_output().await.unwrap().stderr).unwrap();
        assert_eq!(errors.contains("every address"), is_warned_of, "{errors}");
    }
}
