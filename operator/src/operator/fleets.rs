//! From plans to fleets, and from fleets back to the Gateways: where they listen, where clients reach them, whether they
//! serve.
//!
//! A Gateway's ports are the same on every proxy's pod and on every replica of the control plane, so they are placed at
//! once; addresses and readiness follow from what the fleet's task reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use portolan_xds::ir::Transport;
use tokio::sync::{mpsc, watch};

use crate::{
    events::{Events, Notice},
    fleet::{
        GatewayName,
        cluster::{
            ApplyError, Fleet, FleetState, Inside, PROXY_PORT, Settings, Wanted,
            addresses::{Address, Found},
        },
    },
    leader::Leadership,
    model::{Kind, ObjectKey},
    resolve::{AddressReport, Addresses, FleetPlan, Placement},
    runtime::{Handle, Plans, Stopped},
};

/// The port of a proxy's pod that no listener can have.
const OURS: (u16, Transport) = (PROXY_PORT, Transport::Tcp);

/// What the fleets' task should make of the plans: a fleet each, and nothing for one whose plan has a fault, which keeps
/// the fleet that it has.
fn wanted(plans: &Plans) -> Wanted {
    let fleets = plans.iter().filter_map(|(key, plan)| match GatewayName::try_from(key) {
        Ok(gateway) => Some((gateway.clone(), fleet(gateway, plan))),
        Err(error) => {
            tracing::warn!(gateway = %key, %error, "no fleet can be made for it");
            None
        }
    });
    fleets.collect()
}

