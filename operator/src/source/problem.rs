//! Something wrong with a manifest, with the place where its author can mend it.

use std::{fmt, path::Path, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::model::ObjectKey;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What stands there is not in force.
    Error,
    /// It is in force, or it is none of our business.
    Warning,
}

impl Severity {
    /// As it is shown: `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something wrong with a file or a document. Cheap to clone: a list of all problems goes with every batch.
///
/// Shown as `file:line:column: error: message`, the form that editors and CI systems link. Never holds a Secret's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Which file, as it was named: relative to where the user is.
    pub file: Arc<Path>,
    /// Counted from 1; 0 when it is about the whole file.
    pub line: usize,
    /// Counted from 1 in characters; 0 when it is about the whole file.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, what was expected: names object and field.
    pub message: Arc<str>,
    /// Which object, if the document says it.
    pub object: Option<ObjectKey>,
}

impl Problem {
    /// An error about a whole file or folder.
    pub(crate) fn of_file(file: &Arc<Path>, message: impl Into<Arc<str>>) -> Self {
        Self {
            file: file.clone(),
            line: 0,
            column: 0,
            severity: Severity::Error,
            message: message.into(),
            object: None,
        }
    }

    /// Whether what stands there is not in force.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.as_str();
        if self.line == 0 {
            write!(f, "{}: {severity}: {}", self.file.display(), self.message)
        } else {
            write!(f, "{}:{}:{}: {severity}: {}", self.file.display(), self.line, self.column, self.message)
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 6)?;
        fields.serialize_field("file", &self.file.to_string_lossy())?;
        fields.serialize_field("line", &self.line)?;
        fields.serialize_field("column", &self.column)?;
        fields.serialize_field("severity", &self.severity)?;
        fields.serialize_field("message", &*self.message)?;
        fields.serialize_field("object", &self.object.as_ref().map(ToString::to_string))?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn a_problem_is_shown_as_editors_link_it_and_serialized_by_fields() {
        let file: Arc<Path> = Path::new("conf/a.yaml").into();
        let whole = Problem::of_file(&file, "is not UTF-8");
        assert_eq!(whole.to_string(), "conf/a.yaml: error: is not UTF-8");
        let one = Problem {
            line: 3,
            column: 7,
            severity: Severity::Warning,
            object: Some(ObjectKey::new(Kind::Gateway, "default", "web")),
            ..whole
        };
        assert_eq!(one.to_string(), "conf/a.yaml:3:7: warning: is not UTF-8");
        assert_eq!(
            serde_json::to_value(&one).unwrap(),
            serde_json::json!({
                "file": "conf/a.yaml", "line": 3, "column": 7, "severity": "warning", "message": "is not UTF-8",
                "object": "Gateway/default/web"
            })
        );
    }
}
