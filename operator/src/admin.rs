//! What probes and Prometheus may ask the operator: `/livez /readyz /metrics`.
//!
//! It is live as long as it answers: a missing API server is no reason to start it anew, since it would only miss it
//! again. It is ready while it waits for nothing; standing by for another leader is being ready.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What the answers are made from.
#[derive(Clone)]
pub struct Admin {
    /// What the operator waits for, in words for people; nothing when it is ready.
    pub waits_for: watch::Receiver<Option<String>>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
}

impl Admin {
    /// Answers on `listener` until `stop` is cancelled.
    ///
    /// # Errors
    /// Where the listener fails for good.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        axum::serve(listener, self.router())
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match &*admin.waits_for.borrow() {
        None => "ok\n".into_response(),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {what}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.render() {
        Ok(text) => {
            let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(admin: &Admin, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = admin.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn it_is_live_while_it_waits_and_says_for_what() {
        let crd = "the CustomResourceDefinition registrymirrors.larder.dev";
        let (waits, waits_for) = watch::channel(Some(crd.to_owned()));
        let metrics = Arc::new(Metrics::new().unwrap());
        let admin = Admin { waits_for, metrics };
        assert_eq!(get(&admin, "/livez").await, (StatusCode::OK, "ok\n".to_owned()));
        let waiting = (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {crd}\n"));
        assert_eq!(get(&admin, "/readyz").await, waiting);
        waits.send_replace(None);
        assert_eq!(get(&admin, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
        let (status, text) = get(&admin, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("larder_operator_leader 0"), "{text}");
        assert_eq!(get(&admin, "/statusz").await.0, StatusCode::NOT_FOUND);
    }
}
