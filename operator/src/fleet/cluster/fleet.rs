//! What a Gateway's fleet should be: everything that its objects are made from.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use portolan_crds::names::{self, labels};
use portolan_xds::ir::Transport;

use super::{
    name::{address_service_name, fleet_name, label_value},
    settings::Settings,
};
use crate::fleet::GatewayName;

/// The one TCP port of a proxy's pod that is ours: `/ready`, `/live` and `/stats/prometheus`. A listener cannot have it.
pub const PROXY_PORT: u16 = 19_001;

/// What is the same for every fleet of an install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The operator's namespace: who keeps its fleets.
    pub namespace: String,
    /// The proxies' image, unless a FleetConfig names another.
    pub proxy_image: String,
    /// The DNS name of the operator's Service, which its certificate has.
    pub xds_host: String,
    /// The port on which it serves xDS.
    pub xds_port: u16,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// The Gateway.
    pub gateway: GatewayName,
    /// Its metadata.uid: who owns the objects.
    pub uid: Arc<str>,
    /// Its GatewayClass.
    pub class: Arc<str>,
    /// The ports of its listeners.
    pub ports: BTreeSet<(u16, Transport)>,
    /// The addresses that it asks for, each once; with none, whatever it gets.
    pub addresses: Vec<IpAddr>,
    /// What it asks for inside the cluster, if it asks for that (routability `Cluster`).
    pub inside: Option<Inside>,
    /// spec.infrastructure.labels.
    pub labels: BTreeMap<String, String>,
    /// spec.infrastructure.annotations.
    pub annotations: BTreeMap<String, String>,
    /// The FleetConfigs that hold.
    pub settings: Settings,
}

/// Addresses that only the cluster reaches: each that of a Service of type ClusterIP, whatever type the others have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Those that are asked for, each once; with none, whatever it gets.
    pub addresses: Vec<IpAddr>,
    /// Whether nothing else is asked for. Then no Service leads to the fleet from outside.
    pub only: bool,
}

/// A Service of a fleet. It asks for one address at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its name.
    pub name: String,
    /// The address that it asks for, if any.
    pub address: Option<IpAddr>,
    /// Whether only the cluster reaches it.
    pub inside: bool,
}

impl Fleet {
    /// The name of its objects.
    pub fn name(&self) -> String {
        fleet_name(&self.gateway.key().name, &self.class)
    }

    /// The name of the Secret that holds the proxies' certificate.
    pub fn identity_name(&self) -> String {
        identity_name(&self.gateway, &self.class)
    }

    /// Its Services.
    pub fn services(&self) -> Vec<Front> {
        let name = self.name();
        let further = |text: &str| address_service_name(&name, text);
        let outside = |name, address| Front { name, address, inside: false };
        let mut all = Vec::new();
        if !self.inside.as_ref().is_some_and(|inside| inside.only) {
            let first = self.addresses.first().copied();
            all.push(outside(name.clone(), first));
            let rest = self.addresses.iter().skip(1);
            all.extend(rest.map(|at| outside(further(&at.to_string()), Some(*at))));
        }
        // With names of their own: were the first Service one of these, its clusterIP would stay taken by it when an
        // address for everybody is asked for later.
        if let Some(inside) = &self.inside {
            let within = |name, address| Front { name, address, inside: true };
            let named =
                inside.addresses.iter().map(|at| within(further(&format!("Cluster/{at}")), Some(*at)));
            all.extend(named);
            if inside.addresses.is_empty() {
                all.push(within(further("Cluster"), None));
            }
        }
        all
    }

    /// The labels by which its pods are found. A workload's selector cannot change: nothing that an edit can change
    /// is among them.
    pub(super) fn selector(&self) -> BTreeMap<String, String> {
        let own = [
            (labels::GATEWAY_NAME, label_value(&self.gateway.key().name)),
            (labels::GATEWAY_CLASS_NAME, label_value(&self.class)),
            (labels::MANAGED_BY, labels::MANAGED_BY_PORTOLAN.to_owned()),
        ];
        own.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// The labels of every object: the class's and Gateway's FleetConfig, then the Gateway's infrastructure, and
    /// over all of them our own.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut all = self.settings.labels.clone();
        all.extend(self.labels.clone());
        all.extend(self.selector());
        all
    }

    /// The annotations of every object, in the same order.
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let mut all = self.settings.annotations.clone();
        all.extend(self.annotations.clone());
        all
    }

    /// Metadata of an object with this name.
    pub(super) fn meta(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.gateway.key().namespace.to_string()),
            labels: Some(self.labels()),
            annotations: Some(self.annotations()).filter(|all| !all.is_empty()),
            owner_references: Some(vec![owner(&self.gateway, &self.uid)]),
            ..ObjectMeta::default()
        }
    }
}

/// The name of the Secret that holds the certificate of a Gateway's proxies.
pub fn identity_name(gateway: &GatewayName, class: &str) -> String {
    // A Secret's name may be longer than a label.
    format!("{}-xds", fleet_name(&gateway.key().name, class))
}

/// The Gateway as the owner of an object. Without `blockOwnerDeletion`, which would need the right to update the
/// Gateway's finalizers where the API server asks for it.
pub fn owner(gateway: &GatewayName, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/v1", names::GATEWAY_API_GROUP),
        kind: "Gateway".to_owned(),
        name: gateway.key().name.to_string(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