fn fleet(gateway: GatewayName, plan: &FleetPlan) -> Option<Fleet> {
    if plan.fault.is_some() {
        return None;
    }
    let text = |map: &BTreeMap<Arc<str>, Arc<str>>| {
        map.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let asked = |inside: bool| -> Vec<IpAddr> {
        let of = plan.required().filter(|(address, _)| address.inside() == inside);
        // Each once, in an order that does not depend on that of the list.
        let ips: BTreeSet<_> = of.filter_map(|(_, value)| value.parse().ok()).collect();
        ips.into_iter().collect()
    };
    let any = |inside: bool| plan.addresses.iter().any(|address| address.inside() == inside);
    Some(Fleet {
        gateway,
        uid: plan.uid.clone(),
        class: plan.class.clone(),
        // Nor does a Service lead to what is ours.
        ports: plan.ports.iter().copied().filter(|port| *port != OURS).collect(),
        addresses: asked(false),
        inside: any(true).then(|| Inside { addresses: asked(true), only: !any(false) }),
        labels: text(&plan.labels),
        annotations: text(&plan.annotations),
        // A contradiction is a fault of the plan.
        settings: Settings::of(&plan.config).ok()?,
    })
}

/// Keeps what the fleets' task is told in step with the plans, for as long as the core runs; `planned` is turned on once it
/// has been told everything. Start it after the first sync.
pub(super) async fn follow(handle: Handle, fleets: watch::Sender<Arc<Wanted>>, planned: watch::Sender<bool>) {
    // The core answers after the first sync was taken in, and has told its plans then.
    if handle.ask(|_| ()).await.is_err() {
        return;
    }
    let mut plans = handle.plans();
    loop {
        let wanted = Arc::new(wanted(&plans.borrow_and_update()));
        fleets.send_replace(wanted);
        planned.send_replace(true);
        if plans.changed().await.is_err() {
            return;
        }
    }
}

/// What a fleet's task reports: a Gateway, and how its fleet is, or nothing when it is gone.
pub(super) type Report = (GatewayName, Option<FleetState>);

/// Tells the core where Gateways are.
pub(super) struct Placing {
    handle: Handle,
    plans: watch::Receiver<Plans>,
    reports: mpsc::Receiver<Report>,
    /// Turned on once every Gateway that there was at the start is placed.
    placed_all: watch::Sender<bool>,
    leadership: Leadership,
    events: Events,
    states: BTreeMap<ObjectKey, FleetState>,
    placed: BTreeMap<ObjectKey, Placement>,
}

impl Placing {
    pub(super) fn new(
        handle: Handle,
        reports: mpsc::Receiver<Report>,
        placed_all: watch::Sender<bool>,
        leadership: Leadership,
        events: Events,
    ) -> Self {
        let plans = handle.plans();
        let (states, placed) = (BTreeMap::new(), BTreeMap::new());
        Self { handle, plans, reports, placed_all, leadership, events, states, placed }
    }

    /// Works for as long as the core and the fleets' task do.
    pub(super) async fn run(mut self) {
        // The core answers after the first sync was taken in, and has told its plans then.
        if self.handle.ask(|_| ()).await.is_err() || self.place_all().is_err() {
            return;
        }
        self.placed_all.send_replace(true);
        loop {
            let done = tokio::select! {
                changed = self.plans.changed() => match changed {
                    Ok(()) => self.place_all(),
                    Err(_) => Err(Stopped),
                },
                report = self.reports.recv() => match report {
                    Some((gateway, state)) => self.on_report(&gateway, state),
                    None => Err(Stopped),
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn place_all(&mut self) -> Result<(), Stopped> {
        let plans = self.plans.borrow_and_update().clone();
        let gone: Vec<ObjectKey> =
            self.placed.keys().filter(|key| !plans.contains_key(*key)).cloned().collect();
        for gateway in gone {
            // Its proxies go with its Deployment, which its owner takes along.
            self.placed.remove(&gateway);
            self.states.remove(&gateway);
            self.handle.forget(gateway)?;
        }
        for (gateway, plan) in plans {
            self.place(&gateway, &plan)?;
        }
        Ok(())
    }

    fn on_report(&mut self, gateway: &GatewayName, state: Option<FleetState>) -> Result<(), Stopped> {
        let key = gateway.key();
        let key = ObjectKey::new(Kind::Gateway, key.namespace.clone(), key.name.clone());
        let plan = self.plans.borrow().get(&key).cloned();
        let (Some(plan), Some(state)) = (plan, state) else {
            self.states.remove(&key);
            return Ok(());
        };
        let before = self.states.insert(key.clone(), state.clone()).unwrap_or_default();
        if self.leadership.holds() {
            for error in state.errors.iter().filter(|error| !before.errors.contains(error)) {
                self.events.publish(&key, &plan.uid, notice(error));
            }
        }
        self.place(&key, &plan)
    }

    fn place(&mut self, gateway: &ObjectKey, plan: &FleetPlan) -> Result<(), Stopped> {
        let placement = placement(&plan.ports, self.states.get(gateway));
        if self.placed.get(gateway) == Some(&placement) {
            return Ok(());
        }
        self.placed.insert(gateway.clone(), placement.clone());
        self.handle.placed(gateway.clone(), Some(placement))
    }
}

fn notice(error: &ApplyError) -> Notice {
    let reason = match error {
        ApplyError::Foreign { .. } => "NotOurs",
        ApplyError::Rival { .. } => "TwoOperators",
        _ => "FleetFailed",
    };
    Notice { warning: true, reason: reason.into(), action: "Provision", message: error.to_string() }
}

/// Where a Gateway is: its ports on every address of a pod, and what its fleet is known to be.
fn placement(ports: &BTreeSet<(u16, Transport)>, state: Option<&FleetState>) -> Placement {
    let everywhere = |port: (u16, Transport)| {
        if port == OURS {
            return Err(format!(
                "port {PROXY_PORT} of a pod is for its probes and statistics: choose another"
            ));
        }
        Ok(vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.0)])
    };
    let bound = Placement::bound(ports.iter().map(|port| (*port, everywhere(*port))));
    let waits = || Addresses::Pending { assigned: Vec::new(), why: "its fleet is being made".into() };
    Placement {
        addresses: state.map_or_else(waits, |state| addresses(&state.addresses)),
        ready: state.is_some_and(|state| state.ready > 0),
        trouble: state.and_then(|state| state.trouble.clone()),
        ..bound
    }
}

fn addresses(found: &Found) -> Addresses {
    let assigned: Vec<AddressReport> = found
        .assigned
        .iter()
        .map(|address| match address {
            Address::Ip(ip) => AddressReport::ip(*ip),
            Address::Hostname(name) => AddressReport::hostname(name.clone()),
            Address::Inside(ip) => AddressReport::inside(*ip),
        })
        .collect();
    match (&found.refused, &found.pending) {
        (Some(why), _) => Addresses::Refused { assigned, why: why.clone() },
        (None, Some(why)) => Addresses::Pending { assigned, why: why.clone() },
        (None, None) => Addresses::Assigned(assigned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn ports_are_the_same_everywhere() {
        let placement = placement(&BTreeSet::from([(80, Transport::Tcp), (443, Transport::Tcp)]), None);
        assert_eq!(placement.ports[&(443, Transport::Tcp)], Ok(vec!["[::]:443".parse().unwrap()]));
        assert!(!placement.ready && matches!(placement.addresses, Addresses::Pending { .. }));
    }

    #[test]
    fn the_port_of_a_pods_probes_is_not_a_listeners() {
        let udp = (PROXY_PORT, Transport::Udp);
        let plan = FleetPlan { ports: BTreeSet::from([OURS, udp]), uid: "u".into(), ..FleetPlan::default() };
        let placement = placement(&plan.ports, None);
        let why = placement.ports[&OURS].as_ref().unwrap_err();
        assert!(why.contains("19001"), "{why}");
        assert!(placement.ports[&udp].is_ok(), "only TCP is taken");
        let fleet = fleet(GatewayName::new("apps", "web").unwrap(), &plan).unwrap();
        assert_eq!(fleet.ports, BTreeSet::from([udp]));
    }

    #[test]
    fn addresses_inside_the_cluster_are_asked_for_apart() {
        let fleet = |addresses: Value| {
            let addresses = serde_json::from_value(addresses).unwrap();
            let plan = FleetPlan { addresses, uid: "u".into(), ..FleetPlan::default() };
            let fleet = fleet(GatewayName::new("apps", "web").unwrap(), &plan).unwrap();
            (fleet.addresses, fleet.inside.map(|inside| (inside.addresses, inside.only)))
        };
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        assert_eq!(fleet(json!([])), (vec![], None));
        assert_eq!(fleet(json!([{"value": "192.0.2.7"}])), (vec![ip("192.0.2.7")], None));
        assert_eq!(fleet(json!([{"routability": "Cluster"}])), (vec![], Some((vec![], true))));
        assert_eq!(fleet(json!([{}, {"routability": "Cluster"}])), (vec![], Some((vec![], false))));
        assert_eq!(
            fleet(json!([{"value": "192.0.2.7"}, {"value": "10.96.0.7", "routability": "Cluster"}])),
            (vec![ip("192.0.2.7")], Some((vec![ip("10.96.0.7")], false)))
        );
    }

    #[test]
    fn an_address_inside_the_cluster_is_reported_as_such_and_last() {
        let (inside, outside) = ("10.96.0.7".parse().unwrap(), "192.0.2.7".parse().unwrap());
        let found =
            Found { assigned: vec![Address::Ip(outside), Address::Inside(inside)], ..Found::default() };
        let Addresses::Assigned(mut reports) = addresses(&found) else { panic!("{found:?}") };
        reports.sort();
        assert_eq!(
            json!(reports),
            json!([
                {"type": "IPAddress", "value": "192.0.2.7"},
                {"type": "IPAddress", "value": "10.96.0.7", "routability": "Cluster"}
            ])
        );
    }

    #[test]
    fn what_a_fleet_reports_is_what_the_gateway_says() {
        let found = |assigned: &[&str], refused: Option<&str>, pending: Option<&str>| Found {
            assigned: assigned.iter().map(|ip| Address::Ip(ip.parse().unwrap())).collect(),
            refused: refused.map(ToOwned::to_owned),
            pending: pending.map(ToOwned::to_owned),
        };
        let reported = |ips: &[&str]| ips.iter().map(|ip| AddressReport::ip(ip.parse().unwrap())).collect();
        for (found, expected) in [
            (found(&["192.0.2.1"], None, None), Addresses::Assigned(reported(&["192.0.2.1"]))),
            (
                found(&[], None, Some("not yet")),
                Addresses::Pending { assigned: reported(&[]), why: "not yet".into() },
            ),
            (
                found(&["192.0.2.1"], Some("taken"), Some("not yet")),
                Addresses::Refused { assigned: reported(&["192.0.2.1"]), why: "taken".into() },
            ),
        ] {
            let state = FleetState { addresses: found, ready: 1, ..FleetState::default() };
            let placement = placement(&BTreeSet::new(), Some(&state));
            assert_eq!(placement.addresses, expected);
            assert!(placement.ready);
        }
    }
}
