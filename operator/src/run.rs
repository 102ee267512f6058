//! Puts the program together: who leads, what is watched, and how it ends.

mod cleanup;
mod lead;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::{Client, Config};
use larder_crds::names::FIELD_MANAGER;
use larder_program::{Exit, chain, fail, stop_on_signals};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::cli::{CleanupOptions, RunOptions};
use crate::lease::{Candidate, Lost};
use crate::metrics::Metrics;
pub(crate) use lead::Lead;

/// How often a missing API server is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long work in progress may take when the process is told to end.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Threads: the work is waiting for answers.
const WORKERS: usize = 2;

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runtime, signal handler or thread.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// Neither a cluster around us nor a kubeconfig.
    #[error("cannot tell where the API server is")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The client cannot be made from that.
    #[error("cannot make a client of the API server")]
    Client(#[source] kube::Error),
    /// The metrics clash.
    #[error("cannot make the metrics")]
    Metrics(#[from] prometheus::Error),
    /// The admin listener.
    #[error("cannot listen on {address}, given by --admin")]
    Bind {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another leads now.
    #[error("this process must no longer lead")]
    Lost(#[from] Lost),
    /// A clean-up was told to end, as when its pod is evicted.
    #[error("told to end before all mirrors were gone")]
    Stopped,
    /// At the deadline of a clean-up, the mirrors cannot be listed.
    #[error("cannot look at the mirrors")]
    Cleanup(#[source] kube::Error),
}

impl Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Bind { .. } => Exit::Usage,
            _ => Exit::Failure,
        }
    }
}

/// Reconciles until told to stop.
///
/// # Errors
/// When `err` cannot be written to.
pub fn run(options: RunOptions, err: &mut impl Write) -> io::Result<Exit> {
    ended(|runtime| runtime.block_on(operate(options)), err)
}

/// Deletes all mirrors and waits for their withdrawal.
///
/// # Errors
/// When `err` cannot be written to.
pub fn cleanup(options: CleanupOptions, err: &mut impl Write) -> io::Result<Exit> {
    ended(|runtime| runtime.block_on(cleanup::cleanup(options)), err)
}

fn ended(work: impl FnOnce(&Runtime) -> Result<(), Error>, err: &mut impl Write) -> io::Result<Exit> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    let result = runtime.map_err(Error::Start).and_then(|runtime| {
        let result = work(&runtime);
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => Ok(Exit::Success),
        Err(error) => fail(&error, error.exit(), err),
    }
}

async fn operate(options: RunOptions) -> Result<(), Error> {
    let stop = stop_on_signals().map_err(Error::Start)?;
    let client = client().await?;
    let metrics = Arc::new(Metrics::new()?);
    let (waits, waits_for) = watch::channel(Some("the API server".to_owned()));
    let admin = Admin {
        waits_for,
        metrics: Arc::clone(&metrics),
    };
    let listener = TcpListener::bind(options.admin).await;
    let listener = listener.map_err(|source| Error::Bind {
        address: options.admin,
        source,
    })?;
    let stop_admin = CancellationToken::new();
    let _stops_admin = stop_admin.clone().drop_guard();
    tokio::spawn(admin.serve(listener, stop_admin));
    tracing::info!(admin = %options.admin, namespace = options.caches.namespace, "starting");
    let leading = async {
        api_server_answers(&client).await;
        waits.send_replace(None);
        let candidate = Candidate::new(client.clone(), &options.caches.namespace, options.identity);
        candidate.lead().await
    };
    let Some(leader) = stop.run_until_cancelled(leading).await else {
        return Ok(());
    };
    metrics.leads(true);
    // The lease is given up when nothing is written any more.
    let given_up = CancellationToken::new();
    let mut holding = tokio::spawn(leader.hold(given_up.clone()));
    let lead = Lead::new(client, options.caches, metrics, waits).run(stop.clone());
    tokio::pin!(lead);
    tokio::select! {
        lost = &mut holding => return flatten(lost),
        () = &mut lead => {}
        () = async { stop.cancelled().await; time::sleep(DRAIN_MAX).await } => {}
    }
    given_up.cancel();
    flatten(holding.await)
}

fn flatten(held: Result<Result<(), Lost>, tokio::task::JoinError>) -> Result<(), Error> {
    match held {
        Ok(held) => Ok(held?),
        Err(panicked) => Err(Error::Start(io::Error::other(panicked))),
    }
}

/// Waits until the API server answers, however long it takes.
async fn api_server_answers(client: &Client) {
    while let Err(error) = client.apiserver_version().await {
        let error = chain(&error);
        tracing::warn!(error, "waiting for the API server");
        time::sleep(LOOK_EVERY).await;
    }
}

async fn client() -> Result<Client, Error> {
    let mut config = Config::infer()
        .await
        .map_err(|error| Error::Config(Box::new(error)))?;
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(FIELD_MANAGER)));
    Client::try_from(config).map_err(Error::Client)
}
