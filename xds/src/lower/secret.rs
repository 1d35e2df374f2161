//! Secrets, and the references to them.

use portolan_xds_proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
use portolan_xds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SdsSecretConfig, Secret as ProtoSecret, TlsCertificate, TlsParameters,
    secret::Type, tls_parameters::TlsProtocol,
};

use super::wire;
use crate::ir::{Secret, SecretBody};

/// Lowers a secret.
pub fn secret(secret: &Secret) -> ProtoSecret {
    let body = match &secret.body {
        SecretBody::Certificate { chain, key } => Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..TlsCertificate::default()
        }),
        SecretBody::Authorities { bundle } => Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(inline(bundle)),
            ..CertificateValidationContext::default()
        }),
    };
    ProtoSecret { name: secret.name.to_string(), r#type: Some(body) }
}

fn inline(pem: &str) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(pem.as_bytes().to_vec())), ..DataSource::default() }
}

/// A reference to the secret `name`: the same bytes wherever it is used.
pub(super) fn reference(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(wire::ads()) }
}

/// TLS 1.2 or newer, with Envoy's own choice of ciphers.
pub(super) fn tls_parameters() -> TlsParameters {
    TlsParameters { tls_minimum_protocol_version: TlsProtocol::TlSv12.into(), ..TlsParameters::default() }
}
