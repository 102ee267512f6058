//! Tokens: had from a realm, kept until shortly before they expire, asked for once however many need them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use super::{CredentialKey, Error, Kind};

/// The most tokens kept for one registry: one per repository and credential in use.
const TOKENS_MAX: usize = 4096;
/// Real tokens carry certificate chains (over 4 KiB); no server accepts a header this long.
const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// The specification's lifetime where the answer names none.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// A lifetime that is claimed to be longer is not believed.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long before its end a token is replaced, at most: a request takes its time to arrive.
const MARGIN_MAX: Duration = Duration::from_secs(30);
/// The part of a short lifetime that is given away as that margin.
const MARGIN_DIVISOR: u32 = 6;

/// A token, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// `Bearer …`, marked as sensitive.
    pub(super) header: HeaderValue,
    expires: Instant,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) credential: CredentialKey,
    /// Which state of the credential: a changed Secret makes other tokens.
    pub(super) mark: u64,
}

type Fetch = BoxFuture<'static, Result<Token, Error>>;

#[derive(Debug)]
enum Slot {
    Ready(Token),
    /// Kept alive by those who wait for it: when all have left, the next one begins anew.
    Pending(WeakShared<Fetch>),
}

/// The tokens of one registry.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<TokenKey, Slot>>,
}

impl Tokens {
    /// The token for `key`: a kept one unless it is `refused`, else the one on its way, else that of `fetch`.
    pub(super) async fn get(
        &self,
        key: TokenKey,
        refused: Option<&HeaderValue>,
        fetch: impl FnOnce() -> Fetch,
    ) -> Result<Token, Error> {
        let pending = match self.join(&key, refused, fetch) {
            Ok(token) => return Ok(token),
            Err(pending) => pending,
        };
        let result = pending.clone().await;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have replaced the slot meanwhile; then it is theirs.
        let is_ours = |slot: &Slot| match slot {
            Slot::Pending(weak) => weak.upgrade().is_none_or(|other| other.ptr_eq(&pending)),
            Slot::Ready(_) => false,
        };
        if slots.get(&key).is_some_and(is_ours) {
            match &result {
                Ok(token) => slots.insert(key, Slot::Ready(token.clone())),
                Err(_) => slots.remove(&key),
            };
        }
        result
    }

    fn join(
        &self,
        key: &TokenKey,
        refused: Option<&HeaderValue>,
        fetch: impl FnOnce() -> Fetch,
    ) -> Result<Token, Shared<Fetch>> {
        let now = Instant::now();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get(key) {
            Some(Slot::Ready(token)) if token.expires > now && Some(&token.header) != refused => {
                return Ok(token.clone());
            }
            Some(Slot::Pending(weak)) => {
                if let Some(pending) = weak.upgrade() {
                    return Err(pending);
                }
            }
            Some(Slot::Ready(_)) | None => {}
        }
        make_room(&mut slots, now);
        let pending = fetch().shared();
        if let Some(weak) = pending.downgrade() {
            slots.insert(key.clone(), Slot::Pending(weak));
        }
        Err(pending)
    }
}

/// Drops what is of no more use; if everything is, drops everything: that costs requests, never correctness.
fn make_room(slots: &mut HashMap<TokenKey, Slot>, now: Instant) {
    if slots.len() < TOKENS_MAX {
        return;
    }
    slots.retain(|_, slot| match slot {
        Slot::Ready(token) => token.expires > now,
        Slot::Pending(weak) => weak.upgrade().is_some(),
    });
    if slots.len() >= TOKENS_MAX {
        slots.clear();
    }
}

/// A token server's answer (distribution, token authentication specification).
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: serde_json::Value,
    #[serde(default)]
    issued_at: serde_json::Value,
}

/// The token in the body of a token server's answer that came at `now`.
pub(super) fn from_answer(place: &str, body: &Bytes, now: SystemTime) -> Result<Token, Error> {
    // The body is not quoted in errors: it holds the token.
    let unusable = |why| Error::new(Kind::Protocol, format!("{place}: {why}"));
    let answer: Answer = serde_json::from_slice(body).map_err(|_| unusable("no token in the answer"))?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or_else(|| unusable("no token in the answer"))?;
    let header = bearer(&token).ok_or_else(|| unusable("the token cannot be sent in a header"))?;
    let lifetime = remaining(&answer.expires_in, answer.issued_at.as_str(), now);
    Ok(Token {
        header,
        expires: Instant::now() + lifetime,
    })
}

/// `Bearer TOKEN`, if that makes a header.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// How long a token may still be used.
fn remaining(expires_in: &serde_json::Value, issued_at: Option<&str>, now: SystemTime) -> Duration {
    let seconds = expires_in
        .as_f64()
        .or_else(|| expires_in.as_str()?.parse().ok())
        .filter(|seconds| *seconds > 0.0);
    let lifetime = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(LIFETIME_MAX.as_secs_f64())).ok())
        .unwrap_or(LIFETIME_DEFAULT);
    // An age that cannot be true comes of clocks that disagree: then the lifetime counts from now.
    let age = issued_at
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .and_then(|issued| now.duration_since(issued.into()).ok())
        .filter(|age| *age < lifetime)
        .unwrap_or_default();
    let left = lifetime - age;
    left - (left / MARGIN_DIVISOR).min(MARGIN_MAX)
}

