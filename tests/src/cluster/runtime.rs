//! A node's containerd: which release, and what its configuration says.

use std::path::PathBuf;

use anyhow::Result;

use crate::real::tool_set;

/// The image whose container holds a pod's namespaces; loaded into every node.
pub(super) const SANDBOX_IMAGE: &str = "larder.test/pause:1";
/// containerd's socket.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// containerd's configuration.
pub(super) const CONFIG_FILE: &str = "/etc/containerd/config.toml";
/// Where containerd is told to look for `hosts.toml`.
pub(super) const CERTS_DIR: &str = "/etc/containerd/certs.d";

/// Which containerd a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Containerd {
    /// 2.2: configuration version 3.
    #[default]
    V2_2,
    /// 1.7: configuration version 2, and a shim of its own.
    V1_7,
}

/// How a node's containerd is told where `hosts.toml` files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigPath {
    /// `config_path` names the one directory `/etc/containerd/certs.d`.
    #[default]
    Set,
    /// No `config_path`.
    Unset,
    /// `config_path` is a list of directories, joined with `:`.
    List,
}

impl Containerd {
    /// The set of `tests/tools` with its programs.
    fn tool_set(self) -> &'static str {
        match self {
            Self::V2_2 => "containerd",
            Self::V1_7 => "containerd-1.7",
        }
    }

    /// The directory of its programs: containerd, its shim and `ctr` belong together.
    pub(super) fn programs(self) -> Result<PathBuf> {
        tool_set(self.tool_set())
    }

    /// The configuration file.
    pub(super) fn config(self, config_path: ConfigPath) -> String {
        let config_path = match config_path {
            ConfigPath::Set => format!("config_path = \"{CERTS_DIR}\""),
            ConfigPath::Unset => String::new(),
            ConfigPath::List => format!("config_path = \"{CERTS_DIR}:/etc/docker/certs.d\""),
        };
        // `restrict_oom_score_adj`: a machine that may not lower the score would otherwise start no container.
        match self {
            Self::V2_2 => format!(
                r#"version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{SANDBOX_IMAGE}"
[plugins."io.containerd.cri.v1.images".registry]
{config_path}
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_PROGRAMS}"]
"#
            ),
            Self::V1_7 => format!(
                r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX_IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PROGRAMS}"
[plugins."io.containerd.grpc.v1.cri".registry]
{config_path}
"#
            ),
        }
    }
}

/// Where Debian installs the CNI plugins.
const CNI_PROGRAMS: &str = "/usr/lib/cni";

/// The pod network of one node, as its CNI configuration: a bridge and addresses from `pods`.
pub(super) fn cni_config(pods: &str) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
        ],
    })
    .to_string()
}
