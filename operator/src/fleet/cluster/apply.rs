//! Writing a fleet's objects: server-side apply, guarded by version and owner.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::Status,
};
use portolan_crds::names::CONTROLLER_NAME;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    fleet::{Fleet, Front, Installation, identity_name},
    objects::{self, Desired, Identity, OwnedKind, objects},
    owned::{Id, Owned, resource},
    settings::Scale,
    step::{OPERATOR, Step, is_gateway, kept_by, owner_of, rival, step, with_digest},
    trouble,
};
use crate::{fleet::GatewayName, identity::Authorities};

/// The manager of our fields.
pub const MANAGER: &str = "portolan";
/// The manager of a Deployment's replicas while they pass from us to an autoscaler.
const HANDOVER: &str = "portolan-handover";
/// How often an object that changes under our hands is read again before the whole fleet is tried later.
const ATTEMPTS: usize = 5;

/// Whether this process may write now. Asked before each write: a leader that was suspended writes nothing late.
pub type MayWrite = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why an object is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else's object has the name.
    #[error("{kind} {name} is not Portolan's: {why}. Delete or rename it, or rename the Gateway")]
    Foreign {
        /// Its kind.
        kind: OwnedKind,
        /// Its name.
        name: String,
        /// Whose it is.
        why: String,
    },
    /// Another operator keeps it.
    #[error(
        "{kind} {name} is kept by the operator in namespace {operator}: two operators have the controller name {CONTROLLER_NAME}. Remove one; to hand the fleet over, remove the annotation {OPERATOR} from its objects"
    )]
    Rival {
        /// Its kind.
        kind: OwnedKind,
        /// Its name.
        name: String,
        /// The other operator's namespace.
        operator: String,
    },
    /// The API server refuses.
    #[error("cannot {action} {kind} {name}: {message}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The object's kind.
        kind: OwnedKind,
        /// Its name.
        name: String,
        /// What the API server said, and what to do.
        message: String,
    },
    /// The API server did not answer.
    #[error("cannot {action} {kind} {name}: the API server does not answer: {message}")]
    Unanswered {
        /// What was tried.
        action: &'static str,
        /// The object's kind.
        kind: OwnedKind,
        /// Its name.
        name: String,
        /// What went wrong.
        message: String,
    },
    /// An older object of the name is still there.
    #[error("{kind} {name} is being deleted; waiting until it is gone")]
    Going {
        /// Its kind.
        kind: OwnedKind,
        /// Its name.
        name: String,
    },
    /// It changes all the time.
    #[error("{kind} {name} changes faster than it can be written")]
    Races {
        /// Its kind.
        kind: OwnedKind,
        /// Its name.
        name: String,
    },
    /// Another replica leads now.
    #[error("this replica does not lead any more")]
    NotLeading,
    /// A certificate or an object could not be made.
    #[error("a defect of Portolan: {0}; please report it")]
    Defect(String),
}

impl ApplyError {
    /// Whether somebody has to do something about it.
    pub fn is_for_people(&self) -> bool {
        matches!(self, Self::Foreign { .. } | Self::Rival { .. } | Self::Refused { .. } | Self::Defect(_))
    }
}

/// What came of one look at a fleet.
#[derive(Debug, Default)]
pub struct Applied {
    /// The Services that there are, or why not, by name.
    pub services: BTreeMap<String, Result<Arc<Value>, String>>,
    /// What went wrong.
    pub errors: Vec<ApplyError>,
    /// How many proxies serve.
    pub ready: i64,
    /// Why none does, as far as Kubernetes says.
    pub trouble: Option<String>,
}

/// See the module.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    owned: Arc<Owned>,
    installation: Installation,
    trust_domain: Arc<str>,
    authorities: watch::Receiver<Arc<Authorities>>,
    may_write: MayWrite,
}

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier").field("installation", &self.installation).finish_non_exhaustive()
    }
}

impl Applier {
    /// An applier that asks `may_write` before each write.
    pub fn new(
        client: Client,
        owned: Arc<Owned>,
        installation: Installation,
        trust_domain: Arc<str>,
        authorities: watch::Receiver<Arc<Authorities>>,
        may_write: MayWrite,
    ) -> Self {
        Self { client, owned, installation, trust_domain, authorities, may_write }
    }

