//! An independent watch of one collection: when each version of an object was seen (t1), when its status was right for its
//! generation (t5), and how often a status was written.
//!
//! A status write is an event of an object whose generation did not change: a rule that needs no metric of the implementation under
//! measurement (kgateway's). So no benchmark may change an object's metadata while it counts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::core::WatchEvent;
use serde::Deserialize;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    BenchError,
    api::{self, Kind},
    report::between,
};

/// What is read of an object.
#[derive(Debug, Clone, Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
    #[serde(default)]
    generation: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    parents: Vec<Entry>,
    conditions: Vec<Condition>,
    listeners: Vec<Listener>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    observed_generation: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Listener {
    attached_routes: u64,
}

/// What was seen of one object.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Every version and when it came.
    versions: Vec<(String, Instant)>,
    generation: i64,
    /// When its status was first right for its newest generation.
    pub(super) settled: Option<Instant>,
    /// How often its status was written.
    pub(super) status_writes: usize,
    /// Routes that its listeners say are attached.
    pub(super) attached: u64,
    /// When it went.
    pub(super) gone: Option<Instant>,
}

#[derive(Debug, Default)]
struct Log {
    objects: HashMap<String, Seen>,
    ended: Option<String>,
}

/// See the module. Ends with this value.
#[derive(Debug)]
pub(super) struct Watch {
    log: Arc<Mutex<Log>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches a kind in a namespace, over a connection of its own.
    pub(super) async fn start(kind: Kind, namespace: &str) -> Result<Self, BenchError> {
        let client = api::client().await?;
        // Longer than any benchmark: the stream has one beginning.
        let path = format!("{}?watch=1&timeoutSeconds=14400", kind.path(namespace));
        let request =
            http::Request::get(path).body(Vec::new()).map_err(|it| BenchError::Setting(it.to_string()))?;
        let mut events = Box::pin(client.request_events::<Item>(request).await?);
        let log = Arc::new(Mutex::new(Log::default()));
        let (sender, changed) = watch::channel(());
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let at = Instant::now();
                match event {
                    Ok(WatchEvent::Added(item) | WatchEvent::Modified(item)) => {
                        lock(&shared).saw(item, at);
                    }
                    Ok(WatchEvent::Deleted(item)) => {
                        lock(&shared).objects.entry(item.metadata.name).or_default().gone = Some(at);
                    }
                    Ok(WatchEvent::Bookmark(_)) => {}
                    Ok(WatchEvent::Error(error)) => {
                        lock(&shared).ended = Some(error.message.clone());
                        break;
                    }
                    Err(error) => {
                        lock(&shared).ended = Some(error.to_string());
                        break;
                    }
                }
                sender.send_replace(());
            }
            lock(&shared).ended.get_or_insert_with(|| "the stream was closed".into());
        });
        Ok(Self { log, changed, task })
    }

    /// When a version of an object was seen (t1).
    pub(super) async fn seen(&mut self, name: &str, version: &str) -> Result<Instant, BenchError> {
        let of = format!("the watch sees version {version} of {name}");
        self.until(&of, Duration::from_mins(1), |log| log.get(name)?.version(version)).await
    }

    /// Waits until something can be said of what was seen.
    pub(super) async fn until<T>(
        &mut self,
        of: &str,
        limit: Duration,
        mut ask: impl FnMut(&HashMap<String, Seen>) -> Option<T>,
    ) -> Result<T, BenchError> {
        let waiting = async {
            loop {
                self.changed.borrow_and_update();
                {
                    let log = lock(&self.log);
                    if let Some(answer) = ask(&log.objects) {
                        return Ok(answer);
                    }
                    if let Some(why) = &log.ended {
                        return Err(BenchError::Ended { what: "a watch", why: why.clone() });
                    }
                }
                if self.changed.changed().await.is_err() {
                    return Err(BenchError::Ended { what: "a watch", why: of.to_owned() });
                }
            }
        };
        tokio::time::timeout(limit, waiting)
            .await
            .unwrap_or_else(|_| Err(BenchError::Late { of: of.to_owned(), seconds: limit.as_secs() }))
    }

    /// Looks at what was seen so far.
    pub(super) fn read<T>(&self, look: impl FnOnce(&HashMap<String, Seen>) -> T) -> T {
        look(&lock(&self.log).objects)
    }

    /// How many statuses were written so far, all objects together.
    pub(super) fn status_writes(&self) -> usize {
        self.read(|objects| objects.values().map(|seen| seen.status_writes).sum())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// When this version was seen.
    pub(super) fn version(&self, version: &str) -> Option<Instant> {
        self.versions.iter().rev().find(|(seen, _)| seen == version).map(|(_, at)| *at)
    }

    /// From the first sight of an object that was never edited to its right status, in milliseconds.
    pub(super) fn staleness(&self) -> Option<f64> {
        Some(between(self.versions.first()?.1, self.settled?))
    }
}

impl Log {
    fn saw(&mut self, item: Item, at: Instant) {
        let seen = self.objects.entry(item.metadata.name.clone()).or_default();
        if seen.gone.take().is_some() {
            *seen = Seen::default();
        }
        if !seen.versions.is_empty() && seen.generation == item.metadata.generation {
            seen.status_writes += 1;
        } else {
            seen.settled = None;
        }
        seen.generation = item.metadata.generation;
        seen.attached = item.status.listeners.iter().map(|listener| listener.attached_routes).sum();
        if seen.settled.is_none() && item.status.is_of(seen.generation) {
            seen.settled = Some(at);
        }
        seen.versions.push((item.metadata.resource_version, at));
    }
}

impl Status {
    /// Whether all conditions are of this generation, and there are some.
    fn is_of(&self, generation: i64) -> bool {
        let entries = self.parents.iter().flat_map(|entry| &entry.conditions);
        let mut conditions = entries.chain(&self.conditions).peekable();
        conditions.peek().is_some() && conditions.all(|it| it.observed_generation == generation)
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An HTTPRoute as a watch shows it: version, generation, and the generation that its status is about.
    fn route(version: u32, generation: i64, observed: Option<i64>) -> Item {
        let conditions = observed.map(|of| json!([{"type": "Accepted", "observedGeneration": of}]));
        serde_json::from_value(json!({
            "metadata": {"name": "r", "resourceVersion": version.to_string(), "generation": generation},
            "status": {"parents": [{"conditions": conditions.unwrap_or_else(|| json!([]))}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_status_write_is_an_event_without_a_new_generation() {
        let (mut log, at) = (Log::default(), Instant::now());
        for (item, writes, settled) in [
            (route(1, 1, None), 0, false),
            (route(2, 1, Some(1)), 1, true),
            (route(3, 2, Some(1)), 1, false),
            (route(4, 2, Some(1)), 2, false),
            (route(5, 2, Some(2)), 3, true),
        ] {
            log.saw(item, at);
            let seen = &log.objects["r"];
            assert_eq!((seen.status_writes, seen.settled.is_some()), (writes, settled), "{seen:?}");
        }
        assert_eq!(log.objects["r"].version("4"), Some(at));
        assert_eq!(log.objects["r"].version("6"), None);
    }

    #[test]
    fn an_object_that_was_deleted_begins_anew() {
        let (mut log, at) = (Log::default(), Instant::now());
        log.saw(route(1, 1, None), at);
        log.saw(route(2, 1, Some(1)), at);
        log.objects.get_mut("r").unwrap().gone = Some(at);
        log.saw(route(3, 1, None), at);
        let seen = &log.objects["r"];
        assert_eq!((seen.status_writes, seen.settled, seen.gone), (0, None, None));
    }
}
