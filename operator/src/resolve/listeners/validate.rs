//! A listener by itself: its protocol, its fields, and the kinds of route that it takes.

use super::{ListenerOut, Protocol};
use crate::{
    model::{ListenerSpec, RouteKind, TlsMode},
    resolve::{Fault, pre_routing},
};

/// Judges a listener without its neighbours.
pub(super) fn validate(spec: &ListenerSpec) -> ListenerOut {
    let protocol = Protocol::from_spec(&spec.protocol, spec.tls_mode);
    let (kinds, invalid_kinds) = kinds(spec, protocol);
    // Only HTTP and TLS know hostnames (Listener.hostname: ignored for other protocols).
    let named = !matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
    let hostname = spec.hostname.clone().ok().flatten().filter(|_| named);
    ListenerOut {
        name: spec.name.clone(),
        set: None,
        port: spec.port,
        protocol,
        hostname,
        from: spec.allowed.from.clone(),
        kinds,
        fault: fault(spec, protocol),
        conflicted: false,
        invalid_kinds,
        overlaps: Vec::new(),
        serves: None,
    }
}

/// The kinds that are asked for and carried, and what is wrong with the others.
fn kinds(spec: &ListenerSpec, protocol: Option<Protocol>) -> (Vec<RouteKind>, Option<Fault>) {
    let Some(protocol) = protocol else { return (Vec::new(), None) };
    let supported: Vec<RouteKind> = protocol
        .kinds()
        .iter()
        .map(|kind| RouteKind { group: kind.group().into(), kind: kind.as_str().into() })
        .collect();
    if spec.allowed.kinds.is_empty() {
        return (supported, None);
    }
    let (mut kinds, mut invalid): (Vec<_>, Vec<_>) =
        spec.allowed.kinds.iter().cloned().partition(|kind| supported.contains(kind));
    kinds.sort();
    kinds.dedup();
    invalid.sort();
    let names: Vec<_> = invalid.iter().map(|kind| format!("{}/{}", kind.group, kind.kind)).collect();
    let fault = Fault::new(
        "InvalidRouteKinds",
        format!("allowedRoutes.kinds: {} is not a kind of route for protocol {protocol}", names.join(", ")),
    );
    (kinds, (!invalid.is_empty()).then_some(fault))
}

fn fault(spec: &ListenerSpec, protocol: Option<Protocol>) -> Option<Fault> {
    let Some(protocol) = protocol else {
        return Some(Fault::new(
            "UnsupportedProtocol",
            format!("protocol {:?} is not supported: expected HTTP, HTTPS, TLS, TCP or UDP", spec.protocol),
        ));
    };
    if let Err(error) = &spec.hostname {
        return Some(Fault::unsupported(format!("hostname: {error}")));
    }
    if let Err(fault) = pre_routing::check(spec, protocol) {
        return Some(fault);
    }
    match protocol {
        Protocol::Https if spec.tls_mode == TlsMode::Passthrough => {
            Some(Fault::unsupported("tls.mode: Passthrough needs protocol TLS; HTTPS terminates TLS"))
        }
        Protocol::Http | Protocol::Tcp | Protocol::Udp if spec.has_tls => Some(Fault::unsupported(format!(
            "tls: a listener of protocol {protocol} has no TLS; use HTTPS or TLS, or remove the field"
        ))),
        Protocol::Tls(_) if !spec.has_tls => Some(Fault::unsupported(
            "tls: a listener of protocol TLS says whether it terminates or passes through",
        )),
        _ => None,
    }
}
