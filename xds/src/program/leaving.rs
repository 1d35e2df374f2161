//! Endpoints that leave a cluster of datagrams: they stay for a while, and get no new session.
//!
//! Envoy forgets the sessions of an endpoint in the moment in which it is gone, and with them the answers that are on their
//! way. (Connections are another matter: they outlive their endpoint.) So one that leaves is `DRAINING` first: new sessions go
//! elsewhere, open ones move with their next datagram, and an answer that is on its way arrives.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::ir::{ClusterName, Endpoint, Endpoints};

/// How long it stays: as long as a removed cluster is kept for requests in flight.
const HOLD: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<ClusterName, Vec<(Endpoint, Instant)>>);

impl Leaving {
    /// The endpoints of a cluster of datagrams change.
    pub(super) fn change(&mut self, name: &ClusterName, before: &Endpoints, after: &Endpoints, now: Instant) {
        let leaving = self.0.entry(name.clone()).or_default();
        let until = now + HOLD;
        leaving.extend(before.endpoints.iter().map(|one| (one.clone(), until)));
        // One that is back does not leave; one that was leaving and left again does so once.
        let mut seen: Vec<_> = after.endpoints.iter().map(|one| one.address).collect();
        leaving.sort_by_key(|(_, until)| std::cmp::Reverse(*until));
        leaving.retain(|(one, _)| {
            let new = !seen.contains(&one.address);
            seen.push(one.address);
            new
        });
        if leaving.is_empty() {
            self.0.remove(name);
        }
    }

    /// The cluster is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The endpoints that still leave a cluster.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = &Endpoint> {
        self.0.get(name).into_iter().flatten().map(|(one, _)| one)
    }

    /// Ends the time of those that are due, and tells the clusters that they leave now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ClusterName> {
        let mut clusters = Vec::new();
        self.0.retain(|name, leaving| {
            let count = leaving.len();
            leaving.retain(|(_, until)| *until > now);
            if leaving.len() < count {
                clusters.push(name.clone());
            }
            !leaving.is_empty()
        });
        clusters
    }

    /// When [`Leaving::due`] has something to tell.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().flatten().map(|(_, until)| *until).min()
    }
}
