//! A token server as the distribution specification describes it, with the shapes real ones answer in.

mod authority;
mod signer;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use authority::{Authority, TokenFault};
pub use signer::TokenSigner;

use crate::scripted::{HostSetup, ScriptedHost, host_setup};

/// A running token server. Requests, rules and addresses are those of the [`ScriptedHost`] it derefs to.
pub struct TokenServer {
    host: ScriptedHost,
    authority: Arc<Authority>,
}

impl Deref for TokenServer {
    type Target = ScriptedHost;

    fn deref(&self) -> &ScriptedHost {
        &self.host
    }
}

/// Which keys of the answer hold the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKeys {
    /// `token` only (gcr, quay).
    Token,
    /// `access_token` only (Azure).
    AccessToken,
    /// Both (Docker Hub).
    Both,
}

/// The `issued_at` of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuedAt {
    /// Not there.
    Absent,
    /// So many seconds from now (negative: ago), with nanoseconds and `Z`.
    Now(i64),
    /// This text.
    Text(String),
}

/// Who may have which token, and how the answer looks.
pub struct TokenRules {
    host: HostSetup,
    service: String,
    users: Vec<User>,
    refresh_tokens: Vec<(String, String)>,
    anonymous: Option<Vec<String>>,
    keys: TokenKeys,
    expires_in_s: Option<i64>,
    lifetime: Duration,
    issued_at: IssuedAt,
    token_bytes: usize,
    opaque: bool,
    post: bool,
    signer: Option<Arc<TokenSigner>>,
}

struct User {
    name: String,
    password: String,
    repositories: Vec<String>,
}

host_setup!(TokenRules);

impl TokenServer {
    /// A token server at `/token` that gives everybody pull tokens for everything, in Docker Hub's shape.
    pub fn builder() -> TokenRules {
        TokenRules {
            host: HostSetup::named("token server"),
            service: "fake-registry".to_owned(),
            users: Vec::new(),
            refresh_tokens: Vec::new(),
            anonymous: Some(vec!["*".to_owned()]),
            keys: TokenKeys::Both,
            expires_in_s: Some(300),
            lifetime: Duration::from_secs(300),
            issued_at: IssuedAt::Now(0),
            token_bytes: 64,
            opaque: false,
            post: true,
            signer: None,
        }
    }

    /// The endpoint's URL.
    pub fn realm(&self) -> String {
        self.authority.realm()
    }

    /// Makes every token given so far invalid.
    pub fn revoke_all(&self) {
        self.authority.revoke_all();
    }

    /// Changes a user's password. Tokens given so far stay valid.
    pub fn set_password(&self, user: &str, password: &str) {
        self.authority.set_password(user, password);
    }

    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.authority.clone()
    }
}

impl TokenRules {
    /// Adds a user who may pull what matches `repositories` (`*` at the end matches the rest).
    pub fn user(mut self, name: &str, password: &str, repositories: &[&str]) -> Self {
        let repositories = owned(repositories);
        self.users.push(User {
            name: name.to_owned(),
            password: password.to_owned(),
            repositories,
        });
        self
    }

    /// A refresh (identity) token by which POST speaks for `user`.
    pub fn refresh_token(mut self, token: &str, user: &str) -> Self {
        self.refresh_tokens.push((token.to_owned(), user.to_owned()));
        self
    }

    /// What everybody may pull.
    pub fn anonymous(mut self, repositories: &[&str]) -> Self {
        self.anonymous = Some(owned(repositories));
        self
    }

    /// Requests without a credential are answered 401.
    pub fn no_anonymous(mut self) -> Self {
        self.anonymous = None;
        self
    }

    /// The service name in challenges.
    pub fn service(mut self, service: &str) -> Self {
        service.clone_into(&mut self.service);
        self
    }

    /// Which keys hold the token.
    pub fn keys(mut self, keys: TokenKeys) -> Self {
        self.keys = keys;
        self
    }

    /// The `expires_in` told, in seconds; `None` leaves it out. What the registry accepts is
    /// [`lifetime`](Self::lifetime).
    pub fn expires_in(mut self, seconds: Option<i64>) -> Self {
        self.expires_in_s = seconds;
        self
    }

    /// How long the registry accepts a token; 300 s unless set.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The `issued_at` told.
    pub fn issued_at(mut self, issued_at: IssuedAt) -> Self {
        self.issued_at = issued_at;
        self
    }

    /// The length of a token in bytes (at least 32).
    pub fn token_bytes(mut self, bytes: usize) -> Self {
        self.token_bytes = bytes;
        self
    }

    /// Tokens with `+`, `/` and `=` in them, as gcr gives (seed row A8).
    pub fn opaque(mut self) -> Self {
        self.opaque = true;
        self
    }

    /// Tokens are JWTs that a real registry checks by their signature.
    pub fn signed_by(mut self, signer: &Arc<TokenSigner>) -> Self {
        self.signer = Some(Arc::clone(signer));
        self
    }

    /// POST is answered 404, as servers without the OAuth2 flow do.
    pub fn no_post(mut self) -> Self {
        self.post = false;
        self
    }

    /// Starts to listen, on the runtime of the calling test.
    pub async fn start(mut self) -> TokenServer {
        let setup = std::mem::replace(&mut self.host, HostSetup::named(""));
        let authority = self.into_authority("/token");
        let host = ScriptedHost::start(setup, authority.clone()).await;
        authority.set_base(&host.url());
        TokenServer { host, authority }
    }

    pub(crate) fn into_authority(self, path: &str) -> Arc<Authority> {
        Arc::new(Authority::new(self, path))
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
