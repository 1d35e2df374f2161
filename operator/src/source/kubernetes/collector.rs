//! Brings what the watches see to the core, in one order, and knows when everything has been read once.
//!
//! While the core is busy the next messages are taken together, and watches that are ahead wait: memory stays bounded
//! however fast objects change.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::{mpsc::Receiver, watch as channel};
use tokio_util::sync::CancellationToken;

use super::{
    Releases,
    feed::{Feed, Objects, Subject},
    observations::Observations,
    resource::{SecretAccess, is_custom, watched},
};
use crate::{
    metrics::Metrics,
    model::{Kind, Object, ObjectKey},
    runtime::{Handle, Stopped},
    source::{Batch, Problem},
};

/// How many messages are taken together at most.
const TOGETHER: usize = 512;

/// What the first sync waits for, for people. Empty once it is complete.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Vec<String>>);

impl Waiting {
    /// Each thing that has not been read yet, with what is wrong if something is.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, list: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = list;
    }
}

/// Who is told what, and by whose choice.
pub(super) struct Edges {
    pub(super) handle: Handle,
    pub(super) observations: Arc<Observations>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) secrets: SecretAccess,
    pub(super) waiting: Arc<Waiting>,
    pub(super) synced: CancellationToken,
    /// Tells each watch of a custom kind whether the kind is there.
    pub(super) present: BTreeMap<Kind, channel::Sender<bool>>,
    pub(super) releases: channel::Sender<Releases>,
}

/// See the module.
pub(super) struct Collector {
    edges: Edges,
    progress: Progress,
    troubles: BTreeMap<Subject, Arc<str>>,
    problems: BTreeMap<ObjectKey, Problem>,
}

/// How far the first sync is.
#[derive(Debug, Default)]
struct Progress {
    /// Which kinds there are; nothing before the CRDs were listed.
    kinds: Option<BTreeSet<Kind>>,
    listed: BTreeSet<Kind>,
    /// Objects that are watched by name: read, or refused, which waiting does not mend.
    settled: BTreeSet<ObjectKey>,
    complete: bool,
}

impl Collector {
    pub(super) fn new(edges: Edges) -> Self {
        Self { edges, progress: Progress::default(), troubles: BTreeMap::new(), problems: BTreeMap::new() }
    }

