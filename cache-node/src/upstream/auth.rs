//! Decides which `Authorization` a request carries, from the challenges that its server made earlier.
//!
//! A credential goes to its own endpoint, and to a realm that the guard lets see it; every other server is answered
//! anonymously. What a server asked for is remembered per origin, so a warm request needs no round trip for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret as _;

use super::challenge::Challenge;
use super::token::{self, Token, TokenKey, Tokens};
use super::transport::{Transport, place};
use super::{CredentialKey, Error, Kind, Observer, body, governor, guard, headers};
use crate::config::Registry;
use crate::credentials::{Credential, CredentialStore};

/// The most origins whose challenges are remembered: the endpoint, and registries that it redirects to.
const ORIGINS_MAX: usize = 64;
/// The longest answer of a token server.
const TOKEN_ANSWER_BYTES_MAX: usize = 1024 * 1024;
const TOKEN_REDIRECTS_MAX: usize = 3;
/// The most states of Secrets whose refusal was logged; beyond it a warning may come twice.
const WARNED_MAX: usize = 256;

/// With what somebody is asked: a credential as it is now, or none.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    key: CredentialKey,
    mark: u64,
    credential: Option<Arc<Credential>>,
}

impl Identity {
    pub(super) const ANONYMOUS: Self = Self {
        key: CredentialKey::Anonymous,
        mark: 0,
        credential: None,
    };

    /// The first credential whose rule matches `repo` (as the endpoint names it) and whose Secret is there.
    pub(super) fn select(registry: &Registry, credentials: &CredentialStore, repo: &str) -> Self {
        let endpoint = &registry.endpoint;
        let rule = endpoint
            .credentials
            .iter()
            .find(|rule| rule.repositories.is_match(repo));
        let Some(rule) = rule else {
            return Self::ANONYMOUS;
        };
        match credentials.credential(&rule.secret_name, &endpoint.host()) {
            Some(loaded) => Self {
                key: CredentialKey::Secret(rule.secret_name.as_str().into()),
                mark: loaded.mark,
                credential: Some(loaded.value),
            },
            None => Self::ANONYMOUS,
        }
    }

    pub(super) fn key(&self) -> &CredentialKey {
        &self.key
    }
}

/// Who is asked, for what.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) url: &'a Url,
    /// The repository as this server names it, if it is known.
    pub(super) repo: Option<&'a str>,
    pub(super) identity: &'a Identity,
}

impl Target<'_> {
    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

pub(super) struct Auth {
    registry: Arc<Registry>,
    observer: Arc<dyn Observer>,
    idle: Duration,
    learned: Mutex<HashMap<String, Vec<Challenge>>>,
    tokens: Tokens,
    warned: Mutex<HashSet<(CredentialKey, u64)>>,
}

impl Auth {
    pub(super) fn new(registry: Arc<Registry>, observer: Arc<dyn Observer>, idle: Duration) -> Self {
        Self {
            registry,
            observer,
            idle,
            learned: Mutex::default(),
            tokens: Tokens::default(),
            warned: Mutex::default(),
        }
    }

    /// What to send before the server has said anything: what it asked for last time.
    pub(super) async fn known(
        self: &Arc<Self>,
        transport: &Arc<Transport>,
        target: Target<'_>,
    ) -> Result<Option<HeaderValue>, Error> {
        if let Some(Credential::Bearer(secret)) = target.identity.credential.as_deref() {
            return Ok(token::bearer(secret.expose_secret()));
        }
        let Some(challenges) = self.learned(&target.origin()) else {
            return Ok(None);
        };
        match self.respond(transport, target, &challenges, None).await {
            Ok(header) => Ok(header),
            Err(error) => match error.kind() {
                Kind::Unauthorized | Kind::Denied | Kind::RateLimited { .. } => Err(error),
                // The realm may have moved: ask without a header and learn again.
                _ => {
                    self.forget(&target.origin());
                    Ok(None)
                }
            },
        }
    }

