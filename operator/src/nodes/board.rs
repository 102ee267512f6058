//! Who is asked when, and what was said: decisions only, given the time, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::pods::PodFacts;
use super::state::{Answer, NodeState, Report, Survey};

/// The most nodes asked at once.
pub(super) const QUESTIONS_MAX: usize = 64;
/// How often a node is asked in a small cluster; in a large one as often as [`POLLS_PER_SECOND_MAX`] allows.
const SWEEP_MIN: Duration = Duration::from_secs(10);
const POLLS_PER_SECOND_MAX: u32 = 200;
/// How soon a node that has not answered is asked a second time.
const RETRY_AFTER: Duration = Duration::from_secs(3);
/// How many questions in a row must stay unanswered before a node counts as unreachable.
const UNANSWERED_MAX: u8 = 2;
/// How long a pod may take from its creation until it can be asked: from then on somebody should look at it.
const START_MAX: Duration = Duration::from_secs(120);
/// Into how many parts a sweep is cut, over which the nodes are spread.
const PHASES: u32 = 128;

/// Every pod with what it said.
#[derive(Default)]
pub(super) struct Board {
    pods: BTreeMap<String, Entry>,
    /// Who is to be asked, by when.
    due: BTreeSet<(Instant, String)>,
    asking: usize,
    /// Pods seen in the listing that is under way.
    listed: Option<BTreeSet<String>>,
    first_round: FirstRound,
    /// Names of mirrors whose nodes have changed since they were last taken.
    changed: BTreeSet<String>,
    phase: u32,
}

/// How far the first round of questions is.
#[derive(Default)]
enum FirstRound {
    /// The pods are not known yet.
    #[default]
    NotListed,
    /// These have yet to say something.
    Asking(BTreeSet<String>),
    Complete,
}

struct Entry {
    facts: PodFacts,
    answer: Answer,
    unanswered: u8,
    question: Question,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// There is nothing to ask.
    None,
    /// To be asked at this time, or, without an address, then taken for lost.
    Due(Instant),
    /// Being asked; `again` when it changed since.
    Asked { again: bool },
}

