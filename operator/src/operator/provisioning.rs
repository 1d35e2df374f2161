//! Starts what keeps fleets: plans in, objects in the API server, placements out.
//!
//! Every replica knows how the fleets are, so that a new leader knows at once what the one before knew; the leader alone
//! writes.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Stage, TRUST_DOMAIN,
    fleets::{self, Placing},
    until,
};
use crate::{
    events::Events,
    fleet::cluster::{Applier, Connections, FleetTask, Installation, MayWrite, Owned},
    identity::Authorities,
    leader::Leadership,
    runtime::Handle,
};

/// How many reports of fleets may wait to be taken in.
const REPORTS: usize = 256;

/// What it needs.
pub(super) struct Provisioning {
    pub(super) client: Client,
    pub(super) handle: Handle,
    pub(super) leadership: Leadership,
    pub(super) events: Events,
    pub(super) installation: Installation,
    pub(super) authorities: watch::Receiver<Arc<Authorities>>,
    /// Cancelled once everything has been read.
    pub(super) synced: CancellationToken,
}

/// What is known of the fleets; both are turned on once.
pub(super) struct Known {
    /// How every fleet is that there was at the start.
    pub(super) observed: watch::Receiver<bool>,
    /// Where every Gateway listens that there was at the start.
    pub(super) placed: watch::Receiver<bool>,
}

impl Provisioning {
    /// Starts it. What writes is in `writing`.
    pub(super) fn start(self, writing: &Stage, tasks: &TaskTracker, shutdown: &CancellationToken) -> Known {
        let owned = Owned::start(&self.client, tasks, shutdown);
        let may_write: MayWrite = {
            let leadership = self.leadership.clone();
            Arc::new(move || leadership.holds())
        };
        let applier = Applier::new(
            self.client,
            Arc::clone(&owned),
            self.installation,
            TRUST_DOMAIN.into(),
            self.authorities.clone(),
            may_write,
        );
        let (wanted, fleets_wanted) = watch::channel(Arc::default());
        let (planned, all_planned) = watch::channel(false);
        let (observed, all_observed) = watch::channel(false);
        let (placed, all_placed) = watch::channel(false);
        let (reports, reported) = mpsc::channel(REPORTS);
        let connections = Connections {
            wanted: fleets_wanted,
            synced: all_planned,
            leading: self.leadership.changes(),
            authorities: self.authorities,
            reports,
            observed,
        };
        writing.tasks.spawn(FleetTask::new(applier, owned, connections).run(writing.stop.clone()));
        let placing = Placing::new(self.handle.clone(), reported, placed, self.leadership, self.events);
        tasks.spawn(until(shutdown.clone(), async move {
            self.synced.cancelled().await;
            tokio::join!(fleets::follow(self.handle, wanted, planned), placing.run());
        }));
        Known { observed: all_observed, placed: all_placed }
    }
}
