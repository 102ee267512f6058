//! The relay is late, in order, honest about ends, and breaks when it is told to.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::prelude::*;

/// A host behind a relay, both on loopback.
async fn pair() -> (TcpListener, Relay) {
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start("127.0.0.2:0".parse().unwrap(), host.local_addr().unwrap()).await;
    (host, relay)
}

/// Both ends of a new connection through the relay: the client's and the host's.
async fn connected(host: &TcpListener, relay: &Relay) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(relay.address()).await.unwrap();
    (client, host.accept().await.unwrap().0)
}

async fn received(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_round_trip_takes_twice_the_delay_and_order_is_kept() {
    let (host, relay) = pair().await;
    let (mut client, mut behind) = connected(&host, &relay).await;
    let delay = Duration::from_millis(40);
    relay.set_delay(delay);
    let started = Instant::now();
    client.write_all(b"ping").await.unwrap();
    assert_eq!(received(&mut behind, 4).await, b"ping");
    behind.write_all(b"pong!").await.unwrap();
    assert_eq!(received(&mut client, 5).await, b"pong!");
    assert!(started.elapsed() >= 2 * delay);

    client.write_all(b"slow").await.unwrap();
    relay.set_delay(Duration::ZERO);
    client.write_all(b"fast").await.unwrap();
    assert_eq!(received(&mut behind, 8).await, b"slowfast");
    until("all is counted", async || {
        (relay.connections(), relay.bytes_there(), relay.bytes_back()) == (1, 12, 5)
    })
    .await;
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (host, relay) = pair().await;
    relay.set_delay(Duration::from_millis(5));
    let (mut client, mut behind) = connected(&host, &relay).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    behind.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    behind.write_all(b"answer").await.unwrap();
    drop(behind);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn more_than_its_buffer_passes_unharmed() {
    let up = FakeRegistry::builder().start().await;
    let blob = up.add_virtual_blob("a", 24 << 20);
    let relay = Relay::start("127.0.0.2:0".parse().unwrap(), up.host().parse().unwrap()).await;
    relay.set_delay(Duration::from_millis(2));
    let url = format!("http://{}/v2/a/blobs/{blob}", relay.address());
    let answer = Call::get(&url).discard_body().send().await;
    assert_eq!((answer.status, &answer.digest), (200, &blob));
}

#[tokio::test]
async fn a_host_that_refuses_closes_the_client() {
    let (host, relay) = pair().await;
    drop(host);
    let mut client = TcpStream::connect(relay.address()).await.unwrap();
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_cut_ends_what_is_open_and_refuses_what_is_new() {
    let (host, relay) = pair().await;
    let (mut client, mut behind) = connected(&host, &relay).await;
    relay.cut().await;
    for stream in [&mut client, &mut behind] {
        assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    assert!(TcpStream::connect(relay.address()).await.is_err());
    relay.restore().await;
    let (mut client, mut behind) = connected(&host, &relay).await;
    client.write_all(b"again").await.unwrap();
    assert_eq!(received(&mut behind, 5).await, b"again");
}

#[tokio::test]
async fn a_black_hole_takes_everything_and_gives_nothing() {
    let (host, relay) = pair().await;
    let (mut client, mut behind) = connected(&host, &relay).await;
    relay.black_hole();
    client.write_all(b"lost").await.unwrap();
    behind.write_all(b"lost too").await.unwrap();
    drop(client);
    let mut swallowed = TcpStream::connect(relay.address()).await.unwrap();
    swallowed.write_all(b"never seen").await.unwrap();
    until("it is accepted", async || relay.connections() == 2).await;

    relay.restore().await;
    let (mut client, mut next) = connected(&host, &relay).await;
    client.write_all(b"seen").await.unwrap();
    assert_eq!(received(&mut next, 4).await, b"seen");
    until("it is counted", async || relay.bytes_there() == 4).await;
    assert_eq!(relay.bytes_back(), 0);
    // Neither bytes nor the client's end have come.
    let nothing = behind.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}
