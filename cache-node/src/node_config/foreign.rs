//! Judges what is found in the runtime's directories: whose it is, what counts for a registry, and what becomes of it.
//! Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use larder_crds::report::Reason;
use larder_crds::{ExistingHosts, Fallback};

use super::hosts::{Basis, Renderer, Route};
use super::marker::{Directory, Marker, Mtime, Owner};
use crate::config::Registry;

/// How many foreign writes within [`CONTEST_WINDOW`] make us leave a file to whoever writes it.
pub(super) const FOREIGN_WRITES_MAX: usize = 3;
/// How long a foreign write counts.
pub(super) const CONTEST_WINDOW: Duration = Duration::from_mins(10);
/// How long a contested file is left alone before we try again.
pub(super) const CONTEST_REST: Duration = Duration::from_hours(1);

/// What a directory's name led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing.
    Absent,
    /// A directory.
    Directory(Found),
    /// Something that is not looked into, and why.
    Opaque(&'static str),
}

/// What is in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its `hosts.toml`.
    pub hosts: Hosts,
    /// What was there before ours.
    pub original: Hosts,
    /// Names of certificate files, sorted.
    pub certificates: Vec<String>,
    /// When the directory was last modified.
    pub mtime: Mtime,
}

/// What a `hosts.toml` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// Not there.
    Absent,
    /// A mirror's.
    Marked {
        /// Whose, and what was before it.
        marker: Marker,
        /// Whether nobody has changed it.
        is_intact: bool,
        /// All of it.
        text: String,
    },
    /// Somebody's own.
    Foreign(String),
    /// Something that is not looked into, and why.
    Opaque(&'static str),
}

impl Place {
    /// What was before the file in it, if that is `owner`'s.
    pub(super) fn held_by(&self, owner: &Owner) -> Option<(&Found, Directory)> {
        match self {
            Self::Directory(found) => match &found.hosts {
                Hosts::Marked { marker, .. } if marker.owner == *owner => Some((found, marker.directory)),
                _ => None,
            },
            Self::Absent | Self::Opaque(_) => None,
        }
    }

    /// Whether the file in it is as `owner` has written it.
    pub(super) fn is_intact(&self, owner: &Owner) -> bool {
        self.held_by(owner)
            .is_some_and(|(found, _)| matches!(found.hosts, Hosts::Marked { is_intact: true, .. }))
    }
}

/// What becomes of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The file with this body belongs into the `index`th place.
    Write {
        /// Which of the renderer's places.
        index: usize,
        /// Without the marker.
        body: String,
    },
    /// There is to be no file of ours, because pulls are not to come here now.
    Withdraw,
    /// What is there stays.
    Leave(Obstacle),
}

/// What keeps us from writing a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// As the operator knows it.
    pub reason: Reason,
    /// The UID of the mirror that is in the way.
    pub object: String,
    /// For the log.
    pub detail: String,
}

impl Obstacle {
    fn new(reason: Reason, detail: impl ToString) -> Self {
        Self {
            reason,
            object: String::new(),
            detail: detail.to_string(),
        }
    }
}

/// What the decision depends on besides the registry.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    /// Who we are.
    pub owner: &'a Owner,
    /// Whether what is there may be kept behind the cache.
    pub existing: ExistingHosts,
    /// Whether the cache is to be used.
    pub is_serving: bool,
    /// How files are written.
    pub renderer: &'a dyn Renderer,
}

