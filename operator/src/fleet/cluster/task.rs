//! The task that tells how the fleets of all Gateways are, and keeps them what they should be while this replica leads.
//!
//! ```text
//! what is wanted ──►┐            ┌──► workers, a few at a time ──► API server (the leader alone)
//! owned objects ───►├─ queue ────┤
//! leading, time ───►┘            └──► reports
//! ```
//!
//! Every replica reports, so that a new leader knows at once what the one before knew. Level-triggered: a worker looks at one Gateway as it is wanted and as it is now. What changes meanwhile is looked at
//! again. A Gateway that cannot be served costs its own turns and no others'.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    addresses::{Asked, Found, PATIENCE, Waits, addresses},
    apply::{Applied, Applier, ApplyError},
    fleet::{Fleet, Front},
    owned::Owned,
    queue::Queue,
    settings::Scale,
};
use crate::{fleet::GatewayName, identity::Authorities};

/// How many Gateways are worked on at a time.
const WORKERS: usize = 8;
/// How often a fleet is looked at although nothing changed: certificates grow old, and Secrets are not watched.
const RESYNC: Duration = Duration::from_mins(10);
/// How soon a fleet without a proxy is looked at again: pods are not watched.
const ATTENTION: Duration = Duration::from_secs(5);

/// What is wanted: the fleets that there should be. `None` for a Gateway that is ours and whose fleet should stay
/// as it is, because what it should be is not known (bad parameters).
pub type Wanted = BTreeMap<GatewayName, Option<Fleet>>;

/// How a fleet is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetState {
    /// Where clients reach it.
    pub addresses: Found,
    /// How many proxies serve.
    pub ready: i64,
    /// Why it is not as it should be, for people.
    pub trouble: Option<String>,
    /// What somebody has to do something about: for events.
    pub errors: Vec<ApplyError>,
}

/// What the task is told, and whom it tells.
#[derive(Debug)]
pub struct Connections {
    /// What is wanted, as it changes. Nothing is removed before [`Connections::synced`].
    pub wanted: watch::Receiver<Arc<Wanted>>,
    /// Whether everything that is wanted is known.
    pub synced: watch::Receiver<bool>,
    /// Whether this replica leads.
    pub leading: watch::Receiver<bool>,
    /// The authorities: another one means other certificates.
    pub authorities: watch::Receiver<Arc<Authorities>>,
    /// Where reports go: a Gateway, and how its fleet is, or nothing when it is gone.
    pub reports: mpsc::Sender<(GatewayName, Option<FleetState>)>,
    /// Told when there is a report of every fleet that there was at the start.
    pub observed: watch::Sender<bool>,
}

type Done = (GatewayName, Option<Fleet>, Work);

/// What a worker did.
enum Work {
    Applied(Applied),
    Removed(Vec<ApplyError>),
    /// Nothing: what the fleet should be is not known.
    Left,
}

/// See the module.
pub struct FleetTask {
    applier: Applier,
    owned: Arc<Owned>,
    connections: Connections,
    wanted: Arc<Wanted>,
    queue: Queue<GatewayName>,
    working: FuturesUnordered<BoxFuture<'static, Done>>,
    waits: BTreeMap<GatewayName, Waits>,
    told: BTreeMap<GatewayName, FleetState>,
}

impl FleetTask {
    /// A task that has not done anything.
    pub fn new(applier: Applier, owned: Arc<Owned>, connections: Connections) -> Self {
        let wanted = Arc::clone(&connections.wanted.borrow());
        Self {
            applier,
            owned,
            wanted,
            connections,
            queue: Queue::default(),
            working: FuturesUnordered::new(),
            waits: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Works until `shutdown`, once everything is known. What is under way then is finished.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut complete = self.owned.complete();
        let known = async {
            turned(&mut complete, true).await;
            turned(&mut self.connections.synced, true).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = known => {}
        }
        self.take_wanted();
        // Before anything is written: a replica that starts must not say that an address is missing.
        let wanted = Arc::clone(&self.wanted);
        for fleet in wanted.values().flatten() {
            let applied = self.applier.observe(fleet);
            self.report(fleet, applied, Instant::now()).await;
        }
        self.connections.observed.send_replace(true);
        self.look_at_all();
        let owned = Arc::clone(&self.owned);
        loop {
            self.start();
            let deadline = self.queue.deadline().filter(|_| self.working.len() < WORKERS);
            let wake = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.connections.leading.changed() => match changed {
                    Ok(()) => self.look_at_all(),
                    Err(_) => break,
                },
                changed = self.connections.wanted.changed() => match changed {
                    Ok(()) => self.take_wanted(),
                    Err(_) => break,
                },
                changed = self.connections.authorities.changed() => match changed {
                    Ok(()) => self.look_at_all(),
                    Err(_) => break,
                },
                touched = owned.touched() => {
                    let now = Instant::now();
                    for gateway in touched {
                        self.queue.add(gateway, now);
                    }
                }
                Some(done) = self.working.next(), if !self.working.is_empty() => self.on_done(done).await,
                () = wake => {}
            }
        }
        while let Some(done) = self.working.next().await {
            self.on_done(done).await;
        }
    }

