//! The engine: which units exist, which are dirty, and what their outputs were.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use foldhash::HashMap;
use portolan_xds::ir::Delta;

use super::{
    ClassOut, ClusterId, EndpointSource, FleetPlan, FrontendOut, ListenersOut, Output, Placement, PolicyOut,
    PreRoutingOut, RouteOut, TlsOut, Unit, attach, backend, chains, class, dependencies::Dependencies,
    effects::Effects, environment::Environment, fleet, frontend, host, listeners, policy, pre_routing, route,
    slot::Slots, stream, tls,
};
use crate::{
    model::{Kind, Object, ObjectKey},
    world::{Read, View, World},
};

/// Outputs and the indexes made from them: what units read of each other.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) outputs: HashMap<Unit, Output>,
    pub(super) slots: Slots,
    pub(super) placements: HashMap<ObjectKey, Placement>,
    /// Units of routes and classes panicked while they were resolved.
    pub(super) panics: BTreeMap<Unit, String>,
    pub(super) environment: Environment,
    /// Seconds since the epoch, as told; the epoch until then.
    pub(super) now: i64,
}

macro_rules! typed_outputs {
    ($($method:ident($unit:ident) -> $variant:ident: $type:ty),* $(,)?) => {$(
        pub(super) fn $method(&self, key: &ObjectKey) -> Option<&Arc<$type>> {
            match self.outputs.get(&Unit::$unit(key.clone())) {
                Some(Output::$variant(out)) => Some(out),
                _ => None,
            }
        }
    )*};
}

impl State {
    typed_outputs! {
        class(Class) -> Class: ClassOut,
        listeners(Listeners) -> Listeners: ListenersOut,
        fleet(Fleet) -> Fleet: FleetPlan,
        frontend(Frontend) -> Frontend: FrontendOut,
        tls(Tls) -> Tls: TlsOut,
        policy(Policy) -> Policy: PolicyOut,
        pre_routing(PreRouting) -> PreRouting: PreRoutingOut,
        route(Route) -> Route: RouteOut,
        chains(Chains) -> Chains: chains::ChainsOut,
    }

    pub(super) fn placement(&self, gateway: &ObjectKey) -> Option<&Placement> {
        self.placements.get(gateway)
    }

    pub(super) fn attach(&self, route: &ObjectKey, parent: &ObjectKey) -> Option<&Arc<attach::AttachOut>> {
        match self.outputs.get(&Unit::Attach(route.clone(), parent.clone())) {
            Some(Output::Attach(out)) => Some(out),
            _ => None,
        }
    }
}

/// What a cluster's addresses follow from now on; nothing for one that is gone.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where they come from.
    pub source: Option<EndpointSource>,
}

/// What a batch of changes led to.
#[derive(Debug, Default)]
pub struct Resolved {
    /// What each Gateway's Envoys must be told.
    pub deltas: BTreeMap<ObjectKey, Delta>,
    /// What the clusters among that follow, the last word last.
    pub followed: BTreeMap<ObjectKey, Vec<Followed>>,
    /// Objects whose report may have changed.
    pub reports: BTreeSet<ObjectKey>,
    /// Gateways whose fleet plan changed, came or went.
    pub fleets: BTreeSet<ObjectKey>,
    /// Whether [`Engine::referenced`] may be another now: listing it costs as much as there are certificates.
    pub references: bool,
    /// How many units ran: the measure that cost follows the change.
    pub units_run: usize,
}

/// The incremental resolver. One writer calls it.
#[derive(Debug, Default)]
pub struct Engine {
    pub(super) world: World,
    pub(super) state: State,
    pub(super) effects: Effects,
    pub(super) dependencies: Dependencies,
    dirty: BTreeSet<Unit>,
    pub(super) gateways: BTreeSet<ObjectKey>,
}

