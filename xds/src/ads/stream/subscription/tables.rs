//! Virtual hosts count for a proxy in the tables that it has.
//!
//! Envoy subscribes to all virtual hosts at once, whatever their tables, and only once on a stream. A table that it takes up
//! later gets its hosts unasked; hosts that came before their table are lost, though Envoy says after a reconnect that it
//! has them. So what a proxy has of a table counts from when it was sent the table (Envoy's `VhdsSubscription`).

use std::sync::Arc;

use super::{Pending, Subscription};
use crate::store::{ResourceType, Store, table_of};

/// How a proxy came by a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It was sent it on this stream, before it asked for virtual hosts: it has none of them, whatever it says.
    New,
    /// It had it when it connected, or has been sent its hosts since.
    Known,
}

impl Subscription {
    /// Whether the proxy has this name, and nothing about it waits to be sent.
    pub(in crate::ads::stream) fn is_settled(&self, name: &str) -> bool {
        self.has(name) && !self.pending.contains_key(name)
    }

    /// Whether the proxy has a table with hosts.
    pub(in crate::ads::stream) fn has_hosts_to_come(&self, store: &Store) -> bool {
        self.tables.keys().any(|table| store.hosts_of(table).next().is_some())
    }

    /// The proxy has this table, or was sent it just now (`sent`): then it has none of its hosts, unless it had the table
    /// before.
    pub(in crate::ads::stream) fn enter_table(&mut self, store: &Store, table: &Arc<str>, sent: bool) {
        if self.tables.contains_key(table) {
            return;
        }
        let entered = if sent && !self.asked { Entered::New } else { Entered::Known };
        self.tables.insert(Arc::clone(table), entered);
        if !self.wildcard {
            return;
        }
        for live in store.hosts_of(table) {
            let name = live.resource.name();
            if sent {
                self.mark(name, Pending::forced(live.seq));
            } else if self.has.get(name) != Some(&live.resource.version()) {
                self.mark(name, Pending::changed(live.seq, true, None));
            }
        }
    }

    /// Whether the proxy has this table, or was sent it.
    pub(in crate::ads::stream) fn has_table(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// The proxy does not have this table any more, or is to be sent it anew.
    pub(in crate::ads::stream) fn leave_table(&mut self, table: &str) {
        if self.tables.remove(table).is_some() {
            self.pending.retain(|name, _| table_of(name) != table);
            self.rejected.retain(|name, _| table_of(name) != table);
            self.refused.retain(|name, _| table_of(name) != table);
        }
    }

    /// Whether this is a host of a table whose hosts the proxy cannot have.
    pub(super) fn is_new(&self, name: &str) -> bool {
        self.kind == ResourceType::VirtualHost && self.tables.get(table_of(name)) == Some(&Entered::New)
    }
}
