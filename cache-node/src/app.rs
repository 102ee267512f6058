//! Assembly: from the command line to a running cache, and back to nothing.

mod background;
mod content;
mod descriptors;
mod judge;
mod listeners;
mod observe;
mod probe;
mod process;
mod scrub;
mod tools;
mod upkeep;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use larder_crds::report::{NodeReport, Reason};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Report};
use crate::cli::ServeOptions;
use crate::conditions::{self, Conditions};
use crate::config::{self, Config};
use crate::credentials::CredentialStore;
use crate::fill::{self, Engine};
use crate::http::{self as surface, ConnectionLimits, Prover};
use crate::identity::IdentityKey;
use crate::metrics::Metrics;
use crate::pull::{Cache, Targets};
use crate::rights::PROOF_TTL;
use crate::store;
use crate::store_tools::{ControlSocket, Tools};
use crate::upstream::{self, Upstream};

use background::Background;
use content::Content;
use listeners::{Listeners, serve_router};
use observe::Observations;

pub use listeners::Addresses;
pub use process::run;
pub use scrub::ScrubLimits;

/// Every deadline and bound of the process. Production uses the defaults; tests shorten them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of the fill engine.
    pub fill: fill::Limits,
    /// Of the registry clients.
    pub upstream: upstream::Limits,
    /// Of the runtime listener.
    pub connections: ConnectionLimits,
    /// Connections at once to each of the other listeners: probes and scrapes are few.
    pub admin_connections: usize,
    /// How often the configuration and the credentials are looked at.
    pub poll: Duration,
    /// Of the scrub.
    pub scrub: ScrubLimits,
    /// How long the proof counts that a credential can read a repository.
    pub proof_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fill: fill::Limits::default(),
            upstream: upstream::Limits::default(),
            connections: ConnectionLimits::default(),
            admin_connections: 64,
            poll: config::POLL_INTERVAL,
            scrub: ScrubLimits::default(),
            proof_ttl: PROOF_TTL,
        }
    }
}

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid; each mistake is a line.
    #[error("{0}")]
    Config(#[from] config::ConfigErrors),
    /// The cache directory cannot be used.
    #[error("cannot use the cache directory; give another one with --cache-dir")]
    Store(#[from] store::Error),
    /// A registry's client cannot be made.
    #[error("cannot make the client of a registry")]
    Upstream(#[from] upstream::Error),
    /// The metrics contradict each other.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}, given by {flag}")]
    Bind {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The identity key cannot be made.
    #[error("cannot keep the identity key in {directory}, given by --state-dir")]
    Identity {
        /// The directory.
        directory: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A task that had to end well did not.
    #[error("a task was lost at the start")]
    Lost(#[from] tokio::task::JoinError),
}

/// A cache node whose listeners are bound, ready to run.
pub struct App {
    cache: Cache,
    engine: Engine,
    content: Content,
    control: Option<(ControlSocket, Tools)>,
    metrics: Arc<Metrics>,
    conditions: Arc<Conditions>,
    credentials: Arc<CredentialStore>,
    limits: Limits,
    options: ServeOptions,
    listeners: Listeners,
    identity: Option<IdentityKey>,
    started: Instant,
}

impl App {
    /// Reads the configuration and the cache directory and binds the listeners. Nothing is started, and no
    /// upstream is contacted.
    ///
    /// # Errors
    /// The configuration, the cache directory or an address cannot be used.
    pub async fn build(options: ServeOptions, limits: Limits) -> Result<Self, Error> {
        let config = match &options.config {
            Some(path) => config::load(path)?,
            None => Config::embedded(),
        };
        let directory = options.cache_dir.clone();
        let content = Content::open(directory, config.cache_limits, limits.proof_ttl).await?;
        let metrics = Arc::new(Metrics::new()?);
        let conditions = Arc::new(Conditions::new());
        let credentials = CredentialStore::new(Some(options.credentials_dir.clone()));
        let credentials = Arc::new(credentials.with_ca_file(options.ca_bundle.clone()));
        let engine = Engine::new(
            Arc::clone(&content.store),
            Arc::clone(&metrics),
            limits.fill.clone(),
            config.verify_whole_up_to_bytes,
        );
        let observer = Arc::new(Observations::new(Arc::clone(&metrics), Arc::clone(&conditions)));
        let (of_upstream, of_credentials) = (limits.upstream.clone(), Arc::clone(&credentials));
        let targets = Targets::new(Arc::new(config), move |registry| {
            let (registry, credentials) = (Arc::clone(registry), Arc::clone(&of_credentials));
            Upstream::new(
                registry,
                credentials,
                of_upstream.clone(),
                Arc::clone(&observer) as _,
            )
        })?;
        let cache = Cache::new(
            targets,
            engine.clone(),
            Arc::clone(&content.store),
            Arc::clone(&content.ledger),
            Arc::clone(&content.rights),
            Arc::clone(&metrics),
        );
        // Before the first fill may evict anything.
        content.store.protect(cache.protected());
        let listeners = Listeners::bind(&options).await?;
        let control = tools::prepare(&options.cache_dir, &content);
        // Only whoever holds the port makes a key: another process of this pod would take the old one's away.
        let identity = options.state_dir.as_deref().map(identity_key).transpose()?;
        Ok(Self {
            cache,
            engine,
            content,
            control,
            metrics,
            conditions,
            credentials,
            limits,
            options,
            listeners,
            identity,
            started: Instant::now(),
        })
    }

    /// Where the listeners are bound: what was asked for, but for ports that the system chose.
    pub fn addresses(&self) -> Addresses {
        self.listeners.addresses
    }

    /// Serves until `shutdown`, then lets pulls end within [`ConnectionLimits::drain`] and puts fills aside.
    pub async fn run(self, shutdown: CancellationToken) {
        let ready = watch::Sender::new(true);
        // Probes go on while pulls drain, so the admin listeners end last.
        let stop_admin = CancellationToken::new();
        let admin = self.admin_faces(ready.subscribe());
        let admin_listener = serve_router(
            self.listeners.admin,
            admin.clone().admin_router(),
            self.limits.admin_connections,
            stop_admin.clone(),
        );
        let public_listener = self.listeners.public.map(|listener| {
            let router = admin.metrics_router();
            serve_router(
                listener,
                router,
                self.limits.admin_connections,
                stop_admin.clone(),
            )
        });
        let background = Background {
            cache: self.cache.clone(),
            engine: self.engine.clone(),
            store: Arc::clone(&self.content.store),
            metrics: Arc::clone(&self.metrics),
            credentials: self.credentials,
            conditions: self.conditions,
            config: self.options.config,
            poll: self.limits.poll,
        };
        let background = tokio::spawn(background.run());
        let scrub = scrub::start(Arc::clone(&self.content.store), self.limits.scrub);
        let tools = tokio::spawn(tools::serve(self.control, shutdown.clone()));
        let (cache, metrics) = (self.cache, self.metrics);
        let prover = Arc::new(Prover::new(self.identity, ready.subscribe()));
        let answer = move |request: Request<_>| {
            let (cache, metrics, prover) = (cache.clone(), Arc::clone(&metrics), Arc::clone(&prover));
            async move {
                match prover.answer(&request) {
                    Some(proof) => proof,
                    None => surface::answer(&cache, &metrics, request).await,
                }
            }
        };
        tracing::info!(listen = %self.listeners.addresses.listen, admin = %self.listeners.addresses.admin, "serving");
        let serving = surface::serve(
            self.listeners.runtime,
            self.limits.connections,
            shutdown.clone(),
            answer,
        );
        let draining = async {
            shutdown.cancelled().await;
            ready.send_replace(false);
            tracing::info!("stopping: pulls that are under way may end");
        };
        tokio::join!(serving, draining);
        background.abort();
        drop(scrub);
        let _ = tools.await;
        self.engine.shut_down().await;
        self.content.close().await;
        stop_admin.cancel();
        let _ = admin_listener.await;
        if let Some(listener) = public_listener {
            let _ = listener.await;
        }
        tracing::info!("stopped");
    }

    fn admin_faces(&self, ready: watch::Receiver<bool>) -> Admin {
        Admin {
            listen: self.listeners.addresses.listen,
            ready,
            hindrance: {
                let store = Arc::clone(&self.content.store);
                Arc::new(move || store.hindrance())
            },
            metrics: Arc::clone(&self.metrics),
            status: self.status(),
            conditions: self.report(),
        }
    }

    fn report(&self) -> Report {
        let (cache, board) = (self.cache.clone(), Arc::clone(&self.conditions));
        let state_dir = self.options.state_dir.clone();
        Arc::new(move || {
            let config = cache.targets().config();
            let node_config = state_dir.as_deref().and_then(|directory| {
                let state = conditions::node_config_state(directory, jiff::Timestamp::now());
                board.set(state.is_none(), Reason::NodeConfigStale, "", "");
                state
            });
            let report = NodeReport {
                mirror: config.uid.clone().unwrap_or_default(),
                generation: config.object_generation,
                ..NodeReport::default()
            };
            json!(conditions::assemble(report, board.snapshot(), node_config))
        })
    }

    fn status(&self) -> Report {
        let (cache, engine, store) = (
            self.cache.clone(),
            self.engine.clone(),
            Arc::clone(&self.content.store),
        );
        let started = self.started;
        Arc::new(move || {
            let config = cache.targets().config();
            let usage = store.usage();
            let registries: Vec<_> = config.registries.iter().map(|registry| &registry.host).collect();
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "uptimeSeconds": started.elapsed().as_secs(),
                "mirror": config.name,
                "generation": config.generation(),
                "registries": registries,
                "store": usage,
                "fills": engine.progress(),
            })
        })
    }
}

fn identity_key(directory: &Path) -> Result<IdentityKey, Error> {
    IdentityKey::create(directory).map_err(|source| Error::Identity {
        directory: directory.display().to_string(),
        source,
    })
}
