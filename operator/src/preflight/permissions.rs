//! What the operator does with the API server, as permissions. Pure; the roles in config/rbac give these, and tests hold
//! both together: e2e/tests/roles.rs compares the audit log with the roles, e2e/tests/preflight.rs this list.

use std::collections::BTreeSet;

use portolan_crds::names::GATEWAY_API_GROUP;

use crate::{
    fleet::cluster::{self, OwnedKind},
    model::Kind,
    source::kubernetes::{SecretAccess, has_status, resource},
};

/// The role on what fleets are made of. It may be bound everywhere, or in the namespaces of Gateways.
const FLEETS: &str = "portolan-fleets";
/// The role on Secrets with certificates. It may be bound everywhere, or in the namespaces that hold some.
const SECRETS: &str = "portolan-secrets";

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Such as `status`.
    pub subresource: Option<&'static str>,
    /// Such as `list`.
    pub verb: &'static str,
    /// In which namespace; everywhere where not given.
    pub namespace: Option<String>,
    /// The ClusterRole that may as well be bound in the namespaces that need it.
    pub by_namespace: Option<&'static str>,
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = self.subresource {
            write!(f, "/{subresource}")?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

fn on(group: &str, resource: &str, verbs: &[&'static str]) -> Vec<Permission> {
    let permission = |verb: &&'static str| Permission {
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: None,
        verb,
        namespace: None,
        by_namespace: None,
    };
    verbs.iter().map(permission).collect()
}

fn within(namespace: &str, all: Vec<Permission>) -> impl Iterator<Item = Permission> {
    all.into_iter().map(|it| Permission { namespace: Some(namespace.to_owned()), ..it })
}

fn or_bound(role: &'static str, all: Vec<Permission>) -> impl Iterator<Item = Permission> {
    all.into_iter().map(move |it| Permission { by_namespace: Some(role), ..it })
}

/// What the operator needs everywhere or in its own `namespace`, with the kinds that are `installed`; each once.
pub fn operator(
    installed: impl IntoIterator<Item = Kind>,
    secrets: SecretAccess,
    namespace: &str,
) -> Vec<Permission> {
    let mut all = Vec::new();
    for kind in installed {
        let resource = resource(kind);
        let read = on(&resource.group, &resource.plural, &["list", "watch"]);
        if kind == Kind::Secret && secrets == SecretAccess::Referenced {
            all.extend(or_bound(SECRETS, read));
            continue;
        }
        all.extend(read);
        if has_status(kind) {
            // Read again after a conflict.
            all.extend(on(&resource.group, &resource.plural, &["get"]));
            let writes = on(&resource.group, &resource.plural, &["patch"]);
            all.extend(writes.into_iter().map(|it| Permission { subresource: Some("status"), ..it }));
        }
    }
    // The finalizer that keeps a class while Gateways use it.
    all.extend(on(GATEWAY_API_GROUP, "gatewayclasses", &["patch"]));
    all.extend(on("apiextensions.k8s.io", "customresourcedefinitions", &["get", "list", "watch"]));
    all.extend(on("events.k8s.io", "events", &["create", "patch"]));
    all.extend(fleets());
    all.extend(within(namespace, on("coordination.k8s.io", "leases", &["get", "create", "update"])));
    // The authority of the xDS port.
    all.extend(within(namespace, on("", "secrets", &["get", "create", "update"])));
    let mut seen = BTreeSet::new();
    all.retain(|permission| seen.insert(permission.clone()));
    all
}

/// What fleets need: their objects are watched everywhere, but for Secrets, and written where Gateways are.
fn fleets() -> Vec<Permission> {
    let mut all = Vec::new();
    for kind in OwnedKind::ALL {
        let resource = cluster::resource(kind);
        if cluster::WATCHED.contains(&kind) {
            all.extend(on(&resource.group, &resource.plural, &["list", "watch"]));
        }
        let writes = on(&resource.group, &resource.plural, &["get", "create", "patch", "delete"]);
        all.extend(or_bound(FLEETS, writes));
    }
    // Why proxies do not start.
    all.extend(or_bound(FLEETS, on("", "pods", &["list"])));
    all
}

/// What whoever installs Portolan into `namespace` needs: to make and to apply again what config/default holds.
pub fn installer(namespace: &str) -> Vec<Permission> {
    let verbs = ["create", "patch"];
    let mut all = on("", "namespaces", &verbs);
    for (group, resource) in [
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        (GATEWAY_API_GROUP, "gatewayclasses"),
    ] {
        all.extend(on(group, resource, &verbs));
    }
    for (group, resource) in [
        ("", "serviceaccounts"),
        ("", "services"),
        ("apps", "deployments"),
        ("policy", "poddisruptionbudgets"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
    ] {
        all.extend(within(namespace, on(group, resource, &verbs)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(permissions: &[Permission]) -> Vec<String> {
        permissions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_operator_reads_kinds_and_writes_statuses() {
        let all = shown(&operator([Kind::HttpRoute, Kind::Service], SecretAccess::Referenced, "ns"));
        for expected in [
            "list httproutes.gateway.networking.k8s.io",
            "patch httproutes/status.gateway.networking.k8s.io",
            "watch services",
            "update leases.coordination.k8s.io in ns",
        ] {
            assert!(all.contains(&expected.to_owned()), "{expected} is not in {all:#?}");
        }
        assert!(!all.iter().any(|it| it.contains("services/")), "{all:#?}");
    }

    #[test]
    fn fleets_are_written_where_gateways_are_and_watched_everywhere() {
        let all = operator([], SecretAccess::Referenced, "ns");
        let of = |text: &str| all.iter().filter(|it| it.to_string() == text).collect::<Vec<_>>();
        for (text, role) in [
            ("create deployments.apps", Some("portolan-fleets")),
            ("patch services", Some("portolan-fleets")),
            ("delete secrets", Some("portolan-fleets")),
            ("list pods", Some("portolan-fleets")),
            ("watch deployments.apps", None),
            ("watch poddisruptionbudgets.policy", None),
            ("update secrets in ns", None),
        ] {
            let found = of(text);
            assert_eq!(found.len(), 1, "{text}: {all:#?}");
            assert_eq!(found[0].by_namespace, role, "{text}");
        }
        assert_eq!(of("watch secrets"), Vec::<&Permission>::new(), "who may watch them may read all of them");
    }

    #[test]
    fn secrets_may_be_read_by_namespace_unless_all_are_read() {
        let role = |access| {
            let all = operator([Kind::Secret], access, "ns");
            let read: Vec<_> = all.into_iter().filter(|it| it.to_string() == "list secrets").collect();
            assert_eq!(read.len(), 1, "{read:?}");
            read[0].by_namespace
        };
        assert_eq!(role(SecretAccess::All), None);
        assert_eq!(role(SecretAccess::Referenced), Some("portolan-secrets"));
    }
}