    /// Makes a fleet what it should be. One object that cannot be written does not keep the others from it. A Gateway
    /// without any usable listener gets no fleet, and keeps the one that it has.
    pub async fn apply(&self, fleet: &Fleet) -> Applied {
        let mut applied = Applied::default();
        if fleet.ports.is_empty() && self.owned.of(&fleet.gateway).is_empty() {
            return applied;
        }
        let objects = match objects(fleet, &self.installation) {
            Ok(objects) => objects,
            Err(error) => {
                applied.errors.push(ApplyError::Defect(error.to_string()));
                return applied;
            }
        };
        if let Err(error) = self.identity(fleet).await {
            applied.errors.push(error);
        }
        let there = self.owned.of(&fleet.gateway);
        let left = left_over(&there, &objects, fleet);
        let (services, left): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(kind, _)| *kind == OwnedKind::Service);
        // An address that moves from one Service to another has to be free first.
        self.prune(fleet, &there, services, &mut applied).await;
        let fronts = fleet.services();
        let asking: BTreeSet<_> =
            fronts.iter().filter(|one| one.address.is_some()).map(|one| &one.name).collect();
        let mut workload = None;
        for object in &objects {
            let cached = there.get(&(object.kind, object.name.clone())).cloned();
            let settled = self.settle(fleet, object, cached.clone()).await;
            if object.kind == OwnedKind::Service {
                let service = as_it_is(&settled, cached, asking.contains(&object.name));
                applied.services.insert(object.name.clone(), service);
            } else if object.kind.is_workload() {
                workload = settled.as_ref().ok().cloned().or(cached).map(|live| (object.kind, live));
            }
            applied.errors.extend(settled.err());
        }
        if let Some((kind, live)) = &workload {
            applied.ready = trouble::ready(*kind, live);
            if applied.ready == 0 {
                applied.trouble = self.trouble(fleet, live).await;
            }
        }
        // The old proxies go when new ones serve, or when none is wanted.
        let replaced = applied.ready > 0 || fleet.settings.scale == Scale::Fixed(0);
        let rest = left.into_iter().filter(|(kind, _)| replaced || !kind.is_workload()).collect();
        self.prune(fleet, &there, rest, &mut applied).await;
        applied
    }

    /// How a fleet is, as far as can be seen without asking or changing anything: for a replica that does not lead.
    pub fn observe(&self, fleet: &Fleet) -> Applied {
        let there = self.owned.of(&fleet.gateway);
        let find = |kind, name: &str| there.get(&(kind, name.to_owned())).cloned();
        let services = fleet.services().into_iter().filter_map(|Front { name, .. }| {
            let service = find(OwnedKind::Service, &name)?;
            Some((name, Ok(service)))
        });
        let workload =
            if fleet.settings.scale == Scale::PerNode { OwnedKind::DaemonSet } else { OwnedKind::Deployment };
        let ready = find(workload, &fleet.name()).map_or(0, |live| trouble::ready(workload, &live));
        Applied { services: services.collect(), ready, ..Applied::default() }
    }

    /// Deletes everything that a Gateway which is gone has left. Its Secrets are named like its accounts.
    pub async fn remove(&self, gateway: &GatewayName) -> Vec<ApplyError> {
        let mut errors = Vec::new();
        for ((kind, name), live) in self.owned.of(gateway) {
            let uid = uid(&live);
            errors.extend(self.delete(gateway, kind, &name, &uid).await.err());
            if kind == OwnedKind::ServiceAccount {
                errors.extend(self.remove_identity(gateway, &format!("{name}-xds")).await.err());
            }
        }
        errors
    }

    async fn remove_identity(&self, gateway: &GatewayName, name: &str) -> Result<(), ApplyError> {
        let Some(found) = self.read(gateway, OwnedKind::Secret, name).await? else { return Ok(()) };
        match owner_of(&found) {
            Some(owner) if is_gateway(&owner) && owner.name == *gateway.key().name => {
                self.delete(gateway, OwnedKind::Secret, name, &uid(&found)).await
            }
            _ => Ok(()),
        }
    }

    /// The proxies' certificate: the one that is there while it is good.
    async fn identity(&self, fleet: &Fleet) -> Result<(), ApplyError> {
        let name = identity_name(&fleet.gateway, &fleet.class);
        let found = self.read(&fleet.gateway, OwnedKind::Secret, &name).await?.map(Arc::new);
        let authorities = Arc::clone(&self.authorities.borrow());
        let now = Timestamp::now();
        let kept = found.as_deref().and_then(held).filter(|held| {
            let (certificate, roots) = (held.certificate.as_bytes(), held.authorities.as_bytes());
            !authorities.is_stale(&self.trust_domain, &fleet.gateway, certificate, roots, now)
        });
        let identity = match kept {
            Some(held) => held,
            None => authorities
                .proxy(&self.trust_domain, &fleet.gateway, now)
                .map_err(|error| ApplyError::Defect(error.to_string()))?,
        };
        let desired =
            objects::identity(fleet, &identity).map_err(|error| ApplyError::Defect(error.to_string()))?;
        self.settle(fleet, &desired, found).await.map(drop)
    }

    /// Makes one object what it should be; gives it as it is then.
    async fn settle(
        &self,
        fleet: &Fleet,
        desired: &Desired,
        mut cached: Option<Arc<Value>>,
    ) -> Result<Arc<Value>, ApplyError> {
        let (kind, name, gateway) = (desired.kind, desired.name.as_str(), &fleet.gateway);
        let operator = self.installation.namespace.as_str();
        let desired = &kept_by(desired, operator);
        for _ in 0..ATTEMPTS {
            let live = match cached.take() {
                Some(cached) => Some(cached),
                None => self.read(gateway, kind, name).await?.map(Arc::new),
            };
            let of_this_gateway = |live: &Value| owner_of(live).is_some_and(|owner| owner.uid == *fleet.uid);
            if let Some(operator) =
                live.as_deref().filter(|live| of_this_gateway(live)).and_then(|live| rival(live, operator))
            {
                return Err(ApplyError::Rival { kind, name: name.to_owned(), operator });
            }
            let wanted = match (&live, &fleet.settings.scale) {
                (Some(_), Scale::Load { .. }) if kind == OwnedKind::Deployment => without_replicas(desired),
                _ => desired.clone(),
            };
            match step(&wanted, live.as_deref(), gateway, &fleet.uid) {
                Step::Keep => {
                    if let Some(live) = live {
                        return Ok(live);
                    }
                }
                Step::Create => {
                    // Not by force: whoever creates one of this name at the same moment keeps it.
                    let params = PatchParams::apply(MANAGER);
                    if let Some(created) = self.write(gateway, &wanted, with_digest(&wanted), params).await? {
                        return Ok(created);
                    }
                }
                Step::Update { mut version } => {
                    if kind == OwnedKind::Deployment && wanted.value.pointer("/spec/replicas").is_none() {
                        version = self.hand_over_replicas(gateway, name).await?.unwrap_or(version);
                    }
                    let mut object = with_digest(&wanted);
                    set(&mut object, "resourceVersion", version);
                    let params = PatchParams::apply(MANAGER).force();
                    if let Some(updated) = self.write(gateway, &wanted, object, params).await? {
                        return Ok(updated);
                    }
                }
                Step::Recreate { uid } => {
                    self.probe_address(gateway, &wanted).await?;
                    self.delete(gateway, kind, name, &uid).await?;
                }
                Step::Remove { uid: Some(uid) } => self.delete(gateway, kind, name, &uid).await?,
                Step::Remove { uid: None } => {
                    return Err(ApplyError::Going { kind, name: name.to_owned() });
                }
                Step::Refuse(why) => return Err(ApplyError::Foreign { kind, name: name.to_owned(), why }),
            }
        }
        Err(ApplyError::Races { kind, name: name.to_owned() })
    }

    /// Writes; nothing where somebody else was faster.
    async fn write(
        &self,
        gateway: &GatewayName,
        desired: &Desired,
        object: Value,
        params: PatchParams,
    ) -> Result<Option<Arc<Value>>, ApplyError> {
        self.may_write()?;
        let api = self.api(gateway, desired.kind);
        match api.patch(&desired.name, &params, &Patch::Apply(&object)).await {
            Ok(written) => json(&written).map(|value| Some(Arc::new(value))),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(refused("apply", desired.kind, &desired.name, &error)),
        }
    }

    /// Lets a Deployment keep its number of replicas when we stop writing it: server-side apply resets a field that
    /// nobody owns any more, and one replica would be left until the autoscaler notices. Gives the Deployment's new
    /// resourceVersion, if it has one.
    async fn hand_over_replicas(
        &self,
        gateway: &GatewayName,
        name: &str,
    ) -> Result<Option<String>, ApplyError> {
        let kind = OwnedKind::Deployment;
        let Some(live) = self.read(gateway, kind, name).await? else { return Ok(None) };
        let (Some(replicas), true) = (live.pointer("/spec/replicas"), owns_replicas(&live)) else {
            return Ok(None);
        };
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": name,
                "namespace": gateway.key().namespace,
                "resourceVersion": live.pointer("/metadata/resourceVersion"),
            },
            "spec": {"replicas": replicas},
        });
        let handed = Desired { kind, name: name.to_owned(), value: value.clone() };
        let written = self.write(gateway, &handed, value, PatchParams::apply(HANDOVER).force()).await?;
        let version = |object: Arc<Value>| {
            object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
        };
        Ok(written.and_then(version))
    }

    /// Asks the API server whether a Service could have its address, before the one that there is goes.
    async fn probe_address(&self, gateway: &GatewayName, desired: &Desired) -> Result<(), ApplyError> {
        let mut object = desired.value.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("name");
            metadata.insert("generateName".to_owned(), "portolan-probe-".into());
        }
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| ApplyError::Defect(error.to_string()))?;
        let params = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
        let probed = self.api(gateway, desired.kind).create(&params, &object).await;
        probed.map(drop).map_err(|error| refused("apply", desired.kind, &desired.name, &error))
    }

    async fn prune(
        &self,
        fleet: &Fleet,
        there: &BTreeMap<Id, Arc<Value>>,
        left: Vec<Id>,
        applied: &mut Applied,
    ) {
        for id in left {
            let Some(live) = there.get(&id) else { continue };
            if rival(live, &self.installation.namespace).is_some() {
                continue;
            }
            let deleted = self.delete(&fleet.gateway, id.0, &id.1, &uid(live)).await;
            applied.errors.extend(deleted.err());
            if id.0 == OwnedKind::ServiceAccount {
                let removed = self.remove_identity(&fleet.gateway, &format!("{}-xds", id.1)).await;
                applied.errors.extend(removed.err());
            }
        }
    }

    /// Deletes this very object; one that is gone already, or another one by now, is fine.
    async fn delete(
        &self,
        gateway: &GatewayName,
        kind: OwnedKind,
        name: &str,
        uid: &str,
    ) -> Result<(), ApplyError> {
        self.may_write()?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::background()
        };
        match self.api(gateway, kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(refused("delete", kind, name, &error)),
        }
    }

    async fn read(
        &self,
        gateway: &GatewayName,
        kind: OwnedKind,
        name: &str,
    ) -> Result<Option<Value>, ApplyError> {
        match self.api(gateway, kind).get_opt(name).await {
            Ok(found) => found.as_ref().map(json).transpose(),
            Err(error) => Err(refused("read", kind, name, &error)),
        }
    }

    /// What Kubernetes says about pods that do not run.
    async fn trouble(&self, fleet: &Fleet, workload: &Value) -> Option<String> {
        if let Some(why) = trouble::of_workload(workload) {
            return Some(why);
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &fleet.gateway.key().namespace);
        let selector: Vec<_> =
            fleet.selector().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let pods = pods.list(&ListParams::default().labels(&selector.join(","))).await;
        match pods {
            Ok(pods) => {
                let pods: Vec<_> =
                    pods.items.iter().filter_map(|pod| serde_json::to_value(pod).ok()).collect();
                trouble::of_pods(&pods)
            }
            Err(error) => {
                tracing::debug!(gateway = %fleet.gateway, %error, "its pods cannot be listed");
                None
            }
        }
    }

    fn may_write(&self) -> Result<(), ApplyError> {
        if (self.may_write)() { Ok(()) } else { Err(ApplyError::NotLeading) }
    }

    fn api(&self, gateway: &GatewayName, kind: OwnedKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &gateway.key().namespace, &resource(kind))
    }
}