    /// Looks at whatever is wanted otherwise than before.
    fn take_wanted(&mut self) {
        let wanted = Arc::clone(&self.connections.wanted.borrow_and_update());
        let before = std::mem::replace(&mut self.wanted, wanted);
        let now = Instant::now();
        let all: BTreeSet<&GatewayName> = before.keys().chain(self.wanted.keys()).collect();
        for gateway in all {
            if before.get(gateway) != self.wanted.get(gateway) {
                self.queue.add(gateway.clone(), now);
            }
        }
    }

    /// Looks at every Gateway that is wanted, and at those that left something.
    fn look_at_all(&mut self) {
        let now = Instant::now();
        let all: BTreeSet<GatewayName> =
            self.owned.gateways().into_iter().chain(self.wanted.keys().cloned()).collect();
        for gateway in all {
            self.queue.add(gateway, now);
        }
    }

    fn start(&mut self) {
        while self.working.len() < WORKERS {
            let Some(gateway) = self.queue.next(Instant::now()) else { return };
            let wanted = self.wanted.get(&gateway).cloned();
            let applier = self.applier.clone();
            let leads = *self.connections.leading.borrow();
            self.working.push(Box::pin(async move {
                match wanted {
                    Some(Some(fleet)) => {
                        let found = if leads { applier.apply(&fleet).await } else { applier.observe(&fleet) };
                        (gateway, Some(fleet), Work::Applied(found))
                    }
                    Some(None) => (gateway, None, Work::Left),
                    None if !leads => (gateway, None, Work::Removed(Vec::new())),
                    None => {
                        let errors = applier.remove(&gateway).await;
                        (gateway, None, Work::Removed(errors))
                    }
                }
            }));
        }
    }

    async fn on_done(&mut self, (gateway, fleet, work): Done) {
        let now = Instant::now();
        let errors = match work {
            Work::Left => Vec::new(),
            Work::Removed(errors) => {
                self.waits.remove(&gateway);
                if errors.is_empty() && self.told.remove(&gateway).is_some() {
                    self.tell(gateway.clone(), None).await;
                }
                errors
            }
            Work::Applied(applied) => {
                let errors = applied.errors.clone();
                if let Some(fleet) = &fleet {
                    self.report(fleet, applied, now).await;
                }
                errors
            }
        };
        for error in &errors {
            if error.is_for_people() {
                tracing::warn!(%gateway, %error, "its fleet is not as it should be");
            } else {
                tracing::debug!(%gateway, %error, "its fleet is tried again");
            }
        }
        if errors.is_empty() {
            self.queue.done(&gateway);
            if fleet.is_some() {
                self.queue.add_later(gateway, now + RESYNC);
            }
        } else {
            self.queue.failed(&gateway, now);
        }
    }

    /// Tells what one look at a fleet means, if that is new.
    async fn report(&mut self, fleet: &Fleet, applied: Applied, now: Instant) {
        let state = self.judge(fleet, applied, now);
        if self.told.get(&fleet.gateway) != Some(&state) {
            self.told.insert(fleet.gateway.clone(), state.clone());
            self.tell(fleet.gateway.clone(), Some(state)).await;
        }
    }

    /// What one look at a fleet means.
    fn judge(&mut self, fleet: &Fleet, applied: Applied, now: Instant) -> FleetState {
        let services = fleet.services();
        let waits = self.waits.entry(fleet.gateway.clone()).or_default();
        waits.retain(
            &services.iter().filter_map(|one| Some((one.name.clone(), one.address?))).collect::<Vec<_>>(),
        );
        let asked: Vec<Asked<'_>> = services
            .iter()
            .filter_map(|Front { name, address, inside }| {
                let service = match applied.services.get(name)? {
                    Ok(service) => Ok(&**service),
                    Err(why) => Err(why.clone()),
                };
                let since = address.map_or(Duration::ZERO, |address| waits.since(name, address, now));
                Some(Asked { name, address: *address, inside: *inside, service, since })
            })
            .collect();
        let addresses = addresses(fleet, &asked);
        if addresses.pending.is_some() && !fleet.addresses.is_empty() {
            self.queue.add_later(fleet.gateway.clone(), now + PATIENCE);
        }
        if applied.ready == 0 && fleet.settings.scale != Scale::Fixed(0) && !fleet.ports.is_empty() {
            self.queue.add_later(fleet.gateway.clone(), now + ATTENTION);
        }
        let for_people: Vec<_> = applied.errors.into_iter().filter(ApplyError::is_for_people).collect();
        let trouble = for_people.first().map(ToString::to_string).or(applied.trouble);
        FleetState { addresses, ready: applied.ready, trouble, errors: for_people }
    }

    async fn tell(&mut self, gateway: GatewayName, state: Option<FleetState>) {
        // Nobody listens: we are about to end.
        let _ = self.connections.reports.send((gateway, state)).await;
    }
}

/// Waits until a value is so. A value that nobody sets any more stays as it is.
async fn turned(value: &mut watch::Receiver<bool>, to: bool) {
    if value.wait_for(|now| *now == to).await.is_err() {
        std::future::pending::<()>().await;
    }
}
