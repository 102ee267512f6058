//! Cut and slow links.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use larder_tests::cluster::Peer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// The kubelet's port.
const KUBELET_PORT: u16 = 10_250;
/// How long a connect waits for what a cut has silenced.
const SILENCE: Duration = Duration::from_secs(1);

/// Something to connect to from node 1, and beyond which cut it is.
struct Target {
    peer: Peer,
    address: String,
}

pub(crate) async fn cuts_silence_one_peer(scene: &Scene) {
    let node = scene.cluster.node(1);
    let targets = targets(scene).await;
    // From here on the API server may be out of the pod's reach, and the pod out of its.
    let client = client_container(scene).await;
    check(scene, &client, &targets, None).await;
    for peer in [Peer::Upstream, Peer::ApiServer, Peer::Nodes] {
        node.cut(peer).await.unwrap();
        node.cut(peer).await.unwrap();
        check(scene, &client, &targets, Some(peer)).await;
        node.heal(peer).await.unwrap();
        node.heal(peer).await.unwrap();
        check(scene, &client, &targets, None).await;
    }
    assert_eq!(connect_to_node(scene).await, Ok(()));
    node.cut(Peer::Upstream).await.unwrap();
    assert_eq!(connect_to_node(scene).await, Err(ErrorKind::TimedOut));
    node.heal(Peer::Upstream).await.unwrap();
    assert_eq!(connect_to_node(scene).await, Ok(()));
}

async fn targets(scene: &Scene) -> Vec<Target> {
    let Scene { cluster, up, .. } = scene;
    let api_server = ["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"];
    let api_server = cluster.kubectl(&api_server).await.unwrap();
    let of = |peer, address: &dyn std::fmt::Display| Target {
        peer,
        address: address.to_string(),
    };
    vec![
        of(Peer::Upstream, &up.host()),
        of(Peer::ApiServer, &api_server.trim_start_matches("https://")),
        of(Peer::ApiServer, &"10.96.0.1:443"),
        of(Peer::Nodes, &format!("{}:{KUBELET_PORT}", cluster.node(2).ip())),
        of(Peer::Nodes, &format!("{}:{SERVER_PORT}", scene.server)),
        of(Peer::Nodes, &format!("{}:{SERVER_PORT}", scene.service)),
    ]
}

/// Asserts that node 1 and its pod hear from all targets but those of the peer that node 1 is cut off from; node 3 from all.
async fn check(scene: &Scene, client: &str, targets: &[Target], cut: Option<Peer>) {
    let checks = targets.iter().map(async |Target { peer, address }| {
        let silent = cut == Some(*peer);
        let patience = if silent { SILENCE } else { SOON }.as_secs().to_string();
        let connect = ["connect", address, "--timeout", &patience];
        // An id of this check's own.
        let id = address.replace([':', '.'], "-");
        let in_pod = format!(
            "--namespace k8s.io tasks exec --exec-id {id} {client} /helper {}",
            connect.join(" ")
        );
        let in_pod: Vec<_> = in_pod.split(' ').collect();
        let node = scene.cluster.node(1);
        let elsewhere = ["connect", address];
        let (from_node, from_pod, from_other) = tokio::join!(
            scene.helper(1, &connect),
            node.run("ctr", &in_pod),
            scene.helper(3, &elsewhere),
        );
        from_other.unwrap();
        for (from, result) in [("node", from_node), ("pod", from_pod)] {
            let heard = match &result {
                Ok(_) => "an answer",
                Err(error) if format!("{error:#}").contains("not within") => "nothing",
                Err(error) => panic!("{from} to {address}: {error:#}"),
            };
            let expected = if silent { "nothing" } else { "an answer" };
            assert_eq!(heard, expected, "from the {from} to {address}, cut: {cut:?}");
        }
    });
    futures_util::future::join_all(checks).await;
}

/// Connects from this machine to node 1.
async fn connect_to_node(scene: &Scene) -> Result<(), ErrorKind> {
    let connect = TcpStream::connect((scene.cluster.node(1).ip(), KUBELET_PORT));
    match tokio::time::timeout(SILENCE, connect).await {
        Err(_) => Err(ErrorKind::TimedOut),
        Ok(connected) => connected.map(drop).map_err(|error| error.kind()),
    }
}

/// The id of the container of the pod `client`.
async fn client_container(scene: &Scene) -> String {
    let id = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = scene
        .cluster
        .kubectl(&["get", "pod", "client", "-o", id])
        .await
        .unwrap();
    id.trim_start_matches("containerd://").to_owned()
}

pub(crate) async fn a_cut_silences_established_connections(scene: &Scene) {
    let node = scene.cluster.node(1);
    let listener = TcpListener::bind((scene.cluster.host_ip(), 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answer = async |cut: bool| {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1];
        stream.read_exact(&mut request).await.unwrap();
        if cut {
            node.cut(Peer::Upstream).await.unwrap();
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
        // The client ends first where it hears nothing.
        stream
    };
    for cut in [false, true] {
        let patience = if cut { 2 * SILENCE } else { SOON }.as_secs().to_string();
        let get = ["get", &url, "--timeout", &patience];
        let (got, stream) = tokio::join!(scene.helper(1, &get), async {
            let mut stream = answer(cut).await;
            if !cut {
                stream.shutdown().await.unwrap();
            }
            stream
        });
        drop(stream);
        match got {
            Ok(_) => assert!(!cut),
            Err(error) => assert!(cut && format!("{error:#}").contains("not within"), "{error:#}"),
        }
    }
    node.heal(Peer::Upstream).await.unwrap();
}

pub(crate) async fn a_limit_slows_both_directions(scene: &Scene) {
    const RATE_BYTES_PER_S: u32 = 1 << 20;
    /// Far more than what passes a limit at once.
    const SIZE_BYTES: u32 = 2 << 20;
    const AT_LEAST: Duration = Duration::from_millis(1500);
    let node = scene.cluster.node(1);
    let listener = TcpListener::bind((scene.cluster.host_ip(), 0)).await.unwrap();
    let (image, _) = scene.image("slow", usize::try_from(SIZE_BYTES).unwrap());
    node.limit_rate(Some(u64::from(RATE_BYTES_PER_S))).await.unwrap();

    assert!(node.pull(&image).await.unwrap().elapsed > AT_LEAST);

    let port = listener.local_addr().unwrap().port();
    let send = format!(
        "head -c {SIZE_BYTES} /dev/zero >/dev/tcp/{}/{port}",
        scene.cluster.host_ip()
    );
    let send = ["-c", &send];
    let (sent, taken) = tokio::join!(node.run("bash", &send), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let started = Instant::now();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), usize::try_from(SIZE_BYTES).unwrap());
        started.elapsed()
    });
    sent.unwrap();
    assert!(taken > AT_LEAST, "{taken:?}");

    node.limit_rate(None).await.unwrap();
    node.limit_rate(None).await.unwrap();
    let disciplines = node.run("tc", &["qdisc", "show", "dev", "eth0"]).await.unwrap();
    assert!(!disciplines.contains("tbf"), "{disciplines}");
    node.remove_image(&image).await.unwrap();
    node.pull(&image).await.unwrap();
}
