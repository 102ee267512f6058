//! The listeners: which addresses, what is answered on which, and what is said when one cannot be had.

use super::*;

/// `serve` on these addresses, without a configuration.
fn serve(listen: &str, admin: &str, metrics: &str, cache: &std::path::Path) -> Command {
    let mut command = cache_node(&[
        "serve",
        "--listen",
        listen,
        "--admin",
        admin,
        "--metrics",
        metrics,
    ]);
    command.arg("--cache-dir").arg(cache);
    command
}

fn scratch() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("larder-listeners-{:016x}", fastrand::u64(..)))
}

#[tokio::test]
async fn listeners_may_be_ipv6() {
    let cache = scratch();
    let [listen, admin, metrics] = ["::1"; 3].map(free);
    assert!(listen.starts_with("[::1]:"));
    let mut child = spawn(&mut serve(&listen, &admin, &metrics, &cache));
    until_ready(&admin).await;
    for path in [
        format!("{listen}/v2/"),
        format!("{admin}/livez"),
        format!("{admin}/statusz"),
        format!("{metrics}/conditions"),
    ] {
        assert_eq!(
            Call::get(&format!("http://{path}")).send().await.status,
            200,
            "{path}"
        );
    }
    child.kill().await.unwrap();
    std::fs::remove_dir_all(cache).unwrap();
}

#[tokio::test]
async fn a_taken_port_is_said_and_is_1() {
    let cache = scratch();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for (index, flag) in ["--listen", "--admin", "--metrics"].into_iter().enumerate() {
        let mut addresses = ["127.0.0.1"; 3].map(free);
        addresses[index].clone_from(&taken);
        let [listen, admin, metrics] = addresses;
        let (code, _, errors) = said(serve(&listen, &admin, &metrics, &cache).output().await.unwrap());
        assert_eq!(code, 1, "{flag}");
        let message = errors.lines().last().unwrap();
        for part in [flag, taken.as_str(), "in use"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    std::fs::remove_dir_all(cache).unwrap();
}

/// Root may write anywhere, so the directory is one that nobody can make: below a file.
#[tokio::test]
async fn an_unusable_cache_directory_is_said_and_is_1() {
    let file = scratch();
    std::fs::write(&file, "").unwrap();
    let [listen, admin, metrics] = ["127.0.0.1"; 3].map(free);
    let (code, _, errors) = said(
        serve(&listen, &admin, &metrics, &file.join("cache"))
            .output()
            .await
            .unwrap(),
    );
    assert_eq!(code, 1);
    let message = errors.lines().last().unwrap();
    for part in ["cache directory", "--cache-dir", file.to_str().unwrap()] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(std::net::TcpStream::connect(&listen).is_err());
    std::fs::remove_file(file).unwrap();
}

/// Each page on its listener, and only there.
#[tokio::test]
async fn pages_are_on_their_listeners_only() {
    let up = registry_with_image().await;
    let config = MirrorConfig::new().registry("up.test", up.url());
    let node = NodeProcess::start(&config).await;
    let (runtime, admin, public) = (node.url(), node.admin_url(), node.metrics_url());
    for (path, expected) in [
        ("/v2/", [200, 404, 404]),
        ("/livez", [404, 200, 200]),
        ("/readyz", [404, 200, 200]),
        ("/metrics", [404, 200, 200]),
        ("/statusz", [404, 200, 404]),
        ("/conditions", [404, 404, 200]),
        ("/v2/acme/app/manifests/v1?ns=up.test", [200, 404, 404]),
    ] {
        for (base, status) in [&runtime, &admin, &public].into_iter().zip(expected) {
            let answer = Call::get(&format!("{base}{path}")).send().await;
            assert_eq!(answer.status, status, "{base}{path}");
        }
    }
    let posted = Call::new("POST", &format!("{admin}/statusz")).send().await;
    assert_eq!(posted.status, 405, "nothing here changes anything");
}

/// A web page whose name was bound anew to 127.0.0.1 must not read what the node pulls.
#[tokio::test]
async fn statusz_answers_to_local_names_only() {
    let node = NodeProcess::start(&MirrorConfig::new().registry("up.test", "http://127.0.0.1:1")).await;
    let port = node.admin_url().rsplit(':').next().unwrap().to_owned();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("[::1]".to_owned(), 200),
        ("evil.test".to_owned(), 403),
        (format!("evil.test:{port}"), 403),
        ("127.0.0.1.evil.test".to_owned(), 403),
    ] {
        let call = Call::get(&format!("{}/statusz", node.admin_url())).header("Host", &host);
        assert_eq!(call.send().await.status, status, "{host}");
    }
}

/// What other machines may read explains what is wrong and names no image.
#[tokio::test]
async fn the_public_pages_name_no_image() {
    let up = registry_with_image().await;
    let config = MirrorConfig::new()
        .registry("up.test", up.url())
        .registry("closed.test", "http://127.0.0.1:1");
    let node = NodeProcess::start(&config).await;
    assert_eq!(status(&node.url(), "up.test").await, 200);
    assert_eq!(status(&node.url(), "closed.test").await, 502);
    let conditions = Call::get(&format!("{}/conditions", node.metrics_url()))
        .send()
        .await;
    let reasons = conditions.json();
    assert_eq!(reasons["conditions"][0]["reason"], "UpstreamUnreachable");
    assert_eq!(reasons["conditions"][0]["registry"], "closed.test");
    assert_eq!(reasons["conditions"].as_array().unwrap().len(), 1, "{reasons}");
    let metrics = Call::get(&format!("{}/metrics", node.metrics_url()))
        .send()
        .await
        .text();
    assert!(metrics.contains("larder_requests_total{"), "{metrics}");
    for text in [metrics, conditions.text()] {
        assert!(!text.contains("acme") && !text.contains("sha256"), "{text}");
    }
    let ready = Call::get(&format!("{}/readyz", node.metrics_url())).send().await;
    assert_eq!(ready.status, 200, "an upstream's failure is not the node's");
}
