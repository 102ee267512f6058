//! A node inside the test's own process, for tests that must shorten deadlines which no user can set.

use cache_node::app::{Addresses, App, Limits};
use cache_node::cli::ServeOptions;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::MirrorConfig;
use crate::client::Call;

/// A running node. Dropped, its tasks are aborted and its files are removed.
pub struct InProcessNode {
    files: TempDir,
    addresses: Addresses,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl InProcessNode {
    /// Starts a node with this configuration and these limits.
    pub async fn start(config: &MirrorConfig, limits: Limits) -> Self {
        let files = tempfile::tempdir().expect("create a temporary directory");
        std::fs::write(files.path().join("mirror.yaml"), config.to_yaml()).expect("write the configuration");
        Self::start_on(files, limits).await
    }

    /// Ends the node gracefully and starts another one on the same files.
    pub async fn restart(mut self, limits: Limits) -> Self {
        self.shutdown.cancel();
        (&mut self.running).await.expect("the node ends well");
        let files = std::mem::replace(
            &mut self.files,
            tempfile::tempdir().expect("create a temporary directory"),
        );
        Self::start_on(files, limits).await
    }

    async fn start_on(files: TempDir, limits: Limits) -> Self {
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let state_dir = files.path().join("state");
        std::fs::create_dir_all(&state_dir).expect("create the state directory");
        let options = ServeOptions {
            config: Some(files.path().join("mirror.yaml")),
            listen: loopback,
            admin: loopback,
            metrics: Some(loopback),
            cache_dir: files.path().join("cache"),
            credentials_dir: files.path().join("credentials"),
            state_dir: Some(state_dir),
            ca_bundle: None,
        };
        let app = App::build(options, limits).await.expect("the node starts");
        let addresses = app.addresses();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone()));
        Self {
            files,
            addresses,
            shutdown,
            running,
        }
    }

    /// `http://ADDRESS` of the runtime listener.
    pub fn url(&self) -> String {
        format!("http://{}", self.addresses.listen)
    }

    /// `http://ADDRESS` of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.addresses.admin)
    }

    /// The answer of `/conditions`.
    pub async fn conditions(&self) -> serde_json::Value {
        let address = self.addresses.metrics.expect("asked for at the start");
        Call::get(&format!("http://{address}/conditions"))
            .send()
            .await
            .json()
    }

    /// Where Secrets are read from; it does not exist until a test writes one.
    pub fn credentials_dir(&self) -> std::path::PathBuf {
        self.files.path().join("credentials")
    }

    /// The cache directory.
    pub fn cache_dir(&self) -> std::path::PathBuf {
        self.files.path().join("cache")
    }

    /// Where the node keeps its identity key.
    pub fn state_dir(&self) -> std::path::PathBuf {
        self.files.path().join("state")
    }

    /// The configuration file.
    pub fn config_path(&self) -> std::path::PathBuf {
        self.files.path().join("mirror.yaml")
    }
}

impl Drop for InProcessNode {
    fn drop(&mut self) {
        self.running.abort();
    }
}
