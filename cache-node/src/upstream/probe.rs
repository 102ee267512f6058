//! Whether a registry is there and takes our credentials, so that a person hears of it before the first pull.
//!
//! It asks as `docker login` does, which every registry knows and none counts as a pull: `GET /v2/`, and for each Secret
//! one token without a scope, or the same GET with the password where the challenge is Basic. A scope would have to name
//! a repository, and its refusal would say something about that repository.

use std::collections::BTreeSet;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::auth;
use super::challenge::Challenge;
use super::identity::{Identity, basic, direct};
use super::token::TokenKey;
use super::transport::place;
use super::{CredentialKey, Error, Kind, RequestKind, Upstream, body, headers, realm, refusal};
use crate::credentials::Credential;

/// The most Secrets of one registry that one probe tries.
const SECRETS_MAX: usize = 8;

impl Upstream {
    /// Asks once, tries nothing again, and tells the observer what it found. Takes some 10 s for each request at most.
    pub async fn probe(&self) {
        let registry = &self.exchange.registry;
        let asked = self.ask_for_all().await;
        let outcome = asked.as_ref().map_or_else(Error::metric_label, |()| "ok");
        if let Err(error) = &asked {
            tracing::debug!(registry = registry.host, %error, "the probe failed");
        }
        let observer = &self.exchange.observer;
        observer.request(&registry.host, RequestKind::Probe, outcome);
    }

    async fn ask_for_all(&self) -> Result<(), Error> {
        let exchange = &self.exchange;
        let base = exchange.registry.endpoint.api_url("");
        let challenges = self.ping(&base, None).await?.unwrap_or_default();
        let rules = &exchange.registry.endpoint.credentials;
        let secrets: BTreeSet<_> = rules.iter().map(|rule| rule.secret_name.as_str()).collect();
        for secret_name in secrets.into_iter().take(SECRETS_MAX) {
            let identity = Identity::of_secret(&exchange.registry, &exchange.credentials, secret_name);
            let Some(identity) = identity.await else {
                continue;
            };
            match self.try_credential(&base, &challenges, &identity).await {
                Ok(true) => exchange
                    .observer
                    .credential_accepted(&exchange.registry.host, secret_name),
                Ok(false) => {}
                Err(error) if matches!(error.kind(), Kind::Unauthorized | Kind::Denied) => {
                    exchange.auth.report_refusal(&identity, &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The challenges with which the base is refused, `None` where it is open to `authorization`.
    async fn ping(
        &self,
        base: &Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Option<Vec<Challenge>>, Error> {
        let mut headers: HeaderMap = headers::accepting("*/*");
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let transport = &self.exchange.transport;
        let response = transport.send(Method::GET, base, headers, None).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenges = auth::challenges(&response);
            body::discard(response).await;
            return Ok(Some(challenges));
        }
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(refusal::error(place(&Method::GET, base), response).await);
        }
        body::discard(response).await;
        Ok(None)
    }

    /// Whether the credential was found to be good; `false` where the registry does not say what it is for.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`] or [`Kind::Denied`] when it was refused.
    async fn try_credential(
        &self,
        base: &Url,
        challenges: &[Challenge],
        identity: &Identity,
    ) -> Result<bool, Error> {
        let Some(credential) = identity.credential() else {
            return Ok(false);
        };
        let is_token = matches!(credential, Credential::Bearer(_));
        for challenge in challenges.iter().filter(|_| !is_token) {
            if let Challenge::Bearer { realm, service, .. } = challenge {
                let key = TokenKey {
                    realm: self.exchange.auth.realm(base, realm, identity)?,
                    service: service.clone(),
                    scope: None,
                    credential: CredentialKey::clone(identity.key()),
                    mark: identity.mark(),
                };
                let limits = &self.exchange.limits;
                realm::ask(&self.exchange.transport, &key, Some(credential), limits.idle).await?;
                return Ok(true);
            }
        }
        let authorization = if is_token {
            direct(credential)
        } else {
            basic(credential).filter(|_| challenges.contains(&Challenge::Basic))
        };
        let Some(authorization) = authorization else {
            return Ok(false);
        };
        match self.ping(base, Some(authorization)).await? {
            None => Ok(true),
            Some(_) => Err(Error::new(Kind::Unauthorized, place(&Method::GET, base))),
        }
    }
}
