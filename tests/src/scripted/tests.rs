//! The host does what its rules say, as a client sees it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::client::{Call, Connection, End};
use crate::digest::{seeded, sha256};

/// A host that serves one blob of 1,000,000 bytes at every path.
struct OneBlob(Content);

impl Handler for OneBlob {
    fn reply(&self, request: &Request) -> Reply {
        let mut reply = Reply::ranged(self.0.clone(), request, "\"one\"");
        reply.digest = Some("one".to_owned());
        reply
    }
}

const SIZE: usize = 1_000_000;

async fn one_blob() -> (ScriptedHost, String, bytes::Bytes) {
    one_blob_on(HostSetup::named("test")).await
}

async fn one_blob_on(setup: HostSetup) -> (ScriptedHost, String, bytes::Bytes) {
    let bytes = seeded(1, SIZE);
    let host = ScriptedHost::start(setup, Arc::new(OneBlob(bytes.clone().into()))).await;
    let url = format!("{}/blob", host.url());
    (host, url, bytes)
}

#[tokio::test]
async fn ranges_are_honest() {
    let (_host, url, bytes) = one_blob().await;
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=500-1499", 500, 1500),
        ("bytes=999999-", 999_999, SIZE),
        ("bytes=-500", SIZE - 500, SIZE),
        ("bytes=-2000000", 0, SIZE),
        ("bytes=999000-5000000", 999_000, SIZE),
    ] {
        let answer = Call::get(&url).header("Range", range).send().await;
        assert_eq!((answer.status, answer.end), (206, End::Complete), "{range}");
        assert_eq!(answer.body, bytes.slice(from..to), "{range}");
        assert_eq!(
            answer.header("Content-Range").unwrap(),
            format!("bytes {from}-{}/{SIZE}", to - 1)
        );
    }
    for range in ["bytes=1000000-", "bytes=-0"] {
        let answer = Call::get(&url).header("Range", range).send().await;
        assert_eq!(
            (answer.status, answer.header("Content-Range")),
            (416, Some("bytes */1000000")),
            "{range}"
        );
    }
    for range in ["bytes=5-2", "bytes=0-1,5-9", "lines=1-2"] {
        assert_eq!(
            Call::get(&url).header("Range", range).send().await.status,
            200,
            "{range}"
        );
    }
    let stale = Call::get(&url)
        .header("Range", "bytes=5-")
        .header("If-Range", "\"other\"")
        .send()
        .await;
    assert_eq!((stale.status, stale.body), (200, bytes));
}

#[tokio::test]
async fn a_cut_by_fin_and_one_by_rst_look_different_after_the_same_bytes() {
    let (host, url, bytes) = one_blob().await;
    host.script(on_any().once(), Action::cut_fin(300_000));
    host.script(on_any().once(), Action::cut_rst(300_001));
    host.script(on_any().once(), Action::cut_rst(0));
    host.script(on_any().once(), Action::hangup_fin());
    host.script(on_any().once(), Action::hangup_rst());
    let fin = Call::get(&url).send().await;
    assert_eq!(
        (fin.status, fin.end, fin.header("Content-Length")),
        (200, End::FinShort, Some("1000000"))
    );
    assert_eq!(fin.body, bytes.slice(..300_000));
    let rst = Call::get(&url).send().await;
    assert_eq!((rst.end, rst.body), (End::Rst, bytes.slice(..300_001)));
    let rst = Call::get(&url).send().await;
    assert_eq!((rst.status, rst.end, rst.received), (200, End::Rst, 0));
    assert_eq!(Call::get(&url).send().await.end, End::NoHead);
    assert_eq!(Call::get(&url).send().await.end, End::Rst);
    assert_eq!(Call::get(&url).send().await.end, End::Complete);
    let outcomes: Vec<_> = host
        .requests()
        .iter()
        .map(|exchange| exchange.outcome())
        .collect();
    assert_eq!(outcomes[..2], [Some(Outcome::Cut), Some(Outcome::Cut)]);
    assert_eq!(host.body_bytes_sent("one"), 300_000 + 300_001 + SIZE as u64);
}

#[tokio::test]
async fn framing_and_length_can_lie() {
    let (host, url, bytes) = one_blob().await;
    let rules = [
        (Action::chunked(), End::Complete, SIZE),
        (Action::chunked_short(1000), End::Complete, 1000),
        (Action::chunked_abort(1000), End::FinShort, 1000),
        (Action::until_close(), End::CloseDelimited, SIZE),
        (Action::shorten_to(1000), End::Complete, 1000),
        (Action::lengthen_by(5), End::Complete, SIZE + 5),
        (Action::content_length(10), End::Complete, 10),
    ];
    for (action, end, received) in rules {
        host.clear_script();
        host.script(on_any(), action);
        let answer = Call::get(&url).send().await;
        assert_eq!((answer.end, answer.received), (end, received as u64));
        assert_eq!(answer.body[..10], bytes[..10]);
    }
}

