//! Real containerd reads what is written: plain, merged, without fallback. `ctr` uses the same resolver as the CRI plugin.

use larder_tests::real::Containerd;
use larder_tests::real::containerd::Release;

use super::*;

const RELEASES: [Release; 2] = [Release::V2, Release::Debian];

struct Node {
    up: FakeRegistry,
    state: TempDir,
    cache: NodeProcess,
    containerd: Containerd,
    config: MirrorConfig,
}

impl Node {
    /// A cache of `up.test`, whose own name leads nowhere, and a runtime that knows nothing of it yet.
    async fn start(release: Release, change: impl FnOnce(Registry) -> Registry) -> Self {
        let up = FakeRegistry::builder().start().await;
        for tag in ["v1", "v2"] {
            let image = ImageBuilder::new().random_layer(1, 4096).build();
            image.push_to(&up, "acme/app", tag);
        }
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::new("up.test").endpoint(Endpoint::new(up.url()).trust_loopback());
        let config = MirrorConfig::new()
            .object(UID, 7)
            .with(change(registry))
            .set("/node/containerd/existing", "Prepend");
        let cache = NodeProcess::builder()
            .config(&config)
            .arg("--state-dir")
            .arg(state.path())
            .start()
            .await;
        let containerd = Containerd::start(release, None).await.unwrap();
        fs::create_dir_all(containerd.certs_dir()).unwrap();
        Self {
            up,
            state,
            cache,
            containerd,
            config,
        }
    }

    async fn keep(&self) -> NodeConfigProcess {
        let certs = self.containerd.certs_dir();
        let keeper =
            NodeConfigProcess::start(&self.config, &self.cache.url(), &certs, self.state.path(), &[]);
        keeper.until_settled().await;
        keeper
    }

    async fn pull(&self, tag: &str) -> anyhow::Result<()> {
        self.containerd.fetch(&format!("up.test/acme/app:{tag}")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_file_leads_to_the_cache() {
    for release in RELEASES {
        let node = Node::start(release, |registry| registry).await;
        assert!(
            node.pull("v1").await.is_err(),
            "nothing but the cache knows the way"
        );
        let keeper = node.keep().await;
        node.pull("v1").await.unwrap();
        assert!(node.up.count(on_any()) > 0);
        assert!(keeper.terminate().await.0.success());
        assert!(
            node.pull("v2").await.is_err(),
            "nothing is left that leads to the cache"
        );
    }
}

/// The cache first, then theirs: with the cache dead, and its file still there, pulls go on as they did before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_goes_on_behind_the_cache() {
    for release in RELEASES {
        for is_default in [false, true] {
            let mut node = Node::start(release, |registry| registry).await;
            let theirs = FakeRegistry::builder().start().await;
            ImageBuilder::new()
                .random_layer(1, 4096)
                .build()
                .push_to(&theirs, "acme/app", "v2");
            let dir = node
                .containerd
                .certs_dir()
                .join(if is_default { "_default" } else { "up.test" });
            fs::create_dir_all(&dir).unwrap();
            let text = format!(
                "server = \"http://127.0.0.1:1\"\n[host.\"{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
                theirs.url()
            );
            fs::write(dir.join("hosts.toml"), text).unwrap();
            let keeper = node.keep().await;
            node.pull("v1").await.unwrap();
            assert_eq!(theirs.count(on_any()), 0, "{release:?}: the cache is asked first");
            keeper.kill9().await;
            node.cache.kill9().await;
            node.pull("v2").await.unwrap();
            assert!(theirs.count(on_any()) > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fallback_the_runtime_asks_nobody_else() {
    for release in RELEASES {
        let mut node = Node::start(release, |registry| registry.set("/fallback", "None")).await;
        let keeper = node.keep().await;
        node.pull("v1").await.unwrap();
        node.cache.kill9().await;
        let hosts = node.containerd.certs_dir().join("up.test/hosts.toml");
        until("pulls go nowhere", async || {
            fs::read_to_string(&hosts).is_ok_and(|text| text.contains("http://127.0.0.1:0"))
        })
        .await;
        let error = format!("{:#}", node.pull("v2").await.unwrap_err());
        assert!(
            error.contains("127.0.0.1:0") && error.contains("refused"),
            "{error}"
        );
        drop(keeper);
    }
}
