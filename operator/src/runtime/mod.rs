//! The running control plane: one thread that owns the World, the resolver and every Gateway's program.
//!
//! ```text
//! source ── Changes ──►┐                    ┌──► stores ──► ADS streams
//! fleet ─── Placed ───►├─ core (one thread) ┤      ▲
//! streams ─ Proxy ────►┘                    ├──► wanted ports, standing, put-back content to keep
//! source ── EndpointSlices ──► lane ────────┴──────┘
//! ```
//!
//! It is the same in a cluster and on a laptop: only what feeds it and what binds its ports differ. It promises:
//!
//! - a change is acted on at once; what arrives meanwhile is taken together with the next one;
//! - nothing is served before the first full sync ([`Handle::synced`]);
//! - whoever asks ([`Handle::ask`]) sees one consistent moment, after everything that was sent before.

mod core;
mod dirty;
#[cfg(feature = "fail-points")]
mod fail_point;
mod hub;
mod inputs;
mod keep;
mod lane;
mod pairs;
mod progress;
mod standing;

pub use core::Core;
pub use dirty::{Dirty, Urgency};
#[cfg(feature = "fail-points")]
pub use fail_point::HOLD_RESOLVING;
pub use hub::Hub;
pub use keep::{Keep, KeepInFolder, KeepNothing};
pub use lane::Lane;
pub use standing::Standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
};

use portolan_xds::{
    GatewayKey,
    ads::{Event, StreamId},
    ir::Transport,
};
use tokio::sync::{oneshot, watch};

use crate::{
    metrics::Metrics,
    model::ObjectKey,
    peers::Verdicts,
    resolve::{Environment, FleetPlan, Placement},
    source::Batch,
};

/// The ports that each Gateway's fleet should bind. A Gateway without any usable listener has none.
pub type Wanted = BTreeMap<ObjectKey, BTreeSet<(u16, Transport)>>;

/// The fleets that there should be.
pub type Plans = BTreeMap<ObjectKey, Arc<FleetPlan>>;

/// What this replica's proxies reject, by Gateway; none where they reject nothing.
pub type VerdictsOfAll = BTreeMap<GatewayKey, Arc<Verdicts>>;

/// Called on the core's thread after what it came with was taken in.
type Taken = Box<dyn FnOnce() + Send>;

/// Something that the core is told.
enum Input {
    Changes(Batch, Option<Taken>),
    Synced,
    Placed(ObjectKey, Option<Placement>),
    Proxy(GatewayKey, StreamId, Event),
    Forget(ObjectKey),
    Follow(Arc<Dirty>),
    Environment(Environment),
    Ask(Box<dyn FnOnce(&mut Core) + Send>),
    Stop,
}

/// What the core tells whoever listens.
#[derive(Debug)]
struct Outlets {
    wanted: watch::Sender<Wanted>,
    plans: watch::Sender<Plans>,
    standing: watch::Sender<u64>,
    referenced: watch::Sender<BTreeSet<ObjectKey>>,
    /// Moves when there is something to tell the leader.
    reports: watch::Sender<u64>,
    verdicts: watch::Sender<VerdictsOfAll>,
}

/// The core has ended, because it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control plane has stopped")]
pub struct Stopped;

/// Tells the core things and asks it others. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inputs: inputs::Sender<Input>,
    hub: Arc<Hub>,
    lane: Arc<Lane>,
    wanted: watch::Receiver<Wanted>,
    plans: watch::Receiver<Plans>,
    standing: watch::Receiver<u64>,
    referenced: watch::Receiver<BTreeSet<ObjectKey>>,
    verdicts: watch::Receiver<VerdictsOfAll>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("runtime::Handle")
    }
}

impl Handle {
    /// Tells of changed objects, and of the problems that the source has now.
    pub fn changes(&self, batch: Batch) -> Result<(), Stopped> {
        self.send(Input::Changes(batch, None))
    }

    /// The same; `taken` runs on the core's thread once they are taken in, and before anybody is told what came of it: keep it
    /// short. One message where an [`Handle::ask`] after the changes would be two, and would wake the core twice.
    pub fn changes_then(&self, batch: Batch, taken: impl FnOnce() + Send + 'static) -> Result<(), Stopped> {
        self.send(Input::Changes(batch, Some(Box::new(taken))))
    }

