//! What must never be printed: `Debug` of the messages that hold key material, without it.
//!
//! `build.rs` skips the derived `Debug` of exactly these messages. `Any` is one of them, since its
//! bytes may be a secret: it prints its type and length.

use std::fmt;

use crate::envoy::extensions::transport_sockets::tls::v3::{
    GenericSecret, TlsCertificate, TlsSessionTicketKeys,
};
use crate::google::protobuf::Any;

/// What a dump or a log shows instead of key material.
pub(crate) const REDACTED: &str = "[redacted]";

/// Fields that hold key material, as (message, field). Dumps replace their values.
pub(crate) const SENSITIVE: &[(&str, &str)] = &[
    ("envoy.extensions.transport_sockets.tls.v3.GenericSecret", "secret"),
    ("envoy.extensions.transport_sockets.tls.v3.GenericSecret", "secrets"),
    ("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "password"),
    ("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "pkcs12"),
    ("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "private_key"),
    ("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "private_key_provider"),
    ("envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", "keys"),
];

impl fmt::Debug for Any {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Any")
            .field("type_url", &self.type_url)
            .field("bytes", &self.value.len())
            .finish()
    }
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsCertificate")
            .field("certificate_chain", &self.certificate_chain)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsSessionTicketKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsSessionTicketKeys").finish_non_exhaustive()
    }
}

impl fmt::Debug for GenericSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GenericSecret").finish_non_exhaustive()
    }
}
