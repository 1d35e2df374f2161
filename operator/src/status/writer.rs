//! The edge: asks the core, compares, writes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use portolan_crds::names::CONTROLLER_NAME;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    finalizer::finalizers,
    merge::{Merged, is_pending, merge},
    notices::notices,
    pace::{Change, Pace},
    queue::{Outcome, PATIENCE, Queue},
    rivals::Rivals,
};
use crate::{
    events::Events,
    leader::Leadership,
    metrics::{Metrics, StatusWrite},
    model::{Kind, ObjectKey},
    runtime::{Dirty, Handle, Urgency},
    source::kubernetes::{Observations, Observed, Seen, chain, resource},
};

/// How many writes are under way at a time.
const CONCURRENCY: usize = 16;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// How often a conflict is tried again at once.
const CONFLICTS: usize = 4;

/// How long a write waits for a Lease that ran out and is renewed, perhaps, before anybody else takes it: then nobody would tell of what
/// was not written meanwhile.
const RENEWED: Duration = Duration::from_secs(1);

/// The manager of the fields that are written.
const MANAGER: &str = "portolan";

/// See [`super`]. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    handle: Handle,
    observations: Arc<Observations>,
    leadership: Leadership,
    events: Events,
    metrics: Arc<Metrics>,
    rivals: Arc<Mutex<Rivals>>,
    pace: Arc<Mutex<Pace>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("status::Writer")
    }
}

type Looking = BoxFuture<'static, (ObjectKey, Outcome)>;

impl Writer {
    /// Writes what the core behind `handle` reports, where `observations` differ from it.
    pub fn new(
        client: Client,
        handle: Handle,
        observations: Arc<Observations>,
        leadership: Leadership,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (rivals, pace) = (Arc::default(), Arc::default());
        Self { client, handle, observations, leadership, events, metrics, rivals, pace }
    }

