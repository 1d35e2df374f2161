//! `GatewayClass.status.supportedFeatures`: what works, among what the installed CRDs can say.
//!
//! A feature stands here only when the code serves it and a test of ours proves it. The official suite takes its tests
//! from this list, so a wrong entry is a failed test and a missing one a test that never ran.

use portolan_crds::features as name;

use super::{Bundle, Channel, Environment, Provenance};
use crate::model::Kind;

/// A feature, and the CRDs that it needs.
struct Feature {
    name: &'static str,
    /// The minor version of the first release that has it, in the experimental channel.
    since: u32,
    /// The minor version of the first release that has it in the standard channel; none when it is experimental still.
    standard: Option<u32>,
    /// Whether it is about what a cluster alone has: Services with addresses, objects with labels.
    cluster: bool,
}

/// In the standard channel of every release that Portolan knows.
const fn core(name: &'static str) -> Feature {
    Feature { name, since: 0, standard: Some(0), cluster: false }
}

/// As [`core`], where fleets are objects of a cluster.
const fn fleet(name: &'static str) -> Feature {
    Feature { cluster: true, ..core(name) }
}

/// New in a release, in both channels.
const fn new(name: &'static str, since: u32) -> Feature {
    Feature { name, since, standard: Some(since), cluster: false }
}

const FEATURES: &[Feature] = &[
    core(name::BACKEND_TLS_POLICY),
    core(name::BACKEND_TLS_POLICY_SAN_VALIDATION),
    Feature { name: name::CLUSTER_TRUST_BUNDLE, since: 7, standard: None, cluster: false },
    core(name::GRPC_ROUTE),
    core(name::GRPC_ROUTE_NAMED_ROUTE_RULE),
    new(name::GRPC_ROUTE_REQUEST_HEADER_MODIFIER, 7),
    core(name::GATEWAY),
    core(name::GATEWAY_ADDRESS_EMPTY),
    Feature { name: name::GATEWAY_ADDRESS_ROUTABILITY, since: 7, standard: None, cluster: true },
    Feature { name: name::GATEWAY_ADDRESS_ROUTABILITY_CLUSTER, since: 7, standard: None, cluster: true },
    core(name::GATEWAY_BACKEND_CLIENT_CERTIFICATE),
    core(name::GATEWAY_FRONTEND_CLIENT_CERTIFICATE_VALIDATION),
    core(name::GATEWAY_FRONTEND_CLIENT_CERTIFICATE_VALIDATION_INSECURE_FALLBACK),
    core(name::GATEWAY_HTTP_LISTENER_ISOLATION),
    core(name::GATEWAY_HTTPS_LISTENER_DETECT_MISDIRECTED_REQUESTS),
    fleet(name::GATEWAY_INFRASTRUCTURE),
    Feature { name: name::GATEWAY_LISTENER_FILTERS, since: 7, standard: None, cluster: false },
    core(name::GATEWAY_PORT_8080),
    new(name::GATEWAY_ROUTE_HOSTNAME_INTERSECTION_PRECEDENCE, 7),
    fleet(name::GATEWAY_STATIC_ADDRESSES),
    core(name::HTTP_ROUTE),
    core(name::HTTP_ROUTE_303_REDIRECT_STATUS_CODE),
    core(name::HTTP_ROUTE_307_REDIRECT_STATUS_CODE),
    core(name::HTTP_ROUTE_308_REDIRECT_STATUS_CODE),
    core(name::HTTP_ROUTE_BACKEND_PROTOCOL_H2C),
    core(name::HTTP_ROUTE_BACKEND_PROTOCOL_WEBSOCKET),
    core(name::HTTP_ROUTE_BACKEND_REQUEST_HEADER_MODIFICATION),
    core(name::HTTP_ROUTE_BACKEND_TIMEOUT),
    new(name::HTTP_ROUTE_BACKEND_URL_REWRITE, 7),
    core(name::HTTP_ROUTE_CORS),
    Feature { name: name::HTTP_ROUTE_DESTINATION_PORT_MATCHING, since: 0, standard: None, cluster: false },
    core(name::HTTP_ROUTE_HOST_REWRITE),
    core(name::HTTP_ROUTE_METHOD_MATCHING),
    core(name::HTTP_ROUTE_NAMED_ROUTE_RULE),
    core(name::HTTP_ROUTE_PARENT_REF_PORT),
    core(name::HTTP_ROUTE_PATH_REDIRECT),
    core(name::HTTP_ROUTE_PATH_REWRITE),
    core(name::HTTP_ROUTE_PORT_REDIRECT),
    core(name::HTTP_ROUTE_QUERY_PARAM_MATCHING),
    core(name::HTTP_ROUTE_REQUEST_MIRROR),
    core(name::HTTP_ROUTE_REQUEST_MULTIPLE_MIRRORS),
    core(name::HTTP_ROUTE_REQUEST_PERCENTAGE_MIRROR),
    core(name::HTTP_ROUTE_REQUEST_TIMEOUT),
    core(name::HTTP_ROUTE_RESPONSE_HEADER_MODIFICATION),
    new(name::HTTP_ROUTE_RETRY_CODES, 7),
    Feature { name: name::HTTP_ROUTE_RETRY_CONNECTION_ERROR, since: 0, standard: Some(7), cluster: false },
    core(name::HTTP_ROUTE_SCHEME_REDIRECT),
    core(name::LISTENER_SET),
    core(name::REFERENCE_GRANT),
    new(name::TCP_ROUTE, 6),
    core(name::TLS_ROUTE),
    // Experimental before v1.7; needs no field, so it works whatever the channel is (the suite has a test that refuses it where it
    // is not claimed).
    core(name::TLS_ROUTE_MODE_MIXED),
    core(name::TLS_ROUTE_MODE_TERMINATE),
    new(name::UDP_ROUTE, 6),
];

