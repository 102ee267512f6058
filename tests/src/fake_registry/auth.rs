//! Who may ask a registry: its challenges, and the check of what clients bring.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::scripted::{Kind, Reply, Request};
use crate::token::{Authority, TokenFault, TokenRules, TokenServer};

/// The challenge of a resource, as most registries write it.
const RESOURCE_CHALLENGE: &str = r#"Bearer realm="{realm}",service="{service}",scope="{scope}""#;

/// The challenge of `/v2/`, which has no scope (seed rows A1 to A3).
const PING_CHALLENGE: &str = r#"Bearer realm="{realm}",service="{service}""#;

/// How a registry authenticates.
pub struct Auth {
    scheme: Scheme,
    resource: Vec<String>,
    ping: Option<Vec<String>>,
}

enum Scheme {
    Basic(Vec<(String, String)>),
    Bearer {
        authority: Arc<Authority>,
        own_path: Option<String>,
    },
}

impl Auth {
    /// Tokens from `server`.
    pub fn bearer(server: &TokenServer) -> Self {
        Self::by(Scheme::Bearer {
            authority: server.authority(),
            own_path: None,
        })
    }

    /// Tokens from an endpoint of the registry itself, such as `/v2/token` (seed row A2).
    pub fn bearer_on_own_host(path: &str, rules: TokenRules) -> Self {
        let authority = rules.into_authority(path);
        Self::by(Scheme::Bearer {
            authority,
            own_path: Some(path.to_owned()),
        })
    }

    /// Passwords.
    pub fn basic(users: &[(&str, &str)]) -> Self {
        let users = users
            .iter()
            .map(|(user, password)| ((*user).to_owned(), (*password).to_owned()))
            .collect();
        let mut auth = Self::by(Scheme::Basic(users));
        auth = auth.challenge(&[r#"Basic realm="registry""#]);
        auth.ping_challenge(&[r#"Basic realm="registry""#])
    }

    fn by(scheme: Scheme) -> Self {
        let lines = |line: &str| vec![line.to_owned()];
        Self {
            scheme,
            resource: lines(RESOURCE_CHALLENGE),
            ping: Some(lines(PING_CHALLENGE)),
        }
    }

    /// The `WWW-Authenticate` lines of a resource's 401, each one header line, verbatim but for `{realm}`,
    /// `{service}` and `{scope}`. An empty list: a 401 without any.
    pub fn challenge(mut self, lines: &[&str]) -> Self {
        self.resource = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// The same for the 401 of `/v2/`.
    pub fn ping_challenge(mut self, lines: &[&str]) -> Self {
        self.ping = Some(lines.iter().map(|line| (*line).to_owned()).collect());
        self
    }

    /// `/v2/` answers 200 to everybody; only resources challenge.
    pub fn open_ping(mut self) -> Self {
        self.ping = None;
        self
    }

    /// The authority that must still learn its own host's URL.
    pub(super) fn own_realm_slot(&self) -> Option<Arc<Authority>> {
        match &self.scheme {
            Scheme::Bearer {
                authority,
                own_path: Some(_),
            } => Some(authority.clone()),
            _ => None,
        }
    }

    /// The answer of a token endpoint on the registry's own host, if this request is for it.
    pub(super) fn own_token(&self, request: &Request) -> Option<Reply> {
        match &self.scheme {
            Scheme::Bearer {
                authority,
                own_path: Some(path),
            } if request.path() == path => Some(authority.answer(request)),
            _ => None,
        }
    }

    /// The 401 for a request that brings nothing that suffices.
    pub(super) fn refuse(&self, request: &Request) -> Option<Reply> {
        let is_ping = match request.kind() {
            Kind::Ping => true,
            Kind::Other => return None,
            _ => false,
        };
        let templates = if is_ping {
            self.ping.as_ref()?
        } else {
            &self.resource
        };
        let fault = self.fault(request)?;
        let mut reply = Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("Docker-Distribution-Api-Version", "registry/2.0");
        for template in templates {
            let usual = template == RESOURCE_CHALLENGE || template == PING_CHALLENGE;
            let error = fault.error_parameter().filter(|_| usual).unwrap_or_default();
            reply = reply.header("WWW-Authenticate", self.fill(template, request) + error);
        }
        Some(reply)
    }

    fn fault(&self, request: &Request) -> Option<TokenFault> {
        let (scheme, credential) = request
            .header("Authorization")
            .unwrap_or_default()
            .split_once(' ')
            .unzip();
        let scheme = scheme.unwrap_or_default();
        let credential = credential.unwrap_or_default();
        match &self.scheme {
            Scheme::Basic(users) if scheme.eq_ignore_ascii_case("Basic") => {
                let known = parse_basic(credential).is_some_and(|pair| users.contains(&pair));
                (!known).then_some(TokenFault::Missing)
            }
            Scheme::Bearer { authority, .. } if scheme.eq_ignore_ascii_case("Bearer") => {
                authority.check(credential, request.repo().as_deref()).err()
            }
            _ => Some(TokenFault::Missing),
        }
    }

    fn fill(&self, template: &str, request: &Request) -> String {
        let Scheme::Bearer { authority, .. } = &self.scheme else {
            return template.to_owned();
        };
        let scope = request
            .repo()
            .map_or_else(String::new, |repo| format!("repository:{repo}:pull"));
        template
            .replace("{realm}", &authority.realm())
            .replace("{service}", authority.service())
            .replace("{scope}", &scope)
    }
}

/// User and password of a Basic credential.
pub(crate) fn parse_basic(credential: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(credential.trim()).ok()?).ok()?;
    decoded
        .split_once(':')
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
}
