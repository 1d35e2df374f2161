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

use tokio::sync::{mpsc::Receiver, oneshot, watch as channel};
use tokio_util::sync::CancellationToken;

use super::{
    Releases,
    feed::{Feed, Objects, Subject},
    observations::Observations,
    resource::{SecretAccess, is_custom, is_optional, version, watched},
    slices::Slices,
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
    pub(super) slices: Arc<Slices>,
    pub(super) observations: Arc<Observations>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) secrets: SecretAccess,
    pub(super) waiting: Arc<Waiting>,
    pub(super) synced: CancellationToken,
    /// Tells each watch of a kind that may lack in which version the kind is there.
    pub(super) present: BTreeMap<Kind, channel::Sender<Option<&'static str>>>,
    pub(super) releases: channel::Sender<Releases>,
}

/// See the module.
pub(super) struct Collector {
    edges: Edges,
    progress: Progress,
    troubles: BTreeMap<Subject, Arc<str>>,
    problems: BTreeMap<ObjectKey, Problem>,
    /// What the core was given last and has perhaps not taken in yet. It is looked at only before the core is given more:
    /// by then it has mostly answered, and nobody had to be woken up for it.
    given: Option<oneshot::Receiver<()>>,
}

/// How far the first sync is.
#[derive(Debug, Default)]
struct Progress {
    /// Which kinds have a CRD that serves them; nothing before the CRDs were listed.
    kinds: Option<Releases>,
    /// In which version optional kinds of Kubernetes itself are served; those that are not known yet are not in here.
    served: BTreeMap<Kind, Option<&'static str>>,
    listed: BTreeSet<Kind>,
    /// Objects that are watched by name: read, or refused, which waiting does not mend.
    settled: BTreeSet<ObjectKey>,
    complete: bool,
}

impl Collector {
    pub(super) fn new(edges: Edges) -> Self {
        let (progress, troubles, problems) = (Progress::default(), BTreeMap::new(), BTreeMap::new());
        Self { edges, progress, troubles, problems, given: None }
    }

    /// Works until the watches or the core are gone.
    pub(super) async fn run(mut self, mut feeds: Receiver<Feed>) {
        let mut taken = Vec::with_capacity(TOGETHER);
        loop {
            taken.clear();
            tokio::select! {
                slices = self.edges.slices.next() => {
                    // After what the other watches have seen: slices name the ports of their Service as it is by then.
                    while taken.len() < TOGETHER && let Ok(feed) = feeds.try_recv() {
                        taken.push(feed);
                    }
                    taken.extend(slices);
                }
                count = feeds.recv_many(&mut taken, TOGETHER) => if count == 0 { return },
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
                Feed::Served(kind, version) => self.on_served(kind, version),
                Feed::Trouble { subject, message, refused } => self.on_trouble(subject, message, refused),
                Feed::Objects(objects) => {
                    first_seen = first_seen.or((!objects.changes.is_empty()).then_some(objects.seen));
                    news |= self.on_objects(objects, &mut changes, &mut observed);
                }
            }
        }
        // One batch at a time, so that a slow core slows the watches.
        if let Some(taken) = self.given.take() {
            taken.await.map_err(|_| Stopped)?;
        }
        if changes.is_empty() && !news {
            self.edges.observations.update(observed);
        } else {
            let problems = self.problems.values().cloned().collect();
            let seen = first_seen.unwrap_or_else(Instant::now);
            let (tell, taken) = oneshot::channel();
            let observations = Arc::clone(&self.edges.observations);
            let batch = Batch { changes: changes.into_iter().collect(), problems, seen };
            self.edges.handle.changes_then(batch, move || {
                // After the core: whoever asks it about what was observed gets an answer that is not older.
                observations.update(observed);
                // A collector that is gone waits for nothing.
                let _ = tell.send(());
            })?;
            self.given = Some(taken);
        }
        if !self.progress.complete {
            self.advance().await?;
        }
        Ok(())
    }

    fn on_kinds(&mut self, kinds: Releases) {
        for kind in Kind::ALL.into_iter().filter(|kind| is_custom(*kind)) {
            self.set_present(kind, kinds.contains_key(&kind).then(|| version(kind)));
        }
        self.progress.kinds = Some(kinds);
        self.tell_releases();
        self.troubles.remove(&Subject::Definitions);
    }

    fn on_served(&mut self, kind: Kind, version: Option<&'static str>) {
        self.set_present(kind, version);
        self.progress.served.insert(kind, version);
        self.tell_releases();
        self.troubles.remove(&Subject::Served(kind));
    }

    /// Starts or ends the watch of a kind.
    fn set_present(&mut self, kind: Kind, version: Option<&'static str>) {
        let Some(sender) = self.edges.present.get(&kind) else { return };
        let was = sender.send_replace(version);
        if was == version {
            return;
        }
        if let Some(version) = version {
            tracing::info!(%kind, version, "the kind is there");
        } else {
            tracing::info!(%kind, "the kind is not there");
            self.progress.listed.remove(&kind);
        }
    }

    /// Tells which kinds there are, once the CRDs were listed.
    fn tell_releases(&self) {
        let Some(mut kinds) = self.progress.kinds.clone() else { return };
        let served = self.progress.served.iter().filter(|(_, version)| version.is_some());
        kinds.extend(served.map(|(kind, _)| (*kind, None)));
        self.edges.releases.send_if_modified(|now| {
            let changed = *now != kinds;
            if changed {
                *now = kinds;
            }
            changed
        });
    }

    fn on_trouble(&mut self, subject: Subject, message: Arc<str>, refused: bool) {
        tracing::warn!(kind = %subject, %message, "cannot be watched; trying again");
        self.edges.metrics.on_watch_failure(subject.kind().map_or("CustomResourceDefinition", Kind::as_str));
        match &subject {
            Subject::Object(key) if refused => _ = self.progress.settled.insert(key.clone()),
            // An install whose roles are older must not stop for a kind that few need.
            Subject::Kind(kind) if refused && is_optional(*kind) => _ = self.progress.listed.insert(*kind),
            _ => {}
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
                Subject::Definitions | Subject::Served(_) => {}
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
                .filter(|kind| !is_custom(*kind) || kinds.contains_key(kind))
                .filter_map(|kind| match self.progress.served.get(&kind) {
                    None if is_optional(kind) => Some(Subject::Served(kind)),
                    Some(None) => None,
                    _ => (!self.progress.listed.contains(&kind)).then_some(Subject::Kind(kind)),
                })
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
