//! The lane of endpoints: pods that come and go reach the proxies though resolving is busy with something else (design: endpoints
//! pass translation by).
//!
//! ```text
//! source ── slices, at once ──► lane (a thread) ──► programs of Gateways ──► stores
//! source ── the same, later ──► core ── which clusters follow which Service ──► lane
//! ```
//!
//! Only a source that tells of one object at a time feeds it: the API server. What is in one write of files belongs together and goes
//! through the core alone. Promises:
//!
//! - An assignment never goes back to older slices: whoever publishes, the lane or the core, holds the Gateway's program and takes
//!   the newest slices that there are.
//! - The core decides which clusters there are and what they follow. Slices of which none knows the port by its name are of another
//!   version of the Service than the core's: they wait for the core.
//! - Assignments of streams are of the core alone: they are made of the weights of several Services, and of sessions that end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        mpsc::{Receiver, Sender},
    },
    time::Instant,
};

use portolan_xds::{
    ads::SharedStore,
    ir::{ClusterName, Delta},
    program::{Program, ResourceKey},
};

use crate::{
    model::{Kind, ObjectKey},
    resolve::{EndpointSource, Followed, Provenance},
    source::Change,
    world::{Read, View, World},
};

/// A Gateway's program, held by whoever changes it. The lock comes before that of the store.
#[derive(Debug)]
pub(super) struct Shared {
    running: Mutex<Running>,
    pub(super) store: Arc<SharedStore>,
}

/// See [`Shared`].
#[derive(Debug)]
pub(super) struct Running {
    pub(super) program: Program,
    /// What the lane changed since the core looked last.
    pub(super) passed_by: BTreeSet<ResourceKey>,
}