/// The features in an environment, sorted as the API wants them. CRDs that do not say their release count as the
/// standard channel of the newest one.
pub(super) fn supported(environment: &Environment) -> Vec<&'static str> {
    let (minor, channel) = match &environment.bundle {
        Some(bundle) => (bundle.minor(), bundle.channel),
        None => (Bundle::NEWEST_MINOR, Channel::Standard),
    };
    let has = |feature: &&Feature| {
        let first = if channel == Channel::Experimental { Some(feature.since) } else { feature.standard };
        first.is_some_and(|first| first <= minor)
    };
    let absent = |feature: &&Feature| environment.absent.iter().any(|kind| needs(feature.name, *kind));
    let served = |feature: &&Feature| !feature.cluster || environment.provenance == Provenance::Kubernetes;
    let here = FEATURES.iter().filter(has).filter(served).filter(|feature| !absent(feature));
    let mut names: Vec<_> = here.map(|feature| feature.name).collect();
    names.sort_unstable();
    names
}

/// Whether a feature is about objects of a kind: its name begins with that of the kind, except for what Gateways do.
fn needs(feature: &str, kind: Kind) -> bool {
    match kind {
        Kind::BackendTlsPolicy if feature == name::GATEWAY_BACKEND_CLIENT_CERTIFICATE => true,
        Kind::GatewayClass | Kind::Gateway => false,
        _ => feature.starts_with(kind.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: &str, channel: Channel) -> Vec<&'static str> {
        let bundle = Some(Bundle { version: version.into(), channel });
        supported(&Environment { provenance: Provenance::Kubernetes, bundle, ..Environment::default() })
    }

    #[test]
    fn features_are_sorted_distinct_and_known_to_the_suite() {
        let all = of("v1.7.0", Channel::Experimental);
        assert_eq!(all.len(), FEATURES.len());
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(all.iter().all(|one| name::ALL.contains(one)));
    }

    #[test]
    fn features_of_fleets_are_those_of_a_cluster() {
        let files = supported(&Environment::default());
        let cluster = of("v1.7.0", Channel::Experimental);
        let more: Vec<_> = cluster.into_iter().filter(|one| !files.contains(one)).collect();
        assert_eq!(
            more,
            [
                name::GATEWAY_ADDRESS_ROUTABILITY,
                name::GATEWAY_ADDRESS_ROUTABILITY_CLUSTER,
                name::GATEWAY_INFRASTRUCTURE,
                name::GATEWAY_STATIC_ADDRESSES
            ]
        );
    }

    #[test]
    fn features_follow_the_kinds_that_exist() {
        let without = |kind| supported(&Environment { absent: [kind].into(), ..Environment::default() });
        for (kind, gone) in [
            (Kind::TcpRoute, name::TCP_ROUTE),
            (Kind::UdpRoute, name::UDP_ROUTE),
            (Kind::TlsRoute, name::TLS_ROUTE_MODE_MIXED),
            (Kind::GrpcRoute, name::GRPC_ROUTE_NAMED_ROUTE_RULE),
            (Kind::HttpRoute, name::HTTP_ROUTE_CORS),
            (Kind::ListenerSet, name::LISTENER_SET),
            (Kind::BackendTlsPolicy, name::BACKEND_TLS_POLICY_SAN_VALIDATION),
            (Kind::BackendTlsPolicy, name::GATEWAY_BACKEND_CLIENT_CERTIFICATE),
            (Kind::ReferenceGrant, name::REFERENCE_GRANT),
            // The API server may not serve it (GEP-5075).
            (Kind::ClusterTrustBundle, name::CLUSTER_TRUST_BUNDLE),
        ] {
            let left = without(kind);
            assert!(!left.contains(&gone) && left.contains(&name::GATEWAY), "{kind}: {left:?}");
        }
    }

    #[test]
    fn features_follow_the_crds() {
        let experimental = name::HTTP_ROUTE_DESTINATION_PORT_MATCHING;
        assert!(of("v1.7.0", Channel::Experimental).contains(&experimental));
        assert!(!of("v1.7.0", Channel::Standard).contains(&experimental));
        let routability = name::GATEWAY_ADDRESS_ROUTABILITY_CLUSTER;
        assert!(of("v1.7.0", Channel::Experimental).contains(&routability));
        assert!(!of("v1.7.0", Channel::Standard).contains(&routability));
        assert!(!of("v1.6.3", Channel::Experimental).contains(&routability));
        assert!(of("v1.7.0", Channel::Standard).contains(&name::HTTP_ROUTE_RETRY_CODES));
        assert!(!of("v1.6.3", Channel::Experimental).contains(&name::HTTP_ROUTE_RETRY_CODES));
        assert!(!of("v1.6.3", Channel::Standard).contains(&name::HTTP_ROUTE_RETRY_CONNECTION_ERROR));
        assert!(of("v1.5.1", Channel::Standard).contains(&name::TLS_ROUTE_MODE_MIXED), "it needs no field");
    }
}
