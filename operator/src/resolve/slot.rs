//! Slots: the places where routes meet. A virtual host of a route table, or a server name of a port whose connections
//! or datagrams are passed on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use foldhash::HashMap;
use portolan_xds::ir::{RouteTableName, VirtualHostKey};

use super::{RouteOut, Unit};
use crate::model::ObjectKey;

/// Where routes meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// A virtual host: its routes are merged.
    Host(VirtualHostKey),
    /// A stream: one of its routes serves.
    Stream(StreamKey),
}

/// The streams of a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// `<gateway namespace>/<gateway>/<port>`.
    pub base: Arc<str>,
    /// What is passed on.
    pub kind: StreamKind,
}

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Connections that begin with TLS, by server name.
    Tls,
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A stream: the connections of one server name, or all of a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The streams of the port.
    pub name: StreamName,
    /// The server name: exact, `*.suffix`, or `*` for all.
    pub domain: Arc<str>,
}

impl fmt::Display for StreamKey {
    /// The name of its cluster: `<gateway namespace>/<gateway>/<port>/tcp`, `/udp`, or `/tls/<server name>`. No Service's
    /// cluster has such a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.kind {
            StreamKind::Tls => write!(f, "{}/tls/{}", self.name.base, self.domain),
            StreamKind::Tcp => write!(f, "{}/tcp", self.name.base),
            StreamKind::Udp => write!(f, "{}/udp", self.name.base),
        }
    }
}

impl Slot {
    pub(super) fn host(table: RouteTableName, domain: Arc<str>) -> Self {
        Self::Host(VirtualHostKey { table, domain })
    }

    /// Only TLS has server names.
    pub(super) fn stream(name: StreamName, domain: Arc<str>) -> Self {
        let domain = if name.kind == StreamKind::Tls { domain } else { "*".into() };
        Self::Stream(StreamKey { name, domain })
    }

    /// The unit that resolves it.
    pub(super) fn unit(&self, gateway: &ObjectKey) -> Unit {
        match self {
            Self::Host(key) => Unit::Host(gateway.clone(), key.clone()),
            Self::Stream(key) => Unit::Stream(gateway.clone(), key.clone()),
        }
    }
}

/// How specific the hostname is that a route wrote.
pub(super) type Rank = Reverse<(bool, usize)>;

/// Who shares a slot, and with what.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    /// Routes.
    pub(super) routes: BTreeMap<ObjectKey, Member>,
    /// Why it exists whatever routes do.
    pub(super) structural: Option<Structural>,
}

/// Why a slot exists whatever routes do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structural {
    /// It is a listener's own hostname: 404 or a closed connection (listener isolation).
    Own(Holder),
    /// It is the hostname of another listener: 421.
    Misdirected,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The Gateway or ListenerSet that it is of.
    pub owner: ObjectKey,
    /// Its name there.
    pub listener: Arc<str>,
}

impl Members {
    /// The listener whose slot it is; none where it is another's.
    pub(super) fn holder(&self) -> Option<Holder> {
        match &self.structural {
            Some(Structural::Own(holder)) => Some(holder.clone()),
            Some(Structural::Misdirected) => None,
            None => self.routes.values().next().map(|member| Holder {
                owner: member.parent.clone(),
                listener: member.place.listener.clone(),
            }),
        }
    }
}

/// What a route has of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How specific the hostname is that the route wrote.
    pub rank: Reverse<(bool, usize)>,
    /// The listener of the parent whose slot it is: a slot is one listener's.
    pub listener: Arc<str>,
}

/// A route that shares a slot.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The Gateway or ListenerSet through which it came.
    pub(super) parent: ObjectKey,
    /// Its place.
    pub(super) place: Place,
    /// Its rules, if it could be resolved.
    pub(super) rules: Option<Arc<RouteOut>>,
}

/// All slots with their members, and the streams of each Gateway.
#[derive(Debug, Default)]
pub(super) struct Slots {
    members: HashMap<Slot, Members>,
    streams: HashMap<ObjectKey, BTreeSet<StreamKey>>,
}

impl Slots {
    pub(super) fn members(&self, slot: &Slot) -> Option<&Members> {
        self.members.get(slot)
    }

    /// The slots of all listeners of a Gateway or ListenerSet. Looks at every slot: for rare changes.
    pub(super) fn held_by(&self, owner: &ObjectKey) -> Vec<(Slot, Arc<str>)> {
        let held = self.members.iter().filter_map(|(slot, members)| {
            let holder = members.holder().filter(|holder| holder.owner == *owner)?;
            Some((slot.clone(), holder.listener))
        });
        held.collect()
    }

    /// Gives a route's new rules to a slot. Returns whether it shares the slot.
    pub(super) fn give_rules(
        &mut self,
        slot: &Slot,
        route: &ObjectKey,
        rules: Option<&Arc<RouteOut>>,
    ) -> bool {
        let member = self.members.get_mut(slot).and_then(|members| members.routes.get_mut(route));
        member.map(|member| member.rules = rules.cloned()).is_some()
    }

    /// The streams of a Gateway, with and without routes.
    pub(super) fn streams(&self, gateway: &ObjectKey) -> impl Iterator<Item = &StreamKey> {
        self.streams.get(gateway).into_iter().flatten()
    }

    /// Changes a slot's members. Returns whether the Gateway gained or lost a stream.
    pub(super) fn change(
        &mut self,
        gateway: &ObjectKey,
        slot: &Slot,
        change: impl FnOnce(&mut Members),
    ) -> bool {
        let members = self.members.entry(slot.clone()).or_default();
        change(members);
        let gone = members.routes.is_empty() && members.structural.is_none();
        if gone {
            self.members.remove(slot);
        }
        let Slot::Stream(key) = slot else { return false };
        if !gone {
            return self.streams.entry(gateway.clone()).or_default().insert(key.clone());
        }
        let Some(streams) = self.streams.get_mut(gateway) else { return false };
        let removed = streams.remove(key);
        if streams.is_empty() {
            self.streams.remove(gateway);
        }
        removed
    }
}
