//! Runs an image's program with nothing but the image around it: its files as the root, its user, no environment.
//! It needs root.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::archive::{Archive, Kind};

/// An image's files in a directory, and how it is run.
pub(crate) struct Chroot {
    dir: TempDir,
    user: String,
    entrypoint: String,
}

impl Chroot {
    pub(crate) fn unpack(image: &Archive) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "chroot needs root");
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        // Sorted: a folder comes before what is in it.
        for (path, entry) in &image.files {
            let path = dir.path().join(path);
            match &entry.kind {
                Kind::Folder => fs::create_dir(&path)?,
                Kind::File(content) => fs::write(&path, content)?,
            }
            fs::set_permissions(&path, Permissions::from_mode(entry.mode))?;
            chown(
                &path,
                Some(entry.owner.0.try_into()?),
                Some(entry.owner.1.try_into()?),
            )?;
        }
        let config = &image.config["config"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            dir,
            user: text(&config["User"]).context("a user")?,
            entrypoint: text(&config["Entrypoint"][0]).context("an entry point")?,
        })
    }

    /// Writes a file, as a volume would bring it.
    pub(crate) fn write(&self, path: &str, content: &str) -> Result<()> {
        Ok(fs::write(self.dir.path().join(path), content)?)
    }

    /// Adds to a file.
    pub(crate) fn append(&self, path: &str, content: &str) -> Result<()> {
        let mut file = File::options().append(true).open(self.dir.path().join(path))?;
        Ok(file.write_all(content.as_bytes())?)
    }

    /// What the program prints with these arguments.
    pub(crate) async fn output(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command().args(arguments).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts the program with the configuration at `/mirror.yaml`, and waits until it serves.
    pub(crate) async fn serve(&self) -> Result<Serving> {
        let mut command = self.command();
        command.args(["serve", "--config", "/mirror.yaml"]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("standard error")?).lines();
        let mut said = Vec::new();
        while let Some(line) = log.next_line().await? {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "serving" {
                let address = entry["listen"].as_str().context("an address")?.to_owned();
                return Ok(Serving {
                    address,
                    _child: child,
                    _log: log,
                });
            }
            said.push(line);
        }
        anyhow::bail!("it ended before it served:\n{}", said.join("\n"));
    }

    fn command(&self) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command.env_clear().stdin(Stdio::null());
        command
            .arg(format!("--userspec={}", self.user))
            .arg(self.dir.path());
        command.arg(&self.entrypoint);
        command
    }
}

/// A program that serves until this is dropped.
pub(crate) struct Serving {
    address: String,
    _child: Child,
    /// Open, so that the program can go on writing to it.
    _log: Lines<BufReader<ChildStderr>>,
}

impl Serving {
    /// `http://127.0.0.1:PORT` of the runtime's listener.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
