//! The task that keeps the fleets of all Gateways what they should be, while this replica leads.
//!
//! ```text
//! what is wanted ──►┐            ┌──► workers, a few at a time ──► API server
//! owned objects ───►├─ queue ────┤
//! leading, time ───►┘            └──► reports
//! ```
//!
//! Level-triggered: a worker looks at one Gateway as it is wanted and as it is now. What changes meanwhile is looked at
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
    fleet::Fleet,
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
        Self {
            applier,
            owned,
            wanted: Arc::clone(&connections.wanted.borrow()),
            connections,
            queue: Queue::default(),
            working: FuturesUnordered::new(),
            waits: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Works while this replica leads and everything is known, until `shutdown`. What is under way then is finished.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut complete = self.owned.complete();
        while !shutdown.is_cancelled() {
            let ready = async {
                turned(&mut complete, true).await;
                turned(&mut self.connections.synced, true).await;
                turned(&mut self.connections.leading, true).await;
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = ready => {}
            }
            self.lead(&shutdown).await;
            while let Some(done) = self.working.next().await {
                self.on_done(done).await;
            }
        }
    }

    /// Works until this replica no longer leads.
    async fn lead(&mut self, shutdown: &CancellationToken) {
        let owned = Arc::clone(&self.owned);
        self.take_wanted();
        self.look_at_all();
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
                () = shutdown.cancelled() => return,
                () = turned(&mut self.connections.leading, false) => return,
                changed = self.connections.wanted.changed() => match changed {
                    Ok(()) => self.take_wanted(),
                    Err(_) => return,
                },
                changed = self.connections.authorities.changed() => match changed {
                    Ok(()) => self.look_at_all(),
                    Err(_) => return,
                },
                touched = owned.touched() => {
                    let now = Instant::now();
                    touched.into_iter().for_each(|gateway| self.queue.add(gateway, now));
                }
                Some(done) = self.working.next(), if !self.working.is_empty() => self.on_done(done).await,
                () = wake => {}
            }
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
        all.into_iter().for_each(|gateway| self.queue.add(gateway, now));
    }

    fn start(&mut self) {
        while self.working.len() < WORKERS {
            let Some(gateway) = self.queue.next(Instant::now()) else { return };
            let wanted = self.wanted.get(&gateway).cloned();
            let applier = self.applier.clone();
            self.working.push(Box::pin(async move {
                match wanted {
                    Some(Some(fleet)) => {
                        let applied = applier.apply(&fleet).await;
                        (gateway, Some(fleet), Work::Applied(applied))
                    }
                    Some(None) => (gateway, None, Work::Left),
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
                    let state = self.judge(fleet, applied, now);
                    if self.told.get(&gateway) != Some(&state) {
                        self.told.insert(gateway.clone(), state.clone());
                        self.tell(gateway.clone(), Some(state)).await;
                    }
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

    /// What one look at a fleet means.
    fn judge(&mut self, fleet: &Fleet, applied: Applied, now: Instant) -> FleetState {
        let services = fleet.services();
        let waits = self.waits.entry(fleet.gateway.clone()).or_default();
        waits.retain(&services.iter().filter_map(|(name, at)| Some((name.clone(), (*at)?))).collect::<Vec<_>>());
        let asked: Vec<Asked<'_>> = services
            .iter()
            .filter_map(|(name, address)| {
                let service = match applied.services.get(name)? {
                    Ok(service) => Ok(&**service),
                    Err(why) => Err(why.clone()),
                };
                let since = address.map_or(Duration::ZERO, |address| waits.since(name, address, now));
                Some(Asked { name, address: *address, service, since })
            })
            .collect();
        let addresses = addresses(fleet, &asked);
        if addresses.pending.is_some() && !fleet.addresses.is_empty() {
            self.queue.add_later(fleet.gateway.clone(), now + PATIENCE);
        }
        if applied.ready == 0 && fleet.settings.scale != Scale::Fixed(0) && !fleet.ports.is_empty() {
            self.queue.add_later(fleet.gateway.clone(), now + ATTENTION);
        }
        let for_people: Vec<_> =
            applied.errors.into_iter().filter(ApplyError::is_for_people).collect();
        let trouble = for_people.first().map(ToString::to_string).or(applied.trouble);
        FleetState { addresses, ready: applied.ready, trouble, errors: for_people }
    }

    async fn tell(&self, gateway: GatewayName, state: Option<FleetState>) {
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
