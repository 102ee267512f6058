//! Which changes of a status are worth an Event: at most one per condition, and the same thing only once.

use larder_crds::Status;

use super::Notice;
use super::conditions::{CREDENTIALS_RESOLVED, NODES_CONFIGURED, PROGRESSING, READY, fails, find, holds};

/// Conditions whose failing or holding again is told.
const TOLD: [&str; 3] = [READY, CREDENTIALS_RESOLVED, NODES_CONFIGURED];

/// What to tell of the way from one status to the next.
pub(super) fn between(previous: Option<&Status>, next: &Status) -> Vec<Notice> {
    let mut notices: Vec<Notice> = Vec::new();
    let default = Status::default();
    let previous = previous.unwrap_or(&default);
    let mut tell = |notice: Notice| {
        if !notices.iter().any(|told| told.reason == notice.reason) {
            notices.push(notice);
        }
    };
    let progressing = find(next, PROGRESSING).filter(|condition| holds(condition));
    let is_new = previous.observed_generation != next.observed_generation;
    if let Some(progressing) = progressing.filter(|_| is_new) {
        tell(normal(&progressing.reason, &progressing.message));
    }
    for type_ in TOLD {
        let Some(now) = find(next, type_) else { continue };
        let before = find(previous, type_);
        let told = progressing.is_some_and(|progressing| progressing.reason == now.reason);
        if fails(now) && !told && (is_new || before.is_none_or(|before| before.reason != now.reason)) {
            tell(Notice {
                is_warning: true,
                reason: now.reason.clone(),
                message: now.message.clone(),
            });
        }
        let recovers = match type_ {
            READY => before.is_none_or(|before| !holds(before)),
            _ => before.is_some_and(fails),
        };
        if holds(now) && recovers {
            tell(normal(type_, &now.message));
        }
    }
    notices
}

fn normal(reason: &str, message: &str) -> Notice {
    Notice {
        is_warning: false,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}
