//! Commands that ask a cluster instead of a standalone: which one, and how its status is shown.

use clap::Args;
use portolan_crds::names::CONTROLLER_NAME;
use serde_json::{Map, Value, json};

use crate::{
    model::{Kind, Object, ObjectKey},
    source::kubernetes::{Cluster, Snapshot, connect, has_status},
};

/// Whether a cluster is asked, and which.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct MaybeCluster {
    /// Ask the cluster of the kubeconfig. --kubeconfig and --context mean this, too.
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    connection: Cluster,
}

impl MaybeCluster {
    /// The cluster, if one is to be asked.
    pub(super) fn chosen(&self) -> Option<&Cluster> {
        let named = self.connection.kubeconfig.is_some() || self.connection.context.is_some();
        (self.cluster || named).then_some(&self.connection)
    }
}

/// The status of everything of ours in a cluster, in the form of a standalone's.
pub(super) async fn document(cluster: &Cluster) -> Result<Value, String> {
    let client = connect(cluster).await.map_err(|error| error.to_string())?;
    let kinds = Kind::ALL.into_iter().filter(|kind| has_status(*kind));
    let snapshot = Snapshot::read(&client, kinds).await.map_err(|error| error.to_string())?;
    let mut objects = Map::new();
    for (key, observed) in &snapshot.statuses {
        let status =
            observed.status().map_err(|error| format!("{key}: its status cannot be read: {error}"))?;
        objects.extend(ours(&snapshot, key, status).map(|status| (key.to_string(), status)));
    }
    Ok(json!({
        "ready": true, "problems": snapshot.problems, "gateways": {}, "objects": objects,
    }))
}

/// The part of an object's status that is ours; nothing where none is.
fn ours(snapshot: &Snapshot, key: &ObjectKey, mut status: Value) -> Option<Value> {
    let is_ours = |class: &ObjectKey| match snapshot.objects.get(class) {
        Some(Object::GatewayClass(class)) => *class.controller == *CONTROLLER_NAME,
        _ => false,
    };
    match key.kind {
        Kind::GatewayClass => is_ours(key).then_some(status),
        Kind::Gateway => {
            let Some(Object::Gateway(gateway)) = snapshot.objects.get(key) else { return None };
            is_ours(&ObjectKey::new(Kind::GatewayClass, "", gateway.class.clone())).then_some(status)
        }
        _ => {
            let mut some = false;
            for list in ["parents", "ancestors"] {
                if let Some(Value::Array(entries)) = status.get_mut(list) {
                    entries.retain(|entry| entry["controllerName"] == CONTROLLER_NAME);
                    some |= !entries.is_empty();
                }
            }
            some.then_some(status)
        }
    }
}
