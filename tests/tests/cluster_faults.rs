//! Each fault of the cluster library does what it says, seen from inside, and is undone.
//!
//! The scenarios share one cluster and run one after another, because starting one takes seconds of all processors.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "cluster_faults/components.rs"]
mod components;
#[path = "cluster_faults/disk.rs"]
mod disk;
#[path = "cluster_faults/link.rs"]
mod link;
#[path = "cluster_faults/power.rs"]
mod power;

use std::sync::atomic::{AtomicU64, Ordering};

use larder_tests::cluster::{Cluster, HelperPod};
use larder_tests::prelude::*;
use larder_tests::static_program;

/// The registry's name in images.
const REGISTRY: &str = "registry.test";
/// The port of [`Scene::server`] and of its Service.
const SERVER_PORT: u16 = 8080;

/// What all scenarios find.
struct Scene {
    cluster: Cluster,
    /// Listens on this machine; the nodes know it as [`REGISTRY`].
    up: FakeRegistry,
    /// Address of the pod `server` on node 2, which is also behind the Service `server`.
    server: String,
    /// Address of that Service.
    service: String,
    /// Makes each image's layer another.
    images: AtomicU64,
}

impl Scene {
    async fn set() -> Self {
        let cluster = Cluster::start().await.unwrap();
        let up = FakeRegistry::builder()
            .bind(cluster.host_ip().to_string())
            .start()
            .await;
        for node in cluster.nodes() {
            let dir = node.certs_dir().join(REGISTRY);
            std::fs::create_dir_all(&dir).unwrap();
            let hosts = format!("server = \"{}\"\n", up.url());
            std::fs::write(dir.join("hosts.toml"), hosts).unwrap();
        }
        let listen = format!("0.0.0.0:{SERVER_PORT}");
        let server = HelperPod::new("server", &["serve", &listen, "hello"]).restarted();
        let server = server.on(cluster.node(2));
        let client = HelperPod::new("client", &["wait"]).on(cluster.node(1));
        let started = tokio::try_join!(cluster.start_pod(&server), cluster.start_pod(&client));
        let (server, _) = started.unwrap();
        let service = expose_server(&cluster, "server").await;
        let scene = Self {
            cluster,
            up,
            server,
            service,
            images: AtomicU64::new(0),
        };
        until("the Service works everywhere", async || {
            let (first, second) = tokio::join!(scene.get_server(1), scene.get_server(2));
            first.is_ok() && second.is_ok()
        })
        .await;
        scene
    }

    /// Adds a new image with a layer of this size to the registry; returns its name for nodes.
    fn image(&self, name: &str, bytes: usize) -> (String, Image) {
        let seed = self.images.fetch_add(1, Ordering::Relaxed);
        let image = ImageBuilder::new()
            .uncompressed()
            .random_layer(seed, bytes)
            .build();
        image.push_to(&self.up, name, "v1");
        (format!("{REGISTRY}/{name}:v1"), image)
    }

    /// Asks the server pod for its text from node `number`, outside of any pod.
    async fn get_server(&self, number: usize) -> anyhow::Result<String> {
        let url = format!("http://{}:{SERVER_PORT}/", self.service);
        self.helper(number, &["get", &url]).await
    }

    /// Runs the helper program on node `number`, outside of any pod.
    async fn helper(&self, number: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let program = static_program::helper();
        self.cluster
            .node(number)
            .run(program.to_str().unwrap(), arguments)
            .await
    }
}

/// Makes a Service in front of the server pod; returns its address.
async fn expose_server(cluster: &Cluster, name: &str) -> String {
    let port = format!("--port={SERVER_PORT}");
    let address = ["-o", "jsonpath={.spec.clusterIP}"];
    let expose = [&["expose", "pod", "server", "--name", name, &port], &address[..]].concat();
    cluster.kubectl(&expose).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_do_what_they_say_and_are_undone() {
    let scene = Scene::set().await;
    link::cuts_silence_one_peer(&scene).await;
    link::a_cut_silences_established_connections(&scene).await;
    link::a_limit_slows_both_directions(&scene).await;
    disk::a_full_disk_is_full_in_pods(&scene).await;
    components::pods_outlive_their_kubelet(&scene).await;
    components::a_killed_runtime_fails_its_pulls(&scene).await;
    components::services_outlive_kube_proxy(&scene).await;
    power::a_node_comes_back_from_a_power_cut(&scene).await;
}
