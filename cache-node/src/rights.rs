//! Who may have what: content is shared by digest between everything that names it, rights are not.
//!
//! A registry lets people read a repository, so rights are per registry, repository and credential. Content is
//! answered without asking where the repository is known to have it and whoever asks can read the repository, as
//! seen lately, or anybody can. Otherwise upstream is asked first. What was learned lives as long as the content, also
//! over restarts; whatever of it is lost costs a question.

mod decision;
mod facts;
mod file;
mod line;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::oci::{Digest, descriptors};
use crate::store::{self, Manifest, Store};
use crate::upstream::{CredentialKey, Kind, Repository, Salt, Scope};

pub use decision::{Decision, Standing, decide};
use facts::{Event, Facts};
use file::Journal;

/// How long the proof counts that somebody can read a repository.
pub const PROOF_TTL: Duration = Duration::from_hours(1);
/// A proof is not renewed before this part of its time is over, so that not every answer is written down.
const RENEWAL_DIVISOR: u32 = 16;
/// The most content that one manifest names and that is remembered of it: a rule breaker's manifest must not use up the
/// room of all others.
const NAMED_MAX: usize = 1_000;

/// All access rights of one cache directory.
#[derive(Debug)]
pub struct Rights {
    store: Arc<Store>,
    proof_ttl: Duration,
    salt: Salt,
    state: RwLock<State>,
    /// None after a write that failed, and at first: the next one writes the file anew.
    journal: Mutex<Option<Journal>>,
}

#[derive(Debug)]
struct State {
    facts: Facts,
    /// Lines that wait to be written.
    pending: Vec<u8>,
    pending_lines: usize,
}

impl Rights {
    /// Reads what is known of the content of `store`. A proof of access counts for `proof_ttl`, in production
    /// [`PROOF_TTL`]. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or the system has no randomness.
    pub fn open(store: Arc<Store>, proof_ttl: Duration) -> Result<Self, store::Error> {
        let loaded = file::load(store.layout(), |digest| store.contains(digest))?;
        let salt = match loaded.salt {
            Some(salt) => salt,
            None => Salt::random().map_err(store::Error::io("make a salt for", &store.layout().rights()))?,
        };
        let state = State {
            facts: loaded.facts,
            pending: Vec::new(),
            pending_lines: 0,
        };
        Ok(Self {
            store,
            proof_ttl,
            salt,
            state: RwLock::new(state),
            journal: Mutex::new(loaded.journal),
        })
    }

    /// What fingerprints of credentials are made with.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// What to do when `scope` asks for `digest`. While upstream cannot be asked, proofs count for `serve_stale_for`
    /// longer.
    pub fn decide(&self, digest: &Digest, scope: &Scope, serve_stale_for: Duration) -> Decision {
        let standing = self.read().facts.standing(digest, scope, now_ms());
        decide(standing, self.proof_ttl, serve_stale_for)
    }

    /// Whether `repository` has the content, as far as is known.
    pub fn is_member(&self, digest: &Digest, repository: &Repository) -> bool {
        self.read().facts.is_member(digest, repository)
    }

    /// The repositories that are known to have the content.
    pub fn members(&self, digest: &Digest) -> Vec<Repository> {
        self.read().facts.members(digest)
    }

    /// What the repositories have of which `is_meant` says so.
    pub fn content_of(&self, is_meant: impl Fn(&Repository) -> bool) -> HashSet<Digest> {
        self.read().facts.content_of(is_meant)
    }

    /// Whether anybody can have the content.
    pub fn is_public(&self, digest: &Digest) -> bool {
        self.read().facts.is_public(digest)
    }

    /// Upstream said to `scope` that it has the content.
    pub fn proved(&self, digest: &Digest, scope: &Scope) {
        self.vouch(digest, &scope.repository, scope.is_anonymous());
        self.has_access(scope);
    }

    /// `repository` has the content; and anybody can have it, if `is_public`.
    pub fn vouch(&self, digest: &Digest, repository: &Repository, is_public: bool) {
        let is_known = {
            let facts = &self.read().facts;
            facts.has(digest, repository) && (facts.is_public(digest) || !is_public)
        };
        if is_known {
            return;
        }
        let mut state = self.write();
        let has = state.number(repository).into_iter().collect();
        state.learn(&Event::Content {
            digest: *digest,
            has,
            named: Vec::new(),
            is_public,
        });
    }