/// `realm` with the query of a token request added to its own.
pub(super) fn request_url(realm: &Url, service: Option<&str>, scope: Option<&str>) -> Url {
    let mut url = realm.clone();
    let pairs = [("service", service), ("scope", scope)];
    for (name, value) in pairs {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    url
}

/// The form that exchanges an identity token for an access token (distribution, OAuth2 token authentication), added to
/// `form` as a query: both are encoded alike.
pub(super) fn refresh_form(
    mut form: Url,
    service: Option<&str>,
    scope: Option<&str>,
    identity_token: &str,
) -> String {
    let pairs = [
        ("grant_type", Some("refresh_token")),
        ("client_id", Some("larder")),
        ("service", service),
        ("scope", scope),
        ("refresh_token", Some(identity_token)),
    ];
    form.set_query(None);
    form.query_pairs_mut()
        .extend_pairs(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))));
    form.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn left(expires_in: &str, issued_at: Option<&str>, now: &str) -> u64 {
        let now = now.parse::<jiff::Timestamp>().unwrap().into();
        remaining(&serde_json::from_str(expires_in).unwrap(), issued_at, now).as_secs()
    }

    #[test]
    fn a_lifetime_counts_from_issue_where_that_can_be_true() {
        let now = "2020-08-20T06:18:42Z";
        assert_eq!(left("300", Some("2020-08-20T06:17:42.575597053Z"), now), 210);
        assert_eq!(
            left("300", Some("2020-08-20T07:00:00Z"), now),
            270,
            "issued in the future"
        );
        assert_eq!(
            left("300", Some("2019-01-01T00:00:00Z"), now),
            270,
            "expired long ago"
        );
        assert_eq!(
            left("43200", Some("2020-08-19T23:18:42.00565746-07:00"), now),
            43170
        );
        assert_eq!(left("\"300\"", Some("yesterday"), now), 270);
        for expires_in in ["null", "0", "-5", "{}"] {
            assert_eq!(left(expires_in, None, now), 50, "{expires_in}");
        }
        assert_eq!(left("1e300", None, now), 24 * 60 * 60 - 30);
    }

    #[test]
    fn either_name_of_the_token_will_do() {
        let header = |body: String| {
            from_answer("realm", &Bytes::from(body), SystemTime::now()).map(|token| token.header)
        };
        let big = "x".repeat(5000);
        for (body, token) in [
            (r#"{"token":"a+/="}"#.to_owned(), "a+/="),
            (r#"{"access_token":"b","expires_in":60}"#.to_owned(), "b"),
            (r#"{"token":"","access_token":"c"}"#.to_owned(), "c"),
            (format!(r#"{{"token":"{big}"}}"#), &big),
        ] {
            assert_eq!(header(body).unwrap(), format!("Bearer {token}"));
        }
        for body in [
            "",
            "true",
            "{}",
            r#"{"token":"a\nb"}"#,
            r#"{"token":null}"#,
            "<html>",
        ] {
            let error = header(body.to_owned()).unwrap_err();
            assert_eq!(error.kind(), Kind::Protocol, "{body}");
        }
    }

    #[test]
    fn requests_are_encoded_as_registries_expect() {
        let realm: Url = "https://auth.example/token?account=x".parse().unwrap();
        assert_eq!(
            request_url(&realm, Some("a b"), Some("repository:library/alpine:pull")).as_str(),
            "https://auth.example/token?account=x&service=a+b&scope=repository%3Alibrary%2Falpine%3Apull"
        );
        assert_eq!(request_url(&realm, None, None), realm);
        assert_eq!(
            refresh_form(realm, None, Some("s"), "t+/="),
            "grant_type=refresh_token&client_id=larder&scope=s&refresh_token=t%2B%2F%3D"
        );
    }

    fn key(realm: &str) -> TokenKey {
        TokenKey {
            realm: realm.parse().unwrap(),
            service: None,
            scope: None,
            credential: CredentialKey::Anonymous,
            mark: 0,
        }
    }

    fn token(text: &str) -> Token {
        Token {
            header: bearer(text).unwrap(),
            expires: Instant::now() + LIFETIME_DEFAULT,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_wait_for_one_request_and_then_need_none() {
        let tokens = Arc::new(Tokens::default());
        let requests = Arc::new(AtomicU32::new(0));
        let get = |refused: Option<HeaderValue>| {
            let (tokens, requests) = (Arc::clone(&tokens), Arc::clone(&requests));
            async move {
                let fetch = || {
                    async move {
                        let number = requests.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        Ok(token(&number.to_string()))
                    }
                    .boxed()
                };
                tokens
                    .get(key("https://a/"), refused.as_ref(), fetch)
                    .await
                    .unwrap()
                    .header
            }
        };
        let all = futures_util::future::join_all((0..50).map(|_| get(None))).await;
        assert!(all.iter().all(|header| header == "Bearer 0"));
        assert_eq!(get(None).await, "Bearer 0");
        assert_eq!(get(bearer("0")).await, "Bearer 1", "a refused token is replaced");
        assert_eq!(get(bearer("0")).await, "Bearer 1", "but only once");
        tokio::time::advance(LIFETIME_DEFAULT).await;
        assert_eq!(get(None).await, "Bearer 2", "an expired token is replaced");
    }

    #[tokio::test]
    async fn a_failure_is_shared_but_not_kept_and_an_abandoned_request_begins_anew() {
        let tokens = Tokens::default();
        let fail = || async { Err(Error::new(Kind::Status(503), "test")) }.boxed();
        assert!(tokens.get(key("https://a/"), None, fail).await.is_err());
        assert!(
            tokens
                .get(key("https://a/"), None, || std::future::pending().boxed())
                .now_or_never()
                .is_none()
        );
        let fetched = tokens
            .get(key("https://a/"), None, || async { Ok(token("x")) }.boxed())
            .await;
        assert_eq!(fetched.unwrap().header, "Bearer x");
    }
}
