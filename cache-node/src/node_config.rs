//! Points the node's container runtime at the cache while the cache is well, and leaves the node as it was found.
//!
//! The one program that may write to the node's configuration, so it does nothing else: it looks at the runtime's port
//! twice a second, and at the files every other second. What it must not know: registries' content, credentials,
//! anything of the way of a pull.

mod board;
mod certs_dir;
mod challenge;
pub mod containerd_config;
mod foreign;
mod health;
mod hosts;
mod marker;
mod pass;
mod state;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use larder_crds::report::{NodeConfigState, Reason};
use larder_program::{Exit, end, fail, stop_on_signals};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::cli::NodeConfigOptions;
use crate::config::{self, Config};
use board::{Board, Complaint};
use containerd_config::{Files, Verdict};
use foreign::Obstacle;
use health::{Fault, Health, Sight};
use hosts::HostsToml;
use marker::{NotAnOwner, Owner};
use pass::{Goal, Outcome, Passes};

pub use state::{NotReady, probe};

/// How often the runtime's port is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the files are looked at, and the state is written.
const PASS_INTERVAL: Duration = Duration::from_secs(2);
/// The longest pause between tries to change what cannot be changed.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// How often containerd's own configuration is read.
const RUNTIME_INTERVAL: Duration = Duration::from_secs(10);
/// How long the end may take, within the pod's 45 s.
const WITHDRAW_MAX: Duration = Duration::from_secs(30);

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid; each mistake is a line.
    #[error("{0}")]
    Config(#[from] config::ConfigErrors),
    /// The document is of no object.
    #[error("{0}")]
    Owner(#[from] NotAnOwner),
    /// The end came before everything was restored.
    #[error("{0} files could not be taken back")]
    Held(usize),
}

/// Keeps the runtime's configuration until SIGTERM or SIGINT, then takes it back. What goes wrong is said on `err`.
///
/// # Errors
/// When `err` cannot be written to.
pub fn run(options: NodeConfigOptions, err: &mut impl Write) -> io::Result<Exit> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, Exit::Failure, err),
    };
    runtime.block_on(async {
        let shutdown = match stop_on_signals() {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(&error, Exit::Failure, err),
        };
        match keep(options, shutdown).await {
            Err(error @ (Error::Config(_) | Error::Owner(_))) => fail(&error, Exit::Usage, err),
            ended => end(ended, err),
        }
    })
}

async fn keep(options: NodeConfigOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let first = Arc::new(config::load(&options.config)?);
    let owner: Owner = match &first.uid {
        Some(uid) => uid.parse()?,
        None => first.name.parse()?,
    };
    if let Err(error) = state::forget(&options.state_dir) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot remove an old state"
        );
    }
    let renderer = HostsToml {
        cache: format!("http://{}", options.cache.0),
    };
    let passes = Passes::new(options.certs_dir.clone(), owner, Box::new(renderer));
    let (publish, config) = watch::channel(first);
    // The cache reports what is wrong with the document.
    let watching = config::watch(options.config.clone(), config::POLL_INTERVAL, publish, |_| {});
    let mut keeper = Keeper {
        options,
        config,
        passes: Some(passes),
        health: Health::default(),
        board: Board::default(),
        outcome: Outcome::default(),
        runtime: None,
        reached: None,
        retry_after: PASS_INTERVAL,
        has_state: true,
    };
    tokio::select! {
        () = watching => {}
        () = keeper.keep(shutdown) => {}
    }
    keeper.end().await
}

/// What was reached last.
struct Reached {
    goal: Goal,
    /// Of the document's text.
    text: String,
    /// Of the mirror.
    generation: Option<i64>,
    at: Instant,
}

struct Keeper {
    options: NodeConfigOptions,
    config: watch::Receiver<Arc<Config>>,
    /// `None` while a pass runs.
    passes: Option<Passes>,
    health: Health,
    board: Board,
    outcome: Outcome,
    /// What is wrong with containerd's configuration.
    runtime: Option<Obstacle>,
    reached: Option<Reached>,
    retry_after: Duration,
    has_state: bool,
}

