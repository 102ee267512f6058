//! nginx: the CDN behind a registry, a proxy in front of one, or the cache that benchmarks compare Larder with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::free_port;
use crate::process::Daemon;
use crate::wait::until_some;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One line of the access log; it is written when the answer has ended, however it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query as the client sent them.
    pub uri: String,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub body_bytes: u64,
    /// The client's `Range` header; `-` without one.
    pub range: String,
}

/// A running nginx with one server, plain HTTP; on 127.0.0.1 unless said otherwise.
#[derive(Debug)]
pub struct Nginx {
    daemon: Daemon,
    address: SocketAddr,
    dir: TempDir,
}

impl Nginx {
    /// Serves the files below `root`, with ranges, as a CDN does, on this IP address.
    ///
    /// # Errors
    /// With its log, where it does not come up.
    pub async fn files(root: &Path, listen: IpAddr) -> Result<Self> {
        Self::start(listen, |_| String::new(), &format!("root '{}';", root.display())).await
    }

    /// Passes every request on to `upstream` (`http://host:port`), unbuffered.
    ///
    /// # Errors
    /// With its log, where it does not come up.
    pub async fn proxy(upstream: &str) -> Result<Self> {
        Self::start(LOCALHOST, |_| String::new(), &pass_on(upstream)).await
    }

    /// As [`Nginx::proxy`], but no answer is faster than `bytes_per_s`.
    ///
    /// # Errors
    /// With its log, where it does not come up.
    pub async fn slow_proxy(upstream: &str, bytes_per_s: u64) -> Result<Self> {
        let location = format!("{} limit_rate {bytes_per_s};", pass_on(upstream));
        Self::start(LOCALHOST, |_| String::new(), &location).await
    }

    /// Caches every good answer of `upstream` (`http://host:port`) for a day and fetches each of them once.
    ///
    /// # Errors
    /// With its log, where it does not come up.
    pub async fn cache(upstream: &str) -> Result<Self> {
        let zone = |dir: &Path| {
            format!(
                "proxy_cache_path '{}/cache' keys_zone=blobs:10m max_size=50g;",
                dir.display()
            )
        };
        let location = format!(
            "proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_cache blobs;
            proxy_cache_key $request_uri;
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 1h;
            proxy_cache_lock_age 1h;"
        );
        Self::start(LOCALHOST, zone, &location).await
    }

    async fn start(listen: IpAddr, http: impl FnOnce(&Path) -> String, location: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("larder-nginx-")?;
        let address = SocketAddr::new(listen, free_port(listen)?);
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, render(dir.path(), address, &http(dir.path()), location))?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(dir.path())
            .arg("-e")
            .arg("stderr")
            .arg("-c")
            .arg(&config);
        let mut daemon = Daemon::start(command, dir.path().join("log"))?;
        daemon
            .up(async || TcpStream::connect(address).await.ok())
            .await
            .context("nginx")?;
        Ok(Self { daemon, address, dir })
    }

    /// `ADDRESS:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// The master's process id; the worker is its child.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The requests that have ended so far, oldest first.
    ///
    /// # Errors
    /// Where the access log cannot be read or holds something else.
    pub fn requests(&self) -> Result<Vec<Access>> {
        let log = std::fs::read_to_string(self.dir.path().join("access.log"))?;
        // The last line may be in the middle of being written.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole.lines().map(parse).collect()
    }

    /// The requests that have ended, as soon as `enough` holds for them. The log may come a moment after the last byte.
    ///
    /// # Errors
    /// Where it does not come to that.
    pub async fn requests_until(&self, enough: impl Fn(&[Access]) -> bool) -> Result<Vec<Access>> {
        until_some(async || Ok(Some(self.requests()?).filter(|seen| enough(seen))))
            .await
            .context("nginx's access log")
    }
}

fn pass_on(upstream: &str) -> String {
    format!("proxy_pass {upstream}; proxy_set_header Host $http_host; proxy_buffering off;")
}

/// The configuration file: `http` and `location` are what the role adds to those blocks.
fn render(dir: &Path, listen: SocketAddr, http: &str, location: &str) -> String {
    let dir = dir.display();
    format!(
        "user root;
daemon off;
worker_processes 1;
pid '{dir}/pid';
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format tabs '$request_method\\t$request_uri\\t$status\\t$body_bytes_sent\\t$http_range';
    access_log '{dir}/access.log' tabs;
    client_body_temp_path '{dir}/body';
    proxy_temp_path '{dir}/proxy';
    fastcgi_temp_path '{dir}/fastcgi';
    uwsgi_temp_path '{dir}/uwsgi';
    scgi_temp_path '{dir}/scgi';
    client_max_body_size 0;
    sendfile on;
    tcp_nopush on;
    {http}
    server {{
        listen {listen};
        location / {{ {location} }}
    }}
}}
"
    )
}

fn parse(line: &str) -> Result<Access> {
    let mut fields = line.split('\t');
    let mut next = || {
        fields
            .next()
            .with_context(|| format!("not a line of our log format: {line}"))
    };
    Ok(Access {
        method: next()?.to_owned(),
        uri: next()?.to_owned(),
        status: next()?.parse()?,
        body_bytes: next()?.parse()?,
        range: next()?.to_owned(),
    })
}
