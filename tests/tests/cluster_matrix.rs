//! The parts of a node that decide whether `hosts.toml` counts: the release of containerd, and its `config_path`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use larder_tests::cluster::{Cluster, ConfigPath, Containerd, NodeOptions};
use larder_tests::prelude::*;

/// Every combination, and whether its containerd reads `hosts.toml`.
const MATRIX: [(Containerd, ConfigPath, bool); 6] = [
    (Containerd::V2_2, ConfigPath::Set, true),
    (Containerd::V2_2, ConfigPath::Unset, false),
    (Containerd::V2_2, ConfigPath::List, false),
    (Containerd::V1_7, ConfigPath::Set, true),
    (Containerd::V1_7, ConfigPath::Unset, false),
    // 1.7 reads every directory of a list; 2.2 still lets one be configured, and reads none.
    (Containerd::V1_7, ConfigPath::List, true),
];

/// One cluster with a node for each row, all Ready, whatever they run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_toml_counts_where_the_release_reads_its_config_path() {
    let options = MATRIX.map(|(containerd, config_path, _)| NodeOptions {
        containerd,
        config_path,
        ..NodeOptions::default()
    });
    let cluster = Cluster::with_nodes(&options).await.unwrap();
    let mirror = FakeRegistry::builder()
        .bind(cluster.host_ip().to_string())
        .start()
        .await;
    ImageBuilder::new()
        .random_layer(1, 4096)
        .build()
        .push_to(&mirror, "acme/app", "1");
    // Without the mirror the pull fails: nothing listens where the registry's own name leads.
    cluster.add_host("registry.local", cluster.host_ip()).unwrap();
    let hosts_toml = format!(
        "server = \"http://{}:1\"\n[host.\"{}\"]\n",
        cluster.host_ip(),
        mirror.url()
    );
    for (node, (containerd, config_path, read)) in cluster.nodes().iter().zip(MATRIX) {
        let dir = node.certs_dir().join("registry.local");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), &hosts_toml).unwrap();
        let pulled = node.pull("registry.local/acme/app:1").await;
        assert_eq!(
            pulled.is_ok(),
            read,
            "{containerd:?}, config_path {config_path:?}: {pulled:?}"
        );
    }
    let asked: BTreeSet<IpAddr> = mirror.requests().iter().map(|asked| asked.request.peer).collect();
    let reads = cluster.nodes().iter().zip(MATRIX).filter(|(_, (.., read))| *read);
    assert_eq!(asked, reads.map(|(node, _)| node.ip().into()).collect());
}
