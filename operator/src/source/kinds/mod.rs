//! What the API server checks with code, not with a schema: metadata of every kind, and the core kinds.
//!
//! Only what changes traffic or status is checked; docs/validation.md says what is not.

mod endpoint_slice;
mod metadata;
mod secret;
mod service;
#[cfg(test)]
mod tests;
mod trust_bundle;

use std::collections::HashMap;

use serde_json::Value;

pub(super) use metadata::{Identity, identity};

use super::{
    manifest::yaml::{Content, Node, Place, show_key},
    schema::{
        Findings, Path, did_you_mean,
        format::{Form, QUALIFIED_EXPECTED, is_qualified},
    },
};

/// Checks an object of a core kind, and fills in the defaults of its kind. `value` is what `node` says.
pub(super) fn check(kind: &str, node: &Node, value: &mut Value, findings: &mut Findings) {
    match kind {
        "Service" => service::check(node, value, findings),
        "EndpointSlice" => endpoint_slice::check(node, value, findings),
        "Secret" => secret::secret(node, value, findings),
        "ConfigMap" => secret::config_map(node, findings),
        "ClusterTrustBundle" => trust_bundle::check(node, findings),
        _ => {}
    }
}

/// A text that must be one of a few words.
fn word(node: Option<&Node>, words: &[&str], path: &Path<'_>, findings: &mut Findings) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { return };
    if !words.contains(&text) {
        let meant = did_you_mean(text, words.iter().copied());
        let message = format!("expected one of {}, found {}{meant}", words.join(", "), findings.show(node));
        findings.add(node.at, path, message);
    }
}

/// A text that must have a form.
fn form(node: Option<&Node>, form: &Form, path: &Path<'_>, findings: &mut Findings) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { return };
    if !form.fits(text) {
        findings.add(node.at, path, format!("expected {}, found {}", form.expected, findings.show(node)));
    }
}

/// A text that must be a qualified name.
fn qualified(node: Option<&Node>, path: &Path<'_>, findings: &mut Findings) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { return };
    if !is_qualified(text) {
        findings.add(node.at, path, format!("expected {QUALIFIED_EXPECTED}, found {}", findings.show(node)));
    }
}

/// A key that must be a qualified name.
fn qualified_key(key: &str, at: Place, path: &Path<'_>, findings: &mut Findings) {
    if !is_qualified(key) {
        findings.add(at, &path.key(show_key(key)), format!("expected as key {QUALIFIED_EXPECTED}"));
    }
}

/// A number that must be a port.
fn port(node: Option<&Node>, path: &Path<'_>, findings: &mut Findings) {
    let Some((node, number)) = node.and_then(|node| Some((node, node.integer()?))) else { return };
    if !(1..=65535).contains(&number) {
        findings.add(
            node.at,
            path,
            format!("expected a port from 1 to 65535, found {}", findings.show(node)),
        );
    }
}

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Remembers what was seen, to tell of the second of a kind.
#[derive(Default)]
struct Seen<'n>(HashMap<String, &'n Node>);

impl<'n> Seen<'n> {
    fn note(
        &mut self,
        identity: String,
        node: &'n Node,
        what: &str,
        path: &Path<'_>,
        findings: &mut Findings,
    ) {
        if let Some(first) = self.0.get(&identity) {
            let message = format!("has the same {what} as the one in line {}", first.at.line);
            findings.add(node.at, path, message);
        } else {
            self.0.insert(identity, node);
        }
    }
}

/// Fills in a text where nothing stands.
fn fill(value: &mut Value, field: &str, default: &str) {
    if let Value::Object(map) = value {
        map.entry(field).or_insert_with(|| default.into());
    }
}

/// Whether something stands at a key.
fn is_set(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|node| node.content != Content::Null)
}
