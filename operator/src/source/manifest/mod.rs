//! One manifest: from the bytes of a file to the objects that it defines.
//!
//! Promise: a broken document harms only itself. Whatever the bytes are, reading them ends, in bounded memory, without a
//! panic, and each thing that is wrong has its line and column.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::{Problem, Severity};
use crate::model::{Kind, Object, ObjectKey, parse};

/// What a file says.
#[derive(Debug, Default)]
pub(in crate::source) struct Manifest {
    /// Its objects, in the order in which they stand there.
    pub(in crate::source) definitions: Vec<Definition>,
    /// What is wrong.
    pub(in crate::source) problems: Vec<Problem>,
    /// Whether a document could not be read so far as to tell which object it defines. Then the absence of an object
    /// proves nothing.
    pub(in crate::source) unidentified: bool,
}

/// An object that a file defines.
#[derive(Debug)]
pub(in crate::source) struct Definition {
    pub(in crate::source) key: ObjectKey,
    /// Counted from 1.
    pub(in crate::source) line: usize,
    /// Counted from 1.
    pub(in crate::source) column: usize,
    /// The object, unless its document is broken.
    pub(in crate::source) good: Option<Good>,
}

/// A valid object.
#[derive(Clone, Debug)]
pub(in crate::source) struct Good {
    pub(in crate::source) object: Object,
    /// Hash of everything but metadata: an edit of it is a new generation.
    pub(in crate::source) spec: u128,
}

/// Reads a manifest.
pub(in crate::source) fn read(file: &Arc<Path>, bytes: &[u8]) -> Manifest {
    let mut reader = Reader { file, manifest: Manifest::default() };
    match std::str::from_utf8(bytes) {
        Ok(text) => reader.text(text.trim_start_matches('\u{feff}')),
        Err(_) => {
            reader.manifest.unidentified = true;
            reader.manifest.problems.push(Problem::of_file(file, "is not UTF-8"));
        }
    }
    reader.manifest
}

struct Reader<'a> {
    file: &'a Arc<Path>,
    manifest: Manifest,
}

impl Reader<'_> {
    fn text(&mut self, text: &str) {
        let (mut document, mut first) = (String::new(), 1);
        for (index, line) in text.lines().enumerate() {
            // A line that starts with --- separates documents wherever it stands (YAML 1.2, §9.1.2).
            if line == "---" || line.starts_with("--- ") || line.starts_with("---\t") {
                self.document(first, &document);
                document.clear();
                first = index + 2;
            } else {
                document.push_str(line);
                document.push('\n');
            }
        }
        self.document(first, &document);
    }

    fn document(&mut self, first: usize, text: &str) {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return;
        }
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Value>(text, options) {
            Ok(json) => self.object(first, &json),
            Err(error) => {
                let inside = error.location().map_or(1, |place| usize::try_from(place.line()).unwrap_or(1));
                let message = error.to_string();
                let message = message.lines().next().unwrap_or("is not YAML").to_owned();
                self.manifest.unidentified = true;
                self.report(first + inside.saturating_sub(1), message, Severity::Error, None);
            }
        }
    }

    fn object(&mut self, line: usize, json: &Value) {
        if let (Some("List"), Some(Value::Array(items))) = (json["kind"].as_str(), json.get("items")) {
            for item in items {
                self.object(line, item);
            }
            return;
        }
        let (Some(version), Some(name)) = (json["apiVersion"].as_str(), json["kind"].as_str()) else {
            self.manifest.unidentified = true;
            let message = "has no apiVersion and kind: expected a Kubernetes object".into();
            return self.report(line, message, Severity::Error, None);
        };
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        let Some(kind) = Kind::from_name(name).filter(|kind| kind.group() == group) else {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            let message = format!("{version} {name} is not read by Portolan; it reads {}", known.join(", "));
            let ours = group == Kind::Gateway.group();
            let severity = if ours { Severity::Error } else { Severity::Warning };
            return self.report(line, message, severity, None);
        };
        match parse(kind, json) {
            Ok(object) => {
                let key = object.key().clone();
                let mut rest = json.clone();
                if let Some(fields) = rest.as_object_mut() {
                    fields.remove("metadata");
                }
                let spec = xxh3_128(rest.to_string().as_bytes());
                let good = Some(Good { object, spec });
                self.manifest.definitions.push(Definition { key, line, column: 1, good });
            }
            Err(error) => {
                let message = error.to_string();
                self.report(line, message, Severity::Error, Some(error.key.clone()));
                self.manifest.definitions.push(Definition { key: error.key, line, column: 1, good: None });
            }
        }
    }

    fn report(&mut self, line: usize, message: String, severity: Severity, object: Option<ObjectKey>) {
        let (file, message) = (self.file.clone(), message.into());
        self.manifest.problems.push(Problem { file, line, column: 1, severity, message, object });
    }
}
