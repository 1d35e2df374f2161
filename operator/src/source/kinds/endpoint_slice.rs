//! EndpointSlices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{PROTOCOLS, Seen, fill, form, is_set, port, qualified, word};
use crate::source::{
    manifest::yaml::{Content, Node},
    schema::{
        Findings, Path,
        format::{LABEL, SUBDOMAIN},
    },
};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

pub(super) fn check(node: &Node, value: &mut Value, findings: &mut Findings) {
    let root = Path::Root;
    word(node.get("addressType"), &["IPv4", "IPv6", "FQDN"], &root.field("addressType"), findings);
    if !is_set(node, "addressType") {
        findings.add(node.at, &root.field("addressType"), "is required: IPv4, IPv6 or FQDN");
    }
    let type_ = node.get("addressType").and_then(Node::text).unwrap_or_default();
    if let Some(endpoints) = node.get("endpoints") {
        let path = root.field("endpoints");
        at_most(endpoints, MAX_ENDPOINTS, &path, findings);
        for (index, endpoint) in endpoints.items().iter().take(MAX_ENDPOINTS).enumerate() {
            let path = path.item(index);
            form(endpoint.get("hostname"), &LABEL, &path.field("hostname"), findings);
            let path = path.field("addresses");
            if !is_set(endpoint, "addresses") {
                findings.add(endpoint.at, &path, "is required");
            }
            let Some(addresses) = endpoint.get("addresses") else { continue };
            if addresses.content == Content::List(Vec::new()) {
                findings.add(addresses.at, &path, "expected at least one address");
            }
            at_most(addresses, MAX_ADDRESSES, &path, findings);
            for (index, node) in addresses.items().iter().take(MAX_ADDRESSES).enumerate() {
                address(node, type_, &path.item(index), findings);
            }
        }
    }
    if let Some(ports) = node.get("ports") {
        let path = root.field("ports");
        at_most(ports, MAX_PORTS, &path, findings);
        let mut names = Seen::default();
        for (index, one) in ports.items().iter().take(MAX_PORTS).enumerate() {
            let path = path.item(index);
            let name = one.get("name");
            let text = name.and_then(Node::text).unwrap_or_default();
            if !text.is_empty() {
                form(name, &LABEL, &path.field("name"), findings);
            }
            names.note(text.to_owned(), name.unwrap_or(one), "name", &path.field("name"), findings);
            port(one.get("port"), &path.field("port"), findings);
            word(one.get("protocol"), &PROTOCOLS, &path.field("protocol"), findings);
            qualified(one.get("appProtocol"), &path.field("appProtocol"), findings);
        }
    }
    for one in value.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(one, "protocol", "TCP");
        fill(one, "name", "");
    }
}

fn at_most(node: &Node, most: usize, path: &Path<'_>, findings: &mut Findings) {
    let count = node.items().len();
    if count > most {
        findings.add(node.at, path, format!("expected at most {most} items, found {count}"));
    }
}

/// Loopback addresses are refused by an API server, because they mean another host on every node; files are read on one
/// host, where they are what a first try is made with (design.md §5).
fn address(node: &Node, type_: &str, path: &Path<'_>, findings: &mut Findings) {
    let Some(text) = node.text() else { return };
    let (address, expected) = match type_ {
        "IPv4" => (text.parse().map(IpAddr::V4).ok(), "an IPv4 address"),
        "IPv6" => (text.parse().map(IpAddr::V6).ok(), "an IPv6 address"),
        "FQDN" => return form(Some(node), &SUBDOMAIN, path, findings),
        // The type has its own finding.
        _ => return,
    };
    let Some(address) = address else {
        return findings.add(node.at, path, format!("expected {expected}, found {}", findings.show(node)));
    };
    let refused = match address {
        _ if address.is_unspecified() => "the unspecified address",
        IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V4(v4) if v4.octets()[..3] == Ipv4Addr::new(224, 0, 0, 0).octets()[..3] => {
            "a multicast address"
        }
        IpAddr::V6(v6) if v6.segments()[0] == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0).segments()[0] => {
            "a multicast address"
        }
        _ => return,
    };
    findings.add(node.at, path, format!("must not be {refused}: nothing can be reached there"));
}
