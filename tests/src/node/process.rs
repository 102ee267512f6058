//! One `cache-node` process: found, configured, started, awaited, killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::{Disk, MirrorConfig};
use crate::client::Call;
use crate::program;

/// How long a node may take until `/readyz` answers 200.
const READY_MAX: Duration = Duration::from_secs(20);

/// How often `/readyz` is asked until then.
const READY_POLL: Duration = Duration::from_millis(20);

/// How long one question to `/readyz` may take.
const READY_ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long a node may take to end after SIGTERM.
const TERMINATE_MAX: Duration = Duration::from_secs(60);

/// How many sets of ports are tried, because another process may take one between our choice and the start.
const PORT_TRIES_MAX: usize = 5;

/// Below the range from which Linux takes ports for outgoing connections, so that none of those is in the way.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// How many lines of the node's output a failing test shows.
const OUTPUT_LINES_SHOWN_MAX: usize = 200;

/// What a node is started with.
pub struct NodeBuilder {
    config: Option<String>,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    cache_dir: Option<PathBuf>,
    disk_bytes: Option<u64>,
    launcher: Vec<OsString>,
}

/// A running node. Dropped, its process is killed, and its files are removed unless given by the test.
pub struct NodeProcess {
    files: TempDir,
    cache_dir: PathBuf,
    disk_bytes: Option<u64>,
    launcher: Vec<OsString>,
    ports: Ports,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    has_config: bool,
    child: Option<Child>,
}

#[derive(Clone, Copy)]
struct Ports {
    listen: u16,
    admin: u16,
    metrics: u16,
}

impl Ports {
    fn choose() -> Self {
        let free = || {
            let mut candidates = std::iter::repeat_with(|| fastrand::u16(PORTS));
            candidates
                .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
                .expect("an endless iterator")
        };
        Self {
            listen: free(),
            admin: free(),
            metrics: free(),
        }
    }
}

impl NodeBuilder {
    /// The configuration document; without one, the embedded default.
    pub fn config(mut self, config: &MirrorConfig) -> Self {
        self.config = Some(config.to_yaml());
        self
    }