impl Engine {
    /// An engine that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The World, to read.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes a batch of objects (new version, or `None` for removed) and resolves what they touch.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (ObjectKey, Option<Object>)>) -> Resolved {
        let mut resolved = Resolved::default();
        for (key, object) in changes {
            let foreign = self.stays_foreign(&key, object.as_ref());
            self.follow_structure(&key, object.as_ref(), foreign, &mut resolved);
            let own = Read::Object(key.clone());
            for read in self.world.put(&key, object) {
                if !(foreign && read == own) {
                    self.touch(&read);
                }
            }
        }
        self.settle(&mut resolved);
        resolved
    }

    /// Tells which addresses a Gateway's ports got; `None` when its fleet is gone.
    pub fn place(&mut self, gateway: &ObjectKey, placement: Option<Placement>) -> Resolved {
        let mut resolved = Resolved::default();
        if self.state.placements.get(gateway) != placement.as_ref() {
            match placement {
                Some(placement) => self.state.placements.insert(gateway.clone(), placement),
                None => self.state.placements.remove(gateway),
            };
            self.touch(&Read::Placement(gateway.clone()));
            self.settle(&mut resolved);
            // Addresses are in its status and in no unit's output.
            resolved.reports.insert(gateway.clone());
        }
        resolved
    }

    /// GatewayClasses of ours.
    pub(super) fn classes(&self) -> Vec<ObjectKey> {
        let class = |unit: &Unit| match unit {
            Unit::Class(key) => Some(key.clone()),
            _ => None,
        };
        self.state.outputs.keys().filter_map(class).collect()
    }

    /// Whether a Gateway exists and its class is ours.
    pub fn is_served(&self, gateway: &ObjectKey) -> bool {
        self.state.listeners(gateway).is_some()
    }

    /// Whether a changed Gateway was and stays another controller's. All its units give nothing for its class alone, which
    /// they asked about, so nothing comes of any other change: what others do must cost nothing here.
    fn stays_foreign(&self, key: &ObjectKey, new: Option<&Object>) -> bool {
        let (Some(Object::Gateway(old)), Some(Object::Gateway(new))) = (self.world.get(key), new) else {
            return false;
        };
        let class = ObjectKey::new(Kind::GatewayClass, "", new.class.clone());
        old.class == new.class && self.state.class(&class).is_none() && !self.is_served(key)
    }

    /// Units exist because objects exist; the rest of a unit's life follows from reads. A route is resolved for as long as it
    /// is attached: see [`Effects::follow`].
    fn follow_structure(
        &mut self,
        key: &ObjectKey,
        new: Option<&Object>,
        foreign: bool,
        resolved: &mut Resolved,
    ) {
        resolved.reports.insert(key.clone());
        match key.kind {
            Kind::GatewayClass => _ = self.dirty.insert(Unit::Class(key.clone())),
            Kind::Gateway => {
                if new.is_some() {
                    self.gateways.insert(key.clone());
                } else {
                    self.gateways.remove(key);
                }
                let units: [fn(ObjectKey) -> Unit; 6] =
                    [Unit::Listeners, Unit::Fleet, Unit::Frontend, Unit::Tls, Unit::PreRouting, Unit::Chains];
                if !foreign {
                    self.dirty.extend(units.map(|unit| unit(key.clone())));
                }
            }
            Kind::ListenerSet => {
                resolved.references = true;
                self.dirty.extend([Unit::Tls(key.clone()), Unit::PreRouting(key.clone())]);
            }
            Kind::BackendTlsPolicy => _ = self.dirty.insert(Unit::Policy(key.clone())),
            kind if kind.is_route() => {
                let parents = |object: Option<&Object>| match object {
                    Some(Object::Route(route)) => attach::parents_of(route),
                    _ => BTreeSet::new(),
                };
                let known = |unit: &Unit| {
                    self.state.outputs.contains_key(unit) || self.state.panics.contains_key(unit)
                };
                let (old, new) = (parents(self.world.get(key)), parents(new));
                let both = |parent: &ObjectKey| old.contains(parent) && new.contains(parent);
                let attach = |parent: &ObjectKey| Unit::Attach(key.clone(), parent.clone());
                // One that gave nothing has not looked at the route yet: it waits for its parent.
                let changed = old.union(&new).filter(|parent| !both(parent) || known(&attach(parent)));
                let route = Unit::Route(key.clone());
                let route = known(&route).then_some(route);
                let changed: Vec<Unit> = changed.map(attach).chain(route).collect();
                // Not appended: that builds the whole set anew, for each of the routes of a list.
                self.dirty.extend(changed);
            }
            _ => {}
        }
    }

    pub(super) fn touch(&mut self, read: &Read) {
        self.dirty.extend(self.dependencies.readers(read).cloned());
    }

    pub(super) fn settle(&mut self, resolved: &mut Resolved) {
        while let Some(unit) = self.dirty.pop_first() {
            resolved.units_run += 1;
            let view = View::new(&self.world);
            let state = &self.state;
            // A panic is a bug; it must cost one unit, not the process. The unit keeps its last output.
            let outcome = catch_unwind(AssertUnwindSafe(|| compute(&view, state, &unit)));
            let reads = view.into_reads();
            let new = match outcome {
                Ok(output) => {
                    self.state.panics.remove(&unit);
                    output
                }
                Err(cause) => {
                    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
                    let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
                    self.state.panics.insert(unit.clone(), text);
                    self.state.outputs.get(&unit).cloned().unwrap_or(Output::Nothing)
                }
            };
            self.remember(&unit, reads, new == Output::Nothing);
            let old = if new == Output::Nothing {
                self.state.outputs.remove(&unit)
            } else {
                self.state.outputs.insert(unit.clone(), new.clone())
            };
            let old = old.unwrap_or(Output::Nothing);
            if old == new {
                continue;
            }
            // Whose references count depends on which Gateways are ours, and which ListenerSets they take.
            resolved.references |= matches!(unit, Unit::Listeners(_));
            let touched = self.effects.follow(&self.world, &mut self.state, &unit, (&old, &new), resolved);
            self.dirty.extend(touched.units);
            for read in touched.reads {
                self.touch(&read);
            }
            self.touch(&Read::Output(unit));
        }
        for id in self.effects.finish(&self.state, resolved) {
            for unit in [Unit::Cluster(id.clone()), Unit::Endpoints(id)] {
                self.state.outputs.remove(&unit);
                self.remember(&unit, BTreeSet::new(), true);
            }
        }
        resolved.references |= self.dependencies.take_named_changed();
    }

    /// Replaces a unit's recorded reads. A unit that gave nothing is forgotten unless it waits for something that a
    /// later object can answer: attachments wait for their Gateway, Gateways for their class and placement.
    fn remember(&mut self, unit: &Unit, reads: BTreeSet<Read>, nothing: bool) {
        let waits = match unit {
            Unit::Attach(object, _)
            | Unit::Listeners(object)
            | Unit::Fleet(object)
            | Unit::Frontend(object)
            | Unit::Tls(object)
            | Unit::PreRouting(object)
            | Unit::Chains(object) => self.world.get(object).is_some(),
            _ => false,
        };
        self.dependencies.replace(unit, if nothing && !waits { BTreeSet::new() } else { reads });
    }
}

