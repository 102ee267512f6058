//! Candidates against a scripted API server that keeps one Lease, on paused time.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use tower_test::mock;

use super::*;

/// What the server does instead of answering as it should.
#[derive(Clone, Copy)]
enum Fault {
    Status(u16),
    /// It never answers.
    Hang,
    /// It does what it is told, but never answers.
    HangAfterwards,
    /// The connection breaks.
    Break,
}

#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    writes: Vec<(Instant, Method)>,
    faults: VecDeque<Fault>,
    /// What happens to every request once there are no more of those.
    always: Option<Fault>,
}

type Shared = Arc<Mutex<Server>>;
type Handle = mock::Handle<Request<Body>, Response<Body>>;

impl Server {
    fn answer(&mut self, method: &Method, lease: Option<Lease>) -> Result<Lease, u16> {
        if *method == Method::GET {
            return self.lease.clone().ok_or(404);
        }
        let mut lease = lease.unwrap();
        let own = lease.metadata.resource_version.take();
        let current = self.lease.as_ref().map(|_| self.version.to_string());
        match (method, &current) {
            (&Method::POST, None) => {}
            (&Method::PUT, Some(_)) if own == current => {}
            (&Method::PUT, None) => return Err(404),
            _ => return Err(409),
        }
        self.writes.push((Instant::now(), method.clone()));
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Ok(lease)
    }

    fn holder(&self) -> String {
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default()
    }
}