impl Judge<'_> {
    /// What becomes of a registry whose directories are `places`, in the renderer's order; `default` is the directory
    /// that counts for a registry without one.
    pub(super) fn decide(
        &self,
        registry: &Registry,
        places: &[Place],
        default: &Place,
        is_contested: bool,
    ) -> Decision {
        let counts = places.iter().position(|place| *place != Place::Absent);
        let index = counts.unwrap_or_else(|| places.len().saturating_sub(1));
        let basis = match basis(self.owner, places.get(index), default) {
            Ok(basis) => basis,
            Err(obstacle) => return Decision::Leave(obstacle),
        };
        if is_contested {
            let detail = "somebody keeps changing the file; it is left to them for an hour";
            return Decision::Leave(Obstacle::new(Reason::HostsContested, detail));
        }
        if !basis.is_empty() && self.existing == ExistingHosts::Leave {
            let detail = "it stays; spec.node.containerd.existing: Prepend would put the cache before it";
            return Decision::Leave(Obstacle::new(Reason::ForeignHosts, detail));
        }
        let route = match (self.is_serving, registry.fallback) {
            (true, _) => Route::Cache,
            // Behind what others have configured there is always a way.
            (false, Fallback::None) if basis.is_empty() => Route::Nowhere,
            (false, _) => return Decision::Withdraw,
        };
        match self.renderer.render(registry, route, &basis) {
            Ok(body) => Decision::Write { index, body },
            Err(error) => Decision::Leave(Obstacle::new(Reason::ForeignHosts, error)),
        }
    }
}

/// What others have configured, as it would count without us.
fn basis(owner: &Owner, place: Option<&Place>, default: &Place) -> Result<Basis, Obstacle> {
    let opaque = |why: &&str| Obstacle::new(Reason::ForeignHosts, why);
    match place {
        None | Some(Place::Absent) => default_basis(default),
        Some(Place::Opaque(why)) => Err(opaque(why)),
        Some(Place::Directory(found)) => {
            let (theirs, directory) = match &found.hosts {
                Hosts::Marked { marker, .. } if marker.owner != *owner => {
                    let mut obstacle = Obstacle::new(Reason::HostOwned, "another mirror holds the file");
                    obstacle.object = marker.owner.to_string();
                    return Err(obstacle);
                }
                Hosts::Marked { marker, .. } => (&found.original, Some(marker.directory)),
                hosts => (hosts, None),
            };
            let text = match theirs {
                Hosts::Foreign(text) => text.clone(),
                Hosts::Opaque(why) => return Err(opaque(why)),
                Hosts::Absent | Hosts::Marked { .. } => String::new(),
            };
            let is_made = matches!(directory, Some(Directory::Made(_)));
            if is_made && text.is_empty() && found.certificates.is_empty() {
                // Without us there were no directory.
                return default_basis(default);
            }
            Ok(Basis {
                text,
                certificates: found.certificates.clone(),
                is_default: false,
            })
        }
    }
}

fn default_basis(default: &Place) -> Result<Basis, Obstacle> {
    let found = match default {
        Place::Absent => return Ok(Basis::default()),
        Place::Opaque(why) => return Err(Obstacle::new(Reason::ForeignHosts, why)),
        Place::Directory(found) => found,
    };
    let text = match &found.hosts {
        Hosts::Absent => String::new(),
        Hosts::Foreign(text) => text.clone(),
        Hosts::Marked { .. } => {
            return Err(Obstacle::new(
                Reason::ForeignHosts,
                "a marker of ours in _default",
            ));
        }
        Hosts::Opaque(why) => return Err(Obstacle::new(Reason::ForeignHosts, why)),
    };
    Ok(Basis {
        text,
        certificates: found.certificates.clone(),
        is_default: true,
    })
}

/// Who writes a file: counts the times that somebody has undone what we wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Contest {
    writes: VecDeque<Instant>,
    given_up: Option<Instant>,
}

impl Contest {
    /// Notes that our file was found changed, replaced or removed.
    pub(super) fn note(&mut self, now: Instant) {
        self.writes
            .retain(|write| now.saturating_duration_since(*write) < CONTEST_WINDOW);
        self.writes.push_back(now);
        if self.writes.len() >= FOREIGN_WRITES_MAX {
            self.given_up = Some(now);
            self.writes.clear();
        }
    }

    /// Whether the file is to be left alone.
    pub(super) fn is_contested(&self, now: Instant) -> bool {
        self.given_up
            .is_some_and(|since| now.saturating_duration_since(since) < CONTEST_REST)
    }
}

#[cfg(test)]
mod tests;
