//! What the operator does with the API server, as permissions. Pure; the roles in config/rbac give these, and a test of
//! the audit log holds both together.

use portolan_crds::names::GATEWAY_API_GROUP;

use crate::{
    model::Kind,
    source::kubernetes::{SecretAccess, has_status, resource},
};

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
    };
    verbs.iter().map(permission).collect()
}

/// What the operator needs everywhere or in its own `namespace`, with the kinds that are `installed`. Roles for single
/// Secrets are left out: they are wherever the Secrets are.
pub fn operator(
    installed: impl IntoIterator<Item = Kind>,
    secrets: SecretAccess,
    namespace: &str,
) -> Vec<Permission> {
    let mut all = Vec::new();
    for kind in installed {
        let resource = resource(kind);
        if kind == Kind::Secret && secrets == SecretAccess::Referenced {
            continue;
        }
        all.extend(on(&resource.group, &resource.plural, &["list", "watch"]));
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
    let own = on("coordination.k8s.io", "leases", &["get", "create", "update"]);
    all.extend(own.into_iter().map(|it| Permission { namespace: Some(namespace.to_owned()), ..it }));
    all
}

/// What whoever installs Portolan into `namespace` needs.
pub fn installer(namespace: &str, crds: bool) -> Vec<Permission> {
    let mut all = on("", "namespaces", &["create"]);
    for (group, resources) in [
        ("rbac.authorization.k8s.io", ["clusterroles", "clusterrolebindings"].as_slice()),
        (GATEWAY_API_GROUP, &["gatewayclasses"]),
    ] {
        for resource in resources {
            all.extend(on(group, resource, &["create"]));
        }
    }
    if crds {
        all.extend(on("apiextensions.k8s.io", "customresourcedefinitions", &["create", "patch"]));
    }
    for (group, resources) in [
        ("", ["serviceaccounts", "services"].as_slice()),
        ("apps", &["deployments"]),
        ("rbac.authorization.k8s.io", &["roles", "rolebindings"]),
    ] {
        for resource in resources {
            let own = on(group, resource, &["create"]);
            all.extend(own.into_iter().map(|it| Permission { namespace: Some(namespace.to_owned()), ..it }));
        }
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
        assert!(!all.iter().any(|it| it.contains("secrets") || it.contains("services/")), "{all:#?}");
    }

    #[test]
    fn secrets_are_read_everywhere_only_where_that_was_chosen() {
        let all = shown(&operator([Kind::Secret], SecretAccess::All, "ns"));
        assert!(all.contains(&"list secrets".to_owned()), "{all:#?}");
        let all = shown(&operator([Kind::Secret], SecretAccess::Referenced, "ns"));
        assert!(!all.iter().any(|it| it.contains("secrets")), "{all:#?}");
    }
}