fn json(status: u16, value: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn failure(code: u16) -> Response<Body> {
    let reason = if code == 404 { "NotFound" } else { "Scripted" };
    let status = serde_json::json!({
        "kind": "Status", "status": "Failure", "message": "scripted", "reason": reason, "code": code,
    });
    json(code, &status)
}

async fn serve(server: Shared, mut handle: Handle) {
    let mut hung = Vec::new();
    while let Some((request, send)) = handle.next_request().await {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut server = server.lock().unwrap();
        let fault = server.faults.pop_front().or(server.always);
        match fault {
            Some(Fault::Status(code)) => send.send_response(failure(code)),
            Some(Fault::Hang) => hung.push(send),
            Some(Fault::Break) => send.send_error("connection reset"),
            None | Some(Fault::HangAfterwards) => {
                let lease = serde_json::from_slice(&body).ok();
                let response = match server.answer(&parts.method, lease) {
                    Ok(lease) => json(200, &lease),
                    Err(code) => failure(code),
                };
                match fault {
                    Some(_) => hung.push(send),
                    None => send.send_response(response),
                }
            }
        }
    }
}

fn candidate(server: &Shared, identity: &str) -> Candidate {
    let (service, handle) = mock::pair();
    tokio::spawn(serve(Arc::clone(server), handle));
    Candidate::new(
        Client::new(service, "larder-system"),
        "larder-system",
        identity.to_owned(),
    )
}

async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> Option<T> {
    time::timeout(Duration::from_secs(seconds), Box::pin(future))
        .await
        .ok()
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_renews_every_five_seconds() {
    let server = Shared::default();
    let leader = candidate(&server, "a").lead().await;
    let stop = CancellationToken::new();
    assert_eq!(within(21, leader.hold(stop)).await, None);
    let server = server.lock().unwrap();
    let times: Vec<_> = server
        .writes
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_secs())
        .collect();
    assert_eq!(times, [5, 5, 5, 5]);
    let spec = server.lease.as_ref().unwrap().spec.as_ref().unwrap();
    assert_eq!(
        (spec.lease_transitions, spec.lease_duration_seconds),
        (Some(1), Some(15))
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_killed_is_followed_within_20_seconds_but_not_before_its_time() {
    let server = Shared::default();
    let first = candidate(&server, "a").lead().await;
    let mut second = pin!(candidate(&server, "b").lead());
    assert!(
        within(
            60,
            future_of(first.hold(CancellationToken::new()), second.as_mut())
        )
        .await
        .is_none()
    );
    // The first is gone now, without a word; its last renewal was at most five seconds ago.
    let killed = Instant::now();
    let renewed = server.lock().unwrap().writes.last().unwrap().0;
    let _leader = second.await;
    assert!(
        killed.elapsed() < Duration::from_secs(20),
        "{:?}",
        killed.elapsed()
    );
    assert!(
        renewed.elapsed() >= Duration::from_secs(15),
        "{:?}",
        renewed.elapsed()
    );
    assert_eq!(server.lock().unwrap().holder(), "b");
}

/// Ends when either does: the first must not, nor may the second lead meanwhile.
async fn future_of<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) {
    tokio::select! {
        _ = a => {}
        _ = b => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_is_followed_at_once() {
    let server = Shared::default();
    let leader = candidate(&server, "a").lead().await;
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(leader.hold(stop).await, Ok(()));
    assert_eq!(server.lock().unwrap().holder(), "");
    assert!(within(1, candidate(&server, "b").lead()).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_holders_clock_does_not_matter() {
    for time in ["1990-01-01T00:00:00Z", "2090-01-01T00:00:00Z"] {
        let server = Shared::default();
        drop(candidate(&server, "a").lead().await);
        let skewed = MicroTime(time.parse().unwrap());
        let set = |lease: &mut Lease| lease.spec.as_mut().unwrap().renew_time = Some(skewed);
        set(server.lock().unwrap().lease.as_mut().unwrap());
        let mut second = pin!(candidate(&server, "b").lead());
        assert!(within(14, second.as_mut()).await.is_none());
        assert!(within(4, second).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_of_the_same_name_need_not_wait() {
    let server = Shared::default();
    drop(candidate(&server, "a").lead().await);
    assert!(within(1, candidate(&server, "a").lead()).await.is_some());
    let server = server.lock().unwrap();
    let spec = server.lease.as_ref().unwrap().spec.as_ref().unwrap();
    assert_eq!(spec.lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_find_none_one_leads() {
    let server = Shared::default();
    let (a, b) = (candidate(&server, "a").lead(), candidate(&server, "b").lead());
    let both = within(10, futures_util::future::join(a, b)).await;
    assert!(both.is_none());
    assert_eq!(server.lock().unwrap().writes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_outlasts_every_error() {
    let server = Shared::default();
    let faults = [400, 401, 403, 404, 409, 410, 422, 429, 500, 503, 504].map(Fault::Status);
    server.lock().unwrap().faults = faults.into();
    server.lock().unwrap().faults.extend([Fault::Hang, Fault::Break]);
    assert!(within(60, candidate(&server, "a").lead()).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_leader_outlasts_a_short_failure_of_every_kind() {
    let kinds = [
        Fault::Status(403),
        Fault::Status(409),
        Fault::Status(422),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Hang,
        Fault::HangAfterwards,
        Fault::Break,
    ];
    for fault in kinds {
        let server = Shared::default();
        let leader = candidate(&server, "a").lead().await;
        server.lock().unwrap().faults.push_back(fault);
        assert_eq!(within(60, leader.hold(CancellationToken::new())).await, None);
        assert_eq!(server.lock().unwrap().holder(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_stops_before_its_record_is_dead_when_the_api_server_is() {
    for fault in [
        Fault::Status(500),
        Fault::Hang,
        Fault::HangAfterwards,
        Fault::Break,
    ] {
        let server = Shared::default();
        let leader = candidate(&server, "a").lead().await;
        let started = Instant::now();
        server.lock().unwrap().always = Some(fault);
        assert_eq!(leader.hold(CancellationToken::new()).await, Err(Lost::Expired));
        assert_eq!(started.elapsed(), LEAD_WITHOUT_RENEWAL_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_stops_when_somebody_else_has_taken_the_lease() {
    let server = Shared::default();
    let leader = candidate(&server, "a").lead().await;
    {
        let mut server = server.lock().unwrap();
        let mut lease = server.lease.clone().unwrap();
        lease.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
        assert!(server.answer(&Method::PUT, Some(lease)).is_ok());
    }
    let lost = within(9, leader.hold(CancellationToken::new())).await;
    assert_eq!(lost, Some(Err(Lost::Taken("b".to_owned()))));
    assert_eq!(server.lock().unwrap().holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_is_made_again() {
    let server = Shared::default();
    let leader = candidate(&server, "a").lead().await;
    server.lock().unwrap().lease = None;
    assert_eq!(within(30, leader.hold(CancellationToken::new())).await, None);
    assert_eq!(server.lock().unwrap().holder(), "a");
}
