//! One manifest: from the bytes of a file to the objects that it defines.
//!
//! Promise: a broken document harms only itself. Whatever the bytes are, reading them ends, in bounded memory, without a
//! panic, and each thing that is wrong has its line and column. No problem ever shows a Secret's value.

mod digest;
mod documents;
mod scalar;
#[cfg(test)]
mod tests;
pub(super) mod yaml;

use std::{path::Path as FilePath, sync::Arc};

use portolan_crds::schema::known;
use serde_json::Value;

use self::{
    documents::{Piece, join_surrogates, pieces},
    yaml::{Node, Place, Reader, show_key},
};
use super::{
    Problem, Severity,
    kinds::{self, Identity},
    schema::{self, Findings, KindSchema, Path, did_you_mean},
};
use crate::model::{Kind, Object, ObjectKey, parse};

/// More problems than this in one file help nobody.
const MAX_PROBLEMS: usize = 1000;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// Its objects, in the order in which they stand there.
    pub(super) definitions: Vec<Definition>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// Whether a document could not be read so far as to tell which object it defines. Then the absence of an object
    /// proves nothing.
    pub(super) unidentified: bool,
}

/// An object that a file defines.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) key: ObjectKey,
    /// Counted from 1.
    pub(super) line: usize,
    /// Counted from 1.
    pub(super) column: usize,
    /// The object, unless its document is broken.
    pub(super) good: Option<Good>,
}

/// A valid object.
#[derive(Clone, Debug)]
pub(super) struct Good {
    pub(super) object: Object,
    /// Hash of everything but metadata: an edit of it is a new generation.
    pub(super) spec: u128,
}

/// Reads a manifest.
pub(super) fn read(file: &Arc<FilePath>, bytes: &[u8]) -> Manifest {
    let mut file = ManifestReader { file, manifest: Manifest::default(), hidden: 0 };
    match std::str::from_utf8(bytes) {
        Ok(text) => file.text(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = 1 + good.matches('\n').count();
            file.unidentified(Place { line, column: 1 }, "is not UTF-8".into());
        }
    }
    file.end()
}

struct ManifestReader<'f> {
    file: &'f Arc<FilePath>,
    manifest: Manifest,
    hidden: usize,
}

/// What a document says it is.
#[derive(Clone, Copy)]
struct Type<'n> {
    group: &'n str,
    version: &'n str,
    kind: &'n str,
}

impl<'n> Type<'n> {
    fn new(api_version: &'n str, kind: &'n str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group, version, kind }
    }
}

