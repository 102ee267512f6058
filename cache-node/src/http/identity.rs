//! The answer to `node-config`'s challenge on the runtime's port, where a stranger might listen in our place.
//!
//! It takes a place among the connections like every request. With all of them taken no pull would be answered either,
//! so the silence is the truth: `node-config` withdraws the runtime from a cache that does not answer.

use axum::body::Body;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::watch;

use crate::identity::{IDENTITY_PATH, IdentityKey, is_challenge};

/// Proves to whoever can read the same key that this is the cache of their pod.
pub struct Prover {
    key: Option<IdentityKey>,
    ready: watch::Receiver<bool>,
}

impl Prover {
    /// Without a key nothing is proved: the path is as unknown as any other.
    pub fn new(key: Option<IdentityKey>, ready: watch::Receiver<bool>) -> Self {
        Self { key, ready }
    }

    /// The answer, if this is a challenge: 200 when the cache serves, 503 when it is alive and shall not be used, with
    /// the proof as the body of both. Asked twice a second by a program, it is neither logged nor counted.
    pub fn answer<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let key = self
            .key
            .as_ref()
            .filter(|_| request.uri().path() == IDENTITY_PATH)?;
        if request.method() != Method::GET {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return Some(refusal);
        }
        let challenge = request
            .uri()
            .query()
            .and_then(|query| query.strip_prefix("challenge="))
            .filter(|challenge| is_challenge(challenge));
        Some(match challenge {
            None => text(StatusCode::BAD_REQUEST, "no challenge\n".to_owned()),
            Some(challenge) if *self.ready.borrow() => text(StatusCode::OK, key.answer(challenge)),
            Some(challenge) => text(StatusCode::SERVICE_UNAVAILABLE, key.answer(challenge)),
        })
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn ask(prover: &Prover, method: &str, target: &str) -> Option<(u16, String)> {
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        let response = prover.answer(&request)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Some((status, String::from_utf8(body.to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn only_the_right_key_proves_whether_the_cache_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let key = IdentityKey::create(directory.path()).unwrap();
        let (switch, ready) = watch::channel(true);
        let prover = Prover::new(Some(key), ready.clone());
        let theirs = IdentityKey::read(directory.path()).unwrap();
        let challenge = crate::identity::new_challenge().unwrap();
        let target = format!("{IDENTITY_PATH}?challenge={challenge}");
        for (is_ready, expected) in [(true, 200), (false, 503)] {
            switch.send(is_ready).unwrap();
            let (status, proof) = ask(&prover, "GET", &target).await.unwrap();
            assert_eq!(status, expected);
            assert!(theirs.is_answer(&challenge, &proof), "{proof}");
        }
        for (method, query, expected) in [
            ("GET", String::new(), 400),
            ("GET", "?challenge=".to_owned(), 400),
            ("GET", format!("?challenge={challenge}&ns=docker.io"), 400),
            ("GET", format!("?challenge={}", "%41".repeat(43)), 400),
            ("POST", format!("?challenge={challenge}"), 405),
            ("HEAD", format!("?challenge={challenge}"), 405),
        ] {
            let asked = ask(&prover, method, &format!("{IDENTITY_PATH}{query}")).await;
            assert_eq!(asked.unwrap().0, expected, "{method} {query}");
        }
        assert_eq!(ask(&prover, "GET", "/v2/").await, None);
        assert_eq!(ask(&Prover::new(None, ready), "GET", &target).await, None);
    }
}
