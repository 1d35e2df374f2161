//! Services.

use serde_json::Value;

use super::{PROTOCOLS, Seen, fill, form, is_set, port, qualified, word};
use crate::source::{
    manifest::yaml::{Content, Node},
    schema::{
        Findings, Path,
        format::{LABEL, PORT_NAME, SUBDOMAIN},
    },
};

pub(super) fn check(node: &Node, value: &mut Value, findings: &mut Findings) {
    let path = Path::Root.field("spec");
    let Some(spec) = node.get("spec") else {
        return findings.add(node.at, &path.field("ports"), "is required");
    };
    let type_ = spec.get("type").and_then(Node::text).unwrap_or("ClusterIP");
    word(
        spec.get("type"),
        &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
        &path.field("type"),
        findings,
    );
    word(spec.get("sessionAffinity"), &["None", "ClientIP"], &path.field("sessionAffinity"), findings);
    let headless = spec.get("clusterIP").and_then(Node::text) == Some("None");
    let ports = spec.get("ports").map_or(&[][..], Node::items);
    if type_ == "ExternalName" {
        external_name(spec, &path, findings);
    } else if ports.is_empty() && !headless {
        findings.add(spec.at, &path.field("ports"), "is required");
    }
    let (mut names, mut numbers) = (Seen::default(), Seen::default());
    for (index, one) in ports.iter().enumerate() {
        let list = path.field("ports");
        let path = list.item(index);
        let called = one.get("name").and_then(Node::text).filter(|name| !name.is_empty());
        if let (Some(name), Some(node)) = (called, one.get("name")) {
            form(Some(node), &LABEL, &path.field("name"), findings);
            names.note(name.to_owned(), node, "name", &path.field("name"), findings);
        } else if ports.len() > 1 {
            findings.add(one.at, &path.field("name"), "is required, because there are several ports");
        }
        if !is_set(one, "port") {
            findings.add(one.at, &path.field("port"), "is required");
        }
        port(one.get("port"), &path.field("port"), findings);
        word(one.get("protocol"), &PROTOCOLS, &path.field("protocol"), findings);
        let protocol = one.get("protocol").and_then(Node::text).unwrap_or("TCP");
        if let Some(number) = one.get("port").and_then(Node::integer) {
            numbers.note(format!("{protocol} {number}"), one, "protocol and port", &path, findings);
        }
        target_port(one.get("targetPort"), &path.field("targetPort"), findings);
        qualified(one.get("appProtocol"), &path.field("appProtocol"), findings);
    }
    if let Some(spec) = value.get_mut("spec") {
        fill(spec, "type", "ClusterIP");
        fill(spec, "sessionAffinity", "None");
    }
    for one in value.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(one, "protocol", "TCP");
    }
}

fn external_name(spec: &Node, path: &Path<'_>, findings: &mut Findings) {
    let path = path.field("externalName");
    match spec.get("externalName").and_then(Node::text) {
        // A dot at the end says that the name is complete.
        Some(name) if SUBDOMAIN.fits(name.strip_suffix('.').unwrap_or(name)) => {}
        Some(_) => form(spec.get("externalName"), &SUBDOMAIN, &path, findings),
        None if is_set(spec, "externalName") => {}
        None => findings.add(spec.at, &path, "is required for type ExternalName"),
    }
}

fn target_port(node: Option<&Node>, path: &Path<'_>, findings: &mut Findings) {
    let Some(node) = node else { return };
    port(Some(node), path, findings);
    let Content::Text(name) = &node.content else { return };
    let letter = name.bytes().any(|letter| letter.is_ascii_lowercase());
    if !PORT_NAME.fits(name) || !letter || name.contains("--") {
        let message = format!("expected a number or {}, found {}", PORT_NAME.expected, findings.show(node));
        findings.add(node.at, path, message);
    }
}