impl Shared {
    pub(super) fn new(program: Program) -> Self {
        let running = Running { program, passed_by: BTreeSet::new() };
        Self { running: Mutex::new(running), store: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }

    /// The same, if nobody holds it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Running>> {
        match self.running.try_lock() {
            Ok(running) => Some(running),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A Service: namespace and name.
type Service = (Arc<str>, Arc<str>);

/// A cluster of a Gateway that follows a Service.
#[derive(Debug)]
struct Follower {
    gateway: ObjectKey,
    cluster: ClusterName,
    source: EndpointSource,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a source has told of any slice: until then nothing is newer than what the core has.
    fed: bool,
    /// EndpointSlices alone.
    slices: World,
    followers: HashMap<Service, Vec<Follower>>,
}

/// What the thread is told.
#[derive(Debug)]
enum Turn {
    Changed(BTreeSet<Service>, Instant),
    Stop,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    /// Whether a source may feed it.
    open: bool,
    state: Mutex<State>,
    turns: Sender<Turn>,
}

/// The end that the thread reads.
#[derive(Debug)]
pub(super) struct Turns(Receiver<Turn>);

impl Lane {
    /// A lane for objects that come from there.
    pub(super) fn new(provenance: Provenance) -> (Arc<Self>, Turns) {
        let (turns, told) = std::sync::mpsc::channel();
        let open = provenance == Provenance::Kubernetes;
        (Arc::new(Self { open, state: Mutex::default(), turns }), Turns(told))
    }

    /// One that publishes nothing.
    #[cfg(test)]
    pub(crate) fn closed() -> Arc<Self> {
        Self::new(Provenance::Files).0
    }

    /// Tells of changed EndpointSlices; the core must be told of them as well. Other kinds are passed over.
    pub fn note(&self, changes: &[Change], seen: Instant) {
        if !self.open {
            return;
        }
        let mut services = BTreeSet::new();
        {
            let mut state = lock(&self.state);
            state.fed = true;
            for (key, slice) in changes.iter().filter(|(key, _)| key.kind == Kind::EndpointSlice) {
                let touched = state.slices.put(key, slice.clone()).into_iter();
                services.extend(touched.filter_map(|read| match read {
                    Read::SlicesOf(namespace, service) => Some((namespace, service)),
                    _ => None,
                }));
            }
            services.retain(|service| state.followers.contains_key(service));
        }
        if !services.is_empty() {
            // Without a thread the core alone publishes.
            let _ = self.turns.send(Turn::Changed(services, seen));
        }
    }

    /// Takes in which clusters of a Gateway follow which Services from now on, and puts the newest addresses into what the core is
    /// about to publish. The core holds the program meanwhile.
    pub(super) fn follow(
        &self,
        gateway: &ObjectKey,
        shared: &Arc<Shared>,
        followed: Vec<Followed>,
        delta: &mut Delta,
    ) {
        if !self.open {
            return;
        }
        let mut state = lock(&self.state);
        let State { fed, slices, followers } = &mut *state;
        for Followed { cluster, source } in followed {
            let (service, name) = ((cluster.namespace.clone(), cluster.service.clone()), cluster.name());
            let all = followers.entry(service.clone()).or_default();
            let before = all.len();
            all.retain(|one| one.cluster != name || one.gateway != *gateway);
            let followed_before = all.len() < before;
            let Some(source) = source else {
                if all.is_empty() {
                    followers.remove(&service);
                }
                continue;
            };
            if *fed && let Some(Some(planned)) = delta.endpoints.get_mut(&name) {
                match source.endpoints(&View::new(slices)) {
                    Some(newest) if **planned != newest => *planned = Arc::new(newest),
                    // The core has not read these slices, or it would have planned nothing: what it planned may be older than what
                    // is in force. It resolves the cluster again once it has.
                    None if followed_before && !planned.endpoints.is_empty() => {
                        delta.endpoints.remove(&name);
                    }
                    _ => {}
                }
            }
            let (gateway, shared) = (gateway.clone(), Arc::clone(shared));
            // Nearly always the only one: a vector would make room for four.
            all.reserve_exact(1);
            all.push(Follower { gateway, cluster: name, source, shared });
        }
    }

    /// A Gateway is gone.
    pub(super) fn forget(&self, gateway: &ObjectKey) {
        lock(&self.state).followers.retain(|_, all| {
            all.retain(|one| one.gateway != *gateway);
            !all.is_empty()
        });
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        // It has ended already.
        let _ = self.turns.send(Turn::Stop);
    }

    /// Publishes until it is told to stop. What is told meanwhile is taken together.
    pub(super) fn run(&self, turns: &Turns) {
        while let Ok(Turn::Changed(mut services, seen)) = turns.0.recv() {
            while let Ok(turn) = turns.0.try_recv() {
                match turn {
                    Turn::Changed(more, _) => services.extend(more),
                    Turn::Stop => return,
                }
            }
            self.publish(&services, seen);
        }
    }

    fn publish(&self, services: &BTreeSet<Service>, seen: Instant) {
        let mut gateways = BTreeMap::new();
        for follower in services.iter().flat_map(|service| lock(&self.state).gateways_of(service)) {
            gateways.entry(follower.0).or_insert(follower.1);
        }
        let publish = |gateway: &ObjectKey, shared: &Shared, mut running: MutexGuard<'_, Running>| {
            let delta = lock(&self.state).newest(gateway, services);
            if !delta.is_empty() {
                let applied = shared.store.update(|store| running.program.apply(delta, store, seen));
                running.passed_by.extend(applied.changed);
            }
        };
        // A Gateway that the core is at comes last: the others do not wait for it.
        let mut held = Vec::new();
        for (gateway, shared) in &gateways {
            match shared.try_lock() {
                Some(running) => publish(gateway, shared, running),
                None => held.push((gateway, shared)),
            }
        }
        for (gateway, shared) in held {
            publish(gateway, shared, shared.lock());
        }
    }
}

impl State {
    fn gateways_of(&self, service: &Service) -> Vec<(ObjectKey, Arc<Shared>)> {
        let followers = self.followers.get(service).into_iter().flatten();
        followers.map(|one| (one.gateway.clone(), Arc::clone(&one.shared))).collect()
    }

    /// The assignments of a Gateway's clusters that follow these Services.
    fn newest(&self, gateway: &ObjectKey, services: &BTreeSet<Service>) -> Delta {
        let mut delta = Delta::default();
        let view = View::new(&self.slices);
        let followers = services.iter().filter_map(|service| self.followers.get(service)).flatten();
        for follower in followers.filter(|one| one.gateway == *gateway) {
            if let Some(newest) = follower.source.endpoints(&view) {
                delta.endpoints.insert(Arc::clone(&follower.cluster), Some(Arc::new(newest)));
            }
        }
        delta
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves whole objects behind: each is replaced in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
