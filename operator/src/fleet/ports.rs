//! Which address and port on this host stands for each port of a Gateway.
//!
//! A port of the API is bound as it is where that is allowed. Below the first unprivileged port (80, 443) an ordinary user
//! gets another one instead, 10000 higher where that is free, and the same one again after a restart. Envoy binds with
//! `SO_REUSEPORT`, so it would share a port with a stranger in silence: every port is tried without it first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use portolan_xds::ir::Transport;
use serde::{Deserialize, Serialize};

use super::GatewayName;
use super::address::Addresses;
use super::files::{FileError, read_json, write_json};

/// Added to a port that may not be bound, one after the other, before the system is asked for any free port.
const OFFSETS: [u16; 3] = [10_000, 20_000, 30_000];

/// How API ports become bound ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortPolicy {
    /// The same number, or an error.
    Exact,
    /// The same number, except below the first unprivileged port, where another one is found.
    Auto {
        /// The first port that anyone may bind.
        unprivileged_start: u16,
    },
}

impl PortPolicy {
    /// What suits this process: exact where it may bind every port (`CAP_NET_BIND_SERVICE`, or a system that reserves
    /// none), else auto.
    pub fn detect() -> Self {
        let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(1024);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if start <= 1 || may_bind_all(&status) {
            Self::Exact
        } else {
            Self::Auto { unprivileged_start: start }
        }
    }

    /// Auto, with this system's first unprivileged port: for users who ask for it.
    pub fn auto() -> Self {
        match Self::detect() {
            auto @ Self::Auto { .. } => auto,
            Self::Exact => Self::Auto { unprivileged_start: 1024 },
        }
    }
}

/// Whether `/proc/self/status` shows `CAP_NET_BIND_SERVICE` (capability 10) in effect.
fn may_bind_all(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << 10) != 0)
}

/// Where Gateways listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Each on an address of its own, see [`super::address`].
    Own,
    /// All on this one, where their ports may collide.
    Shared(IpAddr),
}

/// Why a port is not bound: the Gateway API's `PortUnavailable`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Another process listens there.
    #[error(
        "{transport} {address} is in use by another process; stop it, or choose another port or --bind address"
    )]
    InUse {
        /// The address that was tried.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
    },
    /// Another Gateway, or another port of the same one, is bound there.
    #[error(
        "{transport} {address} already serves port {port} of Gateway {gateway}; choose another port, or give each Gateway its own address (no --bind)"
    )]
    Taken {
        /// The address that was wanted.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
        /// Who has it.
        gateway: GatewayName,
        /// For which of its ports.
        port: u16,
    },
    /// This process may not bind it, or the address is not one of this host.
    #[error(
        "{transport} {address} cannot be bound: {reason}; --ports auto finds a port that can, --bind ADDRESS another address"
    )]
    Refused {
        /// The address that was tried.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
        /// What the system said.
        reason: String,
    },
    /// No port at all is free.
    #[error("no free port on {address} stands in for {transport} port {port}")]
    NoneFree {
        /// The Gateway's address.
        address: IpAddr,
        /// The API's port.
        port: u16,
        /// TCP or UDP.
        transport: Transport,
    },
    /// Every loopback address for Gateways is taken.
    #[error("no loopback address is left for Gateway {0}; use --bind ADDRESS")]
    NoAddress(GatewayName),
}

/// What an attempt to bind found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It can be bound.
    Free,
    /// Something listens there.
    InUse,
    /// It cannot be bound by us, or at all.
    Refused(String),
}

/// The system's ports; tests have a twin of their own.
pub trait Probe {
    /// Tries to bind, without sharing, and lets go again.
    fn probe(&self, address: SocketAddr, transport: Transport) -> Probed;
    /// Any free port on an address.
    fn any(&self, address: IpAddr, transport: Transport) -> Option<u16>;
}

/// The ports of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemProbe;

impl SystemProbe {
    fn bind(address: SocketAddr, transport: Transport) -> io::Result<SocketAddr> {
        match transport {
            Transport::Tcp => TcpListener::bind(address)?.local_addr(),
            Transport::Udp => UdpSocket::bind(address)?.local_addr(),
        }
    }
}

