//! ClusterTrustBundles: certificates of authorities that all namespaces may read.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::Meta;

/// A ClusterTrustBundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTrustBundle {
    /// Metadata.
    pub meta: Meta,
    /// spec.trustBundle: certificates of authorities in PEM.
    pub authorities: Arc<str>,
}

/// Whether Envoy can load a bundle: it rejects one without a certificate or with one that does not parse.
pub fn check_authorities(bundle: &str) -> Result<(), String> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bundle.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("holds no certificate".into());
    }
    for (position, certificate) in certificates.iter().enumerate() {
        if let Err(error) = x509_parser::parse_x509_certificate(certificate) {
            return Err(format!(
                "holds a certificate, number {}, that does not parse: {error}",
                position + 1
            ));
        }
    }
    Ok(())
}
