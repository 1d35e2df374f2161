//! Events: what a person who looks at an object with `kubectl describe` should know of its past.
//!
//! An event is a hint, never the truth (that is the status): it is sent once, joined with equal ones into a series, and
//! dropped where there are too many or the API server does not take it. Nothing waits for it.

mod limit;

use std::{sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use portolan_crds::names::CONTROLLER_NAME;
use tokio::sync::mpsc;

use self::limit::Limit;
use crate::{
    metrics::Metrics,
    model::ObjectKey,
    source::kubernetes::{chain, resource},
};

/// How many events may wait to be sent.
const QUEUE: usize = 256;

/// The longest note that the API takes, in bytes (events.k8s.io/v1: 1 kB).
const MAX_NOTE: usize = 1024;

/// So many sent events are remembered, to join equal ones. The recorder itself only bounds the time, six minutes, and looks at all of
/// them with every new one. The most that [`limit`] lets through makes an object's next event come after some sixty others: it is
/// joined still. More than that costs memory in a storm (B7 of docs/performance.md: with 1024 it grew by 6 %).
const REMEMBERED: u32 = 256;

/// How long sending one may take.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether somebody should do something about it.
    pub warning: bool,
    /// One word in CamelCase; equal ones are joined.
    pub reason: String,
    /// What Portolan was doing, as one word in CamelCase.
    pub action: &'static str,
    /// For people.
    pub message: String,
}

/// Takes events for sending. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<(ObjectKey, Arc<str>, Notice)>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Sends an event about an object. `uid` is the object's. Where too many wait it is dropped.
    pub fn publish(&self, key: &ObjectKey, uid: &Arc<str>, notice: Notice) {
        if self.queue.try_send((key.clone(), Arc::clone(uid), notice)).is_err() {
            self.metrics.on_event("dropped");
        }
    }
}

/// Makes the two ends: one that takes events, and a task that sends them until all of the other are gone.
pub fn channel(
    client: Client,
    instance: &str,
    metrics: Arc<Metrics>,
) -> (Events, impl Future<Output = ()> + use<>) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let reporter = Reporter { controller: CONTROLLER_NAME.into(), instance: Some(cut(instance, 128)) };
    let recorder = move || Recorder::new(client.clone(), reporter.clone());
    (Events { queue, metrics: Arc::clone(&metrics) }, send(recorder, waiting, metrics))
}

async fn send(
    remember: impl Fn() -> Recorder,
    mut waiting: mpsc::Receiver<(ObjectKey, Arc<str>, Notice)>,
    metrics: Arc<Metrics>,
) {
    let mut limit = Limit::new(Instant::now());
    let (mut recorder, mut remembered) = (remember(), 0);
    while let Some((key, uid, notice)) = waiting.recv().await {
        if !limit.allows(&key, Instant::now()) {
            metrics.on_event("dropped");
            continue;
        }
        if remembered == REMEMBERED {
            (recorder, remembered) = (remember(), 0);
        }
        remembered += 1;
        let (event, about) = (event(&notice), reference(&key, &uid));
        match tokio::time::timeout(REQUEST, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => metrics.on_event("sent"),
            Ok(Err(error)) => {
                metrics.on_event("failed");
                tracing::debug!(object = %key, error = %chain(&error), "an event is not taken");
            }
            Err(_) => metrics.on_event("failed"),
        }
    }
}

fn event(notice: &Notice) -> Event {
    Event {
        type_: if notice.warning { EventType::Warning } else { EventType::Normal },
        reason: cut(&notice.reason, 128),
        note: Some(cut(&notice.message, MAX_NOTE)),
        action: notice.action.to_owned(),
        secondary: None,
    }
}

fn reference(key: &ObjectKey, uid: &Arc<str>) -> ObjectReference {
    let resource = resource(key.kind);
    ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(key.name.to_string()),
        namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
        uid: Some(uid.to_string()),
        ..ObjectReference::default()
    }
}

/// The text, cut at a character to so many bytes.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes.saturating_sub("…".len())).rev().find(|end| text.is_char_boundary(*end));
    format!("{}…", text.get(..end.unwrap_or(0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn an_event_names_its_object_as_the_api_does() {
        let key = ObjectKey::new(Kind::HttpRoute, "apps", "shop");
        let about = reference(&key, &"uid-1".into());
        assert_eq!(about.api_version.as_deref(), Some("gateway.networking.k8s.io/v1"));
        assert_eq!((about.kind.as_deref(), about.uid.as_deref()), (Some("HTTPRoute"), Some("uid-1")));
        assert_eq!(reference(&ObjectKey::new(Kind::GatewayClass, "", "c"), &"".into()).namespace, None);
    }

    #[test]
    fn a_note_is_cut_to_what_the_api_takes() {
        let notice =
            Notice { warning: true, reason: "Invalid".into(), action: "Program", message: "é".repeat(1000) };
        let note = event(&notice).note.unwrap();
        assert!(note.len() <= MAX_NOTE && note.ends_with("é…"), "{}", note.len());
    }
}
