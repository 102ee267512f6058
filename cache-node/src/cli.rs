//! The command line: what the program can be told, and the commands that need no server.

mod store;

use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use larder_crds::names::{CACHE_MOUNT, CERTS_MOUNT, STATE_MOUNT};
use larder_program::Exit;

use crate::admin::reachable;
use crate::{cache_dir, config};

pub use store::{Format, RemovalOptions, SelectionOptions, StoreCommand, StoreOptions, run as store};

/// A verified, streaming pull-through cache for OCI registries.
#[derive(Debug, Parser)]
#[command(name = "cache-node", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve pulls until told to stop.
    Serve(ServeOptions),
    /// Validate a configuration and print it as it takes effect.
    Check {
        /// The RegistryMirror document to validate.
        #[arg(long, value_name = "FILE", env = "LARDER_CONFIG")]
        config: PathBuf,
    },
    /// Point the node's container runtime at the cache while the cache is well, until told to stop.
    NodeConfig(NodeConfigOptions),
    /// Exit with 0 if node-config has done all that this node allows.
    Probe {
        /// Where node-config keeps its state.
        #[arg(long, value_name = "DIR", default_value = STATE_MOUNT, env = "LARDER_STATE_DIR")]
        state_dir: PathBuf,
    },
    /// Give the cache directory to the user that the cache runs as.
    Prepare {
        /// Where content is kept.
        #[arg(long, value_name = "DIR", default_value = CACHE_MOUNT, env = "LARDER_CACHE_DIR")]
        cache_dir: PathBuf,
    },
    /// Remove the cache directory. What cannot be removed is said and left.
    Purge {
        /// Where content is kept.
        #[arg(long, value_name = "DIR", default_value = CACHE_MOUNT, env = "LARDER_CACHE_DIR")]
        cache_dir: PathBuf,
    },
    /// List, verify, free, remove, export and import what a cache holds, while it runs or not.
    Store(StoreOptions),
    /// Print the version.
    Version,
}

/// What is written where, and on whose behalf.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct NodeConfigOptions {
    /// The RegistryMirror document that the cache serves.
    #[arg(long, value_name = "FILE", env = "LARDER_CONFIG")]
    pub config: PathBuf,
    /// The directory in which the runtime looks for hosts.toml files.
    #[arg(long, value_name = "DIR", default_value = CERTS_MOUNT, env = "LARDER_CERTS_DIR")]
    pub certs_dir: PathBuf,
    /// The directory of containerd's own configuration, which is only read; without it, it is not judged.
    #[arg(long, value_name = "DIR", env = "LARDER_CONTAINERD_DIR")]
    pub containerd_dir: Option<PathBuf>,
    /// The cache, on this node's loopback address.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:5117",
        env = "LARDER_CACHE"
    )]
    pub cache: CacheAddress,
    /// Where the cache keeps its identity, and node-config its state.
    #[arg(long, value_name = "DIR", default_value = STATE_MOUNT, env = "LARDER_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Take back every file and stay, for the clean-up of a mirror.
    #[arg(long, env = "LARDER_WITHDRAW")]
    pub withdraw: bool,
}

/// An `http` address on loopback: what the runtime is pointed at must not leave the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheAddress(pub SocketAddr);

impl FromStr for CacheAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.strip_prefix("http://").and_then(|rest| rest.parse().ok());
        address
            .filter(|address: &SocketAddr| address.ip().is_loopback() && address.port() != 0)
            .map(Self)
            .ok_or("write a loopback address such as http://127.0.0.1:5117")
    }
}

/// Where the server listens and what it works with.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ServeOptions {
    /// The RegistryMirror document to serve; without it, the well-known public registries, anonymously.
    #[arg(long, value_name = "FILE", env = "LARDER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where container runtimes pull from.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:5117",
        value_parser = address,
        env = "LARDER_LISTEN"
    )]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /metrics and /statusz are answered.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:5118",
        value_parser = address,
        env = "LARDER_ADMIN"
    )]
    pub admin: SocketAddr,
    /// Where /livez, /readyz, /metrics and /conditions are answered to other machines.
    #[arg(long, value_name = "ADDR", value_parser = address, env = "LARDER_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Where content is kept.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/larder",
        env = "LARDER_CACHE_DIR"
    )]
    pub cache_dir: PathBuf,
    /// Where each Secret is a directory with its keys as files; it need not exist.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/larder/credentials",
        env = "LARDER_CREDENTIALS_DIR"
    )]
    pub credentials_dir: PathBuf,
    /// Where the containers of a pod meet: the key that /larder/identity answers with, and the state of node-config.
    #[arg(long, value_name = "DIR", env = "LARDER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Certificate authorities (PEM) that are trusted for every registry beside the system's; read again when it changes.
    #[arg(long, value_name = "FILE", env = "LARDER_CA_BUNDLE")]
    pub ca_bundle: Option<PathBuf>,
}

/// `IP:PORT`. The brackets around an IPv6 address may be left out: kubelet puts a node's address in without them.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>().or_else(|error| {
        let unbracketed = text
            .rsplit_once(':')
            .and_then(|(ip, port)| Some((ip.parse::<Ipv6Addr>().ok()?, port.parse().ok()?)));
        unbracketed
            .map(|(ip, port): (_, u16)| (ip, port).into())
            .ok_or_else(|| error.to_string())
    })
}

