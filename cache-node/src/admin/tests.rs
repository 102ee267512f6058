use super::*;
use axum::body::Body;
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

fn admin(listen: SocketAddr) -> (Admin, watch::Sender<bool>) {
    let (sender, ready) = watch::channel(false);
    let admin = Admin {
        listen,
        ready,
        hindrance: Arc::new(|| None),
        metrics: Arc::new(Metrics::new().unwrap()),
        status: Arc::new(|| serde_json::json!({"fills": []})),
        conditions: Arc::new(|| serde_json::json!({"conditions": []})),
    };
    (admin, sender)
}

fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
}

async fn ask(router: Router, method: &str, path: &str, host: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(host) = host {
        request = request.header(HOST, host);
    }
    let response = router
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readyz_follows_its_switch() {
    let (admin, ready) = admin(nowhere());
    for (value, status) in [(false, 503), (true, 200), (false, 503)] {
        ready.send(value).unwrap();
        for router in [admin.clone().admin_router(), admin.clone().metrics_router()] {
            assert_eq!(ask(router, "GET", "/readyz", None).await.0, status);
        }
    }
}

#[tokio::test]
async fn readyz_says_what_does_not_work_and_stays_ready() {
    let (mut admin, ready) = admin(nowhere());
    admin.hindrance = Arc::new(|| Some("the disk takes no content"));
    ready.send(true).unwrap();
    let answer = ask(admin.admin_router(), "GET", "/readyz", None).await;
    assert_eq!(
        answer,
        (StatusCode::OK, "degraded: the disk takes no content\n".to_owned())
    );
}

#[tokio::test]
async fn livez_asks_the_runtime_listener() {
    for (status, expected) in [(StatusCode::OK, 200), (StatusCode::BAD_GATEWAY, 503)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (admin, _ready) = admin(listener.local_addr().unwrap());
        let runtime = Router::new().route("/v2/", get(move || async move { status }));
        let serving = tokio::spawn(async move { axum::serve(listener, runtime).await });
        assert_eq!(ask(admin.admin_router(), "GET", "/livez", None).await.0, expected);
        serving.abort();
    }
}

#[tokio::test]
async fn livez_fails_when_the_listener_is_dead_or_hung() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hung, _ready) = admin(address);
    assert_eq!(
        ask(hung.clone().admin_router(), "GET", "/livez", None).await.0,
        503
    );
    drop(listener);
    assert_eq!(ask(hung.metrics_router(), "GET", "/livez", None).await.0, 503);
}

#[tokio::test]
async fn statusz_is_for_local_names_alone() {
    let (admin, _ready) = admin(nowhere());
    for (host, status) in [
        (Some("localhost"), 200),
        (Some("LOCALHOST:5118"), 200),
        (Some("127.0.0.1:5118"), 200),
        (Some("[::1]"), 200),
        (Some("[::1]:5118"), 200),
        (Some("rebound.test:5118"), 403),
        (Some("localhost.rebound.test"), 403),
        (Some("127.0.0.1.rebound.test"), 403),
        (Some("localhost:x"), 403),
        (Some(""), 403),
        (None, 403),
    ] {
        let (answered, body) = ask(admin.clone().admin_router(), "GET", "/statusz", host).await;
        assert_eq!(answered, status, "{host:?}");
        assert_eq!(body.contains("fills"), status == 200, "{host:?}");
    }
    let absolute = "http://rebound.test/statusz";
    assert_eq!(
        ask(admin.admin_router(), "GET", absolute, Some("localhost"))
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn each_listener_has_its_own_pages_and_only_reads() {
    let (admin, _ready) = admin(nowhere());
    for (path, on_admin, on_metrics) in [
        ("/metrics", 200, 200),
        ("/statusz", 200, 404),
        ("/conditions", 404, 200),
        ("/v2/", 404, 404),
    ] {
        let host = Some("localhost");
        assert_eq!(
            ask(admin.clone().admin_router(), "GET", path, host).await.0,
            on_admin,
            "{path}"
        );
        let (status, body) = ask(admin.clone().metrics_router(), "GET", path, host).await;
        assert_eq!(status, on_metrics, "{path}");
        let (status, head) = ask(admin.clone().metrics_router(), "HEAD", path, host).await;
        assert_eq!(
            (status, head.as_str()),
            (StatusCode::from_u16(on_metrics).unwrap(), ""),
            "{path} {body}"
        );
    }
    for path in ["/livez", "/readyz", "/metrics", "/statusz"] {
        assert_eq!(
            ask(admin.clone().admin_router(), "POST", path, Some("localhost"))
                .await
                .0,
            405
        );
    }
}

#[test]
fn a_listener_on_every_address_is_reached_by_loopback() {
    for (listen, expected) in [
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1"),
        ("10.0.0.1:1", "10.0.0.1:1"),
    ] {
        assert_eq!(reachable(listen.parse().unwrap()), expected.parse().unwrap());
    }
}
