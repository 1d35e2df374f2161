//! Who acknowledged what of one Gateway, and which objects wait for it. Pure.
//!
//! What every connected proxy had acknowledged at one moment stays settled: a proxy that connects later, reconnects or
//! goes away never takes `Programmed` back (design: scaling, rolling and reconnecting never flip it).

use std::collections::{BTreeMap, BTreeSet};

use portolan_xds::{
    ads::{Event, StreamId},
    store::Seq,
};

use crate::{model::ObjectKey, peers::PeerStream};

/// A connected proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProxyId {
    /// To this replica.
    Here(StreamId),
    /// To another one.
    There(PeerStream),
}

/// The acknowledgements of one Gateway's proxies.
#[derive(Debug, Default)]
pub(super) struct Progress {
    streams: BTreeMap<ProxyId, Seq>,
    /// Whether a proxy has been ready: an acknowledged listener may still be warming.
    ready: bool,
    settled: Option<Seq>,
    /// Objects by the edit that they wait for, and the other way round: each waits for its newest only.
    waiting: BTreeMap<Seq, BTreeSet<ObjectKey>>,
    waits_for: BTreeMap<ObjectKey, Seq>,
}

impl Progress {
    /// Takes in an event of a proxy of this replica. Returns the objects that wait no more.
    pub(super) fn on_event(&mut self, stream: StreamId, event: &Event) -> BTreeSet<ObjectKey> {
        match event {
            Event::Opened => self.on_acked(ProxyId::Here(stream), Seq(0)),
            Event::Progress { acked_through } => self.on_acked(ProxyId::Here(stream), *acked_through),
            Event::Closed { .. } => self.on_closed(ProxyId::Here(stream)),
            _ => BTreeSet::new(),
        }
    }

    /// Takes in that a proxy, which may be a new one, has acknowledged everything through an edit. Returns the objects
    /// that wait no more.
    pub(super) fn on_acked(&mut self, proxy: ProxyId, through: Seq) -> BTreeSet<ObjectKey> {
        if self.streams.insert(proxy, through) == Some(through) { BTreeSet::new() } else { self.settle() }
    }

    /// Takes in that a proxy is gone or unknown. Returns the objects that wait no more.
    pub(super) fn on_closed(&mut self, proxy: ProxyId) -> BTreeSet<ObjectKey> {
        self.streams.remove(&proxy);
        self.settle()
    }

    /// Takes in that a proxy serves. Returns the objects that wait no more.
    pub(super) fn on_ready(&mut self) -> BTreeSet<ObjectKey> {
        if std::mem::replace(&mut self.ready, true) { BTreeSet::new() } else { self.settle() }
    }

    fn settle(&mut self) -> BTreeSet<ObjectKey> {
        if !self.ready {
            return BTreeSet::new();
        }
        // A proxy that has asked for nothing yet has acknowledged nothing: edit zero settles nothing.
        let all = self.streams.values().min().copied().filter(|seq| *seq > Seq(0));
        self.settled = self.settled.max(all);
        let Some(settled) = self.settled else { return BTreeSet::new() };
        let later = self.waiting.split_off(&settled.next());
        let done: BTreeSet<ObjectKey> =
            std::mem::replace(&mut self.waiting, later).into_values().flatten().collect();
        for object in &done {
            self.waits_for.remove(object);
        }
        done
    }

    /// The newest edit that is in force on every proxy.
    pub(super) fn settled(&self) -> Option<Seq> {
        self.settled
    }

    /// Whether a proxy has been ready.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many proxies are connected, and how many of them have not acknowledged an edit.
    pub(super) fn lacking(&self, seq: Seq) -> (usize, usize) {
        (self.streams.len(), self.streams.values().filter(|acked| **acked < seq).count())
    }

    /// Notes that an object's report waits for an edit.
    pub(super) fn wait(&mut self, object: &ObjectKey, seq: Seq) {
        if let Some(before) = self.waits_for.insert(object.clone(), seq)
            && let Some(objects) = self.waiting.get_mut(&before)
        {
            objects.remove(object);
            if objects.is_empty() {
                self.waiting.remove(&before);
            }
        }
        self.waiting.entry(seq).or_default().insert(object.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn ready() -> Progress {
        let mut progress = Progress::default();
        progress.on_ready();
        progress
    }

    fn at(acked: u64) -> Event {
        Event::Progress { acked_through: Seq(acked) }
    }

    #[test]
    fn an_object_waits_until_every_proxy_has_acknowledged_its_edit() {
        let mut progress = ready();
        let route = ObjectKey::new(Kind::HttpRoute, "default", "r");
        progress.wait(&route, Seq(5));
        progress.on_event(StreamId(1), &Event::Opened);
        progress.on_event(StreamId(2), &Event::Opened);
        assert!(progress.on_event(StreamId(1), &at(7)).is_empty());
        assert_eq!(progress.lacking(Seq(5)), (2, 1));
        assert!(progress.on_event(StreamId(2), &at(4)).is_empty());
        assert_eq!(progress.on_event(StreamId(2), &at(5)), BTreeSet::from([route]));
        assert_eq!(progress.settled(), Some(Seq(5)));
    }

    #[test]
    fn what_is_acknowledged_counts_when_a_proxy_serves() {
        let mut progress = Progress::default();
        let route = ObjectKey::new(Kind::HttpRoute, "default", "r");
        progress.wait(&route, Seq(5));
        assert!(progress.on_event(StreamId(1), &at(5)).is_empty());
        assert_eq!(progress.settled(), None);
        assert_eq!(progress.on_ready(), BTreeSet::from([route]));
        assert_eq!(progress.settled(), Some(Seq(5)));
    }

    #[test]
    fn a_proxy_that_connects_later_takes_nothing_back() {
        let mut progress = ready();
        progress.on_event(StreamId(1), &at(3));
        progress.on_event(StreamId(2), &Event::Opened);
        assert_eq!(progress.settled(), Some(Seq(3)));
        progress.on_event(StreamId(1), &Event::Closed { reason: "gone".into() });
        progress.on_event(StreamId(2), &at(2));
        assert_eq!(progress.settled(), Some(Seq(3)));
    }

    #[test]
    fn a_proxy_that_leaves_is_not_waited_for() {
        let mut progress = ready();
        let route = ObjectKey::new(Kind::HttpRoute, "default", "r");
        progress.on_event(StreamId(1), &at(9));
        progress.on_event(StreamId(2), &at(1));
        progress.wait(&route, Seq(9));
        let closed = Event::Closed { reason: "gone".into() };
        assert_eq!(progress.on_event(StreamId(2), &closed), BTreeSet::from([route]));
    }
}