/// Prints the effective configuration to `out`, or everything wrong with it to `err`, a line each.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn check(config: &Path, out: &mut impl Write, err: &mut impl Write) -> io::Result<Exit> {
    match config::load(config) {
        Ok(config) => {
            write!(out, "{}", config.to_yaml())?;
            Ok(Exit::Success)
        }
        Err(errors) => {
            for error in errors.iter() {
                writeln!(err, "{error}")?;
            }
            Ok(Exit::Usage)
        }
    }
}

/// Prints the version to `out`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn version(out: &mut impl Write) -> io::Result<Exit> {
    writeln!(out, "cache-node {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Exit::Success)
}

/// Removes the cache directory. Ends well all the same where that fails, because what runs after it restores the node,
/// and must.
///
/// # Errors
/// When `err` cannot be written to.
pub fn purge(directory: &Path, err: &mut impl Write) -> io::Result<Exit> {
    if let Err(error) = cache_dir::purge(directory) {
        writeln!(err, "content is left in {}: {error}", directory.display())?;
    }
    Ok(Exit::Success)
}

/// What a person who has just started the server at a terminal can type next.
pub fn next_steps(listen: SocketAddr) -> String {
    let cache = reachable(listen);
    format!(
        "Serving pulls on http://{cache}. In another terminal, pull through it with one of these:

  curl -fsS -H 'Accept: application/vnd.oci.image.index.v1+json' 'http://{cache}/v2/library/alpine/manifests/latest?ns=docker.io'
  crane pull --insecure {cache}/docker.io/library/alpine:latest alpine.tar
  ctr images pull --plain-http {cache}/docker.io/library/alpine:latest
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Result<ServeOptions, clap::Error> {
        let all = ["cache-node", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Serve(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let expected = ServeOptions {
            config: None,
            listen: "127.0.0.1:5117".parse().unwrap(),
            admin: "127.0.0.1:5118".parse().unwrap(),
            metrics: None,
            cache_dir: "/var/lib/larder".into(),
            credentials_dir: "/etc/larder/credentials".into(),
            state_dir: None,
            ca_bundle: None,
        };
        assert_eq!(serve(&[]).unwrap(), expected);
    }

    #[test]
    fn addresses_may_be_ipv6_and_must_be_addresses() {
        let options = serve(&["--listen", "[::1]:5117", "--metrics=[::]:5119"]).unwrap();
        assert_eq!(options.listen, "[::1]:5117".parse().unwrap());
        assert_eq!(options.metrics, Some("[::]:5119".parse().unwrap()));
        for (text, expected) in [
            ("fd00::7:5119", "[fd00::7]:5119"),
            ("::1:5119", "[::1]:5119"),
            ("10.0.0.7:5119", "10.0.0.7:5119"),
        ] {
            let options = serve(&["--metrics", text]).unwrap();
            assert_eq!(options.metrics, Some(expected.parse().unwrap()), "{text}");
        }
        for wrong in [":5119", "fd00::7", "localhost:5119", "fd00::7:99999"] {
            assert_eq!(
                serve(&["--metrics", wrong]).unwrap_err().exit_code(),
                2,
                "{wrong}"
            );
        }
        assert_eq!(serve(&["--listen", "5117"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        for subcommand in command.get_subcommands() {
            for argument in subcommand.get_arguments() {
                let flag = argument.get_long().unwrap();
                let expected = format!("LARDER_{}", flag.to_uppercase().replace('-', "_"));
                assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            }
        }
    }

    fn checked(yaml: &str) -> (Exit, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.yaml");
        std::fs::write(&path, yaml).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = check(&path, &mut out, &mut err).unwrap();
        (
            exit,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn check_prints_what_takes_effect_and_accepts_that() {
        let mirror = "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {name: default}\n\
                      spec: {registries: [{host: quay.io}]}\n";
        let (exit, effective, err) = checked(mirror);
        assert_eq!((exit, err.as_str()), (Exit::Success, ""));
        assert!(effective.contains("https://quay.io"), "{effective}");
        assert_eq!(checked(&effective), (Exit::Success, effective, String::new()));
    }

    #[test]
    fn check_prints_every_error_on_a_line() {
        let mirror = "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {name: default}\n\
                      spec: {registries: [{host: quay.io}, {host: quay.io}, {host: 'b ad'}]}\n";
        let (exit, out, err) = checked(mirror);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err.lines().count(), 2, "{err}");
        assert!(
            err.lines().all(|line| line.starts_with("spec.registries[")),
            "{err}"
        );
        let missing = check(
            Path::new("/nonexistent/mirror.yaml"),
            &mut Vec::new(),
            &mut Vec::new(),
        );
        assert_eq!(missing.unwrap(), Exit::Usage);
    }

    #[test]
    fn the_next_steps_name_an_address_that_can_be_reached() {
        let text = next_steps("0.0.0.0:5117".parse().unwrap());
        assert!(
            text.contains("crane pull --insecure 127.0.0.1:5117/docker.io/"),
            "{text}"
        );
        assert!(next_steps("[::1]:5117".parse().unwrap()).contains("'http://[::1]:5117/v2/"));
    }
}
