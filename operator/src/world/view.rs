//! Reading with a memory.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use super::{Read, World};
use crate::model::{
    BackendTlsPolicy, ClusterTrustBundle, ConfigMap, EndpointSlice, FleetConfig, Gateway, GatewayClass, Kind,
    ListenerSet, Namespace, Object, ObjectKey, ReferenceGrant, Route, Secret, Service,
};

/// A view of the World that records every read of one unit.
#[derive(Debug)]
pub struct View<'w> {
    world: &'w World,
    reads: RefCell<BTreeSet<Read>>,
}

macro_rules! typed_reads {
    ($($(#[$doc:meta])* $method:ident: $variant:ident -> $type:ty),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $method(&self, key: &ObjectKey) -> Option<Arc<$type>> {
            match self.object(key) {
                Some(Object::$variant(object)) => Some(object.clone()),
                _ => None,
            }
        }
    )*};
}

impl<'w> View<'w> {
    /// A view without reads.
    pub fn new(world: &'w World) -> Self {
        Self { world, reads: RefCell::default() }
    }

    /// Records a read that something else answers.
    pub fn record(&self, read: Read) {
        self.reads.borrow_mut().insert(read);
    }

    /// All reads so far.
    pub fn into_reads(self) -> BTreeSet<Read> {
        self.reads.into_inner()
    }

    fn object(&self, key: &ObjectKey) -> Option<&'w Object> {
        self.record(Read::Object(key.clone()));
        self.world.get(key)
    }

    typed_reads! {
        /// A GatewayClass.
        gateway_class: GatewayClass -> GatewayClass,
        /// A Gateway.
        gateway: Gateway -> Gateway,
        /// A ListenerSet.
        listener_set: ListenerSet -> ListenerSet,
        /// A route of any kind.
        route: Route -> Route,
        /// A BackendTLSPolicy.
        backend_tls_policy: BackendTlsPolicy -> BackendTlsPolicy,
        /// A Service.
        service: Service -> Service,
        /// A Secret. Call it only with a reference that was granted: see `resolve::grant`.
        secret: Secret -> Secret,
        /// A FleetConfig.
        fleet_config: FleetConfig -> FleetConfig,
        /// A ConfigMap. Call it only with a reference that was granted: see `resolve::grant`.
        config_map: ConfigMap -> ConfigMap,
        /// A ClusterTrustBundle. It is of no namespace, so no grant is asked for.
        cluster_trust_bundle: ClusterTrustBundle -> ClusterTrustBundle,
        /// A Namespace.
        namespace: Namespace -> Namespace,
    }

    /// The labels of a namespace, declared or not.
    pub fn namespace_labels(&self, name: &Arc<str>) -> std::collections::BTreeMap<Arc<str>, Arc<str>> {
        let key = ObjectKey::new(Kind::Namespace, "", name.clone());
        self.namespace(&key).map_or_else(|| Namespace::default_labels(name), |found| found.labels.clone())
    }

    /// The ReferenceGrants of a namespace.
    pub fn grants_into(&self, namespace: &Arc<str>) -> Vec<Arc<ReferenceGrant>> {
        self.record(Read::GrantsInto(namespace.clone()));
        let keys = self.world.grants.get(namespace).into_iter().flatten();
        keys.filter_map(|key| match self.world.get(key) {
            Some(Object::ReferenceGrant(grant)) => Some(grant.clone()),
            _ => None,
        })
        .collect()
    }

    /// The ListenerSets of a Gateway, the oldest first, then by namespace and name.
    pub fn sets_of(&self, gateway: &ObjectKey) -> Vec<Arc<ListenerSet>> {
        self.record(Read::SetsOf(gateway.clone()));
        let keys = self.world.sets.get(gateway).into_iter().flatten();
        let set = |key| match self.world.get(key) {
            Some(Object::ListenerSet(set)) => Some(set.clone()),
            _ => None,
        };
        let mut sets: Vec<_> = keys.filter_map(set).collect();
        sets.sort_by_key(|set| set.meta.created);
        sets
    }

    /// The BackendTLSPolicies about a Service, the oldest first, then by name.
    pub fn policies_on(&self, namespace: &Arc<str>, service: &Arc<str>) -> Vec<Arc<BackendTlsPolicy>> {
        self.record(Read::PoliciesOn(namespace.clone(), service.clone()));
        let keys = self.world.policies.get(&(namespace.clone(), service.clone())).into_iter().flatten();
        let policy = |key| match self.world.get(key) {
            Some(Object::BackendTlsPolicy(policy)) => Some(policy.clone()),
            _ => None,
        };
        let mut policies: Vec<_> = keys.filter_map(policy).collect();
        // They are of one namespace, and sorted by name already.
        policies.sort_by_key(|policy| policy.meta.created);
        policies
    }

    /// All BackendTLSPolicies of the answers so far.
    pub fn policies_seen(&self) -> BTreeSet<ObjectKey> {
        let reads = self.reads.borrow();
        let answers = reads.iter().filter_map(|read| match read {
            Read::PoliciesOn(namespace, service) => {
                self.world.policies.get(&(namespace.clone(), service.clone()))
            }
            _ => None,
        });
        answers.flatten().cloned().collect()
    }

    /// The EndpointSlices of a Service.
    pub fn slices_of(&self, namespace: &Arc<str>, service: &Arc<str>) -> Vec<Arc<EndpointSlice>> {
        self.record(Read::SlicesOf(namespace.clone(), service.clone()));
        let keys = self.world.slices.get(&(namespace.clone(), service.clone())).into_iter().flatten();
        keys.filter_map(|key| match self.world.get(key) {
            Some(Object::EndpointSlice(slice)) => Some(slice.clone()),
            _ => None,
        })
        .collect()
    }
}
