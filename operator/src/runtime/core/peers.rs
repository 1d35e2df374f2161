//! What other replicas tell the core, and what it tells them. See [`crate::peers`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use portolan_xds::{
    GatewayKey,
    ads::{Event, StreamId},
    program::{Applied, Program, ResourceKey},
    store::{ResourceType, Store, Version},
};
use tokio::sync::watch;

use super::{Core, Served, Shared};
use crate::{
    model::{Kind, ObjectKey},
    peers::{Mirrors, PeerId, PeerStream, StreamReport, Verdicts},
    runtime::progress::ProxyId,
};

/// Which other replica said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Teller {
    /// The leader, to its follower.
    Leader,
    /// A follower, to its leader.
    Follower(PeerId),
}

fn object(gateway: &GatewayKey) -> ObjectKey {
    ObjectKey::new(Kind::Gateway, gateway.namespace.clone(), gateway.name.clone())
}

impl Core {
    // ---- As a follower ----

    /// A line to the leader is open: everything is to be told. The number moves when there is something to tell.
    pub fn line_opened(&mut self) -> watch::Receiver<u64> {
        self.book.open();
        let mut turns = self.outlets.reports.subscribe();
        turns.mark_changed();
        turns
    }

    /// The line is closed: nobody is told, and what the leader told counts no more.
    pub fn line_closed(&mut self) {
        self.book.close();
        self.forget_teller(Teller::Leader);
    }

    /// What to tell next.
    pub fn next_report(&mut self) -> Option<StreamReport> {
        let served = &self.served;
        self.book.next(&mut |gateway, look| {
            if let Some(Served { shared, .. }) = served.get(&object(gateway)) {
                let running = shared.lock();
                shared.store.read(|store| look(store, &|resource| running.program.accepted(resource)));
            }
        })
    }

    /// The leader says what is rejected of a Gateway. It decides what is served instead.
    pub fn told_by_leader(&mut self, verdicts: Verdicts) {
        self.told_by(Teller::Leader, verdicts);
    }

    pub(super) fn note_for_leader(&mut self, gateway: &GatewayKey, stream: StreamId, event: &Event) {
        let told = match self.served.get(&object(gateway)) {
            Some(Served { shared, .. }) => {
                let running = shared.lock();
                let accepted = |resource: &_| running.program.accepted(resource);
                shared.store.read(|store| self.book.on_event(gateway, stream, event, store, accepted))
            }
            // Its streams end after it has gone.
            None => self.book.on_event(gateway, stream, event, &Store::default(), |_| None),
        };
        if told {
            self.outlets.reports.send_modify(|turn| *turn += 1);
        }
    }

    // ---- As a leader ----

    /// A follower says what one of its proxies has in force.
    pub fn peer_reports(&mut self, peer: PeerId, report: &StreamReport) {
        let gateway = object(&report.gateway);
        let stream = PeerStream { peer, stream: report.stream };
        if report.closed {
            self.lose(&gateway, &[stream]);
            return;
        }
        let Some(served) = self.served.get_mut(&gateway) else {
            // Its Gateway comes later.
            let mirrors = self.mirrors.entry(gateway).or_default();
            mirrors.on_report(stream, &report.entries, report.fresh, &Store::default());
            return;
        };
        let mirrors =
            self.mirrors.entry(gateway.clone()).or_insert_with(|| served.shared.store.read(Mirrors::new));
        let known = mirrors.of(peer).contains(&stream);
        let accepted =
            served.shared.store.read(|store| mirrors.on_report(stream, &report.entries, report.fresh, store));
        let mut reports = served.edit(Some(mirrors), |program, store| accept(program, &accepted, store));
        reports.extend(served.review(&self.engine, &gateway));
        if !known {
            reports.insert(gateway);
        }
        self.judge(&reports);
    }

    /// A follower says what its proxies reject of a Gateway.
    pub fn told_by_follower(&mut self, peer: PeerId, verdicts: Verdicts) {
        self.told_by(Teller::Follower(peer), verdicts);
    }

    /// A follower is gone: its proxies are unknown.
    pub fn peer_gone(&mut self, peer: PeerId) {
        self.forget_teller(Teller::Follower(peer));
        let all: Vec<_> = self.mirrors.iter().map(|(gateway, all)| (gateway.clone(), all.of(peer))).collect();
        for (gateway, streams) in all {
            self.lose(&gateway, &streams);
        }
    }

    fn lose(&mut self, gateway: &ObjectKey, streams: &[PeerStream]) {
        let Some(mirrors) = self.mirrors.get_mut(gateway).filter(|_| !streams.is_empty()) else { return };
        for stream in streams {
            mirrors.close(*stream);
        }
        if mirrors.is_empty() {
            self.mirrors.remove(gateway);
        }
        let Some(served) = self.served.get_mut(gateway) else { return };
        let mut reports = BTreeSet::from([gateway.clone()]);
        for stream in streams {
            reports.extend(served.progress.on_closed(ProxyId::There(*stream)));
        }
        self.judge(&reports);
    }

