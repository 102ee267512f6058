//! Keeps our demand on one registry within what it bears: how many requests at once, and none before the time that a
//! 429 named. Manifests and blobs are counted apart, because registries limit them apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{CredentialKey, Error, Kind, Limits, RequestKind};

/// A permit for one request: held until its answer, body included, is done with.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct Governor {
    concurrent_requests_max: usize,
    wait_max: Duration,
    pause_default: Duration,
    pause_max: Duration,
    lanes: Mutex<HashMap<(CredentialKey, RequestKind), Lane>>,
}

#[derive(Debug, Clone)]
struct Lane {
    slots: Arc<Semaphore>,
    not_before: Option<Instant>,
}

impl Governor {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            concurrent_requests_max: limits.concurrent_requests_max,
            wait_max: limits.rate_limit_wait_max,
            pause_default: limits.rate_limit_pause_default,
            pause_max: limits.rate_limit_pause_max,
            lanes: Mutex::default(),
        }
    }

    /// Waits for a slot, and for a pause that is nearly over.
    ///
    /// # Errors
    /// [`Kind::RateLimited`] at once when the pause is longer than one should wait.
    pub(super) async fn admit(&self, credential: &CredentialKey, kind: RequestKind) -> Result<Permit, Error> {
        self.pass_pause(credential, kind).await?;
        let slots = self.with_lane(credential, kind, |lane| Arc::clone(&lane.slots));
        let permit = slots
            .acquire_owned()
            .await
            .map_err(|closed| Error::new(Kind::Timeout, "no slot").with_source(closed))?;
        // Those who held the slots may have been told to stop meanwhile.
        self.pass_pause(credential, kind).await?;
        Ok(Permit { _permit: permit })
    }

    async fn pass_pause(&self, credential: &CredentialKey, kind: RequestKind) -> Result<(), Error> {
        let now = Instant::now();
        let until = self.with_lane(credential, kind, |lane| lane.not_before);
        let Some(until) = until.filter(|until| *until > now) else {
            return Ok(());
        };
        let remaining = until - now;
        if remaining > self.wait_max {
            let retry_after = Some(remaining);
            return Err(Error::new(
                Kind::RateLimited { retry_after },
                "held back after an earlier 429",
            ));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// Notes a 429: nothing more goes out in this lane before `retry_after` is over. Returns the pause that holds.
    pub(super) fn hold_back(
        &self,
        credential: &CredentialKey,
        kind: RequestKind,
        retry_after: Option<Duration>,
    ) -> Duration {
        let pause = retry_after.unwrap_or(self.pause_default).min(self.pause_max);
        let until = Instant::now() + pause;
        self.with_lane(credential, kind, |lane| {
            lane.not_before = Some(lane.not_before.map_or(until, |earlier| earlier.max(until)));
        });
        pause
    }

    fn with_lane<T>(
        &self,
        credential: &CredentialKey,
        kind: RequestKind,
        use_lane: impl FnOnce(&mut Lane) -> T,
    ) -> T {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry((credential.clone(), kind)).or_insert_with(|| Lane {
            slots: Arc::new(Semaphore::new(self.concurrent_requests_max)),
            not_before: None,
        });
        use_lane(lane)
    }
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110, 10.2.3); a date that has passed is no pause.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        for (value, pause) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), pause.map(Duration::from_secs), "{value}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_back_its_own_lane_only() {
        let governor = Governor::new(&Limits::default());
        let anonymous = CredentialKey::Anonymous;
        let secret = CredentialKey::Secret("hub".into());
        let pause = governor.hold_back(&anonymous, RequestKind::Manifest, None);
        assert_eq!(pause, Duration::from_secs(30));
        let refused = governor
            .admit(&anonymous, RequestKind::Manifest)
            .await
            .unwrap_err();
        assert_eq!(
            refused.kind(),
            Kind::RateLimited {
                retry_after: Some(pause)
            }
        );
        governor.admit(&anonymous, RequestKind::Blob).await.unwrap();
        governor.admit(&secret, RequestKind::Manifest).await.unwrap();
        tokio::time::advance(Duration::from_secs(29)).await;
        let started = Instant::now();
        governor.admit(&anonymous, RequestKind::Manifest).await.unwrap();
        assert_eq!(
            started.elapsed().as_secs(),
            1,
            "a pause that is nearly over is waited for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_bounded_and_come_back() {
        let governor = Governor::new(&Limits {
            concurrent_requests_max: 1,
            ..Limits::default()
        });
        let first = governor
            .admit(&CredentialKey::Anonymous, RequestKind::Blob)
            .await
            .unwrap();
        let second = governor.admit(&CredentialKey::Anonymous, RequestKind::Blob);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }
}
