//! Issue "Fill engine", DESIGN §1.3: one transfer, however many clients, and whatever parts they ask for.

use std::time::Duration;

use bytes::Bytes;
use larder_tests::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::*;

/// The herd of the issue: this many clients, and a blob of this many bytes.
const CLIENTS: usize = 200;
const HERD_BLOB: u64 = 256 << 20;
/// "One small block": what may be fetched twice.
const BLOCK: u64 = 256 << 10;

/// GETs `url` and compares its body with `content` piece by piece, holding none of it. True if it came whole and right.
async fn is_received(url: String, content: Bytes) -> std::io::Result<bool> {
    let rest = url.strip_prefix("http://").unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or_default();
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    let head = loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        filled += count;
        let end = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) => break end + 4,
            None if count == 0 => return Ok(false),
            None => {}
        }
    };
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(false);
    }
    let mut left = &content[..];
    let mut piece = &buffer[head..filled];
    loop {
        let Some(rest) = left.strip_prefix(piece) else {
            return Ok(false);
        };
        left = rest;
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(left.is_empty());
        }
        piece = &buffer[..count];
    }
}

/// 200 concurrent pulls of one cold blob of 256 MiB: one transfer, every body right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pulls_are_one_transfer() {
    let (up, node) = pair().await;
    let blob = up.add_virtual_blob(REPO, HERD_BLOB);
    let content = VirtualBlob::new(HERD_BLOB, HERD_BLOB).read(0, HERD_BLOB as usize);
    let mut pulls = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        pulls.spawn(is_received(blob_url(&node, &blob), content.clone()));
    }
    let mut right = 0;
    while let Some(pull) = pulls.join_next().await {
        right += usize::from(matches!(pull, Ok(Ok(true))));
    }
    assert_eq!(right, CLIENTS);
    assert_eq!(up.count(on_blob(&blob)), 1);
    assert_eq!(up.body_bytes_sent(&blob), HERD_BLOB);
}

/// The same for what is verified whole, and for manifests.
#[tokio::test]
async fn a_herd_asks_once() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(on_any(), Action::delay_head(Duration::from_millis(200)));
    let small = &image.config_digest;
    for (url, on, is_head) in [
        (blob_url(&node, small), on_blob(small), false),
        (manifest_url(&node, "v1"), on_manifest("v1"), false),
        (manifest_url(&node, "v1"), on_manifest("v1"), true),
        (
            manifest_url(&node, &image.digest),
            on_manifest(&image.digest),
            false,
        ),
    ] {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let call = if is_head {
                Call::head(&url)
            } else {
                Call::get(&url)
            };
            calls.spawn(call.send());
        }
        while let Some(answer) = calls.join_next().await {
            assert_eq!(answer.expect("a call").status, 200);
        }
        assert!(up.count(on) <= 1, "{url}");
    }
}

/// A client that leaves after 1 MiB costs nobody anything: the fill completes without it.
#[tokio::test]
async fn a_client_that_leaves_ends_nothing() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(8 << 20));
    up.script(
        on_any_blob().get(),
        Action::pause_after(2 << 20, Duration::from_millis(200)),
    );
    let left = Call::get(&blob_url(&node, &blob))
        .leave_after(1 << 20)
        .send()
        .await;
    assert_eq!((left.status, left.end), (200, End::Left));
    until("the fill is over", async || fills(&node).await == 0).await;
    up.close();
    assert_whole(&node, &blob).await;
}

/// The one who started it leaves; the others read on.
#[tokio::test]
async fn the_first_client_is_nobody_special() {
    let (up, node) = pair().await;
    let blob = up.add_blob(REPO, random(8 << 20));
    up.script(
        on_any_blob().get(),
        Action::pause_after(2 << 20, Duration::from_millis(300)),
    );
    let url = blob_url(&node, &blob);
    let first = tokio::spawn(Call::get(&url).leave_after(1 << 20).send());
    up.wait_for_count(on_blob(&blob), 1, Duration::from_secs(10))
        .await;
    let second = tokio::spawn(Call::get(&url).send());
    assert_eq!(first.await.expect("a call").end, End::Left);
    let second = second.await.expect("a call");
    assert_eq!((second.end, second.digest), (End::Complete, blob.clone()));
    assert_eq!(up.count(on_blob(&blob)), 1);
}

/// A range of a cold blob costs no second transfer, wherever it lies.
#[tokio::test]
async fn a_range_costs_no_second_transfer() {
    for (size, specs) in [
        (STREAMED, ["0-9", "500-1499", "1000000-1999999", "-500", "0-"]),
        (2000, ["0-9", "500-1499", "1999-", "-500", "0-"]),
    ] {
        for spec in specs {
            let (up, node) = pair().await;
            let blob = up.add_blob(REPO, random(size));
            let part = Call::get(&blob_url(&node, &blob)).range(spec).send().await;
            assert_eq!((part.status, part.end), (206, End::Complete), "{spec}");
            assert_whole(&node, &blob).await;
            let sent = up.body_bytes_sent(&blob);
            assert!(sent <= size as u64 + BLOCK, "{spec}: {sent}");
        }
    }
}

/// Nor does one far ahead, which gets a segment of its own: the node receives every byte once.
#[tokio::test]
async fn a_far_range_costs_no_second_transfer() {
    let (up, node) = pair().await;
    let content = random(24 << 20);
    let blob = up.add_blob(REPO, content.clone());
    up.script(
        on_any_blob().get().unranged(),
        Action::pause_after(1 << 20, Duration::from_millis(300)),
    );
    let part = Call::get(&blob_url(&node, &blob))
        .range("20000000-20000999")
        .send()
        .await;
    assert_eq!((part.status, part.end), (206, End::Complete));
    assert_eq!(part.body, content[20_000_000..20_001_000]);
    assert_whole(&node, &blob).await;
    until("the fill is over", async || fills(&node).await == 0).await;
    let received = counter(&node, "larder_upstream_received_bytes_total").await;
    assert!(received <= content.len() as u64 + BLOCK, "{received}");
}
