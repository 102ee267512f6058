//! Faults of a node's link: cut towards some of its peers, or slow.
//!
//! A cut is made at the bridge's port for the node, outside of it: so it holds for the node's processes and its pods
//! alike, sees the addresses that are really on the wire (behind a Service, those of what is behind it), leaves
//! kube-proxy's tables alone, and lasts while the node is switched off and on.

use anyhow::Result;

use super::Node;
use super::network;

/// What a slow link lets through at once. The kernel cuts larger segments up.
const BURST_BYTES: u32 = 64 << 10;
/// What waits before a slow link; more is lost, and TCP sends slower.
const QUEUE_BYTES: u32 = 512 << 10;

/// Whom a node may lose touch with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This machine, on which upstream registries listen.
    Upstream,
    /// The API server. It then also reaches neither the kubelet nor the pods: no logs, no `kubectl exec`.
    ApiServer,
    /// All other nodes and their pods.
    Nodes,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::ApiServer => "api-server",
            Self::Nodes => "nodes",
        }
    }
}

impl Node {
    /// Cuts the link to a peer, as a pulled cable would: packets vanish in both directions, those of established
    /// connections too. Lasts until [`Self::heal`], also while the node is off.
    ///
    /// # Errors
    /// With what `nft` said.
    pub async fn cut(&self, peer: Peer) -> Result<()> {
        let (table, port, peers) = (
            self.cut_table(peer),
            network::port(self.number),
            self.addresses(peer),
        );
        let cut = format!(
            "add table {table}; delete table {table}; add table {table}
             add chain {table} sent {{ type filter hook prerouting priority 0; }}
             add rule {table} sent iifname {port} ip daddr {{ {peers} }} drop
             add chain {table} received {{ type filter hook postrouting priority 0; }}
             add rule {table} received oifname {port} ip saddr {{ {peers} }} drop"
        );
        self.nft(&cut).await
    }

    /// Undoes [`Self::cut`]; harmless where there is no cut.
    ///
    /// # Errors
    /// With what `nft` said.
    pub async fn heal(&self, peer: Peer) -> Result<()> {
        let table = self.cut_table(peer);
        self.nft(&format!("add table {table}; delete table {table}"))
            .await
    }

    /// Lets no more than this many bytes per second, headers included, through the link in each direction; `None` lifts
    /// the limit, and so does switching the node off.
    ///
    /// # Errors
    /// With what `tc` said; where the node is off.
    pub async fn limit_rate(&self, bytes_per_s: Option<u64>) -> Result<()> {
        let discipline = match bytes_per_s {
            // In the words of `tc`, `bps` is bytes per second, and a size without unit is in bytes.
            Some(rate) => format!("tbf rate {rate}bps burst {BURST_BYTES} limit {QUEUE_BYTES}"),
            // What such an interface has from the start.
            None => "noqueue".to_owned(),
        };
        let shape = |device: &str| format!("qdisc replace dev {device} root {discipline}");
        let (towards_others, towards_node) = (shape("eth0"), shape(&network::port(self.number)));
        self.run("tc", &words(&towards_others)).await?;
        let control_plane = &self.site.control_plane.machine;
        control_plane.run("tc", &words(&towards_node)).await?;
        Ok(())
    }

    /// The nftables table, below `bridge`, of the cut between this node and a peer.
    fn cut_table(&self, peer: Peer) -> String {
        format!("bridge {}-{}", self.name(), peer.name())
    }

    /// The peer's addresses as the elements of an nftables set.
    fn addresses(&self, peer: Peer) -> String {
        let place = &self.site.place;
        match peer {
            Peer::Upstream => network::host_ip(place).to_string(),
            Peer::ApiServer => network::control_plane_ip(place).to_string(),
            Peer::Nodes => (1..=self.site.nodes)
                .filter(|other| *other != self.number)
                .flat_map(|other| {
                    [
                        network::node_ip(place, other).to_string(),
                        network::node_pods(other),
                    ]
                })
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// Runs commands of `nft`, all or none of them, where the bridge is.
    async fn nft(&self, commands: &str) -> Result<()> {
        let control_plane = &self.site.control_plane.machine;
        control_plane.run("nft", &[commands]).await?;
        Ok(())
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
