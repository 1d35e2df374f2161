//! A Gateway's listeners: validity, conflicts, and where their routes go.
//!
//! Reads no Secret: whether certificates can be used is [`super::Unit::Tls`]'s to say.

mod conflict;
mod layout;
mod protocol;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portolan_xds::ir::{RouteTable, RouteTableName, Transport};

pub use protocol::Protocol;

use super::{
    Fault, Unit,
    engine::State,
    slot::{Slot, StreamName},
};
use crate::{
    model::{From, Hostname, Kind, ObjectKey, RouteKind},
    world::{Read, View},
};

/// A listener after validation.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerOut {
    /// Its name.
    pub name: Arc<str>,
    /// Its port.
    pub port: u16,
    /// What it speaks; none for a protocol that Portolan does not.
    pub protocol: Option<Protocol>,
    /// Its hostname.
    pub hostname: Option<Hostname>,
    /// Which namespaces' routes it takes.
    pub from: From,
    /// Which kinds of route it takes, sorted: `supportedKinds`.
    pub kinds: Vec<RouteKind>,
    /// Why it is not accepted.
    pub fault: Option<Fault>,
    /// Whether the fault is a conflict with another listener.
    pub conflicted: bool,
    /// Kinds that were asked for and are not supported by the protocol.
    pub invalid_kinds: Option<Fault>,
    /// Names of other listeners on the port that end TLS for overlapping hostnames.
    pub overlaps: Vec<Arc<str>>,
    /// Where its routes go; none when it is not accepted.
    pub serves: Option<Serves>,
}

/// Where the routes of a listener go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Into a route table, by hostname.
    Http(RouteTableName),
    /// To clusters of its own, by server name.
    Stream(StreamName),
}

impl ListenerOut {
    /// The transport of its port.
    pub fn transport(&self) -> Transport {
        self.protocol.map_or(Transport::Tcp, Protocol::transport)
    }

    /// Where a route goes that meets the listener in a hostname; `None` stands for every host.
    pub(super) fn slot(&self, hostname: Option<&Hostname>) -> Option<Slot> {
        Some(self.serves.as_ref()?.slot(hostname))
    }
}

impl Serves {
    fn slot(&self, hostname: Option<&Hostname>) -> Slot {
        let domain = hostname.map_or_else(|| Arc::from("*"), Hostname::shared);
        match self {
            Self::Http(table) => Slot::host(table.clone(), domain),
            Self::Stream(name) => Slot::stream(name.clone(), domain),
        }
    }
}

/// A Gateway of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenersOut {
    /// metadata.generation.
    pub generation: i64,
    /// Its listeners, in order.
    pub listeners: Vec<ListenerOut>,
    /// The route tables.
    pub tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    /// Slots that exist whatever routes do: a listener's own hostname (404 or a closed connection: listener isolation),
    /// and hostnames of other listeners (421, `true`).
    pub slots: BTreeMap<Slot, bool>,
    /// Accepted listeners by port, transport and hostname.
    owners: BTreeMap<(u16, Transport), BTreeMap<Option<Hostname>, usize>>,
}

impl ListenersOut {
    /// The accepted listener that a hostname belongs to among those of a port: the most specific one that covers it
    /// (GatewayHTTPListenerIsolation). `None` stands for every host.
    pub fn owner(
        &self,
        port: u16,
        transport: Transport,
        hostname: Option<&Hostname>,
    ) -> Option<&ListenerOut> {
        let names = self.owners.get(&(port, transport))?;
        let narrow = hostname.into_iter().flat_map(|host| std::iter::once(host.clone()).chain(host.wider()));
        let index = narrow.map(Some).chain([None]).find_map(|name| names.get(&name))?;
        self.listeners.get(*index)
    }

    /// The accepted listener that a server name of a stream belongs to.
    pub(super) fn stream_owner(
        &self,
        name: &StreamName,
        hostname: Option<&Hostname>,
    ) -> Option<&ListenerOut> {
        let of = |one: &&ListenerOut| matches!(&one.serves, Some(Serves::Stream(serves)) if serves == name);
        let one = self.listeners.iter().find(of)?;
        self.owner(one.port, one.transport(), hostname)
    }

    /// The ports of accepted listeners.
    pub fn ports(&self) -> BTreeSet<(u16, Transport)> {
        self.owners.keys().copied().collect()
    }
}

/// Resolves [`Unit::Listeners`].
pub(super) fn listeners(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<ListenersOut> {
    let gateway = view.gateway(key)?;
    let class = ObjectKey::new(Kind::GatewayClass, "", gateway.class.clone());
    view.record(Read::Output(Unit::Class(class.clone())));
    state.class(&class)?;
    let mut listeners: Vec<ListenerOut> = gateway.listeners.iter().map(validate::validate).collect();
    conflict::find_conflicts(&mut listeners);
    conflict::find_overlaps(&mut listeners);
    let mut out = ListenersOut {
        generation: gateway.meta.generation,
        listeners,
        tables: BTreeMap::new(),
        slots: BTreeMap::new(),
        owners: BTreeMap::new(),
    };
    layout::lay_out(&mut out, key);
    Some(out)
}
