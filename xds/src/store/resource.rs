//! What a store holds: one encoded resource, its content version, and what depends on it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use portolan_xds_proto::{envoy, google};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Body;

/// The resource types that are served. Their order is the order of delivery: clusters first, the routes
/// that name them last (make before break).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`, by CDS.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, by EDS. Its name is its cluster's name.
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`, by SDS.
    Secret,
    /// `envoy.config.listener.v3.Listener`, by LDS.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`, by RDS. Its virtual hosts are resources of their own.
    RouteConfiguration,
    /// `envoy.config.route.v3.VirtualHost`, by VHDS. Its name is that of its RouteConfiguration, a slash, and its domain.
    VirtualHost,
}

impl ResourceType {
    /// Every type, in the order of delivery.
    pub const ORDER: [Self; 6] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::RouteConfiguration,
        Self::VirtualHost,
    ];

    /// The type URL in requests and responses.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
        }
    }

    /// The type of a URL, if it is served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ORDER.into_iter().find(|each| each.type_url() == url)
    }

    /// The short name, for logs, metrics and `/debug/streams`.
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoints => "eds",
            Self::Secret => "sds",
            Self::Listener => "lds",
            Self::RouteConfiguration => "rds",
            Self::VirtualHost => "vhds",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.short_name())
    }
}

/// The version of a resource: the xxh3-128 hash of its bytes, or of its pieces' hashes where it has several. Equal
/// content has the same version in every replica and after every restart, so a reconnecting proxy is sent nothing
/// that it has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u128);

impl Version {
    /// The version of an encoded resource in one piece.
    pub fn of(body: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(body))
    }

    pub(super) fn of_hash(hash: u128) -> Self {
        Self(hash)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is no version that this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version: expected 32 hexadecimal digits")]
pub struct InvalidVersion(String);

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(value) if digits => Ok(Self(value)),
            _ => Err(InvalidVersion(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The name of a virtual host of a `RouteConfiguration`. Envoy takes what comes before the last slash for the name of the
/// `RouteConfiguration`; a domain has no slash.
pub fn host_name(table: &str, domain: &str) -> Arc<str> {
    format!("{table}/{domain}").into()
}

/// The name of the `RouteConfiguration` that a virtual host is of.
pub fn table_of(host: &str) -> &str {
    host.rsplit_once('/').map_or("", |(table, _)| table)
}

/// The domain of a virtual host of that name.
pub fn domain_of(host: &str) -> &str {
    host.rsplit_once('/').map_or(host, |(_, domain)| domain)
}

/// A resource that another one needs.
pub type Child = (ResourceType, Arc<str>);

/// One encoded resource.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    name: Arc<str>,
    body: Body,
    children: Vec<Child>,
}

impl Resource {
    /// A resource from its encoded message. The version is computed from the bytes, so they must be
    /// deterministic: equal content, equal bytes.
    ///
    /// `children` are what it needs, by name: a Cluster its Endpoints and Secrets, a Listener its Secrets and
    /// `RouteConfiguration`s. Endpoints and Secrets are sent again whenever the parent changes, because Envoy
    /// waits for them and does not ask.
    pub fn new(name: impl Into<Arc<str>>, body: Bytes, children: Vec<Child>) -> Self {
        Self::with_body(name, body.into(), children)
    }

    /// A resource from its encoded message in pieces. See [`Resource::new`].
    pub fn with_body(name: impl Into<Arc<str>>, body: Body, children: Vec<Child>) -> Self {
        Self { name: name.into(), body, children }
    }

    /// A resource from a message. See [`Resource::new`].
    pub fn of<M: prost::Message>(name: impl Into<Arc<str>>, message: &M, children: Vec<Child>) -> Self {
        Self::new(name, message.encode_to_vec().into(), children)
    }

    /// The assignment that tells Envoy that a cluster has no endpoints. A `ClusterLoadAssignment` is never
    /// missing: Envoy would wait for it.
    pub fn empty_endpoints(cluster: impl Into<Arc<str>>) -> Self {
        let name = cluster.into();
        let message = envoy::config::endpoint::v3::ClusterLoadAssignment {
            cluster_name: name.to_string(),
            ..Default::default()
        };
        Self::of(name, &message, Vec::new())
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The version of its content.
    pub fn version(&self) -> Version {
        self.body.version()
    }

    /// Its encoded message.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What it needs.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// The body as an `Any` of the given type. Copies the bytes of a body in several pieces.
    pub fn to_any(&self, kind: ResourceType) -> google::protobuf::Any {
        google::protobuf::Any { type_url: kind.type_url().to_owned(), value: self.body.to_bytes() }
    }
}

impl fmt::Debug for Resource {
    // The body may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Resource")
            .field("name", &self.name)
            .field("version", &self.version())
            .field("bytes", &self.body.len())
            .field("children", &self.children)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use portolan_xds_proto::type_url;

    use super::*;

    #[test]
    fn type_urls_are_those_of_the_generated_messages() {
        let generated = [
            type_url::<envoy::config::cluster::v3::Cluster>(),
            type_url::<envoy::config::endpoint::v3::ClusterLoadAssignment>(),
            type_url::<envoy::extensions::transport_sockets::tls::v3::Secret>(),
            type_url::<envoy::config::listener::v3::Listener>(),
            type_url::<envoy::config::route::v3::RouteConfiguration>(),
            type_url::<envoy::config::route::v3::VirtualHost>(),
        ];
        assert_eq!(ResourceType::ORDER.map(|each| each.type_url().to_owned()), generated);
        for each in ResourceType::ORDER {
            assert_eq!(ResourceType::from_type_url(each.type_url()), Some(each));
        }
    }

    #[test]
    fn equal_bytes_have_equal_versions_and_a_version_reads_back() {
        let version = Version::of(b"body");
        assert_eq!(version, Version::of(b"body"));
        assert_ne!(version, Version::of(b"other"));
        assert_eq!(version.to_string().parse(), Ok(version));
        assert!("+00000000000000000000000000000001".parse::<Version>().is_err());
        assert!("1".parse::<Version>().is_err());
    }

    #[test]
    fn debug_does_not_show_the_body() {
        let resource = Resource::new("a", Bytes::from_static(b"top secret"), Vec::new());
        assert!(!format!("{resource:?}").contains("top"));
    }
}
