//! The single writer: takes changes in, resolves, lowers, publishes, and knows what proxies made of it.

mod peers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use portolan_xds::{
    GatewayKey,
    ads::{Event, StreamId},
    ir::{Delta, Origin},
    program::{Frozen, Program, ResourceKey},
    store::{ResourceType, Seq},
};
use serde_json::Value;
use tokio::sync::watch;

use self::peers::Teller;
use super::{
    Dirty, Hub, Input, Keep, Lane, Outlets, Standing, Taken, Urgency, inputs::Inputs, lane::Shared, pairs,
    progress::Progress,
};
use crate::{
    metrics::Metrics,
    model::{Kind, Object, ObjectKey},
    peers::{Book, Mirrors, Verdicts},
    resolve::{Engine, Environment, Placement, Programmed, Report, Resolved},
    source::{Batch, Problem},
};

/// What arrives while the core is busy is taken together, for this long at most (design: debounce leads).
const CEILING: Duration = Duration::from_millis(250);

/// The clock is looked at once a day at least: a longer wait would not survive a machine that sleeps.
const A_DAY: u64 = 24 * 60 * 60;

/// One Gateway's program and who acknowledged what of it.
#[derive(Debug)]
struct Served {
    shared: Arc<Shared>,
    progress: Progress,
    /// Objects that Envoy rejects, with its words; made from the program after each of its changes.
    rejected: BTreeMap<ObjectKey, String>,
    /// A rejection that is the Gateway's own: of a listener as a whole, or of a Secret.
    own: Option<String>,
    kept: Vec<Frozen>,
    /// Rejections by other replicas' proxies that no object explains.
    elsewhere: Vec<(ResourceKey, Arc<str>)>,
    /// What is not taken from the proxies of a Gateway that is gone while they drain.
    held_back: Delta,
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    hub: Arc<Hub>,
    lane: Arc<Lane>,
    engine: Engine,
    served: BTreeMap<ObjectKey, Served>,
    problems: Vec<Problem>,
    standing: Standing,
    synced: bool,
    outlets: Outlets,
    followers: Vec<Arc<Dirty>>,
    metrics: Arc<Metrics>,
    keep: Box<dyn Keep>,
    /// What this replica's proxies have in force, for its leader.
    book: Book,
    /// What other replicas' proxies have in force, where there are some.
    mirrors: BTreeMap<ObjectKey, Mirrors>,
    /// What other replicas' proxies reject.
    told: BTreeMap<ObjectKey, BTreeMap<Teller, Verdicts>>,
}