impl ManifestReader<'_> {
    fn text(&mut self, text: &str) {
        for Piece { text, first_line } in pieces(text) {
            let json = text.trim_start().starts_with(['{', '[']);
            let text = if json { join_surrogates(text) } else { text.into() };
            for document in Reader::new(&text, first_line) {
                match document {
                    Ok(node) => self.object(&node, None),
                    Err(broken) => self.unidentified(broken.at, broken.message),
                }
            }
        }
    }

    /// An object, or a list of objects. The items of a `GatewayList` need not say that they are Gateways.
    fn object(&mut self, node: &Node, inherited: Option<(&str, &str)>) {
        let text = |key: &str| node.get(key).and_then(Node::text);
        let inherited = inherited.filter(|_| node.get("apiVersion").is_none() && node.get("kind").is_none());
        let Some((api_version, kind)) = text("apiVersion").zip(text("kind")).or(inherited) else {
            let message = "expected a Kubernetes object, with texts as apiVersion and kind";
            return self.unidentified(node.at, message.into());
        };
        let items = kind.strip_suffix("List").and_then(|item| Some((item, node.get("items")?)));
        if let Some((item, items)) = items {
            let inherited = (!item.is_empty()).then_some((api_version, item));
            for node in items.items() {
                self.object(node, inherited);
            }
            return;
        }
        let type_ = Type::new(api_version, kind);
        match schema::of(type_.group, type_.version, type_.kind) {
            Some(schema) => self.known(type_, &schema, node),
            None => self.unknown(type_, node),
        }
    }

    fn known(&mut self, type_: Type<'_>, schema: &KindSchema, node: &Node) {
        let mut findings = Findings::new(type_.kind == "Secret");
        let mut value = schema::check(&schema.schema, node, &Path::Root, &mut findings);
        let identity = kinds::identity(type_.kind, schema.namespaced, node, &mut findings);
        kinds::check(type_.kind, node, &mut value, &mut findings);
        let shown = match &identity {
            Some(Identity { namespace: "", name, .. }) => format!("{}/{name}", type_.kind),
            Some(Identity { namespace, name, .. }) => format!("{}/{namespace}/{name}", type_.kind),
            None => type_.kind.to_owned(),
        };
        let read = Kind::from_name(type_.kind).filter(|kind| kind.group() == type_.group);
        let identity = identity.filter(|identity| identity.valid);
        let key = read
            .zip(identity)
            .map(|(kind, identity)| ObjectKey::new(kind, identity.namespace, identity.name));
        let good = if findings.none() {
            self.good(read, key.as_ref(), &shown, &value, node)
        } else {
            for finding in findings.into_list() {
                self.report(
                    finding.at,
                    Severity::Error,
                    format!("{shown}: {}", finding.message),
                    key.clone(),
                );
            }
            None
        };
        match key {
            Some(key) => {
                let (line, column) = (node.at.line, node.at.column);
                self.manifest.definitions.push(Definition { key, line, column, good });
            }
            // Of a kind that is not read there is nothing to keep.
            None => self.manifest.unidentified |= read.is_some(),
        }
    }

    fn good(
        &mut self,
        read: Option<Kind>,
        key: Option<&ObjectKey>,
        shown: &str,
        value: &Value,
        node: &Node,
    ) -> Option<Good> {
        let Some(kind) = read else {
            let message = format!("{shown}: is valid, but not resolved yet");
            self.report(node.at, Severity::Warning, message, None);
            return None;
        };
        match parse(kind, value) {
            Ok(object) => Some(Good { object, spec: digest::of_spec(value) }),
            Err(error) => {
                self.report(node.at, Severity::Error, error.to_string(), key.cloned());
                None
            }
        }
    }

    /// A kind without a schema: a slip of the pen, or none of our business.
    fn unknown(&mut self, type_: Type<'_>, node: &Node) {
        let Type { group, version, kind } = type_;
        let place = |key: &str| node.get(key).map_or(node.at, |node| node.at);
        // Of certificates.k8s.io one kind is read, and Kubernetes has others there.
        let shared = Kind::ClusterTrustBundle.group();
        let ours =
            |group: &str| !group.is_empty() && group != shared && known().any(|(other, ..)| other == group);
        let kind_shown = show_key(kind);
        let versions: Vec<&str> = known()
            .filter(|(of, name, _)| (*of, *name) == (group, kind))
            .map(|(.., version)| version)
            .collect();
        if !versions.is_empty() {
            let message = format!(
                "{kind_shown} has no version {}: expected {}",
                show_key(version),
                versions.join(" or ")
            );
            return self.unidentified(place("apiVersion"), message);
        }
        // A kind of the Gateway API in a group that does not have it.
        let elsewhere = known().find(|(of, name, _)| *name == kind && ours(of) && of.contains("gateway"));
        if let Some((of, _, version)) = elsewhere.filter(|_| group.is_empty() || group.contains("gateway")) {
            let message = format!("{kind_shown} is a kind of {of}: expected apiVersion {of}/{version}");
            return self.unidentified(place("apiVersion"), message);
        }
        if ours(group) {
            let names = known().filter(|(of, ..)| *of == group).map(|(_, name, _)| name);
            let meant = did_you_mean(kind, names);
            let message = format!("{kind_shown} is no kind of {}{meant}", show_key(group));
            return self.unidentified(place("kind"), message);
        }
        let slash = if group.is_empty() { "" } else { "/" };
        let message = format!(
            "{}{slash}{} {kind_shown} is not read by Portolan",
            if group.is_empty() { "" } else { show_key(group) },
            show_key(version)
        );
        self.report(place("kind"), Severity::Warning, message, None);
    }

    fn unidentified(&mut self, at: Place, message: String) {
        self.manifest.unidentified = true;
        self.report(at, Severity::Error, message, None);
    }

    fn report(&mut self, at: Place, severity: Severity, message: String, object: Option<ObjectKey>) {
        if self.manifest.problems.len() >= MAX_PROBLEMS {
            self.hidden += 1;
            return;
        }
        let (file, message) = (self.file.clone(), message.into());
        let problem = Problem { file, line: at.line, column: at.column, severity, message, object };
        self.manifest.problems.push(problem);
    }

    fn end(mut self) -> Manifest {
        if self.hidden > 0 {
            let message = format!("has {} more problems, which are not listed", self.hidden);
            self.manifest.problems.push(Problem::of_file(self.file, message));
        }
        self.manifest
    }
}
