//! One line and one count per request, written when the last byte has left or the client has gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::route::{Resource, Route};
use crate::metrics::{Metrics, ReaderRunning};
use crate::oci::Reference;
use crate::pull::{Origin, Target};

/// What is known of a request so far. Logs itself when dropped.
pub(super) struct Access {
    metrics: Arc<Metrics>,
    started: Instant,
    method: Method,
    /// What was asked for, for the `kind` label.
    pub(super) kind: &'static str,
    registry: Arc<str>,
    repository: String,
    reference: String,
    origin: Option<Origin>,
    status: StatusCode,
    bytes: u64,
    /// The body's length, if it was promised: HTTP stops reading a body when it has that much.
    promised: Option<u64>,
    outcome: &'static str,
    /// The outcome if the answer is an error.
    pub(super) refusal: &'static str,
}

impl Access {
    pub(super) fn new<B>(metrics: Arc<Metrics>, request: &Request<B>, started: Instant) -> Self {
        Self {
            metrics,
            started,
            method: request.method().clone(),
            kind: "other",
            registry: "".into(),
            repository: String::new(),
            reference: String::new(),
            origin: None,
            status: StatusCode::OK,
            bytes: 0,
            promised: None,
            outcome: "client_left",
            refusal: "refused",
        }
    }

    pub(super) fn target(&mut self, target: &Target, route: &Route) {
        self.registry = Arc::clone(&target.label);
        self.repository.clone_from(&route.written_name);
        (self.kind, self.reference) = match &route.resource {
            Resource::Base => ("base", String::new()),
            Resource::Manifest {
                reference: Reference::Tag(tag),
                ..
            } => ("tag", tag.to_string()),
            Resource::Manifest {
                reference: Reference::Digest(digest),
                ..
            } => ("manifest", digest.to_string()),
            Resource::Blob { digest, .. } => ("blob", digest.to_string()),
            Resource::Tags { .. } => ("tags", String::new()),
            Resource::Referrers { digest, .. } => ("referrers", digest.to_string()),
        };
    }

    pub(super) fn origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// Ties the log line to the response's body.
    pub(super) fn attach(mut self, response: Response<Body>, is_head: bool) -> Response<Body> {
        self.status = response.status();
        let length = response.headers().get(CONTENT_LENGTH);
        self.promised = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if is_head || response.body().is_end_stream() {
            self.outcome = "ok";
        }
        self.metrics.first_byte(self.source(), self.started.elapsed());
        let reading = self.metrics.reader_running();
        response.map(|body| {
            Body::new(Logged {
                body,
                access: self,
                _reading: reading,
            })
        })
    }

    fn source(&self) -> &'static str {
        match self.origin {
            Some(Origin::Upstream) => "fill",
            _ => "store",
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let outcome = if self.status.is_client_error() || self.status.is_server_error() {
            self.refusal
        } else {
            self.outcome
        };
        self.metrics.request(&self.registry, self.kind, outcome);
        self.metrics
            .response_bytes(&self.registry, self.source(), self.bytes);
        tracing::info!(
            target: "access",
            method = %self.method,
            registry = %self.registry,
            repository = %self.repository,
            reference = %self.reference,
            kind = self.kind,
            status = self.status.as_u16(),
            bytes = self.bytes,
            milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            origin = self.origin.map_or("", Origin::as_str),
            outcome,
            "request"
        );
    }
}

/// A body that counts what leaves.
struct Logged {
    body: Body,
    access: Access,
    _reading: ReaderRunning,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                self.access.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.access.promised == Some(self.access.bytes) {
                    self.access.outcome = "ok";
                }
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(reference = %self.access.reference, registry = %self.access.registry,
                    error = error as &dyn std::error::Error, "the response ends short");
                self.access.outcome = "cut";
            }
            Poll::Ready(None) => self.access.outcome = "ok",
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
