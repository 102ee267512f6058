//! Asks a token server for a token (distribution, token and OAuth2 authentication specifications).

use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret as _;

use super::exchange::redirect_target;
use super::identity::basic;
use super::token::{self, Token, TokenKey};
use super::transport::Transport;
use super::{Error, Kind, body, headers, refusal};
use crate::credentials::Credential;

/// The longest answer of a token server.
const TOKEN_ANSWER_BYTES_MAX: usize = 1024 * 1024;
const TOKEN_REDIRECTS_MAX: usize = 3;

/// One token for `key`, asked for with `credential`.
pub(super) async fn ask(
    transport: &Transport,
    key: &TokenKey,
    credential: Option<&Credential>,
    idle: Duration,
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
            return read_token(&key.realm, response, idle).await;
        }
        body::discard(response).await;
    }
    let mut url = token::request_url(&key.realm, service, scope);
    for _ in 0..=TOKEN_REDIRECTS_MAX {
        let headers = token_headers(credential.and_then(basic));
        let response = transport.send(Method::GET, &url, headers, None).await?;
        match redirect_target(&url, &response) {
            // Elsewhere the credential would have to be judged anew; no real realm leads elsewhere.
            Some(target) if target.origin() == url.origin() => {
                body::discard(response).await;
                url = target;
            }
            _ => return read_token(&url, response, idle).await,
        }
    }
    Err(Error::new(Kind::Protocol, "the realm redirects without end"))
}

async fn read_token(url: &Url, response: Response, idle: Duration) -> Result<Token, Error> {
    let place = format!("token from {}", url.origin().ascii_serialization());
    if response.status() == StatusCode::OK {
        let answer = body::read(&place, response, TOKEN_ANSWER_BYTES_MAX, idle).await?;
        return token::from_answer(&place, &answer, SystemTime::now());
    }
    let error = refusal::error(place, response).await;
    Err(match error.kind() {
        // That the realm is not there, or does not like the question, says nothing about what the token was for.
        Kind::NotFound | Kind::RangeNotSatisfiable { .. } | Kind::Status(300..=499) => {
            error.with_kind(Kind::Protocol)
        }
        _ => error,
    })
}

fn token_headers(authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = headers::accepting("application/json");
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization);
    }
    headers
}