/// Objects of the Gateway that its fleet no longer has. Services stay where the fleet has no port: there is no Service
/// without.
fn left_over(there: &BTreeMap<Id, Arc<Value>>, objects: &[Desired], fleet: &Fleet) -> Vec<Id> {
    let wanted = |id: &Id| objects.iter().any(|object| (object.kind, &object.name) == (id.0, &id.1));
    let kept = |id: &Id| id.0 == OwnedKind::Service && fleet.ports.is_empty();
    there.keys().filter(|id| !wanted(id) && !kept(id)).cloned().collect()
}

/// A Service after it was looked at. One that could not be written goes on as it was, unless it was refused the address
/// that it asks for.
fn as_it_is(
    settled: &Result<Arc<Value>, ApplyError>,
    cached: Option<Arc<Value>>,
    asks: bool,
) -> Result<Arc<Value>, String> {
    match (settled, cached) {
        (Ok(live), _) => Ok(Arc::clone(live)),
        (Err(ApplyError::Refused { message, .. }), _) if asks => Err(message.clone()),
        (Err(_), Some(cached)) => Ok(cached),
        (Err(error), None) => Err(error.to_string()),
    }
}

fn without_replicas(desired: &Desired) -> Desired {
    let mut desired = desired.clone();
    if let Some(spec) = desired.value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    desired
}

