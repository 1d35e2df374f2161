//! What a listener speaks.

use std::fmt;

use portolan_xds::ir::Transport;

use crate::model::{Kind, TlsMode};

/// The protocol of a listener, with what `tls` makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// HTTP in TLS that ends here.
    Https,
    /// TLS, by server name.
    Tls(TlsMode),
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Protocols that can share a port. Everything on a port that begins with TLS is told apart by its server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Http,
    Tls,
    Tcp,
    Udp,
}

impl Protocol {
    /// The protocol of that name.
    pub(in crate::resolve) fn from_spec(name: &str, mode: TlsMode) -> Option<Self> {
        Some(match name {
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            "TLS" => Self::Tls(mode),
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            _ => return None,
        })
    }

    /// The transport of its port.
    pub fn transport(self) -> Transport {
        if self == Self::Udp { Transport::Udp } else { Transport::Tcp }
    }

    /// Whether TLS ends here.
    pub fn terminates(self) -> bool {
        matches!(self, Self::Https | Self::Tls(TlsMode::Terminate))
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::Http => Family::Http,
            Self::Https | Self::Tls(_) => Family::Tls,
            Self::Tcp => Family::Tcp,
            Self::Udp => Family::Udp,
        }
    }

    /// The kinds of route that it carries (ListenerStatus.supportedKinds).
    pub(super) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Http | Self::Https => &[Kind::GrpcRoute, Kind::HttpRoute],
            Self::Tls(_) => &[Kind::TlsRoute],
            Self::Tcp => &[Kind::TcpRoute],
            Self::Udp => &[Kind::UdpRoute],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tls(_) => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}