    /// Works until the watches or the core are gone.
    pub(super) async fn run(mut self, mut feeds: Receiver<Feed>) {
        let mut taken = Vec::with_capacity(TOGETHER);
        loop {
            taken.clear();
            if feeds.recv_many(&mut taken, TOGETHER).await == 0 {
                return;
            }
            if self.take(taken.drain(..)).await.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, feeds: impl Iterator<Item = Feed>) -> Result<(), Stopped> {
        let mut changes: BTreeMap<ObjectKey, Option<Object>> = BTreeMap::new();
        let (mut observed, mut news) = (Vec::new(), false);
        let mut first_seen: Option<Instant> = None;
        for feed in feeds {
            match feed {
                Feed::Kinds(kinds) => self.on_kinds(kinds),
                Feed::Trouble { subject, message, refused } => self.on_trouble(subject, message, refused),
                Feed::Objects(objects) => {
                    first_seen = first_seen.or((!objects.changes.is_empty()).then_some(objects.seen));
                    news |= self.on_objects(objects, &mut changes, &mut observed);
                }
            }
        }
        if !changes.is_empty() || news {
            let problems = self.problems.values().cloned().collect();
            let seen = first_seen.unwrap_or_else(Instant::now);
            self.edges.handle.changes(Batch { changes: changes.into_iter().collect(), problems, seen })?;
            // The core has taken it in when it answers.
            self.edges.handle.ask(|_| ()).await?;
        }
        // After the core: whoever asks it about what was observed gets an answer that is not older.
        self.edges.observations.update(observed);
        if !self.progress.complete {
            self.advance().await?;
        }
        Ok(())
    }

    fn on_kinds(&mut self, kinds: BTreeMap<Kind, Option<super::Release>>) {
        for (kind, sender) in &self.edges.present {
            let there = kinds.contains_key(kind);
            let was = sender.send_replace(there);
            if was != there {
                tracing::info!(%kind, "{}", if there { "the kind is installed" } else { "the kind is not installed" });
                if !there {
                    self.progress.listed.remove(kind);
                }
            }
        }
        self.progress.kinds = Some(kinds.keys().copied().collect());
        self.edges.releases.send_if_modified(|now| {
            let changed = *now != kinds;
            if changed {
                *now = kinds;
            }
            changed
        });
        self.troubles.remove(&Subject::Definitions);
    }

    fn on_trouble(&mut self, subject: Subject, message: Arc<str>, refused: bool) {
        tracing::warn!(kind = %subject, %message, "cannot be watched; trying again");
        self.edges.metrics.on_watch_failure(subject.kind().map_or("CustomResourceDefinition", Kind::as_str));
        if let (Subject::Object(key), true) = (&subject, refused) {
            self.progress.settled.insert(key.clone());
        }
        self.troubles.insert(subject, message);
    }

    /// Takes in one message; tells whether the list of problems changed.
    fn on_objects(
        &mut self,
        objects: Objects,
        changes: &mut BTreeMap<ObjectKey, Option<Object>>,
        observed: &mut Vec<(ObjectKey, Option<super::Observed>)>,
    ) -> bool {
        let mut news = self.troubles.remove(&objects.subject).is_some();
        if objects.listed {
            match &objects.subject {
                Subject::Kind(kind) => _ = self.progress.listed.insert(*kind),
                Subject::Object(key) => _ = self.progress.settled.insert(key.clone()),
                Subject::Definitions => {}
            }
        }
        for (key, object) in objects.changes {
            news |= self.problems.remove(&key).is_some();
            changes.insert(key, object);
        }
        for problem in objects.problems {
            tracing::warn!("{problem}");
            if let Some(key) = problem.object.clone() {
                self.problems.insert(key, problem);
                news = true;
            }
        }
        observed.extend(objects.observed);
        news
    }

    /// Looks whether everything has been read once.
    async fn advance(&mut self) -> Result<(), Stopped> {
        let mut missing: Vec<Subject> = match &self.progress.kinds {
            None => vec![Subject::Definitions],
            Some(kinds) => Kind::ALL
                .into_iter()
                .filter(|kind| watched(*kind, self.edges.secrets).is_some())
                .filter(|kind| !is_custom(*kind) || kinds.contains(kind))
                .filter(|kind| !self.progress.listed.contains(kind))
                .map(Subject::Kind)
                .collect(),
        };
        if missing.is_empty() {
            // Which Secrets are needed is known once everything that can refer to one is there.
            let referenced = self.edges.handle.ask(|core| core.engine().referenced()).await?;
            let unread = referenced
                .into_iter()
                .filter(|key| watched(key.kind, self.edges.secrets).is_none())
                .filter(|key| !self.progress.settled.contains(key));
            missing.extend(unread.map(Subject::Object));
        }
        if missing.is_empty() {
            self.progress.complete = true;
            self.edges.handle.synced()?;
            self.edges.synced.cancel();
            tracing::info!("everything has been read once");
        }
        let told = missing.into_iter().map(|subject| match self.troubles.get(&subject) {
            Some(message) => format!("{subject} ({message})"),
            None => subject.to_string(),
        });
        self.edges.waiting.set(told.collect());
        Ok(())
    }
}

impl Problem {
    /// An error about an object in an API server.
    pub(super) fn of_object(key: ObjectKey, message: impl Into<Arc<str>>) -> Self {
        let file: Arc<Path> = Path::new(&key.to_string()).into();
        Self { object: Some(key), ..Self::of_file(&file, message) }
    }
}
