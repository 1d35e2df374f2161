//! Where a Gateway's ports are in a cluster: the same port on every address of each proxy's pod, on every replica of the
//! control plane alike.

use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddr},
};

use portolan_xds::ir::Transport;

use crate::{
    model::ObjectKey,
    resolve::Placement,
    runtime::{Handle, Stopped, Wanted},
};

/// Places what is wanted, for as long as the core runs.
pub(super) async fn follow(handle: Handle) {
    let mut wanted = handle.wanted();
    let mut placed = Wanted::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        if tell(&handle, &placed, &now).is_err() {
            return;
        }
        placed = now;
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

fn tell(handle: &Handle, before: &Wanted, now: &Wanted) -> Result<(), Stopped> {
    for (gateway, ports) in now.iter().filter(|(gateway, ports)| before.get(*gateway) != Some(*ports)) {
        handle.placed(gateway.clone(), Some(placement(ports)))?;
    }
    let gone: BTreeSet<&ObjectKey> = before.keys().filter(|gateway| !now.contains_key(*gateway)).collect();
    for gateway in gone {
        // Its proxies go with its Deployment, which its owner takes along.
        handle.forget(gateway.clone())?;
    }
    Ok(())
}

fn placement(ports: &BTreeSet<(u16, Transport)>) -> Placement {
    let everywhere = |port: u16| Ok(vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)]);
    Placement::bound(ports.iter().map(|port| (*port, everywhere(port.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_the_same_everywhere() {
        let placement = placement(&BTreeSet::from([(80, Transport::Tcp), (443, Transport::Tcp)]));
        assert_eq!(placement.ports[&(443, Transport::Tcp)], Ok(vec!["[::]:443".parse().unwrap()]));
    }
}
