//! How often and how soon a request is sent again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Kind, Limits};

/// Runs `operation` until it succeeds, fails for good, or the tries or the time are used up.
///
/// One refusal by a redirect's target is answered at once with a fresh redirect; a second one is final.
pub(super) async fn retry<T, F>(
    limits: &Limits,
    deadline: Instant,
    operation: impl Fn() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = limits.backoff_first;
    let mut was_refused = false;
    let mut last = Error::new(Kind::Timeout, "no answer within the total limit");
    for tries in 1.. {
        match tokio::time::timeout_at(deadline, operation()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last),
        }
        let pause = match last.kind() {
            // A 416 may be the word of an expired address just as well.
            Kind::RedirectRefused(_) | Kind::RangeNotSatisfiable { .. } if !was_refused => {
                was_refused = true;
                Duration::ZERO
            }
            Kind::RedirectRefused(_) => return Err(last),
            _ if last.retryable() => jittered(backoff, fastrand::f64()),
            _ => return Err(last),
        };
        if tries >= limits.tries_max || Instant::now() + pause >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
        backoff = backoff.saturating_mul(2);
    }
    Err(last)
}

/// Half of `pause` is certain, half is up to `chance` in `0.0..1.0`, so that nodes that failed together part.
fn jittered(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn tries_until_final(kind: Kind, limits: &Limits) -> (u32, Kind) {
        let tries = AtomicU32::new(0);
        let result: Result<(), Error> = retry(limits, Instant::now() + limits.total, || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(kind, "test"))
        })
        .await;
        (tries.into_inner(), result.unwrap_err().kind())
    }

    #[tokio::test(start_paused = true)]
    async fn only_transient_failures_are_tried_again() {
        let limits = Limits::default();
        for (kind, tries) in [
            (Kind::Status(503), 3),
            (Kind::Connect, 3),
            (Kind::Protocol, 3),
            (Kind::RedirectRefused(403), 2),
            (Kind::RangeNotSatisfiable { total: Some(1) }, 2),
            (Kind::NotFound, 1),
            (Kind::Status(400), 1),
            (Kind::RateLimited { retry_after: None }, 1),
        ] {
            assert_eq!(tries_until_final(kind, &limits).await, (tries, kind));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_total_limit_ends_everything_with_the_last_error() {
        let limits = Limits {
            total: Duration::from_secs(1),
            backoff_first: Duration::from_secs(2),
            ..Limits::default()
        };
        assert_eq!(
            tries_until_final(Kind::Connect, &limits).await,
            (1, Kind::Connect)
        );
        let hung: Result<(), Error> =
            retry(&limits, Instant::now() + limits.total, std::future::pending).await;
        assert_eq!(hung.unwrap_err().kind(), Kind::Timeout);
    }

    #[test]
    fn jitter_stays_within_half_and_whole() {
        let pause = Duration::from_secs(2);
        assert_eq!(jittered(pause, 0.0), pause / 2);
        assert!(jittered(pause, 0.999) < pause);
    }
}
