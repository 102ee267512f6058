//! The command line: what the program can be told, and the command that needs no API server.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::core::v1::SELinuxOptions;
use larder_program::Exit;

/// Where caches and the runtime's configuration may lie unless the chart says otherwise.
const ALLOWED_HOST_PATHS: [&str; 2] = ["/var/lib/larder", "/etc/containerd"];

/// Reconciles RegistryMirrors into one cache DaemonSet each.
#[derive(Debug, Parser)]
#[command(name = "operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile until told to stop.
    Run(RunOptions),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Delete all RegistryMirrors and wait until every node is as it was found: what an uninstallation does first.
    ///
    /// The running operator does the work. Where nothing moves for 30 s, as when it is gone, this does it itself; and at
    /// the deadline it lets the mirrors go, naming the nodes that could not be asked, and ends with success, since an
    /// uninstallation that fails would leave more behind.
    Cleanup(CleanupOptions),
}

/// What the operator works with.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct RunOptions {
    /// Our name among the operator's replicas: the pod's.
    #[arg(long, value_name = "POD", env = "LARDER_IDENTITY")]
    pub identity: String,
    /// Where /livez, /readyz and /metrics are answered.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8080",
        env = "LARDER_ADMIN"
    )]
    pub admin: SocketAddr,
    /// What the caches are made from.
    #[command(flatten)]
    pub caches: CacheOptions,
}

/// How an uninstallation cleans up.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct CleanupOptions {
    /// How long to wait for the nodes, such as 600 or 10m.
    #[arg(long, default_value = "10m", value_parser = duration, env = "LARDER_TIMEOUT")]
    pub timeout: Duration,
    /// What the caches are made from.
    #[command(flatten)]
    pub caches: CacheOptions,
}

/// What the caches' objects are made from, besides the mirrors.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct CacheOptions {
    /// The operator's namespace, which is that of all caches.
    #[arg(long, value_name = "NAMESPACE", env = "LARDER_NAMESPACE")]
    pub namespace: String,
    /// The image of the cache node.
    #[arg(long, value_name = "REF", env = "LARDER_CACHE_NODE_IMAGE")]
    pub cache_node_image: String,
    /// When nodes pull it.
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "IfNotPresent",
        env = "LARDER_IMAGE_PULL_POLICY"
    )]
    pub image_pull_policy: String,
    /// Secrets that it is pulled with.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "LARDER_IMAGE_PULL_SECRET"
    )]
    pub image_pull_secret: Vec<String>,
    /// Directories of nodes in which mirrors may ask for theirs.
    #[arg(long, value_name = "DIR", value_delimiter = ',', default_values = ALLOWED_HOST_PATHS, env = "LARDER_ALLOWED_HOST_PATH")]
    pub allowed_host_path: Vec<PathBuf>,
    /// A ConfigMap whose ca.crt every cache trusts besides the system's authorities.
    #[arg(long, value_name = "NAME", env = "LARDER_CA_BUNDLE_CONFIG_MAP")]
    pub ca_bundle_config_map: Option<String>,
    /// The priority class of the caches' pods.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "system-node-critical",
        env = "LARDER_PRIORITY_CLASS"
    )]
    pub priority_class: String,
    /// A pod's seLinuxOptions, as JSON.
    #[arg(long, value_name = "JSON", value_parser = se_linux_options, env = "LARDER_SELINUX_OPTIONS")]
    pub selinux_options: Option<SELinuxOptions>,
}

fn se_linux_options(text: &str) -> Result<SELinuxOptions, serde_json::Error> {
    serde_json::from_str(text)
}

/// A number of seconds, or one with the unit `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_each = match text.get(digits.len()..) {
        Some("" | "s") => Some(1),
        Some("m") => Some(60),
        Some("h") => Some(60 * 60),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let seconds = number
        .zip(seconds_each)
        .and_then(|(number, each)| number.checked_mul(each));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a number of seconds, or one with s, m or h".to_owned())
}

/// Prints the CustomResourceDefinition to `out`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn crd(out: &mut impl Write) -> io::Result<Exit> {
    let definition = larder_crds::custom_resource_definition().map_err(io::Error::other)?;
    let yaml = serde_saphyr::to_string(&definition).map_err(io::Error::other)?;
    out.write_all(yaml.as_bytes())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [&str; 4] = [
        "--namespace",
        "larder-system",
        "--cache-node-image",
        "cache-node:1",
    ];

    fn run(arguments: &[&str]) -> Result<RunOptions, clap::Error> {
        let start = ["operator", "run", "--identity", "larder-operator-1"];
        match Cli::try_parse_from(start.iter().chain(&REQUIRED).chain(arguments))?.command {
            Command::Run(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let expected = RunOptions {
            identity: "larder-operator-1".to_owned(),
            admin: "0.0.0.0:8080".parse().unwrap(),
            caches: CacheOptions {
                namespace: "larder-system".to_owned(),
                cache_node_image: "cache-node:1".to_owned(),
                image_pull_policy: "IfNotPresent".to_owned(),
                image_pull_secret: Vec::new(),
                allowed_host_path: ["/var/lib/larder", "/etc/containerd"].map(PathBuf::from).to_vec(),
                ca_bundle_config_map: None,
                priority_class: "system-node-critical".to_owned(),
                selinux_options: None,
            },
        };
        assert_eq!(run(&[]).unwrap(), expected);
    }

    #[test]
    fn lists_are_repeated_or_separated_by_commas() {
        let options = run(&["--image-pull-secret=a", "--image-pull-secret", "b,c"]).unwrap();
        assert_eq!(options.caches.image_pull_secret, ["a", "b", "c"]);
        let options = run(&["--allowed-host-path=/data"]).unwrap();
        assert_eq!(options.caches.allowed_host_path, [PathBuf::from("/data")]);
    }

    #[test]
    fn se_linux_options_are_read_and_nonsense_is_wrong_usage() {
        let options = run(&["--selinux-options", r#"{"type":"spc_t"}"#]).unwrap();
        assert_eq!(
            options.caches.selinux_options.unwrap().type_.as_deref(),
            Some("spc_t")
        );
        assert_eq!(run(&["--selinux-options=spc_t"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, seconds) in [("600", 600), ("30s", 30), ("10m", 600), ("1h", 3600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "10d", "-1", "1.5m", "99999999999999999999h", "10 m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        use clap::CommandFactory as _;
        for subcommand in Cli::command().get_subcommands() {
            for argument in subcommand.get_arguments() {
                let flag = argument.get_long().unwrap();
                let expected = format!("LARDER_{}", flag.to_uppercase().replace('-', "_"));
                assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            }
        }
    }

    #[test]
    fn the_crd_is_one_document_of_yaml() {
        let mut out = Vec::new();
        assert_eq!(crd(&mut out).unwrap(), Exit::Success);
        let crd: serde_json::Value = serde_saphyr::from_slice(&out).unwrap();
        assert_eq!(crd["metadata"]["name"], "registrymirrors.larder.dev");
    }
}