impl Keeper {
    async fn keep(&mut self, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut passes = tokio::time::interval(PASS_INTERVAL);
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut runtime = tokio::time::interval(RUNTIME_INTERVAL);
        runtime.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = looks.tick(), if !self.options.withdraw => self.look().await,
                _ = runtime.tick(), if !self.options.withdraw => self.read_runtime().await,
                _ = passes.tick() => self.pass().await,
            }
        }
    }

    async fn look(&mut self) {
        let sight = challenge::look(self.options.cache.0, &self.options.state_dir).await;
        self.health.observe(sight, Instant::now());
        if sight != Sight::Ready {
            tracing::debug!(?sight, "the cache is not as it should be");
        }
        if self.reached.as_ref().map(|reached| reached.goal) != self.goal() {
            self.pass().await;
        }
    }

    /// What is to be reached; nothing until something is known.
    fn goal(&self) -> Option<Goal> {
        if self.options.withdraw {
            Some(Goal::Withdraw)
        } else if self.health.is_serving() {
            Some(Goal::Serve)
        } else {
            self.health.fault().map(|_| Goal::Bypass)
        }
    }

    async fn pass(&mut self) {
        let config = Arc::clone(&self.config.borrow_and_update());
        if let Some(goal) = self.goal() {
            let is_due = self.reached.as_ref().is_none_or(|reached| {
                let is_new = reached.goal != goal || reached.text != config.generation();
                // Ticks are not exact, and one that comes early must not wait for the next.
                is_new || reached.at.elapsed() + LOOK_INTERVAL >= self.retry_after
            });
            if is_due {
                self.reach(goal, Arc::clone(&config)).await;
            }
        }
        self.tell(&config);
    }

    async fn reach(&mut self, goal: Goal, config: Arc<Config>) {
        let Some(mut passes) = self.passes.take() else {
            return;
        };
        let (text, generation) = (config.generation().to_owned(), config.object_generation);
        let run = tokio::task::spawn_blocking(move || {
            let outcome = passes.run(&config, goal, Instant::now());
            (passes, outcome)
        });
        let Ok((passes, outcome)) = run.await else {
            return;
        };
        self.retry_after = match outcome.has_failed {
            true => RETRY_MAX.min(self.retry_after * 2),
            false => PASS_INTERVAL,
        };
        self.passes = Some(passes);
        self.outcome = outcome;
        self.reached = Some(Reached {
            goal,
            text,
            generation,
            at: Instant::now(),
        });
    }

    async fn read_runtime(&mut self) {
        let Some(mount) = self.options.containerd_dir.clone() else {
            return;
        };
        let containerd = self.config.borrow().node.containerd.clone();
        let read = tokio::task::spawn_blocking(move || {
            let files = Files {
                mount,
                directory: PathBuf::from(containerd.config_dir),
            };
            runtime_obstacle(&files, &containerd.config_path)
        });
        self.runtime = read.await.ok().flatten();
    }

    /// Says what is so, in the log and in the state.
    fn tell(&mut self, config: &Config) {
        let complaint = |registry: &str, obstacle: &Obstacle| {
            let complaint = Complaint {
                reason: obstacle.reason,
                registry: registry.to_owned(),
                object: obstacle.object.clone(),
            };
            (complaint, obstacle.detail.clone())
        };
        let mut current: BTreeMap<_, _> = self
            .outcome
            .obstacles
            .iter()
            .map(|(registry, obstacle)| complaint(registry, obstacle))
            .collect();
        let fault = self.health.fault().map(|fault| Obstacle {
            reason: match fault {
                Fault::Unhealthy => Reason::CacheUnhealthy,
                Fault::Stranger => Reason::PortTaken,
            },
            object: String::new(),
            detail: format!("at {}", self.options.cache.0),
        });
        current.extend(
            self.runtime
                .iter()
                .chain(&fault)
                .map(|obstacle| complaint("", obstacle)),
        );
        self.board.update(current, Timestamp::now());
        let state = NodeConfigState {
            updated: format!("{:.3}", Timestamp::now()),
            generation: self.reached.as_ref().and_then(|reached| reached.generation),
            settled: self.is_settled(config),
            conditions: self.board.conditions(),
        };
        let written = state::write(&self.options.state_dir, &state);
        if let Err(error) = &written
            && self.has_state
        {
            tracing::error!(error = error as &dyn std::error::Error, "cannot write the state");
        }
        self.has_state = written.is_ok();
    }

    /// Whether all is done that this node allows.
    fn is_settled(&self, config: &Config) -> bool {
        self.reached.as_ref().is_some_and(|reached| match reached.goal {
            Goal::Serve => reached.text == config.generation(),
            Goal::Bypass => false,
            Goal::Withdraw => self.is_withdrawn(),
        })
    }

    fn is_withdrawn(&self) -> bool {
        self.outcome.held == 0 && !self.outcome.has_failed
    }

    /// Takes everything back, again and again until it is done or the time is up.
    async fn end(mut self) -> Result<(), Error> {
        self.options.withdraw = true;
        let deadline = Instant::now() + WITHDRAW_MAX;
        loop {
            let config = Arc::clone(&self.config.borrow());
            self.reach(Goal::Withdraw, config).await;
            if self.is_withdrawn() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Held(self.outcome.held));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn runtime_obstacle(files: &Files, certs_dir: &str) -> Option<Obstacle> {
    let (reason, detail) = match files.judge(certs_dir) {
        Ok(Verdict::Reads) => return None,
        Ok(Verdict::Unset) => (
            Reason::ConfigPathUnset,
            format!("containerd reads no hosts.toml until its config_path is {certs_dir}, and only that"),
        ),
        Ok(Verdict::Elsewhere) => (
            Reason::ConfigPathElsewhere,
            format!("containerd's config_path is another directory than {certs_dir}"),
        ),
        Err(error) => (Reason::RuntimeConfigUnreadable, error.to_string()),
    };
    Some(Obstacle {
        reason,
        object: String::new(),
        detail,
    })
}
