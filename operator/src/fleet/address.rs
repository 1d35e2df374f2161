//! An address of its own for each Gateway on this host: 127.x.y.z, the same at every start.
//!
//! All of 127.0.0.0/8 is loopback on Linux and needs no set-up, so Gateways that listen on the same port do not collide.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::GatewayName;

/// The second byte of addresses, first and last: away from 127.0.0.1 and from 127.0.1.1 and 127.0.0.53 that
/// distributions use.
const SECOND: (u8, u8) = (64, 127);

/// The address for a Gateway, given those taken by others. `salt` tells standalones on one host apart.
///
/// Where two names meet on one address, the one that comes later gets another, always the same one. Nothing if
/// every candidate is taken, of which there are four million.
pub fn choose(gateway: &GatewayName, salt: &str, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    (0..10_000).map(|attempt| candidate(gateway, salt, attempt)).find(|address| !taken.contains(address))
}

/// The attempt-th address for a name: never ends in 0 or 255.
fn candidate(gateway: &GatewayName, salt: &str, attempt: u32) -> IpAddr {
    let hash = blake3::hash(format!("{salt}\0{gateway}\0{attempt}").as_bytes());
    let [x, y, z, ..] = *hash.as_bytes();
    let (first, last) = SECOND;
    IpAddr::V4(Ipv4Addr::new(127, first + x % (last - first + 1), y, 1 + z % 254))
}

/// The addresses of all Gateways of one standalone.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Addresses {
    given: BTreeMap<GatewayName, IpAddr>,
}

impl Addresses {
    /// The Gateway's address, chosen now if it has none yet.
    pub fn assign(&mut self, gateway: &GatewayName, salt: &str) -> Option<IpAddr> {
        if let Some(address) = self.given.get(gateway) {
            return Some(*address);
        }
        let taken = self.given.values().copied().collect();
        let address = choose(gateway, salt, &taken)?;
        self.given.insert(gateway.clone(), address);
        Some(address)
    }

    /// The Gateway's address, if it has one.
    pub fn get(&self, gateway: &GatewayName) -> Option<IpAddr> {
        self.given.get(gateway).copied()
    }

    /// Gives the Gateway's address up.
    pub fn release(&mut self, gateway: &GatewayName) {
        self.given.remove(gateway);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(name: &str) -> GatewayName {
        GatewayName::new("default", name).unwrap()
    }

    #[test]
    fn addresses_are_stable_and_in_range() {
        // Fixed for ever: people write these down.
        assert_eq!(candidate(&gateway("gw"), "", 0).to_string(), "127.104.72.188");
        for number in 0..2000 {
            let IpAddr::V4(address) = candidate(&gateway(&format!("gw-{number}")), "s", 0) else { panic!() };
            let [a, x, _, z] = address.octets();
            assert!(a == 127 && (64..=127).contains(&x) && (1..=254).contains(&z), "{address}");
        }
        assert_ne!(candidate(&gateway("gw"), "one", 0), candidate(&gateway("gw"), "two", 0));
    }

    #[test]
    fn collisions_move_the_later_one() {
        let first = candidate(&gateway("gw"), "", 0);
        let moved = choose(&gateway("gw"), "", &BTreeSet::from([first])).unwrap();
        assert_eq!(moved, candidate(&gateway("gw"), "", 1));
        let mut addresses = Addresses::default();
        let a = addresses.assign(&gateway("a"), "").unwrap();
        let b = addresses.assign(&gateway("b"), "").unwrap();
        assert_ne!(a, b);
        let text = serde_json::to_string(&addresses).unwrap();
        let mut again: Addresses = serde_json::from_str(&text).unwrap();
        assert_eq!(again.assign(&gateway("a"), "other salt"), Some(a));
        again.release(&gateway("a"));
        assert_eq!(again.get(&gateway("a")), None);
    }
}
