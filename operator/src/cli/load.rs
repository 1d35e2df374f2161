//! Reads manifests once, for commands that look and end.
//!
//! Promise: a broken document is reported with file, line and what was wrong, and the rest of the folder is still read.
//! Schemas are not checked here: what the API server would refuse for its schema alone may pass.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::model::{Kind, Object, ObjectKey, parse};

/// Something wrong with a file or a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    file: PathBuf,
    /// Counted from 1; 0 when it is about the whole file.
    line: usize,
    message: String,
    /// Whether the manifests can be used as they are all the same.
    pub(super) harmless: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.harmless { "warning" } else { "error" };
        if self.line == 0 {
            write!(f, "{}: {severity}: {}", self.file.display(), self.message)
        } else {
            write!(f, "{}:{}: {severity}: {}", self.file.display(), self.line, self.message)
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) objects: BTreeMap<ObjectKey, Object>,
    pub(super) problems: Vec<Problem>,
    places: BTreeMap<ObjectKey, (PathBuf, usize)>,
}

/// Reads files and folders, in sorted order. The first definition of an object wins.
pub(super) fn load(paths: &[PathBuf]) -> Loaded {
    let mut loaded = Loaded::default();
    for path in paths {
        loaded.path(path, true);
    }
    loaded.problems.sort();
    loaded
}

impl Loaded {
    fn path(&mut self, path: &Path, named: bool) {
        let problem = |message: String| Problem { file: path.to_owned(), line: 0, message, harmless: false };
        if path.is_dir() {
            let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let mut entries = match entries {
                Ok(entries) => entries,
                Err(error) => return self.problems.push(problem(format!("cannot be listed: {error}"))),
            };
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                if !entry.file_name().to_string_lossy().starts_with('.') {
                    self.path(&entry.path(), false);
                }
            }
            return;
        }
        let manifest = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if !manifest && !named {
            return;
        }
        match fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => self.text(path, text.trim_start_matches('\u{feff}')),
            Ok(Err(_)) => self.problems.push(problem("is not UTF-8".into())),
            Err(error) => self.problems.push(problem(format!("cannot be read: {error}"))),
        }
    }

    fn text(&mut self, file: &Path, text: &str) {
        let (mut document, mut first) = (String::new(), 1);
        for (index, line) in text.lines().enumerate() {
            // A line that starts with --- separates documents wherever it stands (YAML 1.2, §9.1.2).
            if line == "---" || line.starts_with("--- ") || line.starts_with("---\t") {
                self.document(file, first, &document);
                document.clear();
                first = index + 2;
            } else {
                document.push_str(line);
                document.push('\n');
            }
        }
        self.document(file, first, &document);
    }

    fn document(&mut self, file: &Path, first: usize, text: &str) {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return;
        }
        // Kubernetes reads YAML with JSON's idea of a boolean: `y` and `on` are texts.
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Value>(text, options) {
            Ok(json) => self.object(file, first, &json),
            Err(error) => {
                let inside = error.location().map_or(1, |place| usize::try_from(place.line()).unwrap_or(1));
                let message = error.to_string();
                // The first line says what is wrong; a picture of the text could show a Secret.
                let message = message.lines().next().unwrap_or("is not YAML").to_owned();
                self.report(file, first + inside.saturating_sub(1), message, false);
            }
        }
    }

    fn object(&mut self, file: &Path, line: usize, json: &Value) {
        if let (Some("List"), Some(Value::Array(items))) = (json["kind"].as_str(), json.get("items")) {
            for item in items {
                self.object(file, line, item);
            }
            return;
        }
        let (Some(version), Some(name)) = (json["apiVersion"].as_str(), json["kind"].as_str()) else {
            return self.report(
                file,
                line,
                "has no apiVersion and kind: expected a Kubernetes object".into(),
                false,
            );
        };
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        let Some(kind) = Kind::from_name(name).filter(|kind| kind.group() == group) else {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            let message = format!("{version} {name} is not read by Portolan; it reads {}", known.join(", "));
            return self.report(file, line, message, group != Kind::Gateway.group());
        };
        match parse(kind, json) {
            Ok(object) => {
                let key = object.key().clone();
                if let Some((other, place)) = self.places.get(&key) {
                    let message = format!("{key} is also defined in {}:{place}, which wins", other.display());
                    return self.report(file, line, message, false);
                }
                self.places.insert(key.clone(), (file.to_owned(), line));
                self.objects.insert(key, object);
            }
            Err(error) => self.report(file, line, error.to_string(), false),
        }
    }

    fn report(&mut self, file: &Path, line: usize, message: String, harmless: bool) {
        self.problems.push(Problem { file: file.to_owned(), line, message, harmless });
    }

    /// Where an object was defined.
    pub(super) fn place(&self, key: &ObjectKey) -> String {
        self.places.get(key).map_or_else(String::new, |(file, line)| format!("{}:{line}", file.display()))
    }
}
