//! What is known of who has what, in memory. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::decision::Standing;
use crate::oci::Digest;
use crate::upstream::{CredentialKey, Repository, Scope};

/// The most pairs of content and repository remembered. Beyond it no new ones are, and upstream is asked instead.
const TIES_MAX: usize = 1_000_000;
/// The most repositories remembered, likewise.
const REPOSITORIES_MAX: usize = 100_000;
/// The most accesses remembered, likewise.
const ACCESSES_MAX: usize = 100_000;

/// Something learned. Facts are what all events together say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The repository of this number, which others name it by: the next free one.
    Repository(u32, Repository),
    /// What is now known of content besides what was known.
    Content {
        digest: Digest,
        /// Repositories that have it.
        has: Vec<u32>,
        /// Repositories of which a manifest names it.
        named: Vec<u32>,
        /// Somebody obtained it without a credential.
        is_public: bool,
    },
    /// A repository does not have it any more.
    Lost { digest: Digest, repository: u32 },
    /// Nothing is known of it any more.
    Gone(Digest),
    /// A credential could read a repository when this was, in milliseconds since the epoch; 0: it cannot.
    Access {
        repository: u32,
        credential: CredentialKey,
        fingerprint: Option<u32>,
        proved_at: u64,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    repositories: Vec<Repository>,
    numbers: HashMap<Repository, u32>,
    content: HashMap<Digest, Content>,
    accesses: HashMap<(u32, CredentialKey), Access>,
    ties: usize,
}

#[derive(Clone, Debug, Default)]
struct Content {
    is_public: bool,
    /// It was here at the last compaction. What was not may be on its way into the store.
    is_settled: bool,
    /// One per repository.
    ties: Vec<Tie>,
}

/// What ties content to a repository.
#[derive(Clone, Copy, Debug)]
struct Tie {
    repository: u32,
    /// It has it, as opposed to a manifest that names it, which anybody can write.
    is_member: bool,
    /// What it names, as a manifest, is known of this repository.
    is_read: bool,
}

/// The last proof of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    fingerprint: Option<u32>,
    proved_at: u64,
}

impl Facts {
    /// The number of a repository that was heard of.
    pub(super) fn number(&self, repository: &Repository) -> Option<u32> {
        self.numbers.get(repository).copied()
    }

    /// The number that the next new repository gets, if there is room for one.
    pub(super) fn next_number(&self) -> Option<u32> {
        let next = self.repositories.len();
        u32::try_from(next).ok().filter(|_| next < REPOSITORIES_MAX)
    }

    /// How many events say all of this.
    pub(super) fn len(&self) -> usize {
        self.repositories.len() + self.content.len() + self.accesses.len()
    }