impl Core {
    pub(super) fn new(
        hub: Arc<Hub>,
        lane: Arc<Lane>,
        outlets: Outlets,
        metrics: Arc<Metrics>,
        keep: Box<dyn Keep>,
        environment: Environment,
    ) -> Self {
        let mut engine = Engine::within(environment);
        engine.set_time(Timestamp::now().as_second());
        Self {
            hub,
            lane,
            engine,
            served: BTreeMap::new(),
            problems: Vec::new(),
            standing: Standing::default(),
            synced: false,
            outlets,
            followers: Vec::new(),
            metrics,
            keep,
            book: Book::default(),
            mirrors: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self, inputs: &Inputs<Input>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                inputs.wait(&mut waiting, self.deadline());
            }
            let started = Instant::now();
            let mut changes = Changes::default();
            while let Some(input) = waiting.pop_front() {
                match input {
                    Input::Changes(batch, taken) => changes.add(batch, taken),
                    Input::Stop => return,
                    other => {
                        self.take(std::mem::take(&mut changes));
                        self.on_input(other);
                    }
                }
                if started.elapsed() >= CEILING {
                    break;
                }
                if waiting.is_empty() {
                    inputs.take(&mut waiting);
                }
            }
            self.take(changes);
            self.tick(Instant::now());
        }
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Changes(batch, taken) => {
                let mut changes = Changes::default();
                changes.add(batch, taken);
                self.take(changes);
            }
            Input::Synced => {
                self.synced = true;
                self.hub.set_ready();
                self.tell_fleets();
            }
            Input::Placed(gateway, Some(placement)) => self.place(&gateway, placement),
            Input::Placed(gateway, None) => {
                let resolved = self.engine.place(&gateway, None);
                self.follow(resolved, Instant::now());
            }
            Input::Proxy(gateway, stream, event) => self.on_proxy(&gateway, stream, &event),
            Input::Follow(dirty) => self.followers.push(dirty),
            Input::Environment(environment) => {
                let resolved = self.engine.set_environment(environment);
                self.follow(resolved, Instant::now());
            }
            Input::Forget(gateway) => self.forget(&gateway),
            Input::Ask(look) => look(self),
            Input::Stop => {}
        }
    }

    /// Takes in changed objects, tells whoever waits for that, and then what came of it: who is told of an object finds what was
    /// observed of it.
    fn take(&mut self, changes: Changes) {
        let resolved = changes.batch.and_then(|batch| self.resolve(batch));
        for taken in changes.taken {
            taken();
        }
        if let Some((resolved, classes, seen)) = resolved {
            self.follow(resolved, seen);
            for follower in &self.followers {
                follower.add(classes.iter().map(|class| (class.clone(), Urgency::AtOnce)));
            }
        }
    }

    /// Resolves what changed objects concern. Returns, too, the classes whose Gateways changed, and the moment of the change.
    fn resolve(&mut self, mut batch: Batch) -> Option<(Resolved, BTreeSet<ObjectKey>, Instant)> {
        self.problems = std::mem::take(&mut batch.problems);
        if batch.changes.is_empty() {
            return None;
        }
        let started = Instant::now();
        // Whether a class may be deleted depends on them, and nothing in its report does.
        let classes = self.classes_of(&batch);
        let count = batch.changes.len();
        pairs::remember(&mut batch.changes, self.engine.world());
        #[cfg(feature = "fail-points")]
        super::fail_point::hold_resolving();
        let resolved = self.engine.apply(batch.changes);
        self.metrics.on_resolved(count, resolved.units_run, started.elapsed());
        Some((resolved, classes, batch.seen))
    }

    /// The classes that Gateways come to and leave.
    fn classes_of(&self, batch: &Batch) -> BTreeSet<ObjectKey> {
        let class = |gateway: Option<&Object>| match gateway {
            Some(Object::Gateway(gateway)) => Some(gateway.class.clone()),
            _ => None,
        };
        let gateways = batch.changes.iter().filter(|(key, _)| key.kind == Kind::Gateway);
        let moves = gateways.map(|(key, new)| [class(self.engine.world().get(key)), class(new.as_ref())]);
        let classes = moves.filter(|[old, new]| old != new).flatten().flatten();
        classes.map(|class| ObjectKey::new(Kind::GatewayClass, "", class)).collect()
    }

    /// Lowers and publishes what was resolved, and looks again at the reports that it concerns. `seen` is the moment
    /// of the change.
    fn follow(&mut self, resolved: Resolved, seen: Instant) {
        let started = Instant::now();
        if resolved.references {
            tell(&self.outlets.referenced, self.engine.referenced());
        }
        let (mut reports, mut followed) = (resolved.reports, resolved.followed);
        for (gateway, delta) in resolved.deltas {
            if !self.served.contains_key(&gateway) {
                self.serve(&gateway);
            }
            let Some(served) = self.served.get_mut(&gateway) else { continue };
            let mut whole = std::mem::take(&mut served.held_back);
            whole.merge(delta);
            let mut delta = whole;
            if !self.engine.is_served(&gateway) {
                served.held_back = served.shared.lock().program.hold_back_datagrams(&mut delta);
            }
            let mirrors = self.mirrors.get_mut(&gateway);
            let (lane, shared) = (&self.lane, Arc::clone(&served.shared));
            let followed = followed.remove(&gateway).unwrap_or_default();
            reports.extend(served.edit(mirrors, |program, store| {
                lane.follow(&gateway, &shared, followed, &mut delta);
                program.apply(delta, store, seen)
            }));
            reports.extend(served.review(&self.engine, &gateway));
            self.remember(&gateway);
        }
        self.metrics.on_lowered(started.elapsed());
        self.judge(&reports);
        if !resolved.fleets.is_empty() && self.synced {
            self.tell_fleets();
        }
    }

    /// Begins to serve a Gateway.
    fn serve(&mut self, gateway: &ObjectKey) {
        let key = GatewayKey::new(gateway.namespace.clone(), gateway.name.clone());
        let mut program = Program::new(key.clone());
        program.restore(self.keep.load(&key));
        let shared = Arc::new(Shared::new(program));
        self.hub.add(key, Arc::clone(&shared.store));
        let served = Served {
            shared,
            progress: Progress::default(),
            rejected: BTreeMap::new(),
            own: None,
            kept: Vec::new(),
            elsewhere: Vec::new(),
            held_back: Delta::default(),
        };
        self.served.insert(gateway.clone(), served);
        self.heed(gateway);
    }

    fn on_proxy(&mut self, gateway: &GatewayKey, stream: StreamId, event: &Event) {
        let key = ObjectKey::new(Kind::Gateway, gateway.namespace.clone(), gateway.name.clone());
        if let Some(served) = self.served.get_mut(&key) {
            let mut reports = served.progress.on_event(stream, event);
            let now = Instant::now();
            let mirrors = self.mirrors.get_mut(&key);
            let answered = match event {
                Event::Acked(answer) => Some(served.edit(mirrors, |program, store| {
                    program.on_ack(answer.kind, &answer.resources, store, now)
                })),
                Event::Known { kind, resources } => {
                    Some(served.edit(mirrors, |program, store| program.on_ack(*kind, resources, store, now)))
                }
                Event::Nacked { answer, message } => Some(served.edit(mirrors, |program, store| {
                    program.on_nack(answer.kind, &answer.resources, answer.built, message, store, now)
                })),
                _ => None,
            };
            if let Some(done) = answered {
                reports.extend(done);
                reports.extend(served.review(&self.engine, &key));
                self.remember(&key);
            }
            if matches!(event, Event::Opened | Event::Closed { .. }) {
                reports.insert(key);
            }
            self.judge(&reports);
        }
        self.note_for_leader(gateway, stream, event);
    }

    /// When [`Core::tick`] has something to do.
    fn deadline(&self) -> Option<Instant> {
        // A certificate's end is far away; seconds are exact enough.
        let expiry = self.engine.next_expiry().map(|at| {
            let seconds = at.saturating_sub(Timestamp::now().as_second()).max(0);
            Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or_default().min(A_DAY))
        });
        self.served.values().filter_map(Served::deadline).chain(expiry).min()
    }

    fn tick(&mut self, now: Instant) {
        let mut reports = self.engine.set_time(Timestamp::now().as_second()).reports;
        let is_due = |served: &Served| served.deadline().is_some_and(|at| at <= now);
        let due = self.served.iter().filter(|(_, served)| is_due(served));
        let due: Vec<ObjectKey> = due.map(|(gateway, _)| gateway.clone()).collect();
        for gateway in due {
            let Some(served) = self.served.get_mut(&gateway) else { continue };
            let mirrors = self.mirrors.get_mut(&gateway);
            reports.extend(served.edit(mirrors, |program, store| program.tick(store, now)));
            reports.extend(served.review(&self.engine, &gateway));
            self.remember(&gateway);
        }
        self.judge(&reports);
    }

    fn forget(&mut self, gateway: &ObjectKey) {
        // It may be wanted again by now.
        if self.engine.is_served(gateway) {
            return;
        }
        if self.served.remove(gateway).is_some() {
            let key = GatewayKey::new(gateway.namespace.clone(), gateway.name.clone());
            self.hub.remove(&key);
            self.lane.forget(gateway);
            self.keep.keep(&key, &[]);
            self.outlets.verdicts.send_if_modified(|all| all.remove(&key).is_some());
            if let Some(mirrors) = self.mirrors.get_mut(gateway) {
                mirrors.start_over();
            }
        }
        let resolved = self.engine.place(gateway, None);
        self.judge(&resolved.reports);
    }

    fn tell_fleets(&self) {
        tell(&self.outlets.wanted, self.engine.wanted_ports());
        let plans = self.engine.fleet_plans().map(|(key, plan)| (key.clone(), Arc::clone(plan)));
        tell(&self.outlets.plans, plans.collect());
    }

    /// Looks at reports again, and tells whoever follows if one changed.
    fn judge(&mut self, keys: &BTreeSet<ObjectKey>) {
        let now = Timestamp::now();
        let mut changed = Vec::new();
        for key in keys {
            let (report, waits) = self.report(key);
            for (gateway, seq) in waits {
                if let Some(served) = self.served.get_mut(&gateway) {
                    served.progress.wait(key, seq);
                }
            }
            if let Some(urgency) = self.standing.observe(key, report, now) {
                changed.push((key.clone(), urgency));
            }
        }
        if !changed.is_empty() {
            self.outlets.standing.send_modify(|turn| *turn += 1);
        }
        for follower in &self.followers {
            follower.add(changed.iter().cloned());
        }
    }

    /// An object's report, and the edits of Gateways that it waits for.
    fn report(&self, key: &ObjectKey) -> (Option<Report>, Vec<(ObjectKey, Seq)>) {
        let waits = std::cell::RefCell::new(Vec::new());
        let report = self.engine.report(key, &|object, gateway| {
            let Some(served) = self.served.get(gateway) else {
                return Programmed::Pending("the Gateway has no fleet yet".into());
            };
            let trouble = self.engine.placement(gateway).and_then(|placement| placement.trouble.as_deref());
            let (programmed, seq) = served.programmed(object, object == gateway, trouble);
            waits.borrow_mut().extend(seq.map(|seq| (gateway.clone(), seq)));
            programmed
        });
        (report, waits.into_inner())
    }

    // ---- What others may ask ----

    /// The resolver, to read.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether every kind has been read once.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The source's problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How an object stands, as its status would be written; `None` for objects without a status from us.
    pub fn status(&self, key: &ObjectKey) -> Option<Value> {
        self.status_and_digest(key).map(|(status, _)| status)
    }

    /// As [`Core::status`], with a hash of what it says, which is the same whenever it came to say it.
    pub fn status_and_digest(&self, key: &ObjectKey) -> Option<(Value, u64)> {
        let report = self.report(key).0?;
        let digest = report.digest();
        Some((self.standing.stamp(key, report), digest))
    }

    /// How all objects stand.
    pub fn statuses(&self) -> BTreeMap<ObjectKey, Value> {
        let keys = self.engine.world().keys().into_iter();
        keys.filter_map(|key| self.status(&key).map(|status| (key, status))).collect()
    }

    /// The resources of a Gateway as proto JSON, keys redacted; `None` where there is no such Gateway.
    pub fn resources(
        &self,
        gateway: &ObjectKey,
    ) -> Option<Result<Value, portolan_xds::program::RenderError>> {
        let served = self.served.get(gateway)?;
        Some(served.shared.store.read(portolan_xds::program::render))
    }

    /// What a Gateway's proxies should do, as IR; `None` where there is no such Gateway.
    pub fn pieces(&self, gateway: &ObjectKey) -> Option<Value> {
        Some(self.served.get(gateway)?.shared.lock().program.pieces())
    }

    /// The Gateways that have a program.
    pub fn gateways(&self) -> impl Iterator<Item = &ObjectKey> {
        self.served.keys()
    }

    /// Places a Gateway now, for whoever needs it done before going on.
    pub fn place(&mut self, gateway: &ObjectKey, placement: Placement) {
        let ready = placement.ready;
        let resolved = self.engine.place(gateway, Some(placement));
        self.follow(resolved, Instant::now());
        if ready && let Some(served) = self.served.get_mut(gateway) {
            let reports = served.progress.on_ready();
            self.judge(&reports);
        }
    }
}

