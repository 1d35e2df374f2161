//! Every reason by which the API refuses something is produced by a golden folder, so that its message is read and kept.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path};

use portolan_crds::conditions::{gateway, gateway_class, listener, listener_set, policy, route};
use serde_json::Value;

/// Whose condition it is, and the reason: all of the API's that say that something is wrong with what a user wrote.
const REFUSALS: &[(&str, &str)] = &[
    ("class", gateway_class::reasons::INVALID_PARAMETERS),
    ("Gateway", gateway::reasons::INVALID),
    ("Gateway", gateway::reasons::INVALID_CLIENT_CERTIFICATE_REF),
    ("Gateway", gateway::reasons::INVALID_PARAMETERS),
    ("Gateway", gateway::reasons::UNSUPPORTED_ADDRESS),
    ("listener of a Gateway", "HostnameConflict"),
    ("listener of a Gateway", "ProtocolConflict"),
    ("listener of a Gateway", listener::reasons::INVALID),
    ("listener of a Gateway", listener::reasons::INVALID_CA_CERTIFICATE_KIND),
    ("listener of a Gateway", listener::reasons::INVALID_CA_CERTIFICATE_REF),
    ("listener of a Gateway", listener::reasons::INVALID_CERTIFICATE_REF),
    ("listener of a Gateway", "InvalidListenerFilter"),
    ("listener of a Gateway", "InvalidListenerFilterRef"),
    ("listener of a Gateway", listener::reasons::INVALID_ROUTE_KINDS),
    ("listener of a Gateway", listener::reasons::UNSUPPORTED_PROTOCOL),
    ("listener of a Gateway", listener::reasons::UNSUPPORTED_VALUE),
    ("ListenerSet", listener_set::reasons::NOT_ALLOWED),
    ("listener of a ListenerSet", "HostnameConflict"),
    ("listener of a ListenerSet", "ProtocolConflict"),
    ("listener of a ListenerSet", listener::reasons::INVALID),
    ("listener of a ListenerSet", listener::reasons::INVALID_CERTIFICATE_REF),
    ("listener of a ListenerSet", listener::reasons::INVALID_ROUTE_KINDS),
    ("listener of a ListenerSet", listener::reasons::UNSUPPORTED_PROTOCOL),
    ("route", route::reasons::INVALID_KIND),
    ("route", route::reasons::NOT_ALLOWED_BY_LISTENERS),
    ("route", route::reasons::UNSUPPORTED_PROTOCOL),
    ("route", route::reasons::UNSUPPORTED_VALUE),
    ("policy", policy::reasons::CONFLICTED),
    ("policy", policy::reasons::INVALID),
    ("policy", policy::reasons::INVALID_CA_CERTIFICATE_REF),
    ("policy", policy::reasons::INVALID_KIND),
];

/// Reasons of the API that no golden folder can show, and why.
const NOT_HERE: &[(&str, &str, &str)] = &[
    ("class", gateway_class::reasons::UNSUPPORTED, "Portolan serves every class that names its controller"),
    (
        "listener of a ListenerSet",
        listener::reasons::TOO_MANY_LISTENERS,
        "takes hundreds of listeners: resolve::tests::sets",
    ),
    ("ListenerSet", listener_set::reasons::INVALID, "ListenersNotValid says it, and each listener says why"),
    (
        "class",
        gateway_class::reasons::UNSUPPORTED_VERSION,
        "follows the cluster, not manifests: resolve::tests",
    ),
];

/// The reasons of conditions that are not as they should be: `Conflicted` is the one that is bad when it is true.
fn reasons(place: &str, of: &Value, seen: &mut BTreeSet<(String, String)>) {
    for condition in of["conditions"].as_array().into_iter().flatten() {
        let good = if condition["type"] == "Conflicted" { "False" } else { "True" };
        if condition["status"] != good {
            let message = condition["message"].as_str().unwrap();
            assert!(message.len() > 10, "{place}: {condition} helps nobody");
            seen.insert((place.to_owned(), condition["reason"].as_str().unwrap().to_owned()));
        }
    }
}

fn seen() -> BTreeSet<(String, String)> {
    let mut seen = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for folder in fs::read_dir(root).unwrap() {
        let text = fs::read_to_string(folder.unwrap().path().join("status.yaml")).unwrap();
        let status: Value = serde_saphyr::from_str(&text).unwrap();
        for (key, object) in status.as_object().unwrap() {
            let kind = key.split('/').next().unwrap();
            let place = match kind {
                "GatewayClass" => "class",
                "BackendTLSPolicy" => "policy",
                kind if kind.ends_with("Route") => "route",
                kind => kind,
            };
            reasons(place, object, &mut seen);
            let list = |field: &str| object[field].as_array().cloned().unwrap_or_default();
            for one in list("listeners") {
                reasons(&format!("listener of a {kind}"), &one, &mut seen);
            }
            for one in list("parents").iter().chain(&list("ancestors")) {
                reasons(place, one, &mut seen);
            }
        }
    }
    seen
}

#[test]
fn every_refusal_of_the_api_is_seen_in_a_golden_folder() {
    let seen = seen();
    let missing: Vec<_> = REFUSALS
        .iter()
        .filter(|(place, reason)| !seen.contains(&((*place).to_owned(), (*reason).to_owned())))
        .collect();
    assert!(missing.is_empty(), "no golden folder shows {missing:?}");
    for (place, reason, why) in NOT_HERE {
        let shown = seen.contains(&((*place).to_owned(), (*reason).to_owned()));
        assert!(!shown, "{reason} of a {place} is shown after all ({why}): move it to the list of refusals");
    }
}

#[test]
fn no_refusal_is_unknown_to_the_list() {
    let listed = |place: &str, reason: &str| REFUSALS.contains(&(place, reason));
    let refuses = |reason: &str| {
        ["Invalid", "NotAllowed", "Conflicted", "Unsupported"].iter().any(|start| reason.starts_with(start))
            || reason.ends_with("Conflict")
    };
    let unknown: Vec<_> =
        seen().into_iter().filter(|(place, reason)| refuses(reason) && !listed(place, reason)).collect();
    assert!(unknown.is_empty(), "missing in the list of refusals: {unknown:?}");
}
