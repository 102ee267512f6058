//! Debian's `docker-registry` (distribution 2.8) as an upstream: what most private registries run or descend from.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::Nginx;
use crate::process::Daemon;

/// Whom the registry serves.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    Open,
    /// Who shows [`USER`] and [`PASSWORD`] as Basic credentials.
    Basic,
    /// Who shows a Bearer token of this token server.
    Token {
        /// URL of the token server, sent in the challenge.
        realm: String,
        /// `service` in the challenge, and the token's audience.
        service: String,
        /// The token's issuer.
        issuer: String,
        /// PEM file of the certificates whose keys may sign tokens.
        root_cert_bundle: PathBuf,
    },
}

/// The user that [`Auth::Basic`] admits.
pub const USER: &str = "pull-user";
/// The password of [`USER`].
pub const PASSWORD: &str = "pull-password";
/// `htpasswd -nbBC 5 USER PASSWORD`: the registry takes bcrypt only.
const HTPASSWD: &str = "pull-user:$2y$05$WbC95eFK.6YqTc1tPVJghea5bT7Vadgw8to8twQaLDoQ6CT.VDLoO\n";

/// How to start a registry.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it listens; `None`: on a free port of 127.0.0.1. Port 0 stands for a free one. A CDN listens on the
    /// same IP address.
    pub listen: Option<SocketAddr>,
    /// Whom it serves.
    pub auth: Auth,
    /// Whether it redirects blobs to an nginx that reads the same storage, as registries with a CDN do.
    pub cdn: bool,
    /// URL of the registry that it shall be a pull-through cache of; it then takes no pushes.
    pub proxy_of: Option<String>,
}

/// A running registry with storage of its own; it accepts pushes too.
#[derive(Debug)]
pub struct DockerRegistry {
    daemon: Daemon,
    host: String,
    cdn: Option<Nginx>,
    dir: TempDir,
}

impl DockerRegistry {
    /// Starts a registry and waits until it listens.
    ///
    /// # Errors
    /// With its log, where it does not come up.
    pub async fn start(options: Options) -> Result<Self> {
        let dir = TempDir::with_prefix("larder-registry-")?;
        let storage = dir.path().join("storage");
        std::fs::create_dir(&storage)?;
        let listen = options.listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        let cdn = match options.cdn {
            true => Some(Nginx::files(&storage, listen.ip()).await?),
            false => None,
        };
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD)?;
        let config = dir.path().join("config.yml");
        std::fs::write(&config, render(dir.path(), listen, &options, cdn.as_ref()))?;

        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let mut daemon = Daemon::start(command, dir.path().join("log"))?;
        let log = dir.path().join("log");
        let host = daemon
            .up(async || address_in(&std::fs::read_to_string(&log).ok()?))
            .await
            .context("docker-registry")?;
        Ok(Self {
            daemon,
            host,
            cdn,
            dir,
        })
    }

    /// `ADDRESS:PORT`, as image names and mirror configurations say it. It speaks plain HTTP.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// The nginx that serves the blobs, where [`Options::cdn`] asked for one.
    pub fn cdn(&self) -> Option<&Nginx> {
        self.cdn.as_ref()
    }

    /// File that holds a blob or manifest (`sha256:…`), to count it, damage it or take it away.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.dir.path().join("storage").join(blob_path(digest))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Everything the registry has logged, its access log included.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.daemon.log()
    }
}

/// Path of a blob below the storage's root, and so below the root of its CDN's URLs.
pub fn blob_path(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    format!(
        "docker/registry/v2/blobs/{algorithm}/{}/{hex}/data",
        hex.get(..2).unwrap_or_default()
    )
}

/// The address in `level=info msg="listening on 127.0.0.1:43777"`.
fn address_in(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("msg=\"listening on ")?;
    rest.split_once('"').map(|(address, _)| address.to_owned())
}

fn render(dir: &Path, listen: SocketAddr, options: &Options, cdn: Option<&Nginx>) -> String {
    let dir = dir.display();
    let mut config = format!(
        "version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: '{dir}/storage'}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: '{listen}', secret: one-test-only}}
"
    );
    config += &match &options.auth {
        Auth::Open => String::new(),
        Auth::Basic => format!("auth: {{htpasswd: {{realm: larder-tests, path: '{dir}/htpasswd'}}}}\n"),
        Auth::Token {
            realm,
            service,
            issuer,
            root_cert_bundle,
        } => format!(
            "auth: {{token: {{realm: '{realm}', service: '{service}', issuer: '{issuer}', rootcertbundle: '{}'}}}}\n",
            root_cert_bundle.display()
        ),
    };
    if let Some(remote) = &options.proxy_of {
        config += &format!("proxy: {{remoteurl: '{remote}'}}\n");
    }
    if let Some(cdn) = cdn {
        config += &format!(
            "middleware: {{storage: [{{name: redirect, options: {{baseurl: '{}'}}}}]}}\n",
            cdn.url()
        );
    }
    config
}