    /// Takes in an event. False if it says nothing new, or speaks of repositories that nobody has heard of.
    pub(super) fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Repository(number, repository) => {
                let is_next = self.next_number() == Some(*number) && !self.numbers.contains_key(repository);
                if is_next {
                    self.repositories.push(repository.clone());
                    self.numbers.insert(repository.clone(), *number);
                }
                is_next
            }
            Event::Content {
                digest,
                has,
                named,
                is_public,
            } => {
                let mut is_news = *is_public && self.publish(digest);
                for &repository in has {
                    is_news |= self.tie(digest, repository, true);
                }
                for &repository in named {
                    is_news |= self.tie(digest, repository, false);
                }
                is_news
            }
            Event::Lost { digest, repository } => {
                let Some(content) = self.content.get_mut(digest) else {
                    return false;
                };
                let before = content.ties.len();
                content.ties.retain(|tie| tie.repository != *repository);
                self.ties -= before - content.ties.len();
                before > content.ties.len()
            }
            Event::Gone(digest) => {
                let content = self.content.remove(digest);
                self.ties -= content.as_ref().map_or(0, |content| content.ties.len());
                content.is_some()
            }
            Event::Access {
                repository,
                credential,
                fingerprint,
                proved_at,
            } => {
                let access = Access {
                    fingerprint: *fingerprint,
                    proved_at: *proved_at,
                };
                self.admit((*repository, credential.clone()), access)
            }
        }
    }

    fn publish(&mut self, digest: &Digest) -> bool {
        if self.content.len() >= TIES_MAX {
            return false;
        }
        let content = self.content.entry(*digest).or_default();
        !std::mem::replace(&mut content.is_public, true)
    }

    fn tie(&mut self, digest: &Digest, repository: u32, is_member: bool) -> bool {
        if repository as usize >= self.repositories.len() {
            return false;
        }
        if let Some(tie) = self.tie_mut(digest, repository) {
            let is_news = is_member && !tie.is_member;
            tie.is_member |= is_member;
            return is_news;
        }
        if self.ties >= TIES_MAX {
            return false;
        }
        self.content.entry(*digest).or_default().ties.push(Tie {
            repository,
            is_member,
            is_read: false,
        });
        self.ties += 1;
        true
    }

    fn admit(&mut self, key: (u32, CredentialKey), access: Access) -> bool {
        if access.proved_at == 0 {
            return self.accesses.remove(&key).is_some();
        }
        let is_known = self.accesses.contains_key(&key);
        let has_room = is_known || self.accesses.len() < ACCESSES_MAX;
        let is_heard_of = (key.0 as usize) < self.repositories.len();
        has_room && is_heard_of && self.accesses.insert(key, access) != Some(access)
    }

    /// What is known of `digest` and `scope` at `now`, in milliseconds since the epoch.
    pub(super) fn standing(&self, digest: &Digest, scope: &Scope, now: u64) -> Standing {
        let is_public = self.is_public(digest);
        Standing {
            is_member: self.is_member(digest, &scope.repository),
            is_public,
            access_age: self.access_age(scope, now),
        }
    }

    /// Whether a repository has it. That a manifest there names it counts only for what anybody can have.
    pub(super) fn is_member(&self, digest: &Digest, repository: &Repository) -> bool {
        let tie = self.tie_of(digest, repository);
        tie.is_some_and(|tie| tie.is_member || self.is_public(digest))
    }

    /// Whether a repository has it, whoever can have it.
    pub(super) fn has(&self, digest: &Digest, repository: &Repository) -> bool {
        self.tie_of(digest, repository).is_some_and(|tie| tie.is_member)
    }

    pub(super) fn is_public(&self, digest: &Digest) -> bool {
        self.content.get(digest).is_some_and(|content| content.is_public)
    }

    /// How long before `now` the scope was last seen to have access; None also for a time in the future: the clock was
    /// wrong then or is wrong now.
    pub(super) fn access_age(&self, scope: &Scope, now: u64) -> Option<Duration> {
        let number = self.number(&scope.repository)?;
        let access = self.accesses.get(&(number, scope.credential.clone()))?;
        let is_same = access.fingerprint == scope.fingerprint;
        let age = now.checked_sub(access.proved_at).filter(|_| is_same)?;
        Some(Duration::from_millis(age))
    }

    /// The repositories that have it.
    pub(super) fn members(&self, digest: &Digest) -> Vec<Repository> {
        let ties = self.content.get(digest).map_or(&[][..], |content| &content.ties);
        let members = ties.iter().filter(|tie| tie.is_member);
        members
            .filter_map(|tie| self.repositories.get(tie.repository as usize).cloned())
            .collect()
    }

    /// What the repositories have of which `is_meant` says so.
    pub(super) fn content_of(&self, is_meant: impl Fn(&Repository) -> bool) -> HashSet<Digest> {
        let meant: Vec<bool> = self.repositories.iter().map(is_meant).collect();
        let is_meant = |tie: &Tie| tie.is_member && meant.get(tie.repository as usize) == Some(&true);
        let content = self.content.iter();
        content
            .filter(|(_, content)| content.ties.iter().any(is_meant))
            .map(|(digest, _)| *digest)
            .collect()
    }

    /// Whether what the manifest `digest` names is known of the repository; true also where the repository does not have it.
    pub(super) fn is_read(&self, digest: &Digest, repository: &Repository) -> bool {
        let tie = self.tie_of(digest, repository);
        tie.is_none_or(|tie| tie.is_read)
    }

    pub(super) fn mark_read(&mut self, digest: &Digest, repository: u32) {
        if let Some(tie) = self.tie_mut(digest, repository) {
            tie.is_read = true;
        }
    }

    fn tie_mut(&mut self, digest: &Digest, repository: u32) -> Option<&mut Tie> {
        let content = self.content.get_mut(digest)?;
        content.ties.iter_mut().find(|tie| tie.repository == repository)
    }

    fn tie_of(&self, digest: &Digest, repository: &Repository) -> Option<&Tie> {
        let number = self.number(repository)?;
        let content = self.content.get(digest)?;
        content.ties.iter().find(|tie| tie.repository == number)
    }

    /// The same without repositories that nothing is known of, and without content that is not kept and that an earlier
    /// compaction has spared.
    pub(super) fn compacted(&self, is_kept: impl Fn(&Digest) -> bool) -> Self {
        let mut compacted = Self::default();
        let renumber = |compacted: &mut Self, number: u32| {
            let repository = self.repositories.get(number as usize)?;
            if let Some(number) = compacted.number(repository) {
                return Some(number);
            }
            let next = compacted.next_number()?;
            compacted.apply(&Event::Repository(next, repository.clone()));
            Some(next)
        };
        for event in self.events() {
            let event = match event {
                Event::Content {
                    digest,
                    has,
                    named,
                    is_public,
                } if is_kept(&digest) || !self.is_settled(&digest) => Event::Content {
                    digest,
                    has: has
                        .into_iter()
                        .filter_map(|number| renumber(&mut compacted, number))
                        .collect(),
                    named: named
                        .into_iter()
                        .filter_map(|number| renumber(&mut compacted, number))
                        .collect(),
                    is_public,
                },
                Event::Access {
                    repository,
                    credential,
                    fingerprint,
                    proved_at,
                } => {
                    let Some(repository) = renumber(&mut compacted, repository) else {
                        continue;
                    };
                    Event::Access {
                        repository,
                        credential,
                        fingerprint,
                        proved_at,
                    }
                }
                _ => continue,
            };
            compacted.apply(&event);
        }
        for content in compacted.content.values_mut() {
            content.is_settled = true;
        }
        compacted
    }

    fn is_settled(&self, digest: &Digest) -> bool {
        self.content.get(digest).is_some_and(|content| content.is_settled)
    }

    /// The events that say all of this, in an order in which they can be applied.
    pub(super) fn events(&self) -> impl Iterator<Item = Event> {
        let repositories = (0..).zip(&self.repositories);
        let repositories =
            repositories.map(|(number, repository)| Event::Repository(number, repository.clone()));
        let content = self.content.iter().map(|(digest, content)| {
            let numbers = |is_member| {
                let ties = content.ties.iter().filter(move |tie| tie.is_member == is_member);
                ties.map(|tie| tie.repository).collect()
            };
            Event::Content {
                digest: *digest,
                has: numbers(true),
                named: numbers(false),
                is_public: content.is_public,
            }
        });
        let accesses = self.accesses.iter();
        let accesses = accesses.map(|((repository, credential), access)| Event::Access {
            repository: *repository,
            credential: credential.clone(),
            fingerprint: access.fingerprint,
            proved_at: access.proved_at,
        });
        repositories.chain(content).chain(accesses)
    }
}