    /// `scope` can read its repository: upstream has just answered it.
    pub fn has_access(&self, scope: &Scope) {
        let now = now_ms();
        let age = self.read().facts.access_age(scope, now);
        if age.is_none_or(|age| age >= self.proof_ttl / RENEWAL_DIVISOR) {
            self.set_access(scope, now);
        }
    }

    /// Upstream did not give `digest` to `scope`, if it asked for one digest, and says why.
    pub fn refused(&self, digest: Option<&Digest>, scope: &Scope, kind: Kind) {
        match (kind, digest) {
            (Kind::NotFound, Some(digest)) => self.withdraw(digest, &scope.repository),
            (Kind::Unauthorized | Kind::Denied, _) => {
                // At the end of all times every proof is in the past.
                let is_known = self.read().facts.access_age(scope, u64::MAX).is_some();
                if is_known {
                    self.set_access(scope, 0);
                }
            }
            _ => {}
        }
    }

    fn set_access(&self, scope: &Scope, proved_at: u64) {
        let mut state = self.write();
        if let Some(repository) = state.number(&scope.repository) {
            state.learn(&Event::Access {
                repository,
                credential: CredentialKey::clone(&scope.credential),
                fingerprint: scope.fingerprint,
                proved_at,
            });
        }
    }

    /// What `manifest` names is named in `repository`, if the repository has the manifest.
    pub fn names(&self, manifest: &Manifest, repository: &Repository) {
        let is_due = {
            let facts = &self.read().facts;
            facts.is_member(&manifest.digest, repository) && !facts.is_read(&manifest.digest, repository)
        };
        if !is_due {
            return;
        }
        let named = descriptors(&manifest.body);
        let mut state = self.write();
        let Some(number) = state.number(repository) else {
            return;
        };
        for descriptor in named.iter().take(NAMED_MAX) {
            state.learn(&Event::Content {
                digest: descriptor.digest,
                has: Vec::new(),
                named: vec![number],
                is_public: false,
            });
        }
        state.facts.mark_read(&manifest.digest, number);
    }

    /// `repository` does not have the content any more.
    pub fn withdraw(&self, digest: &Digest, repository: &Repository) {
        let mut state = self.write();
        if let Some(repository) = state.facts.number(repository) {
            state.learn(&Event::Lost {
                digest: *digest,
                repository,
            });
        }
    }

    /// Forgets everything about the content: it is to be had as if it had never been here.
    pub fn forget(&self, digest: &Digest) {
        self.write().learn(&Event::Gone(*digest));
    }

    /// Whether something has been learned that [`flush`](Self::flush) has not written.
    pub fn has_news(&self) -> bool {
        self.read().pending_lines > 0
    }

    /// Writes what was learned since the last time. What cannot be written holds until the process ends. Blocks for a
    /// small write, now and then for one of the whole file.
    pub fn flush(&self) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.write_pending(&mut journal)
            && !self.store.note_failure(&error, 0)
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the file of access rights cannot be written"
            );
        }
    }

    fn write_pending(&self, journal: &mut MutexGuard<'_, Option<Journal>>) -> Result<(), store::Error> {
        let layout = self.store.layout();
        let (text, lines) = self.write().take_pending();
        if lines == 0 {
            return Ok(());
        }
        if let Some(mut open) = journal.take()
            && !open.is_history(lines)
        {
            open.append(layout, &text, lines)?;
            **journal = Some(open);
            return Ok(());
        }
        if !self.store.takes_content() {
            // What is in memory is written when the disk is back.
            return Ok(());
        }
        // A copy: pulls must not wait while it is written.
        let facts = {
            let mut state = self.write();
            state.facts = state.facts.compacted(|digest| self.store.contains(digest));
            // All that waits is among the facts.
            state.take_pending();
            state.facts.clone()
        };
        **journal = Some(Journal::rewrite(layout, &self.salt, &facts)?);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of `repository`, if there is room for it.
    fn number(&mut self, repository: &Repository) -> Option<u32> {
        let known = self.facts.number(repository);
        known.or_else(|| {
            let next = self.facts.next_number()?;
            self.learn(&Event::Repository(next, repository.clone()));
            Some(next)
        })
    }

    fn learn(&mut self, event: &Event) {
        if self.facts.apply(event) {
            line::write_event(&mut self.pending, event);
            self.pending_lines += 1;
        }
    }

    fn take_pending(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.pending),
            std::mem::take(&mut self.pending_lines),
        )
    }
}

/// Now, in milliseconds since the epoch.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
