//! Which release of the Gateway API a cluster has: what a GatewayClass says of it.

use portolan_crds::names::GATEWAY_API_GROUP;
use tokio::sync::watch;

use crate::{
    model::Kind,
    resolve::{Bundle, Channel, Environment, Provenance},
    runtime::Handle,
    source::kubernetes::{Release, Releases},
};

/// Tells the core, for as long as it runs.
pub(super) async fn follow(mut releases: watch::Receiver<Releases>, handle: Handle) {
    loop {
        let environment = environment(&releases.borrow_and_update());
        if handle.environment(environment).is_err() || releases.changed().await.is_err() {
            return;
        }
    }
}

/// The environment in a cluster with these CRDs. They may be of several releases, after an upgrade of some: the oldest
/// one counts, and any that is not known counts before it.
pub(super) fn environment(releases: &Releases) -> Environment {
    let mut bundles: Vec<Bundle> = releases.values().flatten().map(bundle).collect();
    bundles.sort_by_key(|bundle| (bundle.supported(), bundle.version.clone()));
    // Before the first look at the CRDs nothing is known of any.
    let may_lack = |kind: &Kind| kind.group() == GATEWAY_API_GROUP || *kind == Kind::ClusterTrustBundle;
    let kinds = Kind::ALL.into_iter().filter(|kind| may_lack(kind) && !releases.is_empty());
    Environment {
        provenance: Provenance::Kubernetes,
        bundle: bundles.into_iter().next(),
        absent: kinds.filter(|kind| !releases.contains_key(kind)).collect(),
    }
}

fn bundle(release: &Release) -> Bundle {
    let channel = if &*release.channel == "experimental" { Channel::Experimental } else { Channel::Standard };
    Bundle { version: release.version.clone(), channel }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_releases_the_one_that_promises_least_counts() {
        let release = |version: &str| Some(Release { version: version.into(), channel: "standard".into() });
        let version = |of: &[(Kind, Option<Release>)]| {
            let bundle = environment(&of.iter().cloned().collect()).bundle;
            bundle.map(|bundle| bundle.version.to_string())
        };
        assert_eq!(version(&[]), None);
        assert_eq!(version(&[(Kind::Gateway, None)]), None);
        let (gateway, route) = (Kind::Gateway, Kind::HttpRoute);
        assert_eq!(version(&[(gateway, release("v1.7.0")), (route, release("v1.6.1"))]).unwrap(), "v1.6.1");
        assert_eq!(version(&[(gateway, release("v1.6.0")), (route, release("v9.0.0"))]).unwrap(), "v9.0.0");
    }
}
