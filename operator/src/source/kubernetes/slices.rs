//! EndpointSlices on their way: the lane of endpoints is told at once, and the core when it has time.
//!
//! They do not queue with other objects. A core that is busy takes the newest version of each, however often it changed, so memory
//! is bounded by the slices that there are, and their watch never waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::feed::Objects;
use crate::runtime::Lane;

/// See the module.
#[derive(Debug)]
pub(super) struct Slices {
    lane: Arc<Lane>,
    waiting: Mutex<Option<Objects>>,
    told: Notify,
}

impl Slices {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        Self { lane, waiting: Mutex::default(), told: Notify::new() }
    }

    /// What their watch saw.
    pub(super) fn put(&self, objects: Objects) {
        self.lane.note(&objects.changes, objects.seen);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(before) => before.merge(objects),
            None => *waiting = Some(objects),
        }
        drop(waiting);
        // A permit stays until somebody waits.
        self.told.notify_one();
    }

    /// What changed since the last call; waits until something did. For one reader.
    pub(super) async fn next(&self) -> Objects {
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(objects) = waiting {
                return objects;
            }
            self.told.notified().await;
        }
    }
}

impl Objects {
    /// Adds what the same watch saw later.
    fn merge(&mut self, later: Self) {
        let mut changes: BTreeMap<_, _> = self.changes.drain(..).collect();
        for (key, object) in later.changes {
            self.problems.retain(|problem| problem.object.as_ref() != Some(&key));
            changes.insert(key, object);
        }
        self.changes = changes.into_iter().collect();
        for problem in later.problems {
            self.problems.retain(|before| before.object != problem.object);
            self.problems.push(problem);
        }
        self.observed.extend(later.observed);
        self.listed |= later.listed;
    }
}
