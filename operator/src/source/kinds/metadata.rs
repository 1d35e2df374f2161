//! metadata: which object it is, and its labels.

use super::{is_set, qualified_key, trust_bundle::name_prefix};
use crate::source::{
    manifest::yaml::{Content, Node},
    schema::{
        Findings, Path,
        format::{Form, LABEL, LABEL_1035, LABEL_VALUE, SUBDOMAIN},
    },
};

/// Bytes that all annotations of an object may have.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Which object a document defines.
#[derive(Debug)]
pub(in crate::source) struct Identity<'n> {
    /// Empty for cluster-scoped kinds.
    pub(in crate::source) namespace: &'n str,
    pub(in crate::source) name: &'n str,
    /// Whether both are as they must be; if not, an object of that name cannot exist.
    pub(in crate::source) valid: bool,
}

/// Checks the metadata of an object; `None` when it has no name.
pub(in crate::source) fn identity<'n>(
    kind: &str,
    namespaced: bool,
    node: &'n Node,
    findings: &mut Findings,
) -> Option<Identity<'n>> {
    let path = Path::Root.field("metadata");
    // The schema has said what is to be said about metadata that is none.
    let metadata = node.get("metadata").filter(|metadata| matches!(metadata.content, Content::Map(_)))?;
    let mut valid = true;
    let form: &Form = match kind {
        "Service" => &LABEL_1035,
        "Namespace" => &LABEL,
        _ => &SUBDOMAIN,
    };
    let name = metadata.get("name").and_then(Node::text).filter(|name| !name.is_empty());
    let mut expect = |name: &str, field: &str, form: &Form, node: Option<&Node>| {
        if !form.fits(name) {
            valid = false;
            let at = node.map_or(metadata.at, |node| node.at);
            findings.add(
                at,
                &path.field(field),
                format!("expected {}, found {}", form.expected, findings.quote(name)),
            );
        }
    };
    let prefix = if kind == "ClusterTrustBundle" { name_prefix(node) } else { None };
    let mut unsigned = None;
    if let Some(name) = name {
        match prefix.as_deref() {
            None => expect(name, "name", form, metadata.get("name")),
            Some(prefix) => match name.strip_prefix(prefix) {
                Some(own) => expect(own, "name", form, metadata.get("name")),
                None => unsigned = Some(prefix),
            },
        }
    }
    let namespace = metadata.get("namespace").and_then(Node::text).filter(|namespace| !namespace.is_empty());
    if let (Some(namespace), true) = (namespace, namespaced) {
        expect(namespace, "namespace", &LABEL, metadata.get("namespace"));
    }
    if let Some(prefix) = unsigned {
        valid = false;
        let expected = findings.quote(prefix);
        let message =
            format!("expected a name that begins with {expected}, which is that of spec.signerName");
        findings.add(metadata.get("name").map_or(metadata.at, |node| node.at), &path.field("name"), message);
    }
    if let (Some(_), false) = (namespace, namespaced) {
        findings.add(
            metadata.at,
            &path.field("namespace"),
            format!("must not be set: {kind} lives outside namespaces"),
        );
    }
    if name.is_none()
        && (!is_set(metadata, "name") || metadata.get("name").is_some_and(|name| name.text().is_some()))
    {
        let generated =
            if is_set(metadata, "generateName") { "; generateName needs an API server" } else { "" };
        findings.add(metadata.at, &path.field("name"), format!("is required{generated}"));
    }
    labels(metadata, &path, findings);
    annotations(metadata, &path, findings);
    let namespace = if namespaced { namespace.unwrap_or("default") } else { "" };
    Some(Identity { namespace, name: name?, valid })
}

fn labels(metadata: &Node, path: &Path<'_>, findings: &mut Findings) {
    let path = path.field("labels");
    for entry in metadata.get("labels").map_or(&[][..], Node::entries) {
        qualified_key(&entry.key, entry.at, &path, findings);
        super::form(Some(&entry.node), &LABEL_VALUE, &path.key(&entry.key), findings);
    }
}

fn annotations(metadata: &Node, path: &Path<'_>, findings: &mut Findings) {
    let path = path.field("annotations");
    let Some(annotations) = metadata.get("annotations") else { return };
    let mut size = 0;
    for entry in annotations.entries() {
        qualified_key(&entry.key.to_lowercase(), entry.at, &path, findings);
        let Content::Text(text) = &entry.node.content else { continue };
        size += entry.key.len() + text.len();
    }
    if size > MAX_ANNOTATIONS {
        findings.add(
            annotations.at,
            &path,
            format!("expected at most {MAX_ANNOTATIONS} bytes in all, found {size}"),
        );
    }
}
