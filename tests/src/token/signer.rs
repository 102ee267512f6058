//! Tokens that carry their own proof, as distribution's registry demands them: JWTs, checked against a certificate.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::{Value, json};

/// How far a token's validity begins in the past, in seconds.
const CLOCK_SKEW_S: i64 = 60;

/// A key with its certificate, which registries are given to trust.
pub struct TokenSigner {
    issuer: String,
    key: KeyPair,
    certificate: rcgen::Certificate,
}

impl TokenSigner {
    /// A new key for this issuer.
    pub fn new(issuer: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("make an RSA key");
        let params = CertificateParams::new([issuer.to_owned()]).expect("a DNS name");
        let certificate = params.self_signed(&key).expect("sign a certificate");
        Self {
            issuer: issuer.to_owned(),
            key,
            certificate,
        }
    }

    /// The `iss` of the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The certificate as PEM: the registry's `rootcertbundle`.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// A token for `service` that allows these actions on these repositories
    /// (distribution, "Docker Registry v2 Bearer token specification").
    pub fn token(&self, service: &str, lifetime: Duration, access: &[(&str, &[&str])]) -> String {
        let now = jiff::Timestamp::now().as_second();
        let x5c = [BASE64_STANDARD.encode(self.certificate.der())];
        let access: Vec<Value> = access
            .iter()
            .map(|(name, actions)| json!({"type": "repository", "name": name, "actions": actions}))
            .collect();
        let claims = json!({
            "iss": self.issuer,
            "sub": "",
            "aud": service,
            "iat": now,
            "nbf": now - CLOCK_SKEW_S,
            "exp": now + i64::try_from(lifetime.as_secs()).expect("a lifetime of less than an aeon"),
            "jti": format!("{:032x}", fastrand::u128(..)),
            "access": access,
        });
        let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let head = part(json!({"typ": "JWT", "alg": "RS256", "x5c": x5c}));
        let signed = format!("{head}.{}", part(claims));
        let signature = self.key.sign(signed.as_bytes()).expect("sign a token");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}