impl Probe for SystemProbe {
    fn probe(&self, address: SocketAddr, transport: Transport) -> Probed {
        match Self::bind(address, transport) {
            Ok(_) => Probed::Free,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Probed::InUse,
            Err(error) => Probed::Refused(error.to_string()),
        }
    }

    fn any(&self, address: IpAddr, transport: Transport) -> Option<u16> {
        Self::bind(SocketAddr::new(address, 0), transport).ok().map(|bound| bound.port())
    }
}

/// A port of the API.
pub type ApiPort = (u16, Transport);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    gateway: GatewayName,
    port: u16,
    udp: bool,
    bound: SocketAddr,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    addresses: Addresses,
    ports: Vec<Mapping>,
}

/// The addresses and ports of all Gateways of one standalone.
#[derive(Debug)]
pub struct Ports<P = SystemProbe> {
    probe: P,
    port_policy: PortPolicy,
    address_policy: AddressPolicy,
    salt: String,
    addresses: Addresses,
    mapped: BTreeMap<(GatewayName, ApiPort), SocketAddr>,
    /// Mapped and bound by our own Envoys as far as we know: not to be probed.
    held: BTreeSet<(GatewayName, ApiPort)>,
}

impl<P: Probe> Ports<P> {
    /// Nothing mapped yet. The salt (a state folder's key) gives standalones on one host different addresses.
    pub fn new(probe: P, port_policy: PortPolicy, address_policy: AddressPolicy, salt: &str) -> Self {
        Self {
            probe,
            port_policy,
            address_policy,
            salt: salt.to_owned(),
            addresses: Addresses::default(),
            mapped: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    /// Recalls what [`Ports::save`] wrote, if anything. Bound ports are tried again before they are used, unless
    /// [`Ports::trust`] says that our own proxy still has them.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn load(mut self, path: &Path) -> Result<Self, FileError> {
        if let Some(saved) = read_json::<Saved>(path)? {
            self.addresses = saved.addresses;
            let transport = |udp| if udp { Transport::Udp } else { Transport::Tcp };
            self.mapped = saved
                .ports
                .into_iter()
                .map(|one| ((one.gateway, (one.port, transport(one.udp))), one.bound))
                .collect();
        }
        Ok(self)
    }

    /// Remembers addresses and ports for the next start.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let ports = self.mapped.iter().map(|((gateway, (port, transport)), bound)| Mapping {
            gateway: gateway.clone(),
            port: *port,
            udp: *transport == Transport::Udp,
            bound: *bound,
        });
        write_json(path, &Saved { addresses: self.addresses.clone(), ports: ports.collect() })
    }

    /// The Gateway's proxy was found alive: what is bound for it is bound by us.
    pub fn trust(&mut self, gateway: &GatewayName) {
        self.held.extend(self.mapped.keys().filter(|(owner, _)| owner == gateway).cloned());
    }

    /// The Gateway's proxy ended: its ports stay its own, but are tried again before they are used.
    pub fn distrust(&mut self, gateway: &GatewayName) {
        self.held.retain(|(owner, _)| owner != gateway);
    }

    /// The Gateway is gone for good: its address and ports are free for others.
    pub fn release(&mut self, gateway: &GatewayName) {
        self.distrust(gateway);
        self.mapped.retain(|(owner, _), _| owner != gateway);
        self.addresses.release(gateway);
    }

    /// The Gateway's address, chosen now if it has none yet.
    ///
    /// # Errors
    /// Where four million are taken.
    pub fn address(&mut self, gateway: &GatewayName) -> Result<IpAddr, PortError> {
        match self.address_policy {
            AddressPolicy::Shared(address) => Ok(address),
            AddressPolicy::Own => self
                .addresses
                .assign(gateway, &self.salt)
                .ok_or_else(|| PortError::NoAddress(gateway.clone())),
        }
    }

    /// Where each port of a Gateway is bound. A port that cannot be is an error of its own; asking again tries it again.
    /// Ports that are no longer named stay mapped until the Gateway is released: its Envoy may still drain them.
    pub fn assign(
        &mut self,
        gateway: &GatewayName,
        api_ports: &[ApiPort],
    ) -> BTreeMap<ApiPort, Result<SocketAddr, PortError>> {
        let wanted: BTreeSet<ApiPort> = api_ports.iter().copied().collect();
        let address = match self.address(gateway) {
            Ok(address) => address,
            Err(error) => return wanted.into_iter().map(|port| (port, Err(error.clone()))).collect(),
        };
        // Ports that must be exact first: a stand-in has a choice.
        let (exact, stand_in): (Vec<_>, Vec<_>) =
            wanted.iter().copied().partition(|port| self.is_exact(port.0));
        let mut assigned = BTreeMap::new();
        for port in exact.into_iter().chain(stand_in) {
            let result = self.bind(gateway, address, port, &wanted);
            if let Ok(bound) = result {
                let key = (gateway.clone(), port);
                self.mapped.insert(key.clone(), bound);
                self.held.insert(key);
            }
            assigned.insert(port, result);
        }
        assigned
    }

    fn is_exact(&self, port: u16) -> bool {
        match self.port_policy {
            PortPolicy::Exact => true,
            PortPolicy::Auto { unprivileged_start } => port >= unprivileged_start,
        }
    }

    fn bind(
        &self,
        gateway: &GatewayName,
        address: IpAddr,
        api: ApiPort,
        wanted: &BTreeSet<ApiPort>,
    ) -> Result<SocketAddr, PortError> {
        let (port, transport) = api;
        let key = (gateway.clone(), api);
        // A mapping of other settings (--bind, --ports) is of no use.
        let before = self
            .mapped
            .get(&key)
            .copied()
            .filter(|bound| bound.ip() == address && (bound.port() == port) == self.is_exact(port));
        if let Some(bound) = before
            && self.held.contains(&key)
        {
            return Ok(bound);
        }
        if self.is_exact(port) {
            let bound = SocketAddr::new(address, port);
            return self.try_port(&key, bound).map(|()| bound);
        }
        let stand_ins = OFFSETS.iter().filter_map(|offset| port.checked_add(*offset));
        let candidates = before.map(|bound| bound.port()).into_iter().chain(stand_ins);
        for candidate in candidates {
            let bound = SocketAddr::new(address, candidate);
            if wanted.contains(&(candidate, transport)) {
                continue;
            }
            match self.try_port(&key, bound) {
                Ok(()) => return Ok(bound),
                // An address that is not ours stays so with every other port.
                Err(refused @ PortError::Refused { .. }) => return Err(refused),
                Err(_) => {}
            }
        }
        (0..16)
            .filter_map(|_| self.probe.any(address, transport))
            .map(|candidate| SocketAddr::new(address, candidate))
            .find(|bound| !wanted.contains(&(bound.port(), transport)) && self.taken(&key, *bound).is_none())
            .ok_or(PortError::NoneFree { address, port, transport })
    }

    fn try_port(&self, key: &(GatewayName, ApiPort), bound: SocketAddr) -> Result<(), PortError> {
        let transport = key.1.1;
        if let Some((gateway, port)) = self.taken(key, bound) {
            return Err(PortError::Taken { address: bound, transport, gateway: gateway.clone(), port });
        }
        match self.probe.probe(bound, transport) {
            Probed::Free => Ok(()),
            Probed::InUse => Err(PortError::InUse { address: bound, transport }),
            Probed::Refused(reason) => Err(PortError::Refused { address: bound, transport, reason }),
        }
    }

    /// Who else has that address.
    fn taken(&self, key: &(GatewayName, ApiPort), bound: SocketAddr) -> Option<(&GatewayName, u16)> {
        let transport = key.1.1;
        self.mapped
            .iter()
            .find(|(other, address)| **address == bound && other.1.1 == transport && *other != key)
            .map(|((gateway, (port, _)), _)| (gateway, *port))
    }
}

#[cfg(test)]
mod tests;
