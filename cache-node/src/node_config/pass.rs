//! One pass over the runtime's directories: what there is, what should be, and what was in the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use larder_crds::report::Reason;

use super::certs_dir::CertsDir;
use super::foreign::{Contest, Decision, Judge, Obstacle, Place};
use super::hosts::{DEFAULT_DIRECTORY, Renderer};
use super::marker::Owner;
use crate::config::{Config, Registry};

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Pulls go through the cache.
    Serve,
    /// The cache is not well: pulls go past it.
    Bypass,
    /// Everything is as it was found.
    Withdraw,
}

/// Which registry has what in its way; empty where it is about all of them.
pub(super) type Obstacles = BTreeMap<String, Obstacle>;

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What was in the way.
    pub obstacles: Obstacles,
    /// Whether a write, or taking one back, failed, so that it is worth another try.
    pub has_failed: bool,
    /// Files that bear our mark.
    pub held: usize,
}

/// What passes need and remember.
pub(super) struct Passes {
    /// `certs.d`, where it is mounted here.
    pub certs_dir: PathBuf,
    /// Who we are.
    pub owner: Owner,
    /// How files are written.
    pub renderer: Box<dyn Renderer>,
    contests: HashMap<String, Contest>,
    /// The directories in which we left a file.
    written: BTreeSet<String>,
}

impl Passes {
    /// Without any memory: what an earlier run has left is found.
    pub(super) fn new(certs_dir: PathBuf, owner: Owner, renderer: Box<dyn Renderer>) -> Self {
        Self {
            certs_dir,
            owner,
            renderer,
            contests: HashMap::new(),
            written: BTreeSet::new(),
        }
    }

    /// Brings the directories to `goal`, as far as they let us.
    pub(super) fn run(&mut self, config: &Config, goal: Goal, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.try_run(config, goal, now, &mut outcome) {
            // Where there is no directory there is nothing to take back.
            if goal != Goal::Withdraw || error.kind() != io::ErrorKind::NotFound {
                outcome.fail("", &error);
            }
        }
        outcome
    }

    fn try_run(
        &mut self,
        config: &Config,
        goal: Goal,
        now: Instant,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let certs_dir = CertsDir::open(&self.certs_dir)?;
        self.notice_changes(&certs_dir, now)?;
        let mut keep = BTreeSet::new();
        if goal != Goal::Withdraw {
            let default = certs_dir.look(DEFAULT_DIRECTORY)?;
            for registry in &config.registries {
                match self.bring(&certs_dir, registry, &default, config, goal, now, outcome) {
                    Ok(name) => keep.extend(name),
                    Err(error) => {
                        // What is there may be ours and is then no worse than it was.
                        keep.extend(self.renderer.places(&registry.host));
                        outcome.fail(&registry.host, &error);
                    }
                }
            }
        }
        self.take_back(&certs_dir, &keep, outcome)
    }

    /// Notes which of our files somebody has changed since the last pass.
    fn notice_changes(&mut self, certs_dir: &CertsDir, now: Instant) -> io::Result<()> {
        for name in std::mem::take(&mut self.written) {
            let place = certs_dir.look(&name)?;
            if !place.is_intact(&self.owner) {
                tracing::warn!(directory = name, "somebody has changed or removed our hosts.toml");
                self.contests.entry(name).or_default().note(now);
            }
        }
        Ok(())
    }

    /// Writes the file of a registry if it is to have one; returns its directory then.
    #[expect(clippy::too_many_arguments, reason = "what one step of a pass depends on")]
    fn bring(
        &mut self,
        certs_dir: &CertsDir,
        registry: &Registry,
        default: &Place,
        config: &Config,
        goal: Goal,
        now: Instant,
        outcome: &mut Outcome,
    ) -> io::Result<Option<String>> {
        let names = self.renderer.places(&registry.host);
        let places = names
            .iter()
            .map(|name| certs_dir.look(name))
            .collect::<io::Result<Vec<_>>>()?;
        let judge = Judge {
            owner: &self.owner,
            existing: config.node.containerd.existing,
            is_serving: goal == Goal::Serve,
            renderer: self.renderer.as_ref(),
        };
        let is_contested = names.iter().any(|name| {
            self.contests
                .get(name)
                .is_some_and(|contest| contest.is_contested(now))
        });
        let (name, place, body) = match judge.decide(registry, &places, default, is_contested) {
            Decision::Write { index, body } => match (names.get(index), places.get(index)) {
                (Some(name), Some(place)) => (name, place, body),
                _ => return Ok(None),
            },
            Decision::Withdraw => return Ok(None),
            Decision::Leave(obstacle) => {
                outcome.obstacles.insert(registry.host.clone(), obstacle);
                return Ok(None);
            }
        };
        if certs_dir.write(name, place, &self.owner, &body)? {
            tracing::info!(registry = registry.host, directory = name, "hosts.toml written");
        }
        self.written.insert(name.clone());
        outcome.held += 1;
        Ok(Some(name.clone()))
    }

    /// Restores every directory with a file of ours that is not to be kept: of registries that left the configuration,
    /// of names that no longer count, of a former life.
    fn take_back(
        &mut self,
        certs_dir: &CertsDir,
        keep: &BTreeSet<String>,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        for name in certs_dir.names()? {
            if keep.contains(&name) {
                continue;
            }
            let place = certs_dir.look(&name)?;
            let Some((found, directory)) = place.held_by(&self.owner) else {
                continue;
            };
            match certs_dir.withdraw(&name, found, directory) {
                Ok(()) => tracing::info!(directory = name, "hosts.toml withdrawn"),
                Err(error) => {
                    outcome.held += 1;
                    outcome.fail(&name, &error);
                }
            }
        }
        Ok(())
    }
}

impl Outcome {
    fn fail(&mut self, registry: &str, error: &io::Error) {
        let is_read_only = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
        let obstacle = Obstacle {
            reason: if is_read_only {
                Reason::CertsDirReadOnly
            } else {
                Reason::CertsDirUnwritable
            },
            object: String::new(),
            detail: error.to_string(),
        };
        self.has_failed = true;
        self.obstacles.insert(registry.to_owned(), obstacle);
    }
}

#[cfg(test)]
mod tests;
