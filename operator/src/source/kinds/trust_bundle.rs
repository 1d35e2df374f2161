//! ClusterTrustBundles.

use super::is_set;
use crate::{
    model::check_authorities,
    source::{
        manifest::yaml::Node,
        schema::{Findings, Path},
    },
};

/// What the name of a ClusterTrustBundle begins with: that of its signer, if it has one.
pub(super) fn name_prefix(node: &Node) -> Option<String> {
    let signer = node.get("spec")?.get("signerName")?.text().filter(|name| !name.is_empty())?;
    Some(format!("{}:", signer.replace('/', ":")))
}

pub(super) fn check(node: &Node, findings: &mut Findings) {
    let path = Path::Root.field("spec");
    let spec = node.get("spec").unwrap_or(node);
    if !is_set(spec, "trustBundle") {
        findings.add(spec.at, &path.field("trustBundle"), "is required");
        return;
    }
    // The schema has said what is to be said about one that is no text.
    let Some((bundle, text)) = spec.get("trustBundle").and_then(|bundle| Some((bundle, bundle.text()?)))
    else {
        return;
    };
    if let Err(message) = check_authorities(text) {
        findings.add(bundle.at, &path.field("trustBundle"), message);
    }
}
