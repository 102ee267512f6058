//! What a node tells the operator at `/conditions`.

use serde::{Deserialize, Serialize};

/// The largest report in bytes; whoever reads one stops there.
pub const REPORT_BYTES_MAX: usize = 16 << 10;

/// The file of [`NodeConfigState`] in that directory.
pub const NODE_CONFIG_STATE_FILE: &str = "node-config.json";
/// The age in seconds from which a [`NodeConfigState`] says nothing any more.
pub const NODE_CONFIG_STALE_S: u64 = 10;

/// The answer of `/conditions`: what keeps pulls on this node from going through the cache.
///
/// Unknown members are ignored and missing ones defaulted, since nodes and operator are upgraded at different times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeReport {
    /// The UID of the mirror that the node works for; empty in a standalone configuration.
    pub mirror: String,
    /// The generation of the mirror that the node has loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The generation that the runtime's configuration was written for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_config_generation: Option<i64>,
    /// What stands, of the cache and of the runtime's configuration alike.
    pub conditions: Vec<NodeCondition>,
}

/// What `node-config` leaves for `serve` in the directory that their containers share: how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeConfigState {
    /// When it was written: RFC 3339 with milliseconds.
    pub updated: String,
    /// The generation of the mirror that the runtime's configuration was written for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Whether all has been done that this node allows.
    pub settled: bool,
    /// What stands in the way.
    pub conditions: Vec<NodeCondition>,
}

/// One reason that stands on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeCondition {
    /// What is wrong: [`Reason::as_str`] of one of the known ones, or one that a newer node knows.
    pub reason: String,
    /// With which registry, as the configuration calls it; empty where it is not about one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registry: String,
    /// The name of the object at fault: of a Secret or ConfigMap, or the UID of another mirror. Empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// How often it was seen since then.
    pub count: u64,
    /// When it was first seen: RFC 3339 in whole seconds.
    pub since: String,
}

/// Something that keeps pulls on a node from going through its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A Secret that the configuration names is not there, or has none of the keys that we can read.
    CredentialsMissing,
    /// The registry or its token service refused the credentials.
    CredentialsRefused,
    /// A ConfigMap with certificate authorities that the configuration names is not there or holds none.
    CaBundleMissing,
    /// The registry, its token service or its content hosts do not answer.
    UpstreamUnreachable,
    /// The registry asks us to come back later.
    RateLimited,
    /// The disk takes no more content; pulls go on without being kept.
    DiskFull,
    /// The document was refused; the one before it stays in force.
    ConfigInvalid,
    /// The container that writes the runtime's configuration has not been heard of for 10 s.
    NodeConfigStale,
    /// Something else than our cache answers on its port.
    PortTaken,
    /// The cache does not answer, or says that it is not ready; the runtime's configuration is withdrawn.
    CacheUnhealthy,
    /// The runtime's `config_path` is unset, or is a list, so it reads no `hosts.toml`.
    ConfigPathUnset,
    /// The runtime's `config_path` names another directory than the mirror does.
    ConfigPathElsewhere,
    /// The runtime's configuration could not be read or understood.
    RuntimeConfigUnreadable,
    /// Somebody else's hosts.toml or certificates were found and left.
    ForeignHosts,
    /// Somebody else keeps writing the file; it was left to them.
    HostsContested,
    /// Another mirror holds the file.
    HostOwned,
    /// The directory is on a read-only filesystem.
    CertsDirReadOnly,
    /// The directory cannot be written for another reason; the log says which.
    CertsDirUnwritable,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 18] = [
        Self::CredentialsMissing,
        Self::CredentialsRefused,
        Self::CaBundleMissing,
        Self::UpstreamUnreachable,
        Self::RateLimited,
        Self::DiskFull,
        Self::ConfigInvalid,
        Self::NodeConfigStale,
        Self::PortTaken,
        Self::CacheUnhealthy,
        Self::ConfigPathUnset,
        Self::ConfigPathElsewhere,
        Self::RuntimeConfigUnreadable,
        Self::ForeignHosts,
        Self::HostsContested,
        Self::HostOwned,
        Self::CertsDirReadOnly,
        Self::CertsDirUnwritable,
    ];

    /// The reason as reports and conditions write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialsMissing => "CredentialsMissing",
            Self::CredentialsRefused => "CredentialsRefused",
            Self::CaBundleMissing => "CaBundleMissing",
            Self::UpstreamUnreachable => "UpstreamUnreachable",
            Self::RateLimited => "RateLimited",
            Self::DiskFull => "DiskFull",
            Self::ConfigInvalid => "ConfigInvalid",
            Self::NodeConfigStale => "NodeConfigStale",
            Self::PortTaken => "PortTaken",
            Self::CacheUnhealthy => "CacheUnhealthy",
            Self::ConfigPathUnset => "ConfigPathUnset",
            Self::ConfigPathElsewhere => "ConfigPathElsewhere",
            Self::RuntimeConfigUnreadable => "RuntimeConfigUnreadable",
            Self::ForeignHosts => "ForeignHosts",
            Self::HostsContested => "HostsContested",
            Self::HostOwned => "HostOwned",
            Self::CertsDirReadOnly => "CertsDirReadOnly",
            Self::CertsDirUnwritable => "CertsDirUnwritable",
        }
    }

    /// The reason that a report writes so, unless it is one of a newer version.
    pub fn from_report(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}
