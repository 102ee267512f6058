//! Decides which `Authorization` a request carries, from the challenges that its server made earlier.
//!
//! A credential goes to its own endpoint, and to a realm that the guard lets see it; every other server is answered
//! anonymously. What a server asked for is remembered per origin, so a warm request needs no round trip for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Response, Url};

use super::challenge::Challenge;
use super::identity::{Identity, basic, direct};
use super::token::{Token, TokenKey, Tokens};
use super::transport::{Transport, place};
use super::{CredentialKey, Error, Kind, Observer, body, guard, headers, realm};
use crate::config::Registry;
use crate::credentials::Credential;

/// The most origins whose challenges are remembered: the endpoint, and registries that it redirects to.
const ORIGINS_MAX: usize = 64;
/// The most states of Secrets whose refusal was logged; beyond it a warning may come twice.
const WARNED_MAX: usize = 256;

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
        if let Some(credential @ Credential::Bearer(_)) = target.identity.credential() {
            return Ok(direct(credential));
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
        let is_endpoint = target.url.origin() == self.registry.endpoint.url.origin();
        let challenges = match self.learned(&target.origin()) {
            _ if !challenges.is_empty() => challenges,
            // Some servers challenge only at their base, or only the first time.
            Some(challenges) => challenges,
            None if is_endpoint => self.ping(transport).await?,
            None => challenges,
        };
        let header = self.respond(transport, target, &challenges, refused).await?;
        self.learn(target.origin(), challenges);
        let unauthorized = || Error::new(Kind::Unauthorized, place(&Method::GET, target.url));
        match (header, refused) {
            (Some(header), refused) if Some(&header) != refused => Ok(Some(header)),
            (_, None) => Err(unauthorized()),
            // The credential itself is refused: what is public can still be had without it.
            (_, Some(refused)) => {
                if target.identity.credential().and_then(direct).as_ref() == Some(refused) {
                    self.report_refusal(target.identity, &unauthorized());
                }
                Ok(None)
            }
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
        Ok(target.identity.credential().filter(|_| is_basic).and_then(basic))
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
        let identity = match target.identity.credential() {
            // It is a token already; a realm could make nothing of it.
            Some(Credential::Bearer(_)) => Identity::ANONYMOUS,
            _ => target.identity.clone(),
        };
        let realm = self.realm(target.url, realm, &identity)?;
        let key = TokenKey {
            realm,
            service,
            scope,
            credential: identity.key().clone(),
            mark: identity.mark(),
        };
        let fetch = || {
            let (auth, transport) = (Arc::clone(self), Arc::clone(transport));
            let key = key.clone();
            async move { auth.fetch_token(&transport, &key, &identity).await }.boxed()
        };
        self.tokens.get(key.clone(), refused, fetch).await
    }

    /// The address of the `realm` that the server at `from` names, if it may see `identity`.
    pub(super) fn realm(&self, from: &Url, realm: &str, identity: &Identity) -> Result<Url, Error> {
        let realm = from
            .join(realm)
            .ok()
            .filter(|realm| matches!(realm.scheme(), "http" | "https"))
            .ok_or_else(|| Error::new(Kind::Protocol, "the challenge's realm is no address"))?;
        let host = realm.host_str().unwrap_or_default();
        let denied = |error: guard::RealmError| {
            tracing::warn!(registry = self.registry.host, realm = host, %error, "no token is asked for at this realm");
            Error::new(Kind::Denied, format!("realm {host}: {error}"))
        };
        if identity.credential().is_some() {
            let endpoint = &self.registry.endpoint;
            guard::check_realm(&endpoint.url, &realm, &endpoint.trust.realms).map_err(denied)?;
        } else if guard::is_downgrade(from, &realm) {
            return Err(denied(guard::RealmError::Downgrade));
        }
        Ok(realm)
    }

    /// Asks the realm with the credential, and once more without it if it is refused: a broken Secret must not break
    /// the pull of what is public.
    async fn fetch_token(
        &self,
        transport: &Transport,
        key: &TokenKey,
        identity: &Identity,
    ) -> Result<Token, Error> {
        let result = realm::ask(transport, key, identity.credential(), self.idle).await;
        match result {
            Err(error)
                if identity.credential().is_some()
                    && matches!(error.kind(), Kind::Unauthorized | Kind::Denied) =>
            {
                self.report_refusal(identity, &error);
                realm::ask(transport, key, None, self.idle).await
            }
            result => result,
        }
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

    /// Tells of a refused credential: the observer each time, the log once for each state of the Secret.
    pub(super) fn report_refusal(&self, identity: &Identity, error: &Error) {
        let CredentialKey::Secret(secret_name) = identity.key() else {
            return;
        };
        self.observer.credential_refused(&self.registry.host, secret_name);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() >= WARNED_MAX {
            warned.clear();
        }
        if warned.insert((identity.key().clone(), identity.mark())) {
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
