//! Secrets and ConfigMaps. Nothing here ever shows a value.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::is_set;
use crate::source::{
    manifest::yaml::{Content, Node, show_key},
    schema::{Findings, Path, format::DATA_KEY},
};

/// Bytes that a Secret or a ConfigMap may hold.
const MAX_BYTES: usize = 1 << 20;

pub(super) fn secret(node: &Node, value: &mut Value, findings: &mut Findings) {
    let root = Path::Root;
    let mut size = keys(node, "data", &root, findings, |node, path, findings| {
        let Content::Text(text) = &node.content else { return 0 };
        // Go's decoder passes over line ends and over nothing else.
        let compact: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let decoded = STANDARD.decode(&compact);
        if decoded.is_err() {
            findings.add(node.at, path, "is not base64; stringData takes plain text");
        }
        decoded.map_or(0, |bytes| bytes.len())
    });
    size += keys(node, "stringData", &root, findings, |node, _, _| node.text().map_or(0, str::len));
    if size > MAX_BYTES {
        findings.add(
            node.at,
            &root.field("data"),
            format!("expected at most {MAX_BYTES} bytes in all, found {size}"),
        );
    }
    merge(value);
    let has = |key: &str| {
        ["data", "stringData"].iter().filter_map(|part| node.get(part)).any(|part| is_set(part, key))
    };
    if node.get("type").and_then(Node::text) == Some("kubernetes.io/tls") {
        for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
            let data = root.field("data");
            findings.add(node.at, &data.key(key), "is required in a Secret of type kubernetes.io/tls");
        }
    }
}

pub(super) fn config_map(node: &Node, findings: &mut Findings) {
    let root = Path::Root;
    let mut size = keys(node, "data", &root, findings, |node, _, _| node.text().map_or(0, str::len));
    size += keys(node, "binaryData", &root, findings, |node, path, findings| {
        let decoded =
            node.text().map(|text| STANDARD.decode(text.split_ascii_whitespace().collect::<String>()));
        match decoded {
            Some(Ok(bytes)) => bytes.len(),
            Some(Err(_)) => {
                findings.add(node.at, path, "is not base64");
                0
            }
            None => 0,
        }
    });
    for entry in node.get("data").map_or(&[][..], Node::entries) {
        if node.get("binaryData").is_some_and(|binary| binary.get(&entry.key).is_some()) {
            findings.add(entry.at, &root.field("data").key(show_key(&entry.key)), "stands in binaryData too");
        }
    }
    if size > MAX_BYTES {
        findings.add(
            node.at,
            &root.field("data"),
            format!("expected at most {MAX_BYTES} bytes in all, found {size}"),
        );
    }
}

/// Checks the keys of a part, and adds up what its values hold.
fn keys(
    node: &Node,
    part: &str,
    root: &Path<'_>,
    findings: &mut Findings,
    size: impl Fn(&Node, &Path<'_>, &mut Findings) -> usize,
) -> usize {
    let path = root.field(part);
    let mut sum = 0;
    for entry in node.get(part).map_or(&[][..], Node::entries) {
        let path = path.key(show_key(&entry.key));
        if !DATA_KEY.fits(&entry.key) || entry.key == "." || entry.key.starts_with("..") {
            findings.add(entry.at, &path, format!("expected a key of {}", DATA_KEY.expected));
        }
        sum += size(&entry.node, &path, findings);
    }
    sum
}

/// The API server stores what `stringData` says in `data`, where it wins.
fn merge(value: &mut Value) {
    let Value::Object(object) = value else { return };
    object.entry("type").or_insert_with(|| "Opaque".into());
    let Some(Value::Object(plain)) = object.remove("stringData") else { return };
    let Value::Object(data) = object.entry("data").or_insert_with(|| Value::Object(serde_json::Map::new()))
    else {
        return;
    };
    for (key, text) in plain {
        if let Value::String(text) = text {
            data.insert(key, STANDARD.encode(text).into());
        }
    }
}