impl Board {
    /// A listing of all pods begins.
    pub(super) fn list(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// A pod is there, or has changed.
    pub(super) fn apply(&mut self, facts: PodFacts, now: Instant) {
        if let Some(listed) = &mut self.listed {
            listed.insert(facts.name.clone());
        }
        let name = facts.name.clone();
        let Some(entry) = self.pods.get_mut(&name) else {
            self.changed.insert(facts.mirror.clone());
            let question = Question::None;
            let entry = Entry {
                facts,
                answer: Answer::Unasked,
                unanswered: 0,
                question,
            };
            self.pods.insert(name.clone(), entry);
            self.ask_at(&name, now);
            return;
        };
        if entry.facts == facts {
            return;
        }
        let old = mem::replace(&mut entry.facts, facts);
        let facts = &entry.facts;
        let is_worth_asking = (facts.is_ready && !old.is_ready)
            || facts.restarts != old.restarts
            || facts.address != old.address;
        self.changed.insert(old.mirror);
        self.changed.insert(facts.mirror.clone());
        if is_worth_asking {
            self.ask_at(&name, now);
        }
    }

    /// A pod is no more.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(entry) = self.pods.remove(name) {
            self.changed.insert(entry.facts.mirror);
            match entry.question {
                Question::Due(at) => {
                    self.due.remove(&(at, name.to_owned()));
                }
                Question::Asked { .. } => self.asking -= 1,
                Question::None => {}
            }
        }
        self.has_spoken(name);
    }

    /// The listing is complete: what it did not show is no more.
    pub(super) fn listed(&mut self) {
        let Some(listed) = self.listed.take() else { return };
        let gone: Vec<String> = self
            .pods
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.remove(&name);
        }
        if matches!(self.first_round, FirstRound::NotListed) {
            let can_speak = |entry: &Entry| entry.facts.address.is_some() && entry.answer == Answer::Unasked;
            let silent = self.pods.iter().filter(|(_, entry)| can_speak(entry));
            self.first_round = FirstRound::Asking(silent.map(|(name, _)| name.clone()).collect());
            self.conclude_first_round();
        }
    }

    /// The next pod to ask, if one is due and there is room.
    pub(super) fn next(&mut self, now: Instant) -> Option<(String, SocketAddr)> {
        while self.asking < QUESTIONS_MAX && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let (_, name) = self.due.pop_first()?;
            let Some(entry) = self.pods.get_mut(&name) else {
                continue;
            };
            if let Some(address) = entry.facts.address {
                entry.question = Question::Asked { again: false };
                self.asking += 1;
                return Some((name, address));
            }
            entry.question = Question::None;
            entry.answer = Answer::Unreachable(String::new());
            self.changed.insert(entry.facts.mirror.clone());
        }
        None
    }

    /// When the next pod is due, unless an answer must come first.
    pub(super) fn wake(&self) -> Option<Instant> {
        let (at, _) = self.due.first()?;
        (self.asking < QUESTIONS_MAX).then_some(*at)
    }

    /// A pod that was asked has answered, or has not.
    pub(super) fn answered(&mut self, name: &str, address: SocketAddr, report: Option<Report>, now: Instant) {
        let sweep = self.sweep();
        let Some(entry) = self.pods.get_mut(name) else {
            return;
        };
        let Question::Asked { again } = entry.question else {
            return;
        };
        self.asking -= 1;
        entry.question = Question::None;
        let is_first = entry.answer == Answer::Unasked;
        let mut pause = sweep;
        let answer = match report {
            Some(report) => {
                entry.unanswered = 0;
                Some(Answer::Report(report))
            }
            None => {
                entry.unanswered = entry.unanswered.saturating_add(1);
                let is_lost = entry.unanswered >= UNANSWERED_MAX;
                if !is_lost {
                    pause = RETRY_AFTER;
                }
                is_lost.then(|| Answer::Unreachable(address.to_string()))
            }
        };
        let has_spoken = answer.is_some();
        if let Some(answer) = answer.filter(|answer| *answer != entry.answer) {
            entry.answer = answer;
            self.changed.insert(entry.facts.mirror.clone());
        }
        if has_spoken {
            self.has_spoken(name);
            if is_first {
                self.phase = (self.phase + 1) % PHASES;
                pause = sweep * (PHASES - self.phase) / PHASES;
            }
        }
        self.ask_at(name, if again { now } else { now + pause });
    }

    /// How often each node is asked now.
    fn sweep(&self) -> Duration {
        let pods = u32::try_from(self.pods.len()).unwrap_or(u32::MAX);
        SWEEP_MIN.max(Duration::from_secs(1) * pods / POLLS_PER_SECOND_MAX)
    }

    fn ask_at(&mut self, name: &str, at: Instant) {
        let Some(entry) = self.pods.get_mut(name) else {
            return;
        };
        match entry.question {
            Question::Asked { .. } => {
                entry.question = Question::Asked { again: true };
                return;
            }
            Question::Due(before) => {
                self.due.remove(&(before, name.to_owned()));
            }
            Question::None => {}
        }
        let can_answer = entry.facts.address.is_some();
        let is_starting = !entry.facts.is_ready && !entry.facts.is_leaving;
        entry.question = Question::None;
        if can_answer || is_starting {
            let at = if can_answer { at } else { at + START_MAX };
            entry.question = Question::Due(at);
            self.due.insert((at, name.to_owned()));
        }
        if !can_answer {
            self.has_spoken(name);
        }
    }

    /// The first round need not wait for this pod.
    fn has_spoken(&mut self, name: &str) {
        if let FirstRound::Asking(silent) = &mut self.first_round {
            silent.remove(name);
            self.conclude_first_round();
        }
    }

    fn conclude_first_round(&mut self) {
        if matches!(&self.first_round, FirstRound::Asking(silent) if silent.is_empty()) {
            self.first_round = FirstRound::Complete;
            self.changed
                .extend(self.pods.values().map(|entry| entry.facts.mirror.clone()));
        }
    }

    /// The mirrors whose nodes have changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> BTreeSet<String> {
        mem::take(&mut self.changed)
    }

    /// The nodes of the mirror with this name and UID.
    pub(super) fn survey(&self, mirror: &str, uid: &str) -> Survey {
        let mut nodes: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in self.pods.values() {
            let facts = &entry.facts;
            if facts.mirror != mirror || facts.is_leaving {
                continue;
            }
            // A pod and its successor may both be there for a moment.
            let rank = |entry: &Entry| (entry.facts.is_ready, entry.facts.created);
            let known = nodes.entry(&facts.node).or_insert(entry);
            if rank(entry) > rank(known) {
                *known = entry;
            }
        }
        Survey {
            is_complete: matches!(self.first_round, FirstRound::Complete),
            nodes: nodes.into_values().map(|entry| entry.state(uid)).collect(),
        }
    }
}

impl Entry {
    fn state(&self, uid: &str) -> NodeState {
        let facts = &self.facts;
        let address = || {
            facts
                .address
                .map(|address| address.to_string())
                .unwrap_or_default()
        };
        let answer = match &self.answer {
            Answer::Report(report) if report.mirror != uid => Answer::Unreachable(address()),
            answer => answer.clone(),
        };
        NodeState {
            node: facts.node.clone(),
            pod: facts.name.clone(),
            is_ready: facts.is_ready,
            template_generation: facts.template_generation,
            trouble: facts.trouble.clone(),
            answer,
        }
    }
}

#[cfg(test)]
mod tests;
