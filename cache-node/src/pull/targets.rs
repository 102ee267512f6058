//! The configured registries and their clients. A reload keeps the client, and with it tokens and connections, of
//! every registry that did not change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use larder_crds::Mode;
use tokio::time::Instant;

use super::Error;
use crate::config::{Config, Registry};
use crate::oci::RepoName;
use crate::upstream::{self, Upstream};

/// A configured registry with its client.
#[derive(Clone)]
pub struct Target {
    /// What the configuration says of it.
    pub registry: Arc<Registry>,
    upstream: Arc<Upstream>,
    /// The registry's host as a label and in logs.
    pub label: Arc<str>,
}

impl Target {
    /// Whether the repository may be served at all: asked of each request before anything is looked up for it.
    ///
    /// # Errors
    /// [`Error::NotAllowed`]
    pub fn admit(&self, repository: &RepoName) -> Result<(), Error> {
        let repository = self.registry.upstream_repository(repository);
        if self.registry.repositories.admits(repository.as_str()) {
            Ok(())
        } else {
            Err(Error::NotAllowed)
        }
    }

    /// The registry's client: the only way to it.
    ///
    /// # Errors
    /// [`Error::NotKept`] where the registry is never contacted.
    pub fn upstream(&self) -> Result<&Arc<Upstream>, Error> {
        match self.registry.mode {
            Mode::Proxy => Ok(&self.upstream),
            Mode::CacheOnly => Err(Error::NotKept),
        }
    }
}

/// All configured registries. Cheap to clone; clones see each other's reloads.
#[derive(Clone)]
pub struct Targets {
    state: Arc<RwLock<State>>,
    connect: Arc<Connect>,
}

/// Makes the client of a registry.
type Connect = dyn Fn(&Arc<Registry>) -> Result<Upstream, upstream::Error> + Send + Sync;

struct State {
    config: Arc<Config>,
    by_host: HashMap<String, Target>,
}

impl Targets {
    /// The registries of `config`, each with a client made by `connect`.
    ///
    /// # Errors
    /// A client could not be made.
    pub fn new(
        config: Arc<Config>,
        connect: impl Fn(&Arc<Registry>) -> Result<Upstream, upstream::Error> + Send + Sync + 'static,
    ) -> Result<Self, upstream::Error> {
        let connect: Arc<Connect> = Arc::new(connect);
        let by_host = build(&config, &HashMap::new(), &*connect)?;
        Ok(Self {
            state: Arc::new(RwLock::new(State { config, by_host })),
            connect,
        })
    }

    /// Takes over a changed configuration. Pulls that are under way keep what they have.
    ///
    /// # Errors
    /// A client could not be made; everything stays as it was.
    pub fn reload(&self, config: Arc<Config>) -> Result<(), upstream::Error> {
        let by_host = build(&config, &self.read().by_host, &*self.connect)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State { config, by_host };
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.read().config)
    }

    /// The registry of this host, in any of its spellings.
    pub fn by_host(&self, host: &str) -> Option<Target> {
        let state = self.read();
        state.by_host.get(&state.config.registry(host)?.host).cloned()
    }

    /// The registry of requests that name none.
    pub fn default(&self) -> Option<Target> {
        let state = self.read();
        state.by_host.get(&state.config.default_registry()?.host).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(
    config: &Config,
    before: &HashMap<String, Target>,
    connect: &Connect,
) -> Result<HashMap<String, Target>, upstream::Error> {
    let mut by_host = HashMap::new();
    for registry in &config.registries {
        let target = match before.get(&registry.host) {
            Some(target) if target.registry == *registry => target.clone(),
            _ => Target {
                registry: Arc::clone(registry),
                upstream: Arc::new(connect(registry)?),
                label: registry.host.as_str().into(),
            },
        };
        by_host.insert(registry.host.clone(), target);
    }
    Ok(by_host)
}

/// Registries that did not answer lately: a client that can be given a known answer does not wait for them.
#[derive(Default)]
pub(super) struct Suspects {
    until: Mutex<HashMap<Arc<str>, Instant>>,
}

/// How long a registry that did not answer is not waited for.
const SUSPICION: Duration = Duration::from_secs(10);

impl Suspects {
    pub(super) fn is_suspect(&self, registry: &Arc<str>) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(registry).is_some_and(|until| Instant::now() < *until)
    }

    pub(super) fn accuse(&self, registry: &Arc<str>) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.insert(Arc::clone(registry), Instant::now() + SUSPICION);
    }

    pub(super) fn clear(&self, registry: &Arc<str>) {
        self.until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(registry);
    }
}
