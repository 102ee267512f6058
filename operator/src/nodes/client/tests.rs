//! The client against whatever may listen at a node's port, on loopback.

use std::net::Ipv6Addr;

use larder_crds::report::NodeCondition;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use super::super::state::Finding;
use super::*;

/// Answers one connection with these bytes and ends it; returns what was asked.
async fn responder(listener: TcpListener, answer: Vec<u8>) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        asked.extend(byte);
    }
    // The client may have enough before this is out.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    String::from_utf8(asked).unwrap()
}

async fn ask(answer: impl Into<Vec<u8>>) -> (Result<Report, Error>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(responder(listener, answer.into()));
    let answer = ConditionsClient::new().ask(address).await;
    (answer, serving.await.unwrap())
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn finding(reason: &str) -> Finding {
    Finding {
        reason: reason.to_owned(),
        ..Finding::default()
    }
}

#[tokio::test]
async fn a_report_is_kept_without_what_moves() {
    let report = r#"{"mirror": "uid-1", "generation": 4, "nodeConfigGeneration": 3, "new": {}, "conditions": [
        {"reason": "DiskFull", "count": 7, "since": "2026-11-21T10:00:00Z", "more": 1},
        {"reason": "CredentialsMissing", "registry": "docker.io", "object": "hub", "count": 1},
        {"reason": "DiskFull", "count": 9}
    ]}"#;
    let (answer, asked) = ask(ok(report)).await;
    let missing = Finding {
        registry: "docker.io".to_owned(),
        object: "hub".to_owned(),
        ..finding("CredentialsMissing")
    };
    let expected = Report {
        mirror: "uid-1".to_owned(),
        generation: Some(4),
        node_config_generation: Some(3),
        findings: vec![missing, finding("DiskFull")],
    };
    assert_eq!(answer.unwrap(), expected);
    assert!(asked.starts_with("GET /conditions HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("user-agent: larder-operator\r\n"), "{asked}");
}

#[tokio::test]
async fn a_node_may_have_an_ipv6_address() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(responder(listener, ok("{}").into()));
    assert_eq!(
        ConditionsClient::new().ask(address).await.unwrap(),
        Report::default()
    );
    let asked = serving.await.unwrap();
    assert!(
        asked.contains(&format!("host: [::1]:{}\r\n", address.port())),
        "{asked}"
    );
}

#[tokio::test]
async fn what_is_no_report_is_refused() {
    let errors = [
        (
            ask("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
                .await
                .0,
            "answered with 404",
        ),
        (ask(ok("<html>")).await.0, "is no report"),
        (ask(ok(r#"{"mirror": 5}"#)).await.0, "is no report"),
        (ask("SSH-2.0-OpenSSH\r\n").await.0, "no answer"),
        (ask("").await.0, "no answer"),
        (
            ask("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{").await.0,
            "broke off",
        ),
    ];
    for (answer, expected) in errors {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} is not {expected:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    // Whoever followed would wait here until the time is over.
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = elsewhere.local_addr().unwrap();
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n");
    let (answer, _) = ask(redirect).await;
    assert!(matches!(answer, Err(Error::Status(StatusCode::FOUND))));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_wherever_it_ends() {
    let report = |length: usize| {
        let frame = r#"{"mirror": ""}"#.len();
        ok(&format!(r#"{{"mirror": "{}"}}"#, "x".repeat(length - frame)))
    };
    assert!(ask(report(REPORT_BYTES_MAX)).await.0.is_ok());
    assert!(matches!(
        ask(report(REPORT_BYTES_MAX + 1)).await.0,
        Err(Error::Body(_))
    ));
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(8 << 20));
    assert!(matches!(ask(endless).await.0, Err(Error::Body(_))));
    let header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{{}}", "x".repeat(1 << 20));
    assert!(matches!(ask(header).await.0, Err(Error::Connection(_))));
}

#[tokio::test]
async fn many_findings_and_long_texts_are_cut() {
    let conditions = (0..100).map(|i| NodeCondition {
        reason: format!("R{i:02}{}", "é".repeat(20)),
        object: if i == 0 { "é".repeat(2_000) } else { String::new() },
        ..NodeCondition::default()
    });
    let report = NodeReport {
        conditions: conditions.collect(),
        ..NodeReport::default()
    };
    let (answer, _) = ask(ok(&serde_json::to_string(&report).unwrap())).await;
    let findings = answer.unwrap().findings;
    assert_eq!(findings.len(), FINDINGS_MAX);
    assert_eq!(findings[0].object.len(), 252, "whole characters only");
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_is_an_error() {
    // Bound but not listening: nobody else can take it meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let answer = ConditionsClient::new().ask(socket.local_addr().unwrap()).await;
    assert!(matches!(answer, Err(Error::Connection(_))));
}

#[tokio::test]
async fn a_node_that_accepts_and_stays_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answer = ConditionsClient::new().ask(listener.local_addr().unwrap()).await;
    assert!(matches!(answer, Err(Error::Timeout)));
}
