//! A private certificate authority for tests, and server certificates by it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::HostSetup;

/// A CA that nobody trusts until told to.
#[derive(Clone)]
pub struct CertificateAuthority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl CertificateAuthority {
    /// A new key and a self-signed certificate.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params
            .distinguished_name
            .push(DnType::CommonName, "private test CA");
        let key = KeyPair::generate().expect("generate a key");
        Self(Arc::new(
            CertifiedIssuer::self_signed(params, key).expect("sign the CA's own certificate"),
        ))
    }

    /// The CA's certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of `params` for a new key.
    pub(crate) fn issue(&self, params: &CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("generate a key");
        let certificate = params.signed_by(&key, &self.0).expect("sign a certificate");
        (certificate, key)
    }

    pub(super) fn acceptor(&self, setup: &HostSetup) -> TlsAcceptor {
        let mut names = setup.certificate_names.clone();
        if setup.certificate_names.iter().any(|name| name == "127.0.0.1") && !names.contains(&setup.bind) {
            names.push(setup.bind.clone());
        }
        let mut params = CertificateParams::new(names).expect("valid certificate names");
        params
            .distinguished_name
            .push(DnType::CommonName, "scripted host");
        if setup.certificate_expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let (certificate, key) = self.issue(&params);
        let chain = vec![certificate.der().clone(), self.0.der().clone()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default protocol versions")
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .expect("key and certificate belong together");
        let protocols: &[&[u8]] = if setup.http2 {
            &[b"h2", b"http/1.1"]
        } else {
            &[b"http/1.1"]
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
