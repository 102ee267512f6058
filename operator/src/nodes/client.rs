//! Asks one node for its conditions. Whoever answers is not trusted: it may be anything that listens there.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use larder_crds::names::FIELD_MANAGER;
use larder_crds::report::{NodeReport, REPORT_BYTES_MAX};

use super::state::Report;

/// How long a node may take from the first packet to the last byte of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The most findings kept of one node; more would say no more.
const FINDINGS_MAX: usize = 32;

/// Asks nodes. Clones share nothing but settings: each question has a connection of its own.
#[derive(Clone)]
pub(super) struct ConditionsClient(Client<HttpConnector, Empty<Bytes>>);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot make the request")]
    Request(#[from] http::Error),
    #[error("no answer")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("answered with {0}")]
    Status(StatusCode),
    #[error("the answer broke off or exceeds {REPORT_BYTES_MAX} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is no report")]
    Report(#[from] serde_json::Error),
}

impl ConditionsClient {
    pub(super) fn new() -> Self {
        let connector = HttpConnector::new();
        let client = Client::builder(TokioExecutor::new())
            // Thousands of connections kept for ten seconds each would cost more than making them anew.
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(2 * REPORT_BYTES_MAX)
            .build(connector);
        Self(client)
    }

    /// What the cache at `address` reports. Redirects are not followed.
    ///
    /// # Errors
    /// When it does not report within [`ANSWER_TIMEOUT`].
    pub(super) async fn ask(&self, address: SocketAddr) -> Result<Report, Error> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.fetch(address)).await;
        let report = answer.map_err(|_| Error::Timeout)??;
        let mut findings: Vec<_> = report.conditions.into_iter().map(Into::into).collect();
        findings.sort();
        findings.dedup();
        findings.truncate(FINDINGS_MAX);
        findings.shrink_to_fit();
        Ok(Report {
            mirror: report.mirror,
            generation: report.generation,
            node_config_generation: report.node_config_generation,
            findings,
        })
    }

    async fn fetch(&self, address: SocketAddr) -> Result<NodeReport, Error> {
        let request = Request::get(format!("http://{address}/conditions"))
            .header(USER_AGENT, FIELD_MANAGER)
            .header(ACCEPT, "application/json")
            .body(Empty::new())?;
        let response = self.0.request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), REPORT_BYTES_MAX);
        let body = body.collect().await.map_err(Error::Body)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}

#[cfg(test)]
mod tests;
