//! The cluster's network: one bridge in the control plane's network namespace, to which every node and this machine are
//! plugged. So all that this machine sees of it is one interface, which vanishes with the cluster.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::machine::Machine;
use super::node::Site;
use super::place::Place;
use crate::process::run;
use crate::wait::until_some;

/// Last part of this machine's address: upstream registries listen there.
const HOST: u8 = 1;
/// Last part of the control plane's address.
const CONTROL_PLANE: u8 = 2;
/// Last part of the address before the first node's.
const BEFORE_NODES: u8 = 10;

/// Addresses of Services.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// Addresses of pods.
pub(super) const PODS: &str = "10.78.0.0/16";
/// The API server as pods reach it: the first address of [`SERVICES`].
pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

pub(super) fn host_ip(place: &Place) -> Ipv4Addr {
    place.address(HOST)
}

pub(super) fn control_plane_ip(place: &Place) -> Ipv4Addr {
    place.address(CONTROL_PLANE)
}

/// The address of the node with this number; the first is 1.
pub(super) fn node_ip(place: &Place, number: u8) -> Ipv4Addr {
    place.address(BEFORE_NODES + number)
}

/// The addresses of one node's pods.
pub(super) fn node_pods(number: u8) -> String {
    format!("10.78.{number}.0/24")
}

/// Makes the bridge in the control plane's machine and plugs this machine in.
pub(super) async fn connect_control_plane(place: &Place, machine: &Machine) -> Result<()> {
    let (interface, peer) = (place.interface(), machine.pid());
    let mut link = Command::new("ip");
    link.args([
        "link", "add", &interface, "type", "veth", "peer", "name", "host", "netns",
    ])
    .arg(peer.to_string());
    run(link).await?;
    let mut address = Command::new("ip");
    address.args([
        "address",
        "add",
        &format!("{}/24", host_ip(place)),
        "dev",
        &interface,
    ]);
    run(address).await?;
    let mut up = Command::new("ip");
    up.args(["link", "set", &interface, "up"]);
    run(up).await?;
    let own = control_plane_ip(place);
    machine
        .ip(&format!(
            "link add bridge address {} type bridge\nlink set bridge up\naddress add {own}/24 dev bridge\n\
             link set host master bridge up\n",
            hardware_address(own)
        ))
        .await
}

/// Plugs a node into the bridge and gives it routes to all others' pods.
///
/// There is no default route: a node reaches nothing outside its cluster, so clusters cannot meet either.
pub(super) async fn connect_node(site: &Site, node: &Machine, number: u8) -> Result<()> {
    let Site { place, nodes, .. } = site;
    let control_plane = &site.control_plane.machine;
    let port = port(number);
    // A dead machine's end of its link can last for minutes: see `scripts/janitor.sh`.
    let gone = until_some(async || {
        let _ = control_plane.run("ip", &["link", "delete", &port]).await;
        let shown = control_plane.run("ip", &["link", "show", &port]).await;
        Ok(shown.err().map(drop))
    });
    gone.await
        .with_context(|| format!("the port {port} is still in use"))?;
    let mut link = Command::new("ip");
    link.args([
        "link",
        "add",
        "eth0",
        "address",
        &hardware_address(node_ip(place, number)),
        "netns",
        &node.pid().to_string(),
        "type",
        "veth",
    ])
    .args(["peer", "name", &port, "netns", &control_plane.pid().to_string()]);
    run(link).await?;
    control_plane
        .ip(&format!("link set {port} master bridge up\n"))
        .await?;
    let mut commands = format!(
        "address add {}/24 dev eth0\nlink set eth0 up\n",
        node_ip(place, number)
    );
    // Where a Service leads is decided after the route to it is found.
    commands += &format!("route add {SERVICES} via {}\n", control_plane_ip(place));
    for other in (1..=*nodes).filter(|other| *other != number) {
        commands += &format!("route add {} via {}\n", node_pods(other), node_ip(place, other));
    }
    node.ip(&commands).await?;
    // Beyond the cluster's nodes nobody has a route to pods.
    let leave = format!(
        "add table ip pods; add chain ip pods leave {{ type nat hook postrouting priority srcnat; }}
         add rule ip pods leave ip saddr {} ip daddr != {PODS} masquerade",
        node_pods(number)
    );
    node.run("nft", &[&leave]).await?;
    Ok(())
}

/// The one MAC address that belongs to an IP address: others remember it for longer than a node takes to come back from a
/// power cut, and a bridge without one of its own takes on that of a port.
fn hardware_address(ip: Ipv4Addr) -> String {
    // The first octet's 2 says that no vendor gave it.
    let [a, b, c, d] = ip.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The bridge's port for a node.
pub(super) fn port(number: u8) -> String {
    format!("node{number}")
}
