//! Streams: which route serves the connections or datagrams of a slot, and how its weights fall on addresses.
//!
//! A stream is a cluster of its own, named by the listener and not by the route. What routes do changes its endpoints
//! and nothing else: connections and sessions that exist live on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use portolan_xds::ir::{AppProtocol, Cluster, Endpoint, Endpoints, Millis, Origin, UpstreamTls};

use super::{
    BackendTls, Connection, Protocol, StreamRule, Unit, backend,
    engine::State,
    slot::{Slot, StreamKey, StreamKind},
    tls,
};
use crate::{
    model::{Hostname, ObjectKey, TlsMode},
    world::{Read, View},
};

/// The sum of a stream's weights: fine enough for a share of a millionth among a hundred addresses, and its sum fits.
const WHOLE: u64 = 100_000_000;

/// A stream's cluster and its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamOut {
    pub(super) cluster: Arc<Cluster>,
    pub(super) endpoints: Arc<Endpoints>,
    /// Policies whose authorities it needs.
    pub(super) policies: BTreeSet<ObjectKey>,
}

/// Resolves [`Unit::Stream`].
pub(super) fn stream(
    view: &View<'_>,
    state: &State,
    gateway: &ObjectKey,
    key: &StreamKey,
) -> Option<StreamOut> {
    let slot = Slot::Stream(key.clone());
    view.record(Read::MembersOf(slot.clone()));
    state.slots.members(&slot)?;
    let served = serving_route(state, &slot);
    let passes = passes_tls(view, state, gateway, key);
    let arms = served.as_ref().map_or_else(Vec::new, |(_, rule)| arms(view, state, rule, passes));
    let mut sockets = BTreeMap::new();
    let mut policies = BTreeSet::new();
    for tls in arms.iter().filter_map(|arm| arm.tls.as_ref()) {
        let client = tls::client_certificate(view, state, gateway);
        sockets.insert(tls.hash().into(), UpstreamTls { client_certificate: client, ..tls.tls.clone() });
        policies.extend(tls.authorities().cloned());
    }
    let origin = served.as_ref().map_or(gateway, |(route, _)| route);
    Some(StreamOut {
        cluster: Arc::new(Cluster {
            name: key.to_string().into(),
            protocol: AppProtocol::Opaque,
            tls: None,
            sockets,
            connect_timeout: Millis(5_000),
            origin: Origin::new(origin.to_string()),
        }),
        endpoints: Arc::new(share(&arms)),
        policies,
    })
}

/// Whether what is passed on is TLS already: a policy about the backend is for those who make connections of their own.
fn passes_tls(view: &View<'_>, state: &State, gateway: &ObjectKey, key: &StreamKey) -> bool {
    if key.name.kind != StreamKind::Tls {
        return false;
    }
    let host: Option<Hostname> = key.domain.parse().ok();
    let owner = state.listeners(gateway).and_then(|all| all.stream_owner(&key.name, host.as_ref()));
    view.record(match owner {
        Some(listener) => Read::ListenersOf(listener.owner(gateway).clone()),
        None => Read::Output(Unit::Listeners(gateway.clone())),
    });
    owner.and_then(|listener| listener.protocol) != Some(Protocol::Tls(TlsMode::Terminate))
}

/// The route with the most specific hostname as it was written, then the oldest, then by namespace and name
/// (TLSRouteSpec.hostnames, GatewayRouteHostnameIntersectionPrecedence). The others stay attached and get nothing.
fn serving_route(state: &State, slot: &Slot) -> Option<(ObjectKey, StreamRule)> {
    let members = state.slots.members(slot)?;
    let candidates = members.routes.iter().filter_map(|(key, member)| {
        let rules = member.rules.as_ref()?;
        let order = (member.place.rank, rules.created, format!("{}/{}", key.namespace, key.name));
        Some((order, key, rules.stream.as_ref()?))
    });
    let (_, key, rule) = candidates.min_by(|(one, ..), (other, ..)| one.cmp(other))?;
    Some((key.clone(), rule.clone()))
}

/// A share and where it goes.
#[derive(Debug, Default)]
struct Share {
    weight: u32,
    addresses: BTreeSet<SocketAddr>,
    tls: Option<Arc<BackendTls>>,
}

