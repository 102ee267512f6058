//! What makes a machine this node and no other: certificates, and the configuration of kubelet and kube-proxy.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::network::PODS;
use super::pki::Authority;
use super::runtime::SOCKET;

/// Where all of it lies on the node.
pub(super) const KUBELET_DIR: &str = "/var/lib/kubelet";

/// Writes a node's files into `dir`, its [`KUBELET_DIR`].
pub(super) fn write(
    dir: &Path,
    authority: &Authority,
    api_url: &str,
    name: &str,
    ip: Ipv4Addr,
    cgroup: &str,
    sync_frequency_s: Option<u16>,
) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let user = format!("system:node:{name}");
    let identity = authority.issue(&user, Some("system:nodes"), &[ip.to_string()])?;
    authority.write_kubeconfig(
        &dir.join("kubelet.kubeconfig"),
        api_url,
        &user,
        Some("system:nodes"),
    )?;
    authority.write_kubeconfig(
        &dir.join("kube-proxy.kubeconfig"),
        api_url,
        "system:kube-proxy",
        None,
    )?;
    for (file, text) in [
        ("ca.crt", authority.pem()),
        ("kubelet.crt", identity.certificate),
        ("kubelet.key", identity.key),
        ("kubelet.json", kubelet(ip, cgroup, sync_frequency_s).to_string()),
        ("kube-proxy.json", kube_proxy(name, ip).to_string()),
    ] {
        std::fs::write(dir.join(file), text)?;
    }
    Ok(())
}

/// kubelet's flags: what its configuration file cannot say.
pub(super) fn kubelet_flags(name: &str, ip: Ipv4Addr) -> [String; 4] {
    [
        format!("--config={KUBELET_DIR}/kubelet.json"),
        format!("--kubeconfig={KUBELET_DIR}/kubelet.kubeconfig"),
        format!("--hostname-override={name}"),
        format!("--node-ip={ip}"),
    ]
}

/// KubeletConfiguration, <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>.
fn kubelet(ip: Ipv4Addr, cgroup: &str, sync_frequency_s: Option<u16>) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ip,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{KUBELET_DIR}/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": format!("{KUBELET_DIR}/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{KUBELET_DIR}/kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "volumePluginDir": format!("{KUBELET_DIR}/volume-plugins"),
        "resolvConf": "/etc/resolv.conf",
        // A guest on a machine of any kind: containers below one cgroup of the node's own, and none for kubelet itself.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // The disk is not the node's alone: kubelet may neither evict for it nor clean it.
        "localStorageCapacityIsolation": false,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        // Zero is the default; null is no duration.
        "syncFrequency": format!("{}s", sync_frequency_s.unwrap_or_default()),
    })
}

/// KubeProxyConfiguration, <https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/>.
fn kube_proxy(name: &str, ip: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": format!("{KUBELET_DIR}/kube-proxy.kubeconfig")},
        "hostnameOverride": name,
        "mode": "nftables",
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": PODS,
        "bindAddress": ip,
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
        "oomScoreAdj": 0,
        // These limits belong to the whole kernel.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
