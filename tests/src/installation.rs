//! A cluster as Larder's users have it: its nodes know a Docker Hub (of this machine) by the real names, and Larder's
//! images are on them under the names that the chart uses. Installing the chart is left to the test.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, HelperPod, Node, NodeOptions};
use crate::fake_registry::{Auth, FakeRegistry};
use crate::image::{Image, ImageBuilder, architecture};
use crate::larder_image::LarderImage;
use crate::real::tool;
use crate::scripted::{CertificateAuthority, Exchange, on_any_blob, on_any_manifest};
use crate::static_program;
use crate::token::TokenServer;
use crate::wait::{SOON, look, until};

/// Hosts that the one registry of this machine answers for.
const HOSTS: [&str; 3] = ["registry-1.docker.io", "auth.docker.io", "quay.io"];
/// Docker Hub's challenges, with its token server on another host.
const CHALLENGE: &str =
    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="{scope}""#;
const PING_CHALLENGE: &str = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
/// Of an image about which nothing is special.
const LAYER_BYTES: usize = 2 << 20;

/// The user who may pull private images, and the password.
pub const ACCOUNT: (&str, &str) = ("acme-robot", "right-password");

/// The cluster and what belongs to it.
pub struct Installation {
    /// The cluster.
    pub cluster: Cluster,
    /// Docker Hub and quay.io at once: `library/*` for everybody, the rest for [`ACCOUNT`].
    pub hub: FakeRegistry,
    /// Values of the chart without which the hub would not be trusted.
    pub values: PathBuf,
    seeds: AtomicU64,
}

impl Installation {
    /// Starts a cluster of these nodes on which Larder can be installed.
    pub async fn prepare(nodes: &[NodeOptions]) -> Self {
        let cluster = Cluster::with_nodes(nodes).await.unwrap();
        let authority = CertificateAuthority::new();
        let hub = hub(&cluster, &authority).await;
        for node in cluster.nodes() {
            // For pulls past the cache; the cache itself trusts it by the chart's `caBundle`.
            let trusted = node.inside("/etc/ssl/certs/test-authority.pem").await.unwrap();
            std::fs::write(trusted, authority.pem()).unwrap();
        }
        for host in HOSTS {
            cluster.add_host(host, cluster.host_ip()).unwrap();
        }
        let values = cluster.dir().join("values.json");
        let trust = serde_json::json!({"caBundle": authority.pem()});
        std::fs::write(&values, trust.to_string()).unwrap();
        let this = Self {
            cluster,
            hub,
            values,
            seeds: AtomicU64::new(1),
        };
        for node in this.cluster.nodes() {
            this.load_images(node).await;
        }
        // What the README's pod runs.
        this.publish("library/nginx", "alpine");
        this
    }

    /// Larder's images, as the chart names them.
    pub fn images() -> [LarderImage; 2] {
        [LarderImage::cache_node(), LarderImage::operator()]
    }

    /// Loads Larder's images into a node.
    pub async fn load_images(&self, node: &Node) {
        for image in Self::images() {
            let archive = image.build(self.cluster.dir()).unwrap();
            node.load_image(&archive).await.unwrap();
        }
    }

    /// Puts an image into the registry that differs from all others; its program waits.
    pub fn publish(&self, repository: &str, tag: &str) -> Image {
        self.publish_large(repository, tag, LAYER_BYTES)
    }

    /// The same with a layer of this size.
    pub fn publish_large(&self, repository: &str, tag: &str, layer_bytes: usize) -> Image {
        let seed = self.seeds.fetch_add(2, Ordering::Relaxed);
        let image = ImageBuilder::new()
            .architecture(architecture())
            .program("bin/app", &static_program::helper())
            .random_layer(seed, layer_bytes)
            .random_layer(seed + 1, 64 << 10)
            .entrypoint(&["/bin/app"])
            .cmd(&["wait"])
            .build();
        image.push_to(&self.hub, repository, tag);
        image
    }

    /// How many manifests and blobs the registry was asked for so far.
    pub fn asked(&self) -> (usize, usize) {
        (self.hub.count(on_any_manifest()), self.hub.count(on_any_blob()))
    }

    /// How often a container runtime itself asked the registry, past the cache.
    pub fn asked_by_runtimes(&self) -> usize {
        let agent = |asked: &Exchange| asked.request.header("user-agent").unwrap_or_default().to_owned();
        let requests = self.hub.requests();
        requests
            .iter()
            .filter(|asked| agent(asked).starts_with("containerd"))
            .count()
    }