impl Served {
    /// When its program has something to do by itself.
    fn deadline(&self) -> Option<Instant> {
        self.shared.lock().program.deadline()
    }

    /// Looks at what the program rejects now. Returns the objects for which that changed.
    fn review(&mut self, engine: &Engine, gateway: &ObjectKey) -> BTreeSet<ObjectKey> {
        let mut rejected: BTreeMap<ObjectKey, String> = BTreeMap::new();
        let mut own = None;
        let running = self.shared.lock();
        for rejection in running.program.rejections() {
            match rejection.origin.to_string().parse::<ObjectKey>() {
                Ok(key) if key.kind.is_route() || key.kind == Kind::Gateway => {
                    rejected.insert(key, rejection.message.to_string());
                }
                // A Service has no status of ours: the routes that use it tell.
                Ok(service) if service.kind == Kind::Service => {
                    for route in engine.routes_using(gateway, &service) {
                        rejected.insert(route, format!("{service}: {}", rejection.message));
                    }
                }
                // Nor has a Secret: the Gateway that uses it tells.
                _ => own = Some(format!("{}: {}", rejection.origin, rejection.message)),
            }
        }
        let elsewhere = self.elsewhere.iter().map(|(resource, message)| (resource, message));
        let listeners = elsewhere.chain(running.program.unattributed());
        for (resource, message) in listeners.filter(|(resource, _)| resource.kind == ResourceType::Listener) {
            own = Some(format!("{resource}: {message}"));
        }
        drop(running);
        let mut changed: BTreeSet<ObjectKey> = rejected
            .iter()
            .filter(|(key, message)| self.rejected.get(*key) != Some(*message))
            .chain(self.rejected.iter().filter(|(key, _)| !rejected.contains_key(*key)))
            .map(|(key, _)| key.clone())
            .collect();
        if own != self.own {
            changed.insert(gateway.clone());
        }
        for (object, message) in rejected.iter().filter(|(key, _)| changed.contains(*key)) {
            tracing::warn!(%gateway, %object, %message, "Envoy rejects this object; what it accepted before stays");
        }
        (self.rejected, self.own) = (rejected, own);
        changed
    }