fn compute(view: &View<'_>, state: &State, unit: &Unit) -> Output {
    fn wrap<T>(out: Option<T>, variant: fn(Arc<T>) -> Output) -> Output {
        out.map_or(Output::Nothing, |out| variant(Arc::new(out)))
    }
    match unit {
        Unit::Class(key) => wrap(class::class(view, key), Output::Class),
        Unit::Listeners(key) => wrap(listeners::listeners(view, state, key), Output::Listeners),
        Unit::Fleet(key) => wrap(fleet::fleet(view, state, key), Output::Fleet),
        Unit::Frontend(key) => wrap(frontend::frontend(view, state, key), Output::Frontend),
        Unit::Tls(key) => wrap(tls::tls(view, state, key), Output::Tls),
        Unit::Policy(key) => wrap(policy::policy(view, state, key), Output::Policy),
        Unit::PreRouting(key) => wrap(pre_routing::pre_routing(view, state, key), Output::PreRouting),
        Unit::Route(key) => wrap(route::route(view, state, key), Output::Route),
        Unit::Attach(route, gateway) => wrap(attach::attach(view, state, route, gateway), Output::Attach),
        Unit::Stream(gateway, key) => wrap(stream::stream(view, state, gateway, key), Output::Stream),
        Unit::Chains(key) => wrap(chains::chains(view, state, key), Output::Chains),
        Unit::Host(gateway, key) => {
            let before = match state.outputs.get(unit) {
                Some(Output::Host(out)) => Some(&**out),
                _ => None,
            };
            wrap(host::host(view, state, gateway, key, before), Output::Host)
        }
        Unit::Cluster(id) => Output::Cluster(Arc::new(backend::cluster(id))),
        Unit::Endpoints(id) => Output::Endpoints(Arc::new(backend::endpoints(view, state, id))),
    }
}
