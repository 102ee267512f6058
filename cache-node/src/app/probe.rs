//! When registries are probed: soon after they or their credentials change, again and again while something is wrong,
//! and seldom otherwise. Every node of a cluster does it.
//!
//! What that costs a registry: a mirror that is new on 5,000 nodes at once makes 1,000 requests a second for five seconds
//! (kubelets and rollouts spread it over a minute and more); one that is down is asked 17 times a second; one that is up,
//! less than twice a second. With credentials it is one request more for each Secret. None counts as a pull.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_crds::Mode;
use larder_crds::report::Reason;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::conditions::Conditions;
use crate::config::{Config, Registry};
use crate::credentials::CredentialStore;
use crate::pull::Cache;

/// Within this time after a change a registry is probed. Enough to keep nodes from asking in step; the whole way to a
/// person has 30 s.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// The pause while something is wrong; it doubles.
const TROUBLED: Duration = Duration::from_secs(30);
/// The longest pause while something is wrong.
const TROUBLED_MAX: Duration = Duration::from_secs(300);
/// The pause while nothing is known to be wrong: a password may have been withdrawn.
const HEALTHY: Duration = Duration::from_secs(3600);
/// What a probe could find, or find gone.
const PROBED: [Reason; 2] = [Reason::UpstreamUnreachable, Reason::CredentialsRefused];

/// The probes of all registries.
pub(super) struct Probes {
    pub(super) cache: Cache,
    pub(super) credentials: Arc<CredentialStore>,
    pub(super) conditions: Arc<Conditions>,
    /// How often it is looked for changes.
    pub(super) poll: Duration,
}

/// What a probe's answer depends on: another one is wanted when it changes.
#[derive(PartialEq)]
struct Subject {
    registry: Arc<Registry>,
    secrets: Vec<u64>,
}

struct Plan {
    subject: Subject,
    next: Instant,
    /// Probes in a row after which something was wrong.
    troubled: u32,
}

impl Probes {
    /// Never returns.
    pub(super) async fn run(&self) {
        let mut ticks = tokio::time::interval(self.poll);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut plans = HashMap::new();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    for host in self.due(&mut plans) {
                        let target = self.cache.targets().by_host(&host);
                        if let Some(upstream) = target.and_then(|target| target.upstream().ok().cloned()) {
                            running.spawn(async move { upstream.probe().await });
                        }
                    }
                }
                Some(_) = running.join_next() => {}
            }
        }
    }

    /// The registries whose time has come; it is set anew for them.
    fn due(&self, plans: &mut HashMap<String, Plan>) -> Vec<String> {
        let now = Instant::now();
        let config = self.cache.targets().config();
        let registries: HashMap<_, _> = probed(&config)
            .map(|registry| (&registry.host, registry))
            .collect();
        plans.retain(|host, _| registries.contains_key(host));
        let mut due = Vec::new();
        for (host, registry) in registries {
            let subject = self.subject(registry);
            let plan = match plans.remove(host).filter(|plan| plan.subject == subject) {
                Some(plan) => plan,
                None => Plan::new(subject, now),
            };
            let plan = plans.entry(host.clone()).or_insert(plan);
            if plan.is_due(now, self.conditions.stands(&PROBED, host)) {
                due.push(host.clone());
            }
        }
        due
    }

    fn subject(&self, registry: &Arc<Registry>) -> Subject {
        let endpoint = &registry.endpoint;
        let names = endpoint.credentials.iter().map(|rule| &rule.secret_name);
        let names = names.chain(&endpoint.tls.ca_bundle);
        Subject {
            registry: Arc::clone(registry),
            secrets: names.map(|name| self.credentials.generation(name)).collect(),
        }
    }
}

impl Plan {
    fn new(subject: Subject, now: Instant) -> Self {
        Self {
            subject,
            next: now + FIRST_WITHIN.mul_f64(fastrand::f64()),
            troubled: 0,
        }
    }

    fn is_due(&mut self, now: Instant, is_troubled: bool) -> bool {
        // The last probe, or a pull, has met trouble since.
        if is_troubled && self.next > now + TROUBLED_MAX * 2 {
            self.next = now + jittered(TROUBLED);
        }
        if now < self.next {
            return false;
        }
        self.troubled = if is_troubled {
            self.troubled.saturating_add(1)
        } else {
            0
        };
        self.next = now + jittered(self.pause(is_troubled));
        true
    }

    fn pause(&self, is_troubled: bool) -> Duration {
        if is_troubled {
            TROUBLED
                .saturating_mul(2u32.saturating_pow(self.troubled - 1))
                .min(TROUBLED_MAX)
        } else {
            HEALTHY
        }
    }
}

/// The registries that may be contacted, of a mirror that works for an operator: without a UID nobody hears of it.
fn probed(config: &Config) -> impl Iterator<Item = &Arc<Registry>> {
    let is_heard = config.uid.is_some();
    let registries = config.registries.iter();
    registries.filter(move |registry| is_heard && registry.mode == Mode::Proxy)
}

/// `pause` give or take a fifth.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(now: Instant) -> Plan {
        let registry = Arc::clone(&Config::embedded().registries[0]);
        let subject = Subject {
            registry,
            secrets: Vec::new(),
        };
        Plan::new(subject, now)
    }

    /// The pauses between the first `count` probes of which `is_troubled` says what stands when they begin.
    fn pauses(count: usize, is_troubled: bool) -> Vec<Duration> {
        let now = Instant::now();
        let mut plan = plan(now);
        assert!(plan.next <= now + FIRST_WITHIN);
        let mut pauses = Vec::new();
        for _ in 0..count {
            let due = plan.next;
            assert!(!plan.is_due(due - Duration::from_millis(1), is_troubled));
            assert!(plan.is_due(due, is_troubled));
            pauses.push(plan.next - due);
        }
        pauses
    }

    #[test]
    fn nobody_is_contacted_in_vain() {
        let hosts = |uid: &str| {
            let document = format!(
                "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: test{uid}}}\n\
                 spec: {{registries: [{{host: a.test}}, {{host: b.test, mode: CacheOnly}}]}}\n"
            );
            let config = Config::parse(&document).unwrap();
            probed(&config)
                .map(|registry| registry.host.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(hosts(", uid: x"), ["a.test"]);
        assert_eq!(hosts(""), [""; 0]);
        assert_eq!(probed(&Config::embedded()).count(), 0);
    }

    #[test]
    fn trouble_is_looked_at_often_and_ever_less_so() {
        let longest = |pause: Duration| pause.mul_f64(1.2);
        for (pause, minutes) in pauses(6, true).into_iter().zip([0.5, 1.0, 2.0, 4.0, 5.0, 5.0]) {
            let expected = Duration::from_secs(60).mul_f64(minutes);
            assert!(
                pause >= expected.mul_f64(0.8) && pause <= longest(expected),
                "{pause:?} {minutes}"
            );
        }
        for pause in pauses(3, false) {
            assert!(
                pause >= HEALTHY.mul_f64(0.8) && pause <= longest(HEALTHY),
                "{pause:?}"
            );
        }
    }

    #[test]
    fn trouble_that_a_pull_meets_brings_the_next_look_near() {
        let now = Instant::now();
        let mut plan = plan(now);
        let first = plan.next;
        assert!(plan.is_due(first, false));
        assert!(!plan.is_due(first, true));
        assert!(plan.next <= first + TROUBLED.mul_f64(1.2));
    }
}