fn arms(view: &View<'_>, state: &State, rule: &StreamRule, passes_tls: bool) -> Vec<Share> {
    let arms = rule.arms.iter().filter(|(weight, _)| *weight > 0);
    let arms = arms.map(|(weight, target)| {
        let nowhere = Share { weight: *weight, ..Share::default() };
        let Some(target) = target else { return nowhere };
        let tls = match &target.connection {
            Connection::Refused if !passes_tls => return nowhere,
            Connection::Tls(tls) if !passes_tls => Some(Arc::clone(tls)),
            _ => None,
        };
        let found = backend::addresses(view, state, &target.port).into_iter();
        Share { weight: *weight, addresses: found.map(|(address, _)| address).collect(), tls }
    });
    arms.collect()
}

/// Spreads weights over addresses. The share of a backend without addresses goes nowhere: it is refused, not taken over
/// by the others (TCPRouteRule.backendRefs). An address behind two backends gets both shares.
fn share(arms: &[Share]) -> Endpoints {
    type Weights = BTreeMap<SocketAddr, (u64, Option<Arc<str>>)>;
    let total: u64 = arms.iter().map(|arm| u64::from(arm.weight)).sum();
    let (mut weights, mut nowhere): (Weights, u64) = (BTreeMap::new(), 0);
    for arm in arms {
        let part = WHOLE * u64::from(arm.weight) / total.max(1);
        let count = u64::try_from(arm.addresses.len()).unwrap_or(u64::MAX);
        if count == 0 {
            nowhere += part;
        }
        let socket: Option<Arc<str>> = arm.tls.as_ref().map(|tls| tls.hash().into());
        for address in &arm.addresses {
            let (weight, through) = weights.entry(*address).or_default();
            *weight += (part / count).max(1);
            *through = socket.clone().or_else(|| through.take());
        }
    }
    let divisor = weights.values().fold(nowhere, |divisor, (weight, _)| gcd(divisor, *weight)).max(1);
    let small = |weight: u64| u32::try_from(weight / divisor).unwrap_or(u32::MAX);
    let endpoint =
        |(address, (weight, socket))| Endpoint { address, zone: None, weight: small(weight), socket };
    Endpoints { endpoints: weights.into_iter().map(endpoint).collect(), nowhere: small(nowhere) }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(arms: &[(u32, &[&str])]) -> (Vec<(String, u32)>, u32) {
        let arms: Vec<_> = arms
            .iter()
            .map(|(weight, hosts)| {
                let addresses = hosts.iter().map(|host| format!("{host}:1").parse().unwrap()).collect();
                Share { weight: *weight, addresses, tls: None }
            })
            .collect();
        let shared = share(&arms);
        let each = shared.endpoints.iter().map(|one| (one.address.ip().to_string(), one.weight));
        (each.collect(), shared.nowhere)
    }

    #[test]
    fn a_weight_is_spread_over_the_addresses_of_its_backend() {
        assert_eq!(
            shares(&[(1, &["10.0.0.1", "10.0.0.2"])]).0,
            [("10.0.0.1".into(), 1), ("10.0.0.2".into(), 1)]
        );
        let (each, nowhere) = shares(&[(70, &["10.0.0.1", "10.0.0.2"]), (30, &["10.0.0.3"])]);
        assert_eq!(each, [("10.0.0.1".into(), 7), ("10.0.0.2".into(), 7), ("10.0.0.3".into(), 6)]);
        assert_eq!(nowhere, 0);
    }

    #[test]
    fn the_share_of_a_backend_without_addresses_goes_nowhere() {
        assert_eq!(shares(&[(80, &[]), (20, &["10.0.0.1"])]), (vec![("10.0.0.1".into(), 1)], 4));
        assert_eq!(shares(&[(1, &[])]), (vec![], 1));
        assert_eq!(shares(&[]), (vec![], 0));
    }

    #[test]
    fn an_address_behind_two_backends_gets_both_shares() {
        let (each, _) = shares(&[(9, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]), (1, &["10.0.0.1"])]);
        assert_eq!(each, [("10.0.0.1".into(), 4), ("10.0.0.2".into(), 3), ("10.0.0.3".into(), 3)]);
    }

    #[test]
    fn the_largest_weights_fit() {
        let many: Vec<String> =
            (0..5000).map(|index| format!("10.1.{}.{}", index / 250, index % 250)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut arms: Vec<(u32, &[&str])> = vec![(1_000_000, &[]); 15];
        arms.push((1_000_000, &many));
        let (each, nowhere) = shares(&arms);
        let sum: u64 = each.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>() + u64::from(nowhere);
        assert!(sum <= WHOLE && each.len() == 5000);
    }
}
