//! Where a Gateway's ports are in a cluster: the same port on every address of each proxy's pod, on every replica of the
//! control plane alike; and where clients reach them, which the fleet knows.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
};

use portolan_xds::ir::Transport;
use tokio::sync::watch;

use crate::{
    model::ObjectKey,
    resolve::{Addresses, Fault, Placement},
    runtime::{Handle, Stopped, Wanted},
};

/// Where clients reach each Gateway, as its fleet's Service tells. A Gateway that is not in it has no fleet yet.
pub type Reached = BTreeMap<ObjectKey, Addresses>;

/// Places what is wanted, for as long as the core runs.
pub(super) async fn follow(handle: Handle, mut reached: watch::Receiver<Reached>) {
    let mut wanted = handle.wanted();
    let mut placed: BTreeMap<ObjectKey, Placement> = BTreeMap::new();
    loop {
        let now = placements(&wanted.borrow_and_update(), &reached.borrow_and_update());
        if tell(&handle, &placed, &now).is_err() {
            return;
        }
        placed = now;
        // Who knows the fleets may end before the core does.
        let reached_changed = async {
            if reached.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = reached_changed => {}
        }
    }
}

fn tell(
    handle: &Handle,
    before: &BTreeMap<ObjectKey, Placement>,
    now: &BTreeMap<ObjectKey, Placement>,
) -> Result<(), Stopped> {
    for (gateway, placement) in now {
        if before.get(gateway) != Some(placement) {
            handle.placed(gateway.clone(), Some(placement.clone()))?;
        }
    }
    for gateway in before.keys().filter(|gateway| !now.contains_key(*gateway)) {
        // Its proxies go with its Deployment, which its owner's removal takes along.
        handle.forget(gateway.clone())?;
    }
    Ok(())
}

fn placements(wanted: &Wanted, reached: &Reached) -> BTreeMap<ObjectKey, Placement> {
    let place = |(gateway, ports): (&ObjectKey, &std::collections::BTreeSet<(u16, Transport)>)| {
        let ports = ports.iter().map(|port| (*port, Ok(vec![every_address(port.0)]))).collect();
        let addresses = reached.get(gateway).cloned().unwrap_or_else(|| {
            Addresses::Lacking(Fault::new("AddressNotAssigned", "the fleet's Service has no address yet"))
        });
        (gateway.clone(), Placement { ports, addresses })
    };
    wanted.iter().map(place).collect()
}

fn every_address(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{model::Kind, resolve::Address};

    #[test]
    fn ports_are_the_same_everywhere_and_addresses_are_the_fleets() {
        let key = |name: &str| ObjectKey::new(Kind::Gateway, "default", name);
        let ports = BTreeSet::from([(80, Transport::Tcp), (443, Transport::Tcp)]);
        let wanted = Wanted::from([(key("new"), ports.clone()), (key("old"), ports)]);
        let assigned = Addresses::Assigned(vec![Address::Hostname("lb.example.com".into())]);
        let placed = placements(&wanted, &Reached::from([(key("old"), assigned.clone())]));
        assert_eq!(placed[&key("old")].addresses, assigned);
        assert!(
            matches!(&placed[&key("new")].addresses, Addresses::Lacking(fault) if fault.reason == "AddressNotAssigned")
        );
        for placement in placed.values() {
            assert_eq!(placement.ports[&(443, Transport::Tcp)], Ok(vec!["[::]:443".parse().unwrap()]));
        }
    }
}
