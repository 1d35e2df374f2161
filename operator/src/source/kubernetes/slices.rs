//! EndpointSlices on their way: the lane of endpoints is told at once, and the core when it has time.
//!
//! They do not queue with other objects. A core that is busy takes the newest version of each, however often it changed, so memory
//! is bounded by the slices that there are, and their watch never waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::feed::{Feed, Objects};
use crate::{
    model::{Object, ObjectKey},
    runtime::Lane,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Slices {
    lane: Arc<Lane>,
    waiting: Mutex<Waiting>,
    told: Notify,
}

/// What the core has not been told.
#[derive(Debug, Default)]
struct Waiting {
    /// What changed, without the changes themselves.
    objects: Option<Objects>,
    changes: BTreeMap<ObjectKey, Option<Object>>,
    /// Why the watch does not go on, if it does not.
    trouble: Option<Feed>,
}

impl Slices {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        Self { lane, waiting: Mutex::default(), told: Notify::new() }
    }

    /// What their watch saw.
    pub(super) fn put(&self, objects: Objects) {
        self.lane.note(&objects.changes, objects.seen);
        self.update(|waiting| {
            // It goes on.
            waiting.trouble = None;
            waiting.take_in(objects);
        });
    }

    /// That their watch cannot go on.
    pub(super) fn fail(&self, trouble: Feed) {
        self.update(|waiting| waiting.trouble = Some(trouble));
    }

    fn update(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // A permit stays until somebody waits.
        self.told.notify_one();
    }

    /// What is new since the last call; waits until something is. For one reader.
    pub(super) async fn next(&self) -> Vec<Feed> {
        loop {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            let feeds = waiting.into_feeds();
            if !feeds.is_empty() {
                return feeds;
            }
            self.told.notified().await;
        }
    }
}

impl Waiting {
    /// Adds what the watch saw later.
    fn take_in(&mut self, mut later: Objects) {
        for (key, object) in later.changes.drain(..) {
            if let Some(before) = &mut self.objects {
                before.problems.retain(|problem| problem.object.as_ref() != Some(&key));
            }
            self.changes.insert(key, object);
        }
        let Some(before) = &mut self.objects else {
            self.objects = Some(later);
            return;
        };
        for problem in later.problems {
            before.problems.retain(|one| one.object != problem.object);
            before.problems.push(problem);
        }
        before.observed.extend(later.observed);
        before.listed |= later.listed;
    }

    fn into_feeds(self) -> Vec<Feed> {
        let objects = self.objects.map(|mut objects| {
            objects.changes = self.changes.into_iter().collect();
            Feed::Objects(objects)
        });
        objects.into_iter().chain(self.trouble).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Kind, source::kubernetes::feed::Subject};

    fn gone(name: &str) -> Objects {
        let key = ObjectKey::new(Kind::EndpointSlice, "apps", name);
        Objects { changes: vec![(key, None)], ..Objects::new(Subject::Kind(Kind::EndpointSlice)) }
    }

    fn trouble() -> Feed {
        let subject = Subject::Kind(Kind::EndpointSlice);
        Feed::Trouble { subject, message: "no answer".into(), refused: false }
    }

    fn shown(feeds: &[Feed]) -> Vec<String> {
        let show = |feed: &Feed| match feed {
            Feed::Objects(objects) => {
                let names = objects.changes.iter().map(|(key, _)| key.name.to_string());
                names.collect::<Vec<_>>().join(" ")
            }
            Feed::Trouble { message, .. } => message.to_string(),
            other => format!("{other:?}"),
        };
        feeds.iter().map(show).collect()
    }

    #[tokio::test]
    async fn nothing_waits_for_the_core_and_each_slice_is_told_once() {
        let slices = Slices::new(Lane::closed());
        for name in ["b", "a", "b"] {
            slices.put(gone(name));
        }
        slices.fail(trouble());
        assert_eq!(shown(&slices.next().await), ["a b", "no answer"]);
        // A watch that goes on has no trouble.
        slices.fail(trouble());
        slices.put(gone("c"));
        assert_eq!(shown(&slices.next().await), ["c"]);
        slices.fail(trouble());
        assert_eq!(shown(&slices.next().await), ["no answer"]);
    }
}
