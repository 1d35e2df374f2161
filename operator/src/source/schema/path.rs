//! The name of a field, as the API writes it: `spec.rules[0].matches`, `metadata.labels[app.kubernetes.io/name]`.

use std::fmt;

/// A path, linked on the stack: a field without a problem costs no allocation.
#[derive(Clone, Copy, Debug)]
pub(in crate::source) enum Path<'a> {
    /// The object itself.
    Root,
    /// A field of an object.
    Field(&'a Path<'a>, &'a str),
    /// An entry of a map.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// A field of this.
    pub(in crate::source) fn field<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path::Field(self, name)
    }

    /// An entry of this.
    pub(in crate::source) fn key<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path::Key(self, name)
    }

    /// An item of this.
    pub(in crate::source) fn item(&self, index: usize) -> Path<'_> {
        Path::Item(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Key(above, name) => write!(f, "{above}[{name}]"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

#[cfg(test)]
#[test]
fn paths_read_as_in_the_api() {
    let (root, labels) = (Path::Root, "labels");
    let metadata = root.field("metadata");
    assert_eq!(metadata.field(labels).key("app.io/name").to_string(), "metadata.labels[app.io/name]");
    let rules = root.field("rules");
    assert_eq!(rules.item(2).field("name").to_string(), "rules[2].name");
}
