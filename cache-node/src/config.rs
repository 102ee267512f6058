//! Stand-in for the configuration's types until its branch is merged.
#![allow(missing_docs)]
use crate::oci::RepoName;
use reqwest::Url;
use std::net::IpAddr;

#[derive(Clone, Debug, Default)]
pub struct Globs(Vec<String>);
impl Globs {
    pub fn new(patterns: &[String]) -> Result<Self, (usize, String)> {
        Ok(Self(patterns.to_vec()))
    }
    pub fn is_match(&self, text: &str) -> bool {
        self.0.iter().any(|p| p == "**" || p == text)
    }
}
#[derive(Clone, Debug)]
pub struct Registry {
    pub host: String,
    pub endpoint: Endpoint,
}
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: Url,
    pub credentials: Vec<CredentialRule>,
    pub tls: Tls,
    pub trust: Trust,
}
#[derive(Clone, Debug)]
pub struct CredentialRule {
    pub secret_name: String,
    pub repositories: Globs,
}
#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub ca_bundle: Option<String>,
    pub insecure_skip_verify: bool,
}
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub realms: Vec<HostPattern>,
    pub redirects: Vec<HostPattern>,
}
#[derive(Clone, Debug)]
pub struct HostPattern(String);
impl std::str::FromStr for HostPattern {
    type Err = String;
    fn from_str(t: &str) -> Result<Self, String> {
        Ok(Self(t.into()))
    }
}
impl HostPattern {
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.0 == host || self.0 == format!("{host}:{port}")
    }
    pub fn matches_ip(&self, ip: IpAddr) -> bool {
        self.0 == ip.to_string()
    }
}
impl Registry {
    pub fn upstream_repository(&self, name: &RepoName) -> RepoName {
        name.clone()
    }
}
impl Endpoint {
    pub fn api_url(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/v2/{path}", self.url.path().trim_end_matches('/')));
        url
    }
    pub fn host(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }
}