    /// Starts a pod of this image on this node and waits until it runs; checks that it is the right image, and returns how
    /// long it took.
    pub async fn start(&self, name: &str, reference: &str, node: &Node, image: &Image) -> Duration {
        let started = Instant::now();
        let pod = HelperPod::new(name, &["wait"]).image(reference).on(node);
        self.cluster.start_pod(&pod).await.unwrap();
        let took = started.elapsed();
        let images = node.images().await.unwrap();
        assert!(
            images.iter().any(|one| one.id == image.config_digest),
            "{reference} on {} is another image: {images:?}",
            node.name()
        );
        took
    }

    /// Removes a pod that [`Self::start`] started.
    pub async fn stop(&self, name: &str) {
        self.cluster.delete_pod(name).await.unwrap();
    }

    /// Waits until the node's cache pod of the mirror `default` is ready and its runtime is pointed at it.
    pub async fn cache_ready(&self, node: &Node) {
        until("the runtime is pointed at the cache", async || {
            let ready = r#"{.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            let said = self.cache_pods(node, &format!("jsonpath={ready}")).await;
            said == "True" && self.is_pointed_at_cache(node)
        })
        .await;
    }

    /// Whether the node's runtime is pointed at its cache for Docker Hub.
    pub fn is_pointed_at_cache(&self, node: &Node) -> bool {
        let file = node.certs_dir().join("docker.io/hosts.toml");
        file.try_exists().unwrap()
    }

    /// The node's cache pod of the mirror `default`, as `pod/NAME`.
    pub async fn cache_pod(&self, node: &Node) -> String {
        self.cache_pods(node, "name").await.trim().to_owned()
    }

    async fn cache_pods(&self, node: &Node, output: &str) -> String {
        let name = node.name();
        self.shell(&format!(
            "kubectl get pods --namespace larder-system --selector=larder.dev/mirror=default \
             --field-selector=spec.nodeName={name} --output='{output}'"
        ))
        .await
    }

    /// Waits until the mirror `default` says that it is ready.
    pub async fn mirror_ready(&self) {
        let status = r#"{.status.conditions[?(@.type=="Ready")].status} {.status}"#;
        let line = format!("kubectl get registrymirror default --output='jsonpath={status}'");
        self.until_prints(&line, |said| said.starts_with("True ")).await;
    }

    /// Waits until a line of a shell prints what is wanted. Panics with what it prints when that takes longer than [`SOON`].
    pub async fn until_prints(&self, line: &str, is_wanted: impl Fn(&str) -> bool) {
        let mut last = String::new();
        let printed = look(SOON, async || {
            last = self.shell(line).await;
            Ok(is_wanted(&last).then_some(()))
        });
        let printed = printed.await;
        assert!(printed.is_ok(), "{line}\nstill prints:\n{last}");
    }

    /// Runs a line of a shell in the repository's directory, as a person would; returns what it printed. Panics with what
    /// it said when it fails.
    pub async fn shell(&self, line: &str) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.try_shell(line).await;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let logs = self.cluster.logs();
        assert!(
            status.success(),
            "{line}\n{stdout}\n{stderr}\nlogs: {}",
            logs.display()
        );
        stdout.into_owned()
    }

    async fn try_shell(&self, line: &str) -> Output {
        let directory = |set: &str, name: &str| tool(set, name).unwrap().parent().unwrap().to_owned();
        let own = [directory("helm", "helm"), directory("kubernetes", "kubectl")];
        let system = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&system)));
        tokio::process::Command::new("bash")
            .args(["-c", line])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("HELM_CACHE_HOME", self.cluster.dir().join("helm"))
            .env("PATH", path.unwrap())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    }
}

/// One registry that answers for all [`HOSTS`].
async fn hub(cluster: &Cluster, authority: &CertificateAuthority) -> FakeRegistry {
    let tokens = TokenServer::builder()
        .service("registry.docker.io")
        .anonymous(&["library/*"])
        .user(ACCOUNT.0, ACCOUNT.1, &["*"]);
    let auth = Auth::bearer_on_own_host("/token", tokens)
        .challenge(&[CHALLENGE])
        .ping_challenge(&[PING_CHALLENGE]);
    FakeRegistry::builder()
        .name("Docker Hub")
        .bind(cluster.host_ip().to_string())
        .port(443)
        .tls_by(authority)
        .tls_names(&HOSTS)
        .auth(auth)
        .start()
        .await
}