    /// Works until `stop`, then ends the writes that are under way. `dirty` is told by core and observations which
    /// objects to look at.
    pub async fn run(self, dirty: Arc<Dirty>, stop: CancellationToken) {
        let mut leads = self.leadership.changes();
        let mut queue = Queue::default();
        let mut looking: FuturesUnordered<Looking> = FuturesUnordered::new();
        loop {
            let holds = self.leadership.holds();
            while looking.len() < CONCURRENCY && holds {
                let Some((key, since)) = queue.next(Instant::now()) else { break };
                let writer = self.clone();
                looking.push(Box::pin(async move {
                    let outcome = writer.look(&key, since).await;
                    (key, outcome)
                }));
            }
            self.metrics.on_status_queue(queue.len());
            let deadline = match (holds, queue.len()) {
                (true, _) => queue.deadline().filter(|_| looking.len() < CONCURRENCY),
                (false, 0) => None,
                (false, _) => Some(Instant::now() + RENEWED),
            };
            tokio::select! {
                () = stop.cancelled() => break,
                keys = dirty.take() => if *leads.borrow() {
                    queue.mark(keys, Instant::now());
                },
                Some((key, outcome)) = looking.next(), if !looking.is_empty() => {
                    // Whoever does not lead has no queue.
                    let outcome = if *leads.borrow() { outcome } else { Outcome::Settled };
                    queue.done(key, outcome, Instant::now());
                }
                () = sleep_until(deadline) => {}
                changed = leads.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if *leads.borrow_and_update() {
                        // Whoever led before may have died in the middle of it.
                        let all = self.observations.keys().into_iter();
                        queue.mark(all.map(|key| (key, Urgency::AtOnce)), Instant::now());
                    } else {
                        queue.clear();
                    }
                }
            }
        }
        // Each of them ends soon: by its answer, or by its time.
        while looking.next().await.is_some() {}
    }

    /// Looks at one object and writes what is to be written.
    async fn look(&self, key: &ObjectKey, since: Instant) -> Outcome {
        match self.look_at_status(key, since).await {
            Outcome::Settled if key.kind == Kind::GatewayClass => self.look_at_finalizers(key).await,
            outcome => outcome,
        }
    }

    async fn look_at_finalizers(&self, key: &ObjectKey) -> Outcome {
        let Some(observed) = self.observations.get(key) else { return Outcome::Settled };
        let asked = key.clone();
        let Ok(Some(in_use)) = self.handle.ask(move |core| core.engine().class_in_use(&asked)).await else {
            return Outcome::Settled;
        };
        let Some(finalizers) = finalizers(&observed.finalizers, in_use, observed.deleted) else {
            return Outcome::Settled;
        };
        match self.write(key, &observed, Write::Finalizers(finalizers)).await {
            // The watch shows what others wrote, and then we look again.
            Ok(()) | Err(Refusal::Conflict | Refusal::Gone) => Outcome::Settled,
            Err(Refusal::NotLeader) => Outcome::NotBefore(Instant::now() + RENEWED),
            Err(Refusal::Failed(message)) => self.failed(key, &message),
        }
    }

    async fn look_at_status(&self, key: &ObjectKey, since: Instant) -> Outcome {
        let Some(mut observed) = self.observations.get(key) else {
            self.rivals().forget(key);
            return Outcome::Settled;
        };
        let asked = key.clone();
        // The core is gone: so are we, soon.
        let Ok(desired) = self.handle.ask(move |core| core.status_and_digest(&asked)).await else {
            return Outcome::Settled;
        };
        let (desired, words) = desired.unzip();
        let words = words.unwrap_or_default();
        if desired.is_some() && self.observations.set_foreign(key, false) {
            let Some(newest) = self.observations.get(key) else { return Outcome::Settled };
            observed = newest;
        }
        for _ in 0..CONFLICTS {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let current = match observed.status() {
                Ok(current) => current,
                Err(error) => return self.failed(key, &format!("what stands in it cannot be read: {error}")),
            };
            let fields = match merge(&current, observed.generation, desired.as_ref(), &now) {
                Merged::Same => {
                    self.observations.set_foreign(key, desired.is_none());
                    return Outcome::Settled;
                }
                // What is newer than we are reaches us, and then we look again.
                Merged::Behind => return Outcome::Settled,
                Merged::Write(fields) => fields,
            };
            let patient = since + PATIENCE;
            if desired.as_ref().is_some_and(is_pending) && Instant::now() < patient {
                return Outcome::NotBefore(patient);
            }
            if let Some(until) = self.rivals().wait(key, words, Instant::now()) {
                return Outcome::NotBefore(until);
            }
            let change = Change::of(&current, &fields);
            if let Some(until) = self.pace().wait(key, words, change, Instant::now()) {
                return Outcome::NotBefore(until);
            }
            let told = notices(&current, &fields);
            match self.write(key, &observed, Write::Status(fields)).await {
                Ok(()) => {
                    for notice in told {
                        self.events.publish(key, &observed.uid, notice);
                    }
                    self.metrics.on_status_write(key.kind.as_str(), StatusWrite::Written);
                    self.on_written(key, words);
                    return Outcome::Settled;
                }
                Err(Refusal::Conflict) => {
                    self.metrics.on_status_write(key.kind.as_str(), StatusWrite::Conflict);
                }
                Err(Refusal::Gone) => return Outcome::Settled,
                Err(Refusal::NotLeader) => return Outcome::NotBefore(Instant::now() + RENEWED),
                Err(Refusal::Failed(message)) => return self.failed(key, &message),
            }
            match self.read(key).await {
                Ok(Some(now)) if now.uid == observed.uid => {
                    self.observations.note(key, now.clone());
                    observed = Arc::new(now);
                }
                // Another object of that name: the watch tells of it.
                Ok(_) => return Outcome::Settled,
                Err(message) => return self.failed(key, &message),
            }
        }
        self.failed(key, "others write it all the time")
    }

    fn rivals(&self) -> MutexGuard<'_, Rivals> {
        self.rivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_written(&self, key: &ObjectKey, words: u64) {
        self.pace().on_written(key, words, Instant::now());
        let wait = self.rivals().on_written(key, words, Instant::now());
        if let Some(wait) = wait {
            tracing::warn!(
                object = %key, controller = CONTROLLER_NAME, wait = %format!("{} s", wait.as_secs()),
                "somebody takes back what is written into its status, again and again: is there a second operator with this controller name?"
            );
        }
    }

    fn failed(&self, key: &ObjectKey, message: &str) -> Outcome {
        self.metrics.on_status_write(key.kind.as_str(), StatusWrite::Failed);
        tracing::warn!(object = %key, %message, "its status cannot be written; trying again");
        Outcome::Failed
    }

    fn api(&self, key: &ObjectKey) -> Api<Seen> {
        let resource = resource(key.kind);
        if key.kind.cluster_scoped() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
        }
    }

    async fn read(&self, key: &ObjectKey) -> Result<Option<Observed>, String> {
        let api = self.api(key);
        match tokio::time::timeout(REQUEST, api.get_opt(&key.name)).await {
            Ok(Ok(object)) => Ok(object.map(Observed::of)),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("no answer for {} s", REQUEST.as_secs())),
        }
    }

    /// Writes on the condition that the object is as it was observed.
    async fn write(&self, key: &ObjectKey, observed: &Observed, write: Write) -> Result<(), Refusal> {
        self.observations.writing(key);
        let (written, outcome) = match self.patch(key, observed, write).await {
            Ok(written) => (Some(written), Ok(())),
            Err(refusal) => (None, Err(refusal)),
        };
        self.observations.written(key, written);
        outcome
    }

    async fn patch(&self, key: &ObjectKey, observed: &Observed, write: Write) -> Result<Observed, Refusal> {
        // A write that is still under way when somebody else leads may come late, but its version keeps it from
        // undoing anything; this keeps it from being under way.
        let Some(left) = self.leadership.remaining() else { return Err(Refusal::NotLeader) };
        let mut patch = json!({
            "metadata": {"uid": &*observed.uid, "resourceVersion": &*observed.resource_version},
        });
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let api = self.api(key);
        let patched = async {
            match write {
                Write::Status(fields) => {
                    patch["status"] = Value::Object(fields);
                    api.patch_status(&key.name, &params, &Patch::Merge(patch)).await
                }
                Write::Finalizers(finalizers) => {
                    patch["metadata"]["finalizers"] = finalizers.into();
                    api.patch(&key.name, &params, &Patch::Merge(patch)).await
                }
            }
        };
        match tokio::time::timeout(REQUEST.min(left), patched).await {
            Ok(Ok(object)) => Ok(Observed::of(object)),
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Err(Refusal::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Err(Refusal::Gone),
            Ok(Err(error)) => Err(Refusal::Failed(chain(&error))),
            Err(_) => Err(Refusal::Failed(format!("no answer for {} s", REQUEST.as_secs()))),
        }
    }
}

/// What is written.
enum Write {
    /// Fields of the status; the others stay.
    Status(Map<String, Value>),
    /// metadata.finalizers.
    Finalizers(Vec<String>),
}

/// Why nothing was written.
enum Refusal {
    Conflict,
    Gone,
    NotLeader,
    Failed(String),
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