    /// Keeps what is put back, if that changed.
    fn remember(&mut self, keep: &dyn Keep) {
        let running = self.shared.lock();
        let frozen = running.program.frozen();
        if frozen != self.kept {
            keep.keep(running.program.gateway(), &frozen);
            self.kept = frozen;
        }
    }

    /// What the proxies made of an object's content, and the edit it waits for. `itself` is the Gateway.
    /// `trouble` is why no proxy serves.
    fn programmed(
        &self,
        object: &ObjectKey,
        itself: bool,
        trouble: Option<&str>,
    ) -> (Programmed, Option<Seq>) {
        if let Some(message) = self.rejected.get(object) {
            return (Programmed::Rejected(message.clone()), None);
        }
        if let Some(message) = self.own.as_ref().filter(|_| itself) {
            return (Programmed::Rejected(message.clone()), None);
        }
        let seq = self.shared.lock().program.origin_seq(&Origin::new(object.to_string()));
        let Some(seq) = seq else {
            // A route without content of its own is in force as soon as anything is; a Gateway needs its listeners.
            return match self.progress.settled() {
                Some(_) if !itself => (Programmed::Yes, None),
                _ => (Programmed::Pending("no proxy has acknowledged anything yet".into()), Some(Seq(1))),
            };
        };
        if self.progress.settled().is_some_and(|settled| settled >= seq) {
            return (Programmed::Yes, None);
        }
        let why = match self.progress.lacking(seq) {
            (0, _) => "no proxy is connected".to_owned(),
            (_, 0) if !self.progress.is_ready() => "no proxy is ready yet".to_owned(),
            (all, lacking) => format!("{lacking} of {all} proxies have not acknowledged it yet"),
        };
        let why = match trouble {
            // Others' objects are not a route's business: its owner cannot do anything about them.
            Some(trouble) if itself => format!("{why}: {trouble}"),
            _ => why,
        };
        (Programmed::Pending(why), Some(seq))
    }
}

/// Tells a value if it is another one.
fn tell<T: PartialEq>(outlet: &watch::Sender<T>, value: T) {
    outlet.send_if_modified(|now| {
        let changed = *now != value;
        if changed {
            *now = value;
        }
        changed
    });
}

/// Changes that are taken in together.
#[derive(Default)]
struct Changes {
    batch: Option<Batch>,
    taken: Vec<Taken>,
}

impl Changes {
    /// Adds a batch to what waits: a later version of an object replaces an earlier one.
    fn add(&mut self, later: Batch, taken: Option<Taken>) {
        match &mut self.batch {
            None => self.batch = Some(later),
            Some(batch) => {
                batch.changes.extend(later.changes);
                batch.problems = later.problems;
            }
        }
        self.taken.extend(taken);
    }
}
