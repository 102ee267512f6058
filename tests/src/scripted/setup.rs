//! The options every scripted host shares, and the builder methods for them.

use super::CertificateAuthority;

/// How a host listens.
pub(crate) struct HostSetup {
    pub(crate) name: String,
    pub(crate) bind: String,
    pub(crate) port: u16,
    pub(crate) http2: bool,
    pub(crate) authority: Option<CertificateAuthority>,
    pub(crate) certificate_names: Vec<String>,
    pub(crate) certificate_expired: bool,
}

impl HostSetup {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            bind: "127.0.0.1".to_owned(),
            port: 0,
            http2: false,
            authority: None,
            certificate_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            certificate_expired: false,
        }
    }
}

/// Adds the options of a [`HostSetup`] in field `host` to a builder.
macro_rules! host_setup {
    ($builder:ty) => {
        /// How the host listens.
        impl $builder {
            /// The host's name in messages of failing tests.
            pub fn name(mut self, name: impl Into<String>) -> Self {
                self.host.name = name.into();
                self
            }

            /// The IP address to listen on; 127.0.0.1 unless set. `127.0.0.2` is another host to a client than
            /// that, and network namespaces reach the address of a bridge.
            pub fn bind(mut self, address: impl Into<String>) -> Self {
                self.host.bind = address.into();
                self
            }

            /// The port to listen on; a free one unless set.
            pub fn port(mut self, port: u16) -> Self {
                self.host.port = port;
                self
            }

            /// Also HTTP/2: by ALPN over TLS, with prior knowledge over plain TCP. HTTP/1.1 stays possible.
            pub fn http2(mut self) -> Self {
                self.host.http2 = true;
                self
            }

            /// TLS with a certificate of a new private CA, for the bound address and `localhost`.
            pub fn tls(self) -> Self {
                let authority = $crate::scripted::CertificateAuthority::new();
                self.tls_by(&authority)
            }

            /// TLS with a certificate of this CA.
            pub fn tls_by(mut self, authority: &$crate::scripted::CertificateAuthority) -> Self {
                self.host.authority = Some(authority.clone());
                self
            }

            /// The only names in the certificate, in place of the usual ones.
            pub fn tls_names(mut self, names: &[&str]) -> Self {
                self.host.certificate_names = names.iter().map(|name| (*name).to_owned()).collect();
                self
            }

            /// A certificate whose validity is over.
            pub fn tls_expired(mut self) -> Self {
                self.host.certificate_expired = true;
                self
            }
        }
    };
}
pub(crate) use host_setup;
