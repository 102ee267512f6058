//! The cluster's certificates: one authority, and a certificate for whom it shall be.
//!
//! Kubernetes reads the user from a client certificate's common name and the groups from its organisations
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>).

use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::json;

use crate::scripted::CertificateAuthority;

/// The group that may do everything.
pub(super) const MASTERS: &str = "system:masters";

/// A certificate and its key, both PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The authority that all components of one cluster trust.
#[derive(Default)]
pub(super) struct Authority(CertificateAuthority);

impl Authority {
    /// The authority's certificate as PEM.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a user in a group, or for a server with `names` (host names and IP addresses), or both.
    pub(super) fn issue(&self, user: &str, group: Option<&str>, names: &[String]) -> Result<Identity> {
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, DnValue::Utf8String(user.to_owned()));
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, DnValue::Utf8String(group.to_owned()));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let (certificate, key) = self.0.issue(&params);
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Writes a kubeconfig for `user` in `group` to `path`; `server` is the API server's URL.
    pub(super) fn write_kubeconfig(
        &self,
        path: &Path,
        server: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<()> {
        let identity = self.issue(user, group, &[])?;
        let base64 = |pem: &str| BASE64_STANDARD.encode(pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "larder", "cluster": {
                "server": server, "certificate-authority-data": base64(&self.pem()),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": base64(&identity.certificate),
                "client-key-data": base64(&identity.key),
            }}],
            "contexts": [{"name": "larder", "context": {"cluster": "larder", "user": user}}],
            "current-context": "larder",
        });
        std::fs::write(path, serde_json::to_string_pretty(&config)?)?;
        Ok(())
    }
}

/// A key pair as PEM for what signs no certificate: the private and the public key.
pub(super) fn key_pair() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}
