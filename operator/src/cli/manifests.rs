//! Manifests of commands that look once and end: read, resolved, and their problems shown.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
};

use crate::{
    model::{Object, ObjectKey},
    source::{Problem, files::Files},
};

/// What some paths say.
pub(super) struct Manifests {
    files: Files,
    pub(super) objects: BTreeMap<ObjectKey, Object>,
    problems: Vec<Problem>,
}

impl Manifests {
    /// Reads files and folders.
    pub(super) fn read(paths: &[PathBuf]) -> Self {
        let mut files = Files::new(paths);
        let batch = files.scan();
        let objects = batch.changes.into_iter().filter_map(|(key, object)| Some((key, object?))).collect();
        Self { files, objects, problems: batch.problems }
    }

    /// Whether everything that stands there is in force.
    pub(super) fn sound(&self) -> bool {
        !self.problems.iter().any(Problem::is_error)
    }

    /// Where an object is defined.
    pub(super) fn place(&self, key: &ObjectKey) -> String {
        self.files.place(key).map_or_else(String::new, |(file, line)| format!("{}:{line}", file.display()))
    }

    /// Writes the problems to standard error, one a line.
    pub(super) fn complain(&self) -> io::Result<()> {
        let mut errors = io::stderr().lock();
        let colours = errors.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        self.problems.iter().try_for_each(|problem| writeln!(errors, "{}", line(problem, colours)))
    }
}

fn line(problem: &Problem, colours: bool) -> String {
    let text = problem.to_string();
    if !colours {
        return text;
    }
    let severity = format!(" {}: ", problem.severity.as_str());
    let colour = if problem.is_error() { "\u{1b}[1;31m" } else { "\u{1b}[1;33m" };
    match text.split_once(&severity) {
        Some((place, rest)) => format!("\u{1b}[1m{place}\u{1b}[0m{colour}{severity}\u{1b}[0m{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Severity;

    #[test]
    fn problems_have_colours_on_a_terminal_only() {
        let problem = Problem {
            file: std::path::Path::new("a.yaml").into(),
            line: 2,
            column: 3,
            severity: Severity::Error,
            message: "is wrong: error: twice".into(),
            object: None,
        };
        assert_eq!(line(&problem, false), "a.yaml:2:3: error: is wrong: error: twice");
        assert_eq!(
            line(&problem, true),
            "\u{1b}[1ma.yaml:2:3:\u{1b}[0m\u{1b}[1;31m error: \u{1b}[0mis wrong: error: twice"
        );
    }
}
