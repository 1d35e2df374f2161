//! An API server as a source: one watch per kind, each with just enough memory to notice what is gone.
//!
//! ```text
//! CRDs, discovery ── which kinds there are ─────►┐
//! watch per kind ── changes, statuses, trouble ─►├ collector ──► core, observations
//!           └ EndpointSlices, at once ──────────────────────────► lane of endpoints
//! watch by name ─── Secrets that are referred to ►┘   ▲
//!                                                     └── which Secrets: the core
//! ```
//!
//! Promises: nothing is served before every kind that exists was listed once; an object that was deleted while a watch was
//! disconnected is removed; a kind whose CRD is taken away takes its objects with it, and comes back with it; a slow core
//! slows the watches, and memory stays bounded. What the API server refuses is told with the role that is missing.

mod client;
mod collector;
mod crds;
mod feed;
mod mirror;
mod named;
mod observations;
mod resource;
mod seen;
mod served;
mod slices;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use kube::Client;
use tokio::sync::{mpsc, watch as channel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use client::{Cluster, ClusterError, connect, connect_to};
pub use collector::Waiting;
pub use crds::{Installed, Release, installed};
pub use observations::Observations;
pub use resource::SecretAccess;
pub(crate) use resource::{has_status, resource};
pub use seen::{Observed, Seen};
pub(crate) use served::served;
pub use snapshot::{Snapshot, SnapshotError};
pub(crate) use watch::chain;

use self::{
    collector::{Collector, Edges},
    feed::{Feed, Objects, Outlet, Subject},
    mirror::Mirror,
    resource::{Watched, is_custom, is_optional, version, watched},
    slices::Slices,
    watch::{Target, watch},
};
use crate::{metrics::Metrics, model::Kind, runtime::Handle};

/// How many messages may wait for the collector.
const QUEUE: usize = 64;

/// The kinds that are there and might not be: those of CRDs with their releases, those of Kubernetes itself with none.
pub type Releases = BTreeMap<Kind, Option<Release>>;

/// A running source.
#[derive(Debug)]
pub struct Kubernetes {
    /// What the API server has of every status.
    pub observations: Arc<Observations>,
    /// What the first sync waits for.
    pub waiting: Arc<Waiting>,
    /// Cancelled once everything has been read.
    pub synced: CancellationToken,
    /// Which kinds are installed.
    pub releases: channel::Receiver<Releases>,
}

/// Starts watching everything, until `shutdown`. What is seen goes to the core behind `handle`.
pub fn start(
    client: &Client,
    secrets: SecretAccess,
    handle: &Handle,
    metrics: Arc<Metrics>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Kubernetes {
    let (sender, feeds) = mpsc::channel(QUEUE);
    let slices = Arc::new(Slices::new(Arc::clone(handle.lane())));
    let outlet = Outlet { queue: sender, slices: Arc::clone(&slices) };
    let until = |task: futures::future::BoxFuture<'static, ()>| {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task => {}
            }
        });
    };
    let mut present = BTreeMap::new();
    for kind in Kind::ALL {
        let Some(watched) = watched(kind, secrets) else { continue };
        let may_lack = is_custom(kind) || is_optional(kind);
        let (there, is_there) = channel::channel((!may_lack).then(|| version(kind)));
        if may_lack {
            present.insert(kind, there);
        } else {
            // It does not go.
            drop(there);
        }
        until(Box::pin(follow_kind(client.clone(), kind, watched, is_there, outlet.clone())));
        if is_optional(kind) {
            until(Box::pin(served::follow(client.clone(), kind, outlet.clone())));
        }
    }
    until(Box::pin(crds::follow(client.clone(), outlet.clone())));
    until(Box::pin(named::follow(client.clone(), handle.referenced(), secrets, outlet)));
    let (releases, installed) = channel::channel(Releases::new());
    let source = Kubernetes {
        observations: Arc::default(),
        waiting: Arc::default(),
        synced: CancellationToken::new(),
        releases: installed,
    };
    let collector = Collector::new(Edges {
        handle: handle.clone(),
        slices,
        observations: Arc::clone(&source.observations),
        metrics,
        secrets,
        waiting: Arc::clone(&source.waiting),
        synced: source.synced.clone(),
        present,
        releases,
    });
    until(Box::pin(collector.run(feeds)));
    source
}

/// Watches a kind while it is there, in the version that is.
async fn follow_kind(
    client: Client,
    kind: Kind,
    watched: Watched,
    mut present: channel::Receiver<Option<&'static str>>,
    outlet: Outlet,
) {
    let mut mirror = Mirror::new(kind);
    loop {
        let there = present.wait_for(Option::is_some).await.ok().and_then(|there| *there);
        let Some(version) = there else { return };
        let target = Target::kind(kind, version, &watched);
        let other = async {
            let other = present.wait_for(|there| *there != Some(version)).await.map(|there| *there);
            match other {
                Ok(other) => other,
                // Nobody says any more: what is there stays.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = watch(&client, &target, &mut mirror, &outlet) => return,
            // The objects are the same in another version.
            other = other => if other.is_some() { continue },
        }
        let mut objects = Objects::new(Subject::Kind(kind));
        mirror.clear().into_iter().for_each(|news| objects.add(news));
        if outlet.send(Feed::Objects(objects)).await.is_err() {
            return;
        }
    }
}
