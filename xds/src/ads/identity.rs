//! Which Gateway a connection belongs to: proved by the transport, never by what the proxy says.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tonic::Status;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::GatewayKey;

/// Why a certificate is no Gateway's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate cannot be read.
    #[error("the client certificate cannot be parsed: {0}")]
    Malformed(String),
    /// It has not exactly one URI, which a SPIFFE certificate must have.
    #[error(
        "the client certificate has {0} URI names: expected one, spiffe://<trust domain>/ns/<namespace>/gateway/<name>"
    )]
    UriCount(usize),
    /// Its URI has another form, or another trust domain.
    #[error(
        "the client certificate is for {found:?}: expected spiffe://{trust_domain}/ns/<namespace>/gateway/<name>"
    )]
    Foreign {
        /// The URI.
        found: String,
        /// The trust domain that is served.
        trust_domain: Arc<str>,
    },
}

/// The SPIFFE identity of a Gateway's proxies, for the certificate that they are given.
pub fn spiffe_id(trust_domain: &str, gateway: &GatewayKey) -> String {
    format!("spiffe://{trust_domain}/ns/{}/gateway/{}", gateway.namespace, gateway.name)
}

/// The SPIFFE identity of a control plane's replicas, by which they know each other.
pub fn replica_spiffe_id(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/operator")
}

/// Reads a SPIFFE identity.
pub fn gateway_of_spiffe_id(uri: &str, trust_domain: &str) -> Option<GatewayKey> {
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(trust_domain)?.strip_prefix('/')?;
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["ns", namespace, "gateway", name] if is_name(namespace) && is_name(name) => {
            Some(GatewayKey::new(*namespace, *name))
        }
        _ => None,
    }
}

/// A Kubernetes name (RFC 1123 subdomain), so that nothing else can pass through a URI.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
}

/// Reads the identity in a certificate whose chain the TLS layer has verified.
pub fn gateway_of_certificate(der: &[u8], trust_domain: &Arc<str>) -> Result<GatewayKey, IdentityError> {
    let uri = uri_of_certificate(der)?;
    gateway_of_spiffe_id(&uri, trust_domain)
        .ok_or_else(|| IdentityError::Foreign { found: uri, trust_domain: Arc::clone(trust_domain) })
}

/// The one URI in a certificate.
fn uri_of_certificate(der: &[u8]) -> Result<String, IdentityError> {
    let malformed = |error: &dyn std::fmt::Display| IdentityError::Malformed(error.to_string());
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
    let names = certificate.subject_alternative_name().map_err(|error| malformed(&error))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => Ok((*uri).to_owned()),
        uris => Err(IdentityError::UriCount(uris.len())),
    }
}

/// How a listener knows whose connection it has.
#[derive(Clone, Debug)]
pub(super) enum Authority {
    /// A Unix socket belongs to one Gateway; the file's permissions say who may connect.
    Socket(GatewayKey),
    /// The client certificate says it.
    Certificate {
        /// The trust domain of its SPIFFE identity.
        trust_domain: Arc<str>,
    },
}

impl Authority {
    /// The Gateway of a request, or what to answer instead.
    pub(super) fn identify(&self, request: &http::Extensions) -> Result<GatewayKey, Status> {
        let trust_domain = match self {
            Self::Socket(gateway) => return Ok(gateway.clone()),
            Self::Certificate { trust_domain } => trust_domain,
        };
        gateway_of_certificate(&leaf(request)?, trust_domain)
            .map_err(|error| Status::permission_denied(error.to_string()))
    }

    /// Lets a request through that comes from a replica, or says why not.
    pub(super) fn admit_replica(&self, request: &http::Extensions) -> Result<(), Status> {
        let Self::Certificate { trust_domain } = self else {
            return Err(Status::permission_denied("a proxy's socket is no way in for a replica"));
        };
        let expected = replica_spiffe_id(trust_domain);
        match uri_of_certificate(&leaf(request)?) {
            Ok(uri) if uri == expected => Ok(()),
            Ok(uri) => Err(Status::permission_denied(format!(
                "the client certificate is for {uri:?}: expected {expected}, a replica of the control plane"
            ))),
            Err(error) => Err(Status::permission_denied(error.to_string())),
        }
    }
}

/// The certificate that a client has shown.
fn leaf(request: &http::Extensions) -> Result<CertificateDer<'static>, Status> {
    let certificates = request.get::<TlsConnectInfo<TcpConnectInfo>>().and_then(TlsConnectInfo::peer_certs);
    certificates.as_ref().and_then(|chain| chain.first()).cloned().ok_or_else(|| {
        Status::unauthenticated("no client certificate: a proxy proves its Gateway by mutual TLS")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back() {
        let key = GatewayKey::new("apps", "public.v1");
        let uri = spiffe_id("cluster.local", &key);
        assert_eq!(uri, "spiffe://cluster.local/ns/apps/gateway/public.v1");
        assert_eq!(gateway_of_spiffe_id(&uri, "cluster.local"), Some(key));
    }

    #[test]
    fn an_identity_of_another_form_or_domain_is_none() {
        for uri in [
            "",
            "spiffe://cluster.local/ns/apps/sa/default",
            "spiffe://cluster.local/ns/apps/gateway/",
            "spiffe://cluster.local/ns//gateway/a",
            "spiffe://cluster.local/ns/apps/gateway/a/b",
            "spiffe://cluster.local/ns/apps/gateway/A",
            "spiffe://cluster.local.evil/ns/apps/gateway/a",
            "spiffe://other/ns/apps/gateway/a",
            "https://cluster.local/ns/apps/gateway/a",
        ] {
            assert_eq!(gateway_of_spiffe_id(uri, "cluster.local"), None, "{uri}");
        }
    }
}
