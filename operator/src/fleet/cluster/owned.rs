//! The fleet objects that there are: one watch per kind, by label, so that what somebody changes or deletes is noticed.
//!
//! Secrets are not watched: whoever may watch them by label may read all of them. They are read one by one when a fleet
//! is looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use portolan_crds::names::labels;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{objects::OwnedKind, step::is_gateway};
use crate::fleet::GatewayName;

/// Kind and name, in the Gateway's namespace.
pub(super) type Id = (OwnedKind, String);

/// The kinds that are watched.
pub(crate) const WATCHED: [OwnedKind; 6] = [
    OwnedKind::ServiceAccount,
    OwnedKind::Service,
    OwnedKind::Deployment,
    OwnedKind::DaemonSet,
    OwnedKind::HorizontalPodAutoscaler,
    OwnedKind::PodDisruptionBudget,
];

/// The API's resource of a kind.
pub(crate) fn resource(kind: OwnedKind) -> ApiResource {
    let (group, version, plural) = match kind {
        OwnedKind::Secret => ("", "v1", "secrets"),
        OwnedKind::ServiceAccount => ("", "v1", "serviceaccounts"),
        OwnedKind::Service => ("", "v1", "services"),
        OwnedKind::Deployment => ("apps", "v1", "deployments"),
        OwnedKind::DaemonSet => ("apps", "v1", "daemonsets"),
        OwnedKind::HorizontalPodAutoscaler => ("autoscaling", "v2", "horizontalpodautoscalers"),
        OwnedKind::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.as_str().to_owned(),
        plural: plural.to_owned(),
    }
}

/// The objects by Gateway. Pure.
#[derive(Debug, Default)]
struct Shelf {
    objects: BTreeMap<GatewayName, BTreeMap<Id, Arc<Value>>>,
    /// What a list that is under way has shown, by kind.
    shown: BTreeMap<OwnedKind, BTreeSet<(GatewayName, String)>>,
    listed: BTreeSet<OwnedKind>,
}

impl Shelf {
    /// Takes in an event, and tells whose fleets it concerns.
    fn on(&mut self, kind: OwnedKind, event: Event<DynamicObject>) -> BTreeSet<GatewayName> {
        let mut touched = BTreeSet::new();
        match event {
            Event::Init => _ = self.shown.insert(kind, BTreeSet::new()),
            Event::InitApply(object) => {
                if let Some(gateway) = self.put(kind, object, &mut touched) {
                    self.shown.entry(kind).or_default().insert(gateway);
                }
            }
            Event::InitDone => {
                let shown = self.shown.remove(&kind).unwrap_or_default();
                for (gateway, objects) in &mut self.objects {
                    let before = objects.len();
                    objects.retain(|(other, name), _| {
                        *other != kind || shown.contains(&(gateway.clone(), name.clone()))
                    });
                    if objects.len() < before {
                        touched.insert(gateway.clone());
                    }
                }
                self.listed.insert(kind);
            }
            Event::Apply(object) => _ = self.put(kind, object, &mut touched),
            Event::Delete(object) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                if let Some(gateway) = gateway_of(&object)
                    && let Some(objects) = self.objects.get_mut(&gateway)
                    && objects.remove(&(kind, name)).is_some()
                {
                    touched.insert(gateway);
                }
            }
        }
        self.objects.retain(|_, objects| !objects.is_empty());
        touched
    }

    fn put(
        &mut self,
        kind: OwnedKind,
        mut object: DynamicObject,
        touched: &mut BTreeSet<GatewayName>,
    ) -> Option<(GatewayName, String)> {
        object.metadata.managed_fields = None;
        let name = object.metadata.name.clone()?;
        // An object that lost its owner is no longer anybody's here; its Gateway finds that out.
        let gateway = gateway_of(&object);
        let before = self.objects.iter_mut().find_map(|(owner, objects)| {
            let same_namespace = Some(&*owner.key().namespace) == object.metadata.namespace.as_deref();
            (same_namespace && Some(owner) != gateway.as_ref())
                .then(|| objects.remove(&(kind, name.clone())).map(|_| owner.clone()))
                .flatten()
        });
        touched.extend(before);
        let gateway = gateway?;
        let value = serde_json::to_value(object).ok()?;
        let objects = self.objects.entry(gateway.clone()).or_default();
        let old = objects.insert((kind, name.clone()), Arc::new(value));
        let version = |object: Option<&Arc<Value>>| {
            object.and_then(|object| object.pointer("/metadata/resourceVersion").cloned())
        };
        if version(old.as_ref()) != version(objects.get(&(kind, name.clone()))) {
            touched.insert(gateway.clone());
        }
        Some((gateway, name))
    }
}

/// The Gateway that owns an object.
fn gateway_of(object: &DynamicObject) -> Option<GatewayName> {
    let owners = object.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true) && is_gateway(owner))?;
    GatewayName::new(object.metadata.namespace.as_deref()?, &owner.name).ok()
}