    /// What to send after a 401 with `challenges` to a request that carried `refused`.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`] when everything that could be sent has been refused.
    pub(super) async fn after_refusal(
        self: &Arc<Self>,
        transport: &Arc<Transport>,
        target: Target<'_>,
        challenges: Vec<Challenge>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let challenges = if challenges.is_empty() {
            // Some servers challenge only at their base, or only the first time.
            match self.learned(&target.origin()) {
                Some(challenges) => challenges,
                None => self.ping(transport).await?,
            }
        } else {
            challenges
        };
        let header = self.respond(transport, target, &challenges, refused).await?;
        self.learn(target.origin(), challenges);
        match header {
            Some(header) if Some(&header) != refused => Ok(Some(header)),
            // The credential is refused: what is public can still be had without it.
            _ if refused.is_some() => Ok(None),
            _ => Err(Error::new(Kind::Unauthorized, place(&Method::GET, target.url))),
        }
    }

    /// The answer to the best of `challenges`: a token, else the user name and password.
    async fn respond(
        self: &Arc<Self>,
        transport: &Arc<Transport>,
        target: Target<'_>,
        challenges: &[Challenge],
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            // Scopes of challenges are missing or placeholders too often to be used where the repository is known.
            let scope = target
                .repo
                .map(|repo| format!("repository:{repo}:pull"))
                .or_else(|| scope.clone());
            let token = self
                .token(transport, target, realm, service.clone(), scope, refused)
                .await?;
            return Ok(Some(token.header));
        }
        let is_basic = challenges.contains(&Challenge::Basic);
        Ok(target
            .identity
            .credential
            .as_deref()
            .filter(|_| is_basic)
            .and_then(basic))
    }

    async fn token(
        self: &Arc<Self>,
        transport: &Arc<Transport>,
        target: Target<'_>,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
        refused: Option<&HeaderValue>,
    ) -> Result<Token, Error> {
        let realm = target
            .url
            .join(realm)
            .ok()
            .filter(|realm| matches!(realm.scheme(), "http" | "https"))
            .ok_or_else(|| Error::new(Kind::Protocol, "the challenge's realm is no address"))?;
        self.check_realm(target, &realm)?;
        let key = TokenKey {
            realm,
            service,
            scope,
            credential: target.identity.key.clone(),
            mark: target.identity.mark,
        };
        let fetch = || {
            let (auth, transport) = (Arc::clone(self), Arc::clone(transport));
            let (key, identity) = (key.clone(), target.identity.clone());
            async move { auth.fetch_token(&transport, &key, &identity).await }.boxed()
        };
        self.tokens.get(key.clone(), refused, fetch).await
    }

    fn check_realm(&self, target: Target<'_>, realm: &Url) -> Result<(), Error> {
        let host = realm.host_str().unwrap_or_default();
        let denied = |error: guard::RealmError| {
            tracing::warn!(registry = self.registry.host, realm = host, %error, "no token is asked for at this realm");
            Error::new(Kind::Denied, format!("realm {host}: {error}"))
        };
        if target.identity.credential.is_some() {
            let endpoint = &self.registry.endpoint;
            return guard::check_realm(&endpoint.url, realm, &endpoint.trust.realms).map_err(denied);
        }
        if guard::is_downgrade(target.url, realm) {
            return Err(denied(guard::RealmError::Downgrade));
        }
        Ok(())
    }

    /// Asks the realm with the credential, and once more without it if it is refused: a broken Secret must not break
    /// the pull of what is public.
    async fn fetch_token(
        &self,
        transport: &Transport,
        key: &TokenKey,
        identity: &Identity,
    ) -> Result<Token, Error> {
        let result = self
            .ask_realm(transport, key, identity.credential.as_deref())
            .await;
        match result {
            Err(error)
                if identity.credential.is_some()
                    && matches!(error.kind(), Kind::Unauthorized | Kind::Denied) =>
            {
                self.report_refusal(identity, &error);
                self.ask_realm(transport, key, None).await
            }
            result => result,
        }
    }

    async fn ask_realm(
        &self,
        transport: &Transport,
        key: &TokenKey,
        credential: Option<&Credential>,
    ) -> Result<Token, Error> {
        let (service, scope) = (key.service.as_deref(), key.scope.as_deref());
        if let Some(Credential::IdentityToken { token, .. }) = credential {
            let form = token::refresh_form(key.realm.clone(), service, scope, token.expose_secret());
            let mut headers = token_headers(None);
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            let response = transport
                .send(Method::POST, &key.realm, headers, Some(form))
                .await?;
            // Servers without this exchange say so in many ways; GET is what all of them have.
            if !matches!(response.status().as_u16(), 400 | 401 | 404 | 405) {
                return self.read_token(&key.realm, response).await;
            }
            body::discard(response).await;
        }
        let mut url = token::request_url(&key.realm, service, scope);
        for _ in 0..=TOKEN_REDIRECTS_MAX {
            let headers = token_headers(credential.and_then(basic));
            let response = transport.send(Method::GET, &url, headers, None).await?;
            match super::exchange::redirect_target(&url, &response) {
                // Elsewhere the credential would have to be judged anew; no real realm leads elsewhere.
                Some(target) if target.origin() == url.origin() => {
                    body::discard(response).await;
                    url = target;
                }
                _ => return self.read_token(&url, response).await,
            }
        }
        Err(Error::new(Kind::Protocol, "the realm redirects without end"))
    }

    async fn read_token(&self, url: &Url, response: Response) -> Result<Token, Error> {
        let place = format!("token from {}", url.origin().ascii_serialization());
        let status = response.status();
        if status == StatusCode::OK {
            let answer = body::read(&place, response, TOKEN_ANSWER_BYTES_MAX, self.idle).await?;
            return token::from_answer(&place, &answer, SystemTime::now());
        }
        Err(refusal(place, response).await)
    }

    /// The challenges at the base of the endpoint's API.
    async fn ping(&self, transport: &Transport) -> Result<Vec<Challenge>, Error> {
        let url = self.registry.endpoint.api_url("");
        let response = transport
            .send(Method::GET, &url, headers::accepting("*/*"), None)
            .await?;
        let challenges = challenges(&response);
        body::discard(response).await;
        Ok(challenges)
    }

    fn report_refusal(&self, identity: &Identity, error: &Error) {
        let CredentialKey::Secret(secret_name) = &identity.key else {
            return;
        };
        self.observer.credential_refused(&self.registry.host, secret_name);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() >= WARNED_MAX {
            warned.clear();
        }
        if warned.insert((identity.key.clone(), identity.mark)) {
            let registry = &self.registry.host;
            tracing::warn!(registry, %secret_name, %error, "credential refused, going on without it");
        }
    }

    fn learned(&self, origin: &str) -> Option<Vec<Challenge>> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.get(origin).cloned()
    }

    fn learn(&self, origin: String, challenges: Vec<Challenge>) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if learned.len() >= ORIGINS_MAX && !learned.contains_key(&origin) {
            learned.clear();
        }
        learned.insert(origin, challenges);
    }

    fn forget(&self, origin: &str) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.remove(origin);
    }
}