    /// A configuration document as text, right or wrong.
    pub fn config_text(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// A cache directory that outlives the node, for example to look at or to start another node on.
    pub fn cache_dir(mut self, dir: &Path) -> Self {
        self.cache_dir = Some(dir.to_owned());
        self
    }

    /// Puts the cache directory on a disk of this size that comes and goes with the process: [`NodeProcess::disk`].
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// Puts the cache directory on a disk that others have too.
    pub fn on(mut self, disk: &Disk) -> Self {
        self.cache_dir = Some(disk.mount_point());
        self.launched_by(&disk.command(program::cache_node()))
    }

    /// Lets the process have so many open files and no more.
    pub fn open_files_max(self, files: u64) -> Self {
        let mut prlimit = std::process::Command::new("prlimit");
        prlimit
            .arg(format!("--nofile={files}:{files}"))
            .arg("--")
            .arg(program::cache_node());
        self.launched_by(&prlimit)
    }

    /// The command that becomes the program, which it ends with.
    fn launched_by(mut self, command: &std::process::Command) -> Self {
        let arguments = command.get_args().map(Into::into);
        self.launcher = std::iter::once(command.get_program().into())
            .chain(arguments)
            .collect();
        self
    }

    /// One more argument after the usual ones.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A node that is not running yet, so that Secrets can be written first. Then [`NodeProcess::launch`].
    pub fn prepare(self) -> NodeProcess {
        let files = tempfile::tempdir().expect("create a temporary directory");
        let cache_dir = self.cache_dir.unwrap_or_else(|| files.path().join("cache"));
        for dir in [&cache_dir, &files.path().join("credentials")] {
            fs::create_dir_all(dir).expect("create the node's directories");
        }
        if let Some(yaml) = &self.config {
            fs::write(files.path().join("mirror.yaml"), yaml).expect("write the configuration");
        }
        let (args, env, has_config) = (self.args, self.env, self.config.is_some());
        NodeProcess {
            files,
            cache_dir,
            disk_bytes: self.disk_bytes,
            launcher: self.launcher,
            ports: Ports::choose(),
            args,
            env,
            has_config,
            child: None,
        }
    }

    /// Starts the node and waits until it is ready. Panics, with its output, when it is not.
    pub async fn start(self) -> NodeProcess {
        let mut node = self.prepare();
        node.launch().await;
        node
    }
}

impl NodeProcess {
    /// A node with default arguments, to be changed.
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            config: None,
            args: Vec::new(),
            env: Vec::new(),
            cache_dir: None,
            disk_bytes: None,
            launcher: Vec::new(),
        }
    }

    /// Starts a node with this configuration and waits until it is ready.
    pub async fn start(config: &MirrorConfig) -> Self {
        Self::builder().config(config).start().await
    }

    /// Starts the process of a node that has none, and waits until it is ready.
    pub async fn launch(&mut self) {
        for attempt in 1..=PORT_TRIES_MAX {
            self.spawn();
            match self.wait_ready().await {
                Ok(()) => return,
                Err(_) if attempt < PORT_TRIES_MAX && self.output().contains("ddress already in use") => {
                    self.ports = Ports::choose();
                }
                Err(why) => panic!("cache-node {why}; its output:\n{}", self.output()),
            }
        }
    }

    /// Starts the process and does not wait: for configurations that must be refused.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output_path())
            .expect("open the output file");
        let mut command = self.program();
        command.arg("serve");
        if self.has_config {
            command.arg("--config").arg(self.config_path());
        }
        for (flag, port) in [
            ("--listen", self.ports.listen),
            ("--admin", self.ports.admin),
            ("--metrics", self.ports.metrics),
        ] {
            command.args([flag, &format!("127.0.0.1:{port}")]);
        }
        command
            .arg("--cache-dir")
            .arg(&self.cache_dir)
            .arg("--credentials-dir")
            .arg(self.credentials_dir());
        command
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
            .stderr(output.try_clone().expect("share the output file"))
            .stdout(output);
        self.child = Some(command.spawn().expect("start cache-node"));
    }

    /// The program, in a mount namespace of its own where it has a disk of its own.
    fn program(&self) -> Command {
        const ON_DISK: &str = r#"mount -t tmpfs -o "size=$0" disk "$1"; shift; exec "$@""#;
        if let Some((launcher, arguments)) = self.launcher.split_first() {
            let mut command = Command::new(launcher);
            command.args(arguments);
            return command;
        }
        let Some(bytes) = self.disk_bytes else {
            return Command::new(program::cache_node());
        };
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", ON_DISK, &bytes.to_string()])
            .arg(&self.cache_dir)
            .arg(program::cache_node());
        command
    }

    /// The cache directory as the process sees it, for one that has a disk of its own.
    pub fn disk(&self) -> PathBuf {
        let seen = self.cache_dir.strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.pid().to_string())
            .join("root")
            .join(seen)
    }

    /// Waits until a process that [`Self::spawn`] has started is ready. Panics, with its output, when it is not.
    pub async fn ready(&mut self) {
        let ready = self.wait_ready().await;
        assert!(
            ready.is_ok(),
            "cache-node {ready:?}; its output:\n{}",
            self.output()
        );
    }

    async fn wait_ready(&mut self) -> Result<(), String> {
        let url = format!("{}/readyz", self.admin_url());
        let deadline = Instant::now() + READY_MAX;
        loop {
            let child = self.child.as_mut().expect("just spawned");
            if let Some(status) = child.try_wait().expect("look at the child") {
                self.child = None;
                return Err(format!("ended with {status} before it was ready"));
            }
            if let Ok(answer) = Call::get(&url).timeout(READY_ANSWER_MAX).try_send().await
                && answer.status == 200
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("was not ready within {READY_MAX:?}"));
            }
            sleep(READY_POLL).await;
        }
    }

    /// `http://127.0.0.1:PORT` of the runtime's listener.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.listen)
    }

    /// The admin listener's URL.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.admin)
    }

    /// The metrics listener's URL.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.metrics)
    }

    /// The cache directory.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The credentials directory; see [`secrets`](super::secrets).
    pub fn credentials_dir(&self) -> PathBuf {
        self.files.path().join("credentials")
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.files.path().join("mirror.yaml")
    }

    /// Replaces the configuration file atomically; the node should notice by itself.
    pub fn write_config(&self, config: &MirrorConfig) {
        self.write_config_text(&config.to_yaml());
    }

    /// Replaces the configuration file by this text, right or wrong.
    pub fn write_config_text(&self, yaml: &str) {
        let new = self.files.path().join("mirror.yaml.new");
        fs::write(&new, yaml).expect("write the configuration");
        fs::rename(new, self.config_path()).expect("replace the configuration");
    }

    /// The process id. Panics when the node does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the node runs")
    }

    /// Everything the node has written to stdout and stderr, over all its starts.
    pub fn output(&self) -> String {
        let bytes = fs::read(self.output_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn output_path(&self) -> PathBuf {
        self.files.path().join("output.log")
    }

    /// `/metrics` as text.
    pub async fn metrics(&self) -> String {
        Call::get(&format!("{}/metrics", self.admin_url()))
            .send()
            .await
            .text()
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub async fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("kill the node");
        }
    }

    /// Sends SIGTERM and waits for the end. Panics when that takes more than a minute.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal_terminate();
        self.wait().await
    }

    /// Sends SIGTERM and does not wait.
    pub fn signal_terminate(&self) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, Signal::TERM).expect("signal the node");
    }

    /// Waits for the process to end by itself. Panics when that takes more than a minute.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        let ended = tokio::time::timeout(TERMINATE_MAX, child.wait()).await;
        ended
            .expect("the node ends within a minute")
            .expect("wait for the node")
    }

    /// Ends the process with SIGTERM and starts it again on the same ports and files.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.terminate().await;
        }
        self.launch().await;
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already; there is nothing left to do then.
            let _ = child.start_kill();
        }
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<_> = output.lines().collect();
            let shown = &lines[lines.len().saturating_sub(OUTPUT_LINES_SHOWN_MAX)..];
            show(&format!(
                "--- output of cache-node, last {} lines ---\n{}",
                shown.len(),
                shown.join("\n")
            ));
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the test has failed, and this is what its reader needs"
)]
fn show(text: &str) {
    eprintln!("{text}");
}
