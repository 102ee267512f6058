//! Which requests a rule is about, and how often it acts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::Action;
use super::request::{Kind, Request};

type Test = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// A set of requests: for a rule, or for counting what was asked.
#[derive(Clone)]
pub struct On {
    tests: Vec<Test>,
    skip: u64,
    times: u64,
    before_auth: bool,
}

/// Every request.
pub fn on_any() -> On {
    On {
        tests: Vec::new(),
        skip: 0,
        times: u64::MAX,
        before_auth: false,
    }
}

/// `/v2/`.
pub fn on_ping() -> On {
    on_any().when(|request| request.kind() == Kind::Ping)
}

/// The blob with this digest, in any repository.
pub fn on_blob(digest: impl Into<String>) -> On {
    let wanted = digest.into();
    on_any().when(move |request| matches!(request.kind(), Kind::Blob { digest, .. } if digest == wanted))
}

/// Any blob.
pub fn on_any_blob() -> On {
    on_any().when(|request| matches!(request.kind(), Kind::Blob { .. }))
}

/// The manifest asked for by this tag or digest, in any repository.
pub fn on_manifest(reference: impl Into<String>) -> On {
    let wanted = reference.into();
    on_any().when(
        move |request| matches!(request.kind(), Kind::Manifest { reference, .. } if reference == wanted),
    )
}

/// Any manifest.
pub fn on_any_manifest() -> On {
    on_any().when(|request| matches!(request.kind(), Kind::Manifest { .. }))
}

/// Any list of tags.
pub fn on_tags() -> On {
    on_any().when(|request| matches!(request.kind(), Kind::Tags { .. }))
}

/// Any list of referrers.
pub fn on_referrers() -> On {
    on_any().when(|request| matches!(request.kind(), Kind::Referrers { .. }))
}

/// Exactly this raw path, whatever the query.
pub fn on_path(path: impl Into<String>) -> On {
    let wanted = path.into();
    on_any().when(move |request| request.path() == wanted)
}

impl On {
    /// Only requests for which `test` says yes.
    pub fn when(mut self, test: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.tests.push(Arc::new(test));
        self
    }

    /// Only this method.
    pub fn method(self, method: &'static str) -> Self {
        self.when(move |request| request.method == method)
    }

    /// Only GET.
    pub fn get(self) -> Self {
        self.method("GET")
    }

    /// Only HEAD.
    pub fn head(self) -> Self {
        self.method("HEAD")
    }

    /// Only this repository.
    pub fn repo(self, repo: impl Into<String>) -> Self {
        let wanted = repo.into();
        self.when(move |request| request.repo().as_ref() == Some(&wanted))
    }

    /// Only with a `Range` header.
    pub fn ranged(self) -> Self {
        self.when(|request| request.header("Range").is_some())
    }

    /// Only without a `Range` header.
    pub fn unranged(self) -> Self {
        self.when(|request| request.header("Range").is_none())
    }

    /// Only with this header line (value compared exactly).
    pub fn header(self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.when(move |request| request.header_all(name).contains(&value.as_str()))
    }

    /// Only with this header, whatever its value.
    pub fn has_header(self, name: &'static str) -> Self {
        self.when(move |request| request.header(name).is_some())
    }

    /// Only without this header.
    pub fn lacks_header(self, name: &'static str) -> Self {
        self.when(move |request| request.header(name).is_none())
    }

    /// A rule acts this often, then is used up. Without it, for ever.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// A rule acts once.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// A rule lets the first `count` matching requests pass.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// A rule acts on the `n`-th matching request only, counted from 1.
    pub fn nth(self, n: u64) -> Self {
        self.after(n.saturating_sub(1)).times(1)
    }

    /// A rule acts even on requests that the host's authentication would refuse. Otherwise those get their 401
    /// or 403 and are not counted.
    pub fn before_auth(mut self) -> Self {
        self.before_auth = true;
        self
    }

    /// Whether the request belongs to the set, `times` and `nth` aside.
    pub fn matches(&self, request: &Request) -> bool {
        self.tests.iter().all(|test| test(request))
    }
}

/// A rule of a running host.
#[derive(Clone)]
pub struct Rule {
    on: Arc<On>,
    action: Arc<Action>,
    seen: Arc<AtomicU64>,
}

impl Rule {
    /// How often the rule has acted.
    pub fn acted(&self) -> u64 {
        self.seen
            .load(Ordering::SeqCst)
            .saturating_sub(self.on.skip)
            .min(self.on.times)
    }

    fn take(&self, request: &Request) -> bool {
        if !self.on.matches(request) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        seen >= self.on.skip && seen - self.on.skip < self.on.times
    }
}

/// The rules of one host, in order.
#[derive(Default)]
pub(super) struct Script(Mutex<Vec<Rule>>);

impl Script {
    pub(super) fn add(&self, on: On, action: Action) -> Rule {
        let rule = Rule {
            on: Arc::new(on),
            action: Arc::new(action),
            seen: Arc::default(),
        };
        self.0.lock().unwrap().push(rule.clone());
        rule
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The action of the first rule that wants this request. A rule counts only requests that reach it.
    pub(super) fn take(&self, request: &Request, before_auth: bool) -> Option<Arc<Action>> {
        let rules = self.0.lock().unwrap().clone();
        let mut phase = rules
            .into_iter()
            .filter(|rule| rule.on.before_auth == before_auth);
        phase.find(|rule| rule.take(request)).map(|rule| rule.action)
    }
}