#[tokio::test]
async fn bytes_and_ranges_can_be_wrong() {
    let (host, url, bytes) = one_blob().await;
    host.script(on_any().once(), Action::wrong_bytes(70_000..70_001));
    let all = Call::get(&url).send().await.body;
    assert_eq!(all[70_000], !bytes[70_000]);
    assert_eq!(
        (&all[..70_000], &all[70_001..]),
        (&bytes[..70_000], &bytes[70_001..])
    );
    host.script(on_any().once(), Action::ignore_range());
    let ignored = Call::get(&url).range("5-9").send().await;
    assert_eq!((ignored.status, ignored.received), (200, SIZE as u64));
    host.script(on_any().once(), Action::bytes_from(0));
    let moved = Call::get(&url).range("5-9").send().await;
    assert_eq!(
        (moved.header("Content-Range"), &moved.body),
        (Some("bytes 5-9/1000000"), &bytes.slice(..5))
    );
    host.script(
        on_any().once(),
        Action::without_header("Content-Range").and(Action::set_status(206)),
    );
    assert_eq!(
        Call::get(&url).range("5-9").send().await.header("Content-Range"),
        None
    );
}

#[tokio::test]
async fn heads_go_out_verbatim() {
    let (host, url, _) = one_blob().await;
    let location = "https://cdn.test/a%2Fb?sig=%3D~-_:&x=%2f";
    host.script(
        on_any().once(),
        Action::redirect(307, location).and(Action::header("X-oDD", "1")),
    );
    let redirect = Call::get(&url).send().await;
    assert_eq!(
        (redirect.status, redirect.header("Location")),
        (307, Some(location))
    );
    assert!(redirect.headers.contains(&("X-oDD".to_owned(), "1".to_owned())));
    host.script(
        on_any().once(),
        Action::challenge(&["Negotiate", "Basic realm=\"a\""]),
    );
    assert_eq!(
        Call::get(&url).send().await.header_all("www-authenticate"),
        ["Negotiate", "Basic realm=\"a\""]
    );
    host.script(
        on_any().once(),
        Action::status(401).and(Action::reason("UNAUTHORIZED")),
    );
    assert_eq!(Call::get(&url).send().await.reason, "UNAUTHORIZED");
    host.script(
        on_any().once(),
        Action::raw("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}"),
    );
    assert_eq!(Call::get(&url).send().await.text(), "{}");
    Call::get(&format!("{}/v2/a%2Fb/?x=%3d&n=", host.url()))
        .header("X-ODD", "q")
        .send()
        .await;
    let last = host.requests().pop().unwrap();
    assert_eq!(last.request.target, "/v2/a%2Fb/?x=%3d&n=");
    assert!(
        last.request
            .headers
            .contains(&("X-ODD".to_owned(), "q".to_owned()))
    );
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let (host, url, bytes) = one_blob().await;
    let mut connection = Connection::open(&host.host()).await.unwrap();
    assert_eq!(
        connection.send(Call::head(&url)).await.header("Content-Length"),
        Some("1000000")
    );
    for _ in 0..3 {
        assert_eq!(connection.send(Call::get(&url)).await.body, bytes);
    }
    host.script(on_any(), Action::chunked());
    assert_eq!(connection.send(Call::get(&url)).await.body, bytes);
    assert_eq!((host.connections(), host.count(on_any().get())), (1, 4));
}

#[tokio::test]
async fn rules_act_in_order_and_are_used_up() {
    let (host, url, _) = one_blob().await;
    let twice = host.script(on_any().get().times(2), Action::status(503));
    let third = host.script(on_any().get().nth(2), Action::status(500));
    let ranged = host.script(on_any().ranged(), Action::rate_limited(7));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(Call::get(&url).send().await.status);
    }
    assert_eq!(statuses, [503, 503, 200, 500, 200]);
    let limited = Call::get(&url).range("0-").send().await;
    assert_eq!((limited.status, limited.header("Retry-After")), (429, Some("7")));
    assert_eq!((twice.acted(), third.acted(), ranged.acted()), (2, 1, 1));
}