/// See the module.
#[derive(Debug)]
pub struct Owned {
    shelf: RwLock<Shelf>,
    touched: RwLock<BTreeSet<GatewayName>>,
    news: Notify,
    complete: watch::Sender<bool>,
}

impl Default for Owned {
    fn default() -> Self {
        Self {
            shelf: RwLock::default(),
            touched: RwLock::default(),
            news: Notify::new(),
            complete: watch::Sender::new(false),
        }
    }
}

impl Owned {
    /// Starts the watches, until `shutdown`.
    pub fn start(client: &Client, tasks: &TaskTracker, shutdown: &CancellationToken) -> Arc<Self> {
        let owned = Arc::new(Self::default());
        for kind in WATCHED {
            let follow = Arc::clone(&owned).follow(client.clone(), kind);
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = follow => {}
                }
            });
        }
        owned
    }

    async fn follow(self: Arc<Self>, client: Client, kind: OwnedKind) {
        let api: Api<DynamicObject> = Api::all_with(client, &resource(kind));
        let selector = format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_PORTOLAN);
        let config = watcher::Config::default().labels(&selector);
        let mut events = std::pin::pin!(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.on(kind, event),
                Err(error) => {
                    tracing::warn!(%kind, %error, "fleets' objects cannot be watched; trying again");
                }
            }
        }
    }

    fn on(&self, kind: OwnedKind, event: Event<DynamicObject>) {
        let mut known = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        let touched = known.on(kind, event);
        let complete = known.listed.len() == WATCHED.len();
        drop(known);
        if !touched.is_empty() {
            self.touched.write().unwrap_or_else(PoisonError::into_inner).extend(touched);
            self.news.notify_one();
        }
        self.complete.send_if_modified(|now| std::mem::replace(now, complete) != complete);
    }

    /// Whether everything has been seen once, as it changes.
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.complete.subscribe()
    }

    /// Gateways whose objects changed; waits until there are some. For one reader.
    pub async fn touched(&self) -> BTreeSet<GatewayName> {
        loop {
            let touched = std::mem::take(&mut *self.touched.write().unwrap_or_else(PoisonError::into_inner));
            if !touched.is_empty() {
                return touched;
            }
            self.news.notified().await;
        }
    }

    /// The objects of a Gateway.
    pub fn of(&self, gateway: &GatewayName) -> BTreeMap<Id, Arc<Value>> {
        let known = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        known.objects.get(gateway).cloned().unwrap_or_default()
    }

    /// Gateways that have objects.
    pub fn gateways(&self) -> BTreeSet<GatewayName> {
        let known = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        known.objects.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, gateway: Option<&str>, version: &str) -> DynamicObject {
        let owners = gateway.map(|name| {
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": name, "uid": "u", "controller": true})
        });
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name, "namespace": "apps", "resourceVersion": version,
                "ownerReferences": owners.into_iter().collect::<Vec<_>>(),
            },
        }))
        .unwrap()
    }

    fn names(touched: &BTreeSet<GatewayName>) -> Vec<String> {
        touched.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_change_concerns_the_gateway_that_owns_the_object() {
        let mut shelf = Shelf::default();
        let mut on = |event| names(&shelf.on(OwnedKind::Service, event));
        assert_eq!(on(Event::Apply(object("a", Some("web"), "1"))), ["apps/web"]);
        assert_eq!(on(Event::Apply(object("a", Some("web"), "1"))), [""; 0], "the same again");
        assert_eq!(on(Event::Apply(object("a", Some("web"), "2"))), ["apps/web"]);
        assert_eq!(on(Event::Apply(object("b", None, "3"))), [""; 0], "nobody's");
        assert_eq!(on(Event::Apply(object("a", None, "4"))), ["apps/web"], "it lost its owner");
        assert_eq!(on(Event::Delete(object("a", None, "5"))), [""; 0]);
        assert!(shelf.objects.is_empty());
    }

    #[test]
    fn what_a_list_does_not_show_is_gone() {
        let mut shelf = Shelf::default();
        let list = |shelf: &mut Shelf, all: &[(&str, &str)]| {
            let mut touched = shelf.on(OwnedKind::Service, Event::Init);
            for (name, gateway) in all {
                touched
                    .extend(shelf.on(OwnedKind::Service, Event::InitApply(object(name, Some(gateway), "1"))));
            }
            touched.extend(shelf.on(OwnedKind::Service, Event::InitDone));
            names(&touched)
        };
        assert_eq!(list(&mut shelf, &[("a", "web"), ("b", "api")]), ["apps/api", "apps/web"]);
        shelf.on(OwnedKind::Deployment, Event::Apply(object("b", Some("api"), "1")));
        assert_eq!(list(&mut shelf, &[("a", "web")]), ["apps/api"]);
        let api = GatewayName::new("apps", "api").unwrap();
        assert_eq!(shelf.objects[&api].len(), 1, "the Deployment stays");
        assert!(shelf.listed.contains(&OwnedKind::Service));
    }
}