    /// Every kind has been read once: from now on proxies are served.
    pub fn synced(&self) -> Result<(), Stopped> {
        self.send(Input::Synced)
    }

    /// Tells where a Gateway's ports are bound; `None` when its fleet is gone.
    pub fn placed(&self, gateway: ObjectKey, placement: Option<Placement>) -> Result<(), Stopped> {
        self.send(Input::Placed(gateway, placement))
    }

    /// A Gateway that is no longer wanted has no proxies any more: its program may go.
    pub fn forget(&self, gateway: ObjectKey) -> Result<(), Stopped> {
        self.send(Input::Forget(gateway))
    }

    /// Looks at the state after everything sent before. `look` runs on the core's thread: keep it short.
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        // Nobody waits any more: then nobody needs the answer.
        self.send(Input::Ask(Box::new(move |core| _ = answer.send(look(core)))))?;
        answered.await.map_err(|_| Stopped)
    }

    /// What the fleets should bind, as it changes.
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.clone()
    }

    /// What the fleets should be, as it changes.
    pub fn plans(&self) -> watch::Receiver<Plans> {
        self.plans.clone()
    }

    /// A number that moves whenever the standing of an object does.
    pub fn standing_changed(&self) -> watch::Receiver<u64> {
        self.standing.clone()
    }

    /// From now on adds every object whose standing changes. What changed before is not told.
    pub fn follow(&self, dirty: Arc<Dirty>) -> Result<(), Stopped> {
        self.send(Input::Follow(dirty))
    }

    /// The environment changed: CRDs were installed or upgraded.
    pub fn environment(&self, environment: Environment) -> Result<(), Stopped> {
        self.send(Input::Environment(environment))
    }

    /// Secrets and the like that objects of ours refer to, as they change: also those that do not exist (yet).
    pub fn referenced(&self) -> watch::Receiver<BTreeSet<ObjectKey>> {
        self.referenced.clone()
    }

    /// What proxies reject, as it changes: other replicas are told.
    pub fn verdicts(&self) -> watch::Receiver<VerdictsOfAll> {
        self.verdicts.clone()
    }

    /// The stores, as the ADS server reads them.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Where EndpointSlices pass by. Whoever feeds it tells the core of the same changes.
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Ends the core after what was sent before.
    pub fn stop(&self) {
        // It has stopped already.
        let _ = self.send(Input::Stop);
    }

    fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input)
    }
}

/// Starts the core on a thread of its own. `environment` says where its objects come from.
///
/// # Errors
/// Where the system gives no thread.
pub fn start(
    metrics: Arc<Metrics>,
    keep: Box<dyn Keep>,
    environment: Environment,
) -> std::io::Result<(Handle, thread::JoinHandle<()>)> {
    let (sender, inputs) = inputs::queue();
    let hub = Arc::new(Hub::new(sender.clone(), Arc::clone(&metrics)));
    let (wanted, wanted_changes) = watch::channel(Wanted::new());
    let (plans, plans_changes) = watch::channel(Plans::new());
    let (standing, standing_changes) = watch::channel(0);
    let (referenced, referenced_changes) = watch::channel(BTreeSet::new());
    let (verdicts, verdicts_changes) = watch::channel(VerdictsOfAll::new());
    let outlets = Outlets { wanted, plans, standing, referenced, reports: watch::Sender::new(0), verdicts };
    let (lane, turns) = Lane::new(environment.provenance);
    let core = Core::new(Arc::clone(&hub), Arc::clone(&lane), outlets, metrics, keep, environment);
    let (passing, following) = (Arc::clone(&lane), Arc::clone(&lane));
    thread::Builder::new().name("endpoints".into()).spawn(move || passing.run(&turns))?;
    let thread = thread::Builder::new().name("resolve".into()).spawn(move || {
        core.run(&inputs);
        lane.stop();
    })?;
    let handle = Handle {
        inputs: sender,
        hub,
        lane: following,
        wanted: wanted_changes,
        plans: plans_changes,
        standing: standing_changes,
        referenced: referenced_changes,
        verdicts: verdicts_changes,
    };
    Ok((handle, thread))
}

#[cfg(test)]
mod tests;
