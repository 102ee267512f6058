//! What is compared: each started anew, with an empty cache, in front of an upstream.

use std::fs;

use anyhow::{Context as _, Result};
use larder_tests::prelude::*;
use larder_tests::real::docker_registry::Options;
use larder_tests::real::{DockerRegistry, Nginx};

use super::upstream::path_of;

/// The clock ticks of `/proc/PID/stat`, per second: a constant of Linux's interface.
const TICKS_PER_S: f64 = 100.0;

/// A way to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No cache.
    Direct,
    Larder,
    /// `proxy_cache` with `proxy_cache_lock`.
    Nginx,
    /// Debian's `docker-registry` as a pull-through cache.
    Distribution,
}

pub(crate) const ALL: [Kind; 4] = [Kind::Direct, Kind::Larder, Kind::Nginx, Kind::Distribution];

impl Kind {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Larder => "Larder",
            Self::Nginx => "nginx proxy_cache",
            Self::Distribution => "docker-registry 2.8",
        }
    }
}

/// A running one.
pub(crate) enum Contestant {
    Direct(String),
    Larder(NodeProcess),
    Nginx(Nginx),
    Distribution(DockerRegistry),
}

impl Contestant {
    /// With an empty cache in front of `upstream` (`http://host:port`).
    pub(crate) async fn start(kind: Kind, upstream: &str) -> Result<Self> {
        Ok(match kind {
            Kind::Direct => Self::Direct(upstream.to_owned()),
            Kind::Larder => {
                let config = MirrorConfig::new().registry("up.test", upstream);
                Self::Larder(NodeProcess::start(&config).await)
            }
            Kind::Nginx => Self::Nginx(Nginx::cache(upstream).await?),
            Kind::Distribution => {
                let proxy_of = Some(upstream.to_owned());
                let options = Options {
                    proxy_of,
                    ..Options::default()
                };
                Self::Distribution(DockerRegistry::start(options).await?)
            }
        })
    }

    /// Where it serves the blob.
    pub(crate) fn url_of(&self, digest: &str) -> String {
        let path = path_of(digest);
        match self {
            Self::Direct(upstream) => format!("{upstream}{path}"),
            Self::Larder(node) => format!("{}{path}?ns=up.test", node.url()),
            Self::Nginx(nginx) => format!("{}{path}", nginx.url()),
            Self::Distribution(registry) => format!("{}{path}", registry.url()),
        }
    }

    /// The process and its workers; none where there is no cache.
    fn pids(&self) -> Vec<u32> {
        let pid = match self {
            Self::Direct(_) => return Vec::new(),
            Self::Larder(node) => node.pid(),
            Self::Nginx(nginx) => nginx.pid(),
            Self::Distribution(registry) => registry.pid(),
        };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }

    /// The most memory it has ever had, in MiB: the sum of its processes' `VmHWM`.
    pub(crate) fn peak_mib(&self) -> Result<Option<f64>> {
        let mut kib = 0.0;
        for pid in self.pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .context("no VmHWM")?;
            kib += line.trim().trim_end_matches(" kB").parse::<f64>()?;
        }
        Ok((kib > 0.0).then_some(kib / 1024.0))
    }

    /// The CPU time it has used, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<Option<f64>> {
        let mut ticks = 0.0;
        for pid in self.pids() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let (_, fields) = stat.rsplit_once(')').context("no command")?;
            // utime and stime, fields 14 and 15 of proc_pid_stat(5).
            ticks += fields
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|f| f.parse::<f64>().ok())
                .sum::<f64>();
        }
        Ok((!matches!(self, Self::Direct(_))).then_some(ticks / TICKS_PER_S))
    }
}