/// Whether the number of replicas is a field that we applied.
fn owns_replicas(live: &Value) -> bool {
    let managers = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(MANAGER)
            && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    })
}

/// The certificate that a Secret holds.
fn held(secret: &Value) -> Option<Identity> {
    use base64::Engine as _;
    let field = |name: &str| {
        let text = secret.pointer(&format!("/data/{name}"))?.as_str()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        String::from_utf8(bytes).ok()
    };
    Some(Identity { certificate: field("tls.crt")?, key: field("tls.key")?, authorities: field("ca.crt")? })
}

fn uid(object: &Value) -> String {
    object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn set(object: &mut Value, field: &str, value: String) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(field.to_owned(), value.into());
    }
}

fn json(object: &DynamicObject) -> Result<Value, ApplyError> {
    serde_json::to_value(object).map_err(|error| ApplyError::Defect(error.to_string()))
}

fn refused(action: &'static str, kind: OwnedKind, name: &str, error: &kube::Error) -> ApplyError {
    let name = name.to_owned();
    match error {
        kube::Error::Api(status) => ApplyError::Refused { action, kind, name, message: explain(status) },
        other => ApplyError::Unanswered { action, kind, name, message: other.to_string() },
    }
}

/// What the API server said, and what to do about it where that is not obvious.
fn explain(status: &Status) -> String {
    let message = &status.message;
    if status.code == 403 && !message.contains("exceeded quota") && !message.contains("being terminated") {
        return format!("{message}. Bind ClusterRole portolan-fleets to the operator there");
    }
    message.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_ours_only_while_we_apply_them() {
        let managed = |manager: &str, fields: Value| json!({"metadata": {"managedFields": [{"manager": manager, "fieldsV1": fields}]}});
        assert!(owns_replicas(&managed("portolan", json!({"f:spec": {"f:replicas": {}}}))));
        assert!(!owns_replicas(&managed("portolan", json!({"f:spec": {"f:template": {}}}))));
        assert!(!owns_replicas(&managed("kube-controller-manager", json!({"f:spec": {"f:replicas": {}}}))));
        assert!(!owns_replicas(&json!({})));
    }

    #[test]
    fn a_missing_permission_names_the_role() {
        let mut status =
            Status::failure("deployments.apps is forbidden: User x cannot patch", "Forbidden").with_code(403);
        assert!(explain(&status).contains("portolan-fleets"));
        status.message = "pods \"x\" is forbidden: exceeded quota: small".to_owned();
        assert!(!explain(&status).contains("portolan-fleets"));
    }
}
