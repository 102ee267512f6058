//! One `cache-node node-config` process, and a stand-in for the cache that it looks at.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use cache_node::identity::{IDENTITY_PATH, IdentityKey};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::MirrorConfig;
use crate::program;
use crate::wait::until;

/// A running node-config. Dropped, it is killed; what it wrote stays.
pub struct NodeConfigProcess {
    files: TempDir,
    state_dir: PathBuf,
    child: Child,
}

impl NodeConfigProcess {
    /// Starts one that keeps `certs_dir` for the cache at `cache`, with the directory that both share, and more arguments.
    pub fn start(
        config: &MirrorConfig,
        cache: &str,
        certs_dir: &Path,
        state_dir: &Path,
        more: &[&str],
    ) -> Self {
        Self::start_under(&[], config, cache, certs_dir, state_dir, more)
    }

    /// The same, as the arguments of another program, such as `unshare --mount`.
    pub fn start_under(
        wrapper: &[&str],
        config: &MirrorConfig,
        cache: &str,
        certs_dir: &Path,
        state_dir: &Path,
        more: &[&str],
    ) -> Self {
        let files = tempfile::tempdir().expect("create a temporary directory");
        let document = files.path().join("mirror.yaml");
        std::fs::write(&document, config.to_yaml()).expect("write the configuration");
        let output = File::create(files.path().join("output.log")).expect("create the output file");
        let mut words = wrapper
            .iter()
            .map(Into::into)
            .chain([program::cache_node().into_os_string()]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).arg("node-config").args(["--cache", cache]);
        for (flag, path) in [
            ("--config", document.as_path()),
            ("--certs-dir", certs_dir),
            ("--state-dir", state_dir),
        ] {
            command.arg(flag).arg(path);
        }
        command
            .args(more)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the output file"))
            .stderr(output)
            .kill_on_drop(true);
        Self {
            child: command.spawn().expect("start node-config"),
            state_dir: state_dir.to_owned(),
            files,
        }
    }

    /// Replaces the document atomically.
    pub fn write_config(&self, config: &MirrorConfig) {
        let new = self.files.path().join("new");
        std::fs::write(&new, config.to_yaml()).expect("write the configuration");
        std::fs::rename(new, self.files.path().join("mirror.yaml")).expect("replace the configuration");
    }

    /// Everything it has said.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.files.path().join("output.log")).unwrap_or_default()
    }

    /// Its state, once there is one.
    pub fn state(&self) -> Option<Value> {
        let text = std::fs::read(self.state_dir.join("node-config.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// `reason registry object` of each condition in its state.
    pub fn conditions(&self) -> Vec<String> {
        let state = self.state().unwrap_or_default();
        let conditions = state["conditions"].as_array().cloned().unwrap_or_default();
        let word = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        conditions
            .iter()
            .map(|condition| {
                let words = ["reason", "registry", "object"].map(|name| word(condition, name));
                words.join(" ").trim_end().to_owned()
            })
            .collect()
    }

    /// Waits until exactly these conditions stand.
    pub async fn until_conditions(&self, expected: &[&str]) {
        let what = format!("the conditions are {expected:?}");
        until(&what, async || {
            self.state().is_some() && self.conditions() == expected
        })
        .await;
    }

    /// Waits until it has done all that it can.
    pub async fn until_settled(&self) {
        until("node-config has settled", async || {
            self.state().is_some_and(|state| state["settled"] == true)
        })
        .await;
    }

    /// Kills it, so that it can put nothing back.
    pub async fn kill9(mut self) {
        self.child.kill().await.expect("kill node-config");
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(mut self) -> (ExitStatus, String) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::TERM).expect("signal node-config");
        let status = self.child.wait().await.expect("wait for node-config");
        (status, self.output())
    }
}

/// What a stand-in does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Proves that it is the cache, and ready.
    Ready,
    /// Proves that it is the cache, and says that it is not ready.
    NotReady,
    /// Accepts and never answers.
    Hung,
    /// Closes the connection without a word.
    Mute,
    /// Answers like any other HTTP server.
    Stranger,
    /// Answers with a proof under another key.
    Forger,
}

/// A stand-in for the cache on a port of its own.
pub struct FakeCache {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
}

impl FakeCache {
    /// Listens, with a new key in `state_dir`.
    pub fn start(state_dir: &Path) -> Self {
        let key = IdentityKey::create(state_dir).expect("make a key");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        let address = listener.local_addr().expect("a bound address");
        let mood = Arc::new(Mutex::new(Mood::Ready));
        let shared = Arc::clone(&mood);
        // It ends with the process: nothing but this test's node-config ever connects.
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                let mood = *shared.lock().expect("no panic under the lock");
                if mood == Mood::Hung {
                    held.push(stream);
                } else {
                    // Who asks may be gone.
                    let _ = answer(stream, mood, &key);
                }
            }
        });
        Self { address, mood }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does from now on.
    pub fn set(&self, mood: Mood) {
        *self.mood.lock().expect("no panic under the lock") = mood;
    }
}

fn answer(mut stream: TcpStream, mood: Mood, key: &IdentityKey) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request);
    let challenge = request
        .strip_prefix(&format!("GET {IDENTITY_PATH}?challenge="))
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_default();
    let (status, body) = match mood {
        Mood::Hung | Mood::Mute => return Ok(()),
        Mood::Ready => (200, key.answer(challenge)),
        Mood::NotReady => (503, key.answer(challenge)),
        Mood::Stranger => (404, "not found".to_owned()),
        Mood::Forger => (200, key.answer("another challenge")),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