    // ---- As either ----

    fn told_by(&mut self, teller: Teller, verdicts: Verdicts) {
        let gateway = object(&verdicts.gateway);
        let told = self.told.entry(gateway.clone()).or_default();
        if verdicts.frozen.is_empty() && verdicts.unattributed.is_empty() {
            told.remove(&teller);
        } else {
            told.insert(teller, verdicts);
        }
        if told.is_empty() {
            self.told.remove(&gateway);
        }
        self.heed(&gateway);
    }

    fn forget_teller(&mut self, teller: Teller) {
        let tellers = self.told.iter().filter(|(_, told)| told.contains_key(&teller));
        let gateways: Vec<ObjectKey> = tellers.map(|(gateway, _)| gateway.clone()).collect();
        for gateway in gateways {
            let (namespace, name) = (gateway.namespace.clone(), gateway.name.clone());
            let nothing = Verdicts {
                gateway: GatewayKey::new(namespace, name),
                frozen: Vec::new(),
                unattributed: Vec::new(),
            };
            self.told_by(teller, nothing);
        }
    }

    /// Follows what others say of a Gateway, all of it.
    pub(super) fn heed(&mut self, gateway: &ObjectKey) {
        let Some(served) = self.served.get_mut(gateway) else { return };
        let told = self.told.get(gateway).into_iter().flatten();
        let (mut frozen, mut decide) = (Vec::new(), false);
        served.elsewhere.clear();
        for (teller, verdicts) in told {
            frozen.extend(verdicts.frozen.iter().cloned());
            served.elsewhere.extend(verdicts.unattributed.iter().cloned());
            decide |= *teller == Teller::Leader;
        }
        let now = Instant::now();
        let mut reports = served
            .edit(self.mirrors.get_mut(gateway), |program, store| program.heed(frozen, decide, store, now));
        reports.extend(served.review(&self.engine, gateway));
        self.remember(gateway);
        self.judge(&reports);
    }

    /// Keeps what is put back, and tells the other replicas, if that changed.
    pub(super) fn remember(&mut self, gateway: &ObjectKey) {
        let Some(served) = self.served.get_mut(gateway) else { return };
        served.remember(&*self.keep);
        let running = served.shared.lock();
        let key = running.program.gateway().clone();
        let unattributed = running.program.unattributed().iter();
        let verdicts = Verdicts {
            gateway: key.clone(),
            frozen: served.kept.clone(),
            unattributed: unattributed.map(|(key, message)| (key.clone(), Arc::clone(message))).collect(),
        };
        drop(running);
        let nothing = verdicts.frozen.is_empty() && verdicts.unattributed.is_empty();
        self.outlets.verdicts.send_if_modified(|all| {
            if nothing {
                return all.remove(&key).is_some();
            }
            let changed = all.get(&key).is_none_or(|told| **told != verdicts);
            if changed {
                all.insert(key, Arc::new(verdicts));
            }
            changed
        });
    }
}

impl Served {
    /// Changes the store, and sees what that makes of other replicas' proxies. Returns the objects that wait no more.
    pub(super) fn edit(
        &mut self,
        mirrors: Option<&mut Mirrors>,
        change: impl FnOnce(&mut Program, &mut Store) -> Applied,
    ) -> BTreeSet<ObjectKey> {
        let Shared { store, .. } = &*self.shared;
        let mut running = self.shared.lock();
        let mut applied = store.update(|store| change(&mut running.program, store));
        applied.changed.append(&mut running.passed_by);
        let Some(mirrors) = mirrors else { return BTreeSet::new() };
        loop {
            let accepted = store.read(|store| mirrors.on_edit(&applied.changed, store));
            if accepted.is_empty() {
                break;
            }
            applied = store.update(|store| accept(&mut running.program, &accepted, store));
        }
        drop(running);
        let acked: Vec<_> = mirrors.acked().collect();
        let moved =
            acked.into_iter().map(|(stream, seq)| self.progress.on_acked(ProxyId::There(stream), seq));
        moved.flatten().collect()
    }
}

/// Takes in what other replicas' proxies acknowledged.
fn accept(program: &mut Program, accepted: &[(ResourceKey, Version)], store: &mut Store) -> Applied {
    let mut by_kind: BTreeMap<ResourceType, Vec<(Arc<str>, Version)>> = BTreeMap::new();
    for (key, version) in accepted {
        by_kind.entry(key.kind).or_default().push((Arc::clone(&key.name), *version));
    }
    let (mut all, now) = (Applied { seq: store.seq(), ..Applied::default() }, Instant::now());
    for (kind, resources) in by_kind {
        let applied = program.on_ack(kind, &resources, store, now);
        all.changed.extend(applied.changed);
        all.seq = applied.seq;
    }
    all
}