#[tokio::test]
async fn silence_lasts_until_the_client_leaves() {
    let (host, url, _) = one_blob().await;
    host.script(on_path("/stall"), Action::stall_after(1000));
    host.script(on_path("/hang"), Action::hang());
    let short = Duration::from_millis(200);
    let stalled = Call::get(&url.replace("/blob", "/stall"))
        .timeout(short)
        .send()
        .await;
    assert_eq!((stalled.end, stalled.received), (End::TimedOut, 1000));
    let hung = Call::get(&url.replace("/blob", "/hang"))
        .timeout(short)
        .send()
        .await;
    assert_eq!((hung.end, hung.status), (End::TimedOut, 0));
    let both_gone = |all: &[Arc<Exchange>]| all.iter().all(|e| e.outcome() == Some(Outcome::ClientGone));
    host.wait_for(both_gone, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn time_can_be_stretched() {
    let (host, url, _) = one_blob().await;
    let pause = Duration::from_millis(150);
    host.script(
        on_any().once(),
        Action::delay_head(pause).and(Action::pause_after(10, pause)),
    );
    let slow = Call::get(&url).send().await;
    assert!(slow.head_after.unwrap() >= pause, "{slow:?}");
    host.script(on_any().once(), Action::rate(2_000_000));
    let started = std::time::Instant::now();
    assert_eq!(Call::get(&url).send().await.end, End::Complete);
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_closed_host_refuses_and_comes_back() {
    let (host, url, _) = one_blob().await;
    host.close();
    let refused = async {
        while Call::get(&url).try_send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .unwrap();
    host.reopen().await;
    assert_eq!(Call::get(&url).send().await.status, 200);
}

#[tokio::test]
async fn virtual_content_is_the_same_at_every_offset() {
    let blob = VirtualBlob::new(7, 100_003);
    let all = blob.read(0, 100_003);
    assert_eq!(sha256(&all), blob.digest());
    for (at, len) in [(1, 7), (8, 8), (13, 70_000), (100_002, 1)] {
        assert_eq!(blob.read(at, len), all.slice(at as usize..at as usize + len));
    }
}

fn http2_client(ca: Option<&str>) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    match ca {
        Some(pem) => builder.tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()]),
        None => builder.http2_prior_knowledge().tls_certs_only([]),
    }
    .build()
    .unwrap()
}

async fn cut_is_a_reset(host: &ScriptedHost, url: &str, client: &reqwest::Client, bytes: &[u8]) {
    let whole = client.get(url).header("Range", "bytes=5-").send().await.unwrap();
    assert_eq!(
        (whole.version(), whole.status().as_u16()),
        (http::Version::HTTP_2, 206)
    );
    assert_eq!(whole.bytes().await.unwrap(), bytes[5..]);
    host.script(on_any().once(), Action::cut_fin(100_000));
    let mut cut = client.get(url).send().await.unwrap();
    let mut received = 0;
    let error = loop {
        match cut.chunk().await {
            Ok(piece) => received += piece.expect("a reset, not an end").len(),
            Err(error) => break error,
        }
    };
    assert_eq!(received, 100_000, "{error:?}");
    assert_eq!(
        client.get(url).send().await.unwrap().bytes().await.unwrap(),
        bytes
    );
    assert_eq!(host.connections(), 1);
    assert!(host.requests()[0].request.http2);
}

#[tokio::test]
async fn http2_over_tls_needs_the_ca() {
    let ca = CertificateAuthority::new();
    let setup = HostSetup {
        http2: true,
        authority: Some(ca.clone()),
        ..HostSetup::named("h2")
    };
    let (host, url, bytes) = one_blob_on(setup).await;
    cut_is_a_reset(&host, &url, &http2_client(Some(&ca.pem())), &bytes).await;
    let other = http2_client(Some(&CertificateAuthority::new().pem()));
    assert!(other.get(&url).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn http2_with_prior_knowledge_and_http1_share_a_port() {
    let setup = HostSetup {
        http2: true,
        ..HostSetup::named("h2c")
    };
    let (host, url, bytes) = one_blob_on(setup).await;
    cut_is_a_reset(&host, &url, &http2_client(None), &bytes).await;
    assert_eq!(Call::get(&url).send().await.body, bytes);
}

#[tokio::test]
async fn tls_alone_speaks_http1_and_can_cut() {
    let ca = CertificateAuthority::new();
    let setup = HostSetup {
        authority: Some(ca.clone()),
        ..HostSetup::named("tls")
    };
    let (host, url, _) = one_blob_on(setup).await;
    let client = http2_client(Some(&ca.pem()));
    for action in [Action::cut_fin(1000), Action::cut_rst(1000)] {
        host.script(on_any().once(), action);
        let mut cut = client.get(&url).send().await.unwrap();
        assert_eq!(cut.version(), http::Version::HTTP_11);
        assert_eq!(cut.chunk().await.unwrap().unwrap().len(), 1000);
        cut.chunk().await.unwrap_err();
    }
}
