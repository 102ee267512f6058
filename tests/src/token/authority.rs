//! Gives tokens and checks them: shared by the token server and the registries that trust it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{IssuedAt, TokenKeys, TokenRules};
use crate::fake_registry::parse_basic;
use crate::scripted::{Handler, Reply, Request, form_values};

/// Why a token does not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// None was brought.
    Missing,
    /// Unknown, revoked or expired.
    Invalid,
    /// For other repositories.
    Insufficient,
}

impl TokenFault {
    /// The challenge's `error` parameter (RFC 6750, section 3.1), with its comma.
    pub(crate) fn error_parameter(self) -> Option<&'static str> {
        match self {
            Self::Missing => None,
            Self::Invalid => Some(r#",error="invalid_token""#),
            Self::Insufficient => Some(r#",error="insufficient_scope""#),
        }
    }
}

struct Grant {
    repositories: Vec<String>,
    expires: Instant,
}

/// Rules, passwords and the tokens that are out.
pub(crate) struct Authority {
    rules: TokenRules,
    path: String,
    base: Mutex<String>,
    passwords: Mutex<HashMap<String, String>>,
    tokens: Mutex<HashMap<String, Grant>>,
}

impl Authority {
    pub(super) fn new(rules: TokenRules, path: &str) -> Self {
        let passwords = rules
            .users
            .iter()
            .map(|user| (user.name.clone(), user.password.clone()))
            .collect();
        Self {
            rules,
            path: path.to_owned(),
            base: Mutex::default(),
            passwords: Mutex::new(passwords),
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn set_base(&self, url: &str) {
        url.clone_into(&mut self.base.lock().unwrap());
    }

    pub(crate) fn realm(&self) -> String {
        format!("{}{}", self.base.lock().unwrap(), self.path)
    }

    pub(crate) fn service(&self) -> &str {
        &self.rules.service
    }

    pub(super) fn revoke_all(&self) {
        self.tokens.lock().unwrap().clear();
    }

    pub(super) fn set_password(&self, user: &str, password: &str) {
        self.passwords
            .lock()
            .unwrap()
            .insert(user.to_owned(), password.to_owned());
    }

    /// Whether `token` lets its bearer pull from `repo`.
    pub(crate) fn check(&self, token: &str, repo: Option<&str>) -> Result<(), TokenFault> {
        let tokens = self.tokens.lock().unwrap();
        let grant = tokens
            .get(token)
            .filter(|grant| grant.expires > Instant::now())
            .ok_or(TokenFault::Invalid)?;
        let covered = repo.is_none_or(|repo| grant.repositories.iter().any(|granted| granted == repo));
        if covered {
            Ok(())
        } else {
            Err(TokenFault::Insufficient)
        }
    }

    /// The token endpoint.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let (who, scopes) = match request.method.as_str() {
            "GET" => (self.who_by_header(request), form_values(request.query(), "scope")),
            "POST" if self.rules.post => (self.who_by_form(&form), form_values(&form, "scope")),
            "POST" => return Reply::error(404, "UNSUPPORTED", "no such endpoint"),
            _ => return Reply::error(405, "UNSUPPORTED", "the operation is unsupported"),
        };
        let Some(allowed) = who else {
            return Reply::error(401, "UNAUTHORIZED", "incorrect username or password");
        };
        // Several scopes come as several parameters or in one, parted by spaces.
        let asked = scopes
            .iter()
            .flat_map(|scope| scope.split(' '))
            .filter_map(pulled_repository);
        // Less than was asked is no error here; the registry refuses the token then.
        let granted = asked
            .filter(|repo| allowed.iter().any(|pattern| covers(pattern, repo)))
            .collect();
        Reply::new(200, self.issue(granted).to_string()).header("Content-Type", "application/json")
    }

    fn who_by_header(&self, request: &Request) -> Option<Vec<String>> {
        let Some(authorization) = request.header("Authorization") else {
            return self.rules.anonymous.clone();
        };
        let (scheme, credential) = authorization.split_once(' ')?;
        let (user, password) = parse_basic(credential).filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
        self.repositories_of(&user, Some(&password))
    }

    fn who_by_form(&self, form: &str) -> Option<Vec<String>> {
        let value = |name| form_values(form, name).into_iter().next();
        match value("grant_type")?.as_str() {
            "password" => self.repositories_of(&value("username")?, Some(&value("password")?)),
            "refresh_token" => {
                let token = value("refresh_token")?;
                let (_, user) = self
                    .rules
                    .refresh_tokens
                    .iter()
                    .find(|(known, _)| *known == token)?;
                self.repositories_of(user, None)
            }
            _ => None,
        }
    }

    fn repositories_of(&self, name: &str, password: Option<&str>) -> Option<Vec<String>> {
        let user = self.rules.users.iter().find(|user| user.name == name)?;
        let right = password.is_none_or(|given| {
            self.passwords
                .lock()
                .unwrap()
                .get(name)
                .is_some_and(|p| p == given)
        });
        right.then(|| user.repositories.clone())
    }

    fn issue(&self, repositories: Vec<String>) -> Value {
        let token = match &self.rules.signer {
            Some(signer) => {
                let access: Vec<_> = repositories
                    .iter()
                    .map(|repo| (repo.as_str(), &["pull"][..]))
                    .collect();
                signer.token(&self.rules.service, self.rules.lifetime, &access)
            }
            None => self.new_token(),
        };
        let grant = Grant {
            repositories,
            expires: Instant::now() + self.rules.lifetime,
        };
        self.tokens.lock().unwrap().insert(token.clone(), grant);
        let mut answer = Map::new();
        if self.rules.keys != TokenKeys::AccessToken {
            answer.insert("token".to_owned(), json!(token));
        }
        if self.rules.keys != TokenKeys::Token {
            answer.insert("access_token".to_owned(), json!(token));
        }
        if let Some(seconds) = self.rules.expires_in_s {
            answer.insert("expires_in".to_owned(), json!(seconds));
        }
        match &self.rules.issued_at {
            IssuedAt::Absent => {}
            IssuedAt::Now(skew_s) => {
                let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(*skew_s);
                answer.insert("issued_at".to_owned(), json!(format!("{at:.9}")));
            }
            IssuedAt::Text(text) => {
                answer.insert("issued_at".to_owned(), json!(text));
            }
        }
        Value::Object(answer)
    }

    fn new_token(&self) -> String {
        let len = self.rules.token_bytes.max(32);
        if !self.rules.opaque {
            return std::iter::repeat_with(fastrand::alphanumeric).take(len).collect();
        }
        // The fixed ends make sure that every opaque token has each of the awkward characters.
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(len * 3 / 4)
            .collect();
        format!(
            "AJAD+/{}+/==",
            BASE64_STANDARD.encode(random).trim_end_matches('=')
        )
    }
}

impl Handler for Authority {
    fn reply(&self, request: &Request) -> Reply {
        if request.path() == self.path {
            self.answer(request)
        } else {
            Reply::new(404, "no such endpoint")
        }
    }
}

/// The repository of a `repository:<name>:<actions>` scope whose actions hold `pull` or `*`.
fn pulled_repository(scope: &str) -> Option<String> {
    let (repo, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    actions
        .split(',')
        .any(|action| action == "pull" || action == "*")
        .then(|| repo.to_owned())
}

fn covers(pattern: &str, repo: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == repo, |prefix| repo.starts_with(prefix))
}