/// Every challenge of a response.
pub(super) fn challenges(response: &Response) -> Vec<Challenge> {
    super::challenge::parse(headers::values(response.headers(), &header::WWW_AUTHENTICATE))
}

/// The error that a response without success is.
pub(super) async fn refusal(place: String, response: Response) -> Error {
    let status = response.status();
    let retry_after = headers::text(response.headers(), header::RETRY_AFTER.as_str())
        .and_then(|value| governor::retry_after(&value, SystemTime::now()));
    let total = headers::unsatisfied_total(response.headers());
    let is_limited = headers::says_too_many_requests(&body::read_beginning(response).await);
    let kind = match status {
        _ if status == StatusCode::TOO_MANY_REQUESTS || is_limited => Kind::RateLimited { retry_after },
        StatusCode::UNAUTHORIZED => Kind::Unauthorized,
        StatusCode::FORBIDDEN => Kind::Denied,
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
        StatusCode::RANGE_NOT_SATISFIABLE => Kind::RangeNotSatisfiable { total },
        status => Kind::Status(status.as_u16()),
    };
    Error::new(kind, place)
}

fn token_headers(authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = headers::accepting("application/json");
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization);
    }
    headers
}

/// `Basic …`, where the credential has a password or can stand in for one.
fn basic(credential: &Credential) -> Option<HeaderValue> {
    let (username, password) = match credential {
        Credential::Basic { username, password } => (username, password),
        Credential::IdentityToken { username, token } => (username, token),
        Credential::Bearer(_) => return None,
    };
    let encoded = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
    let mut header = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
