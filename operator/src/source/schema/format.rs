//! Texts with a form: what `format` in a schema asks for, and the forms of Kubernetes names.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use regex::Regex;

/// A `format` of a schema that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Format {
    Ipv4,
    Ipv6,
    DateTime,
    Int32,
}

impl Format {
    /// The format of this name; others say no more than the type does, or are checked where the field is known.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ipv4" => Some(Self::Ipv4),
            "ipv6" => Some(Self::Ipv6),
            "date-time" => Some(Self::DateTime),
            "int32" => Some(Self::Int32),
            _ => None,
        }
    }

    /// What it asks for.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::DateTime => "a time such as 2026-01-31T10:00:00Z",
            Self::Int32 => "a number of at most 32 bits",
        }
    }

    /// Whether a text has it.
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::DateTime => text.parse::<jiff::Timestamp>().is_ok(),
            Self::Int32 => true,
        }
    }
}

/// A form of names in Kubernetes.
#[derive(Debug)]
pub(in crate::source) struct Form {
    /// Patterns are constants of this file, and a test uses each of them.
    regex: LazyLock<Option<Regex>>,
    max: usize,
    /// What it asks for.
    pub(in crate::source) expected: &'static str,
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident = $pattern:literal, $max:literal, $expected:literal;)*) => {$(
        $(#[$doc])*
        pub(in crate::source) static $name: Form = Form {
            regex: LazyLock::new(|| Regex::new($pattern).ok()),
            max: $max,
            expected: $expected,
        };
    )*};
}

forms! {
    /// RFC 1123 label.
    LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 63,
        "at most 63 lower case letters, digits and '-', with a letter or a digit at both ends";
    /// RFC 1035 label: Services.
    LABEL_1035 = r"^[a-z]([-a-z0-9]*[a-z0-9])?$", 63,
        "at most 63 lower case letters, digits and '-', a letter first and a letter or a digit last";
    /// RFC 1123 subdomain.
    SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", 253,
        "at most 253 lower case letters, digits, '-' and '.', with a letter or a digit at both ends of each part";
    /// The name part of a qualified name.
    NAME_PART = r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$", 63,
        "at most 63 letters, digits, '-', '_' and '.', with a letter or a digit at both ends";
    /// The value of a label.
    LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", 63,
        "at most 63 letters, digits, '-', '_' and '.', with a letter or a digit at both ends, or nothing";
    /// A key in a ConfigMap or a Secret.
    DATA_KEY = r"^[-._a-zA-Z0-9]+$", 253, "at most 253 letters, digits, '-', '_' and '.'";
    /// The name of a port in a pod.
    PORT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 15,
        "at most 15 lower case letters, digits and '-', with at least one letter";
}

impl Form {
    /// Whether a text has it.
    pub(in crate::source) fn fits(&self, text: &str) -> bool {
        text.len() <= self.max && self.regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// What a qualified name is.
pub(in crate::source) const QUALIFIED_EXPECTED: &str = "a name of at most 63 letters, digits, '-', '_' and '.', with an \
    optional DNS name and '/' before it";

/// Whether a text is a qualified name: `name` or `dns.name/name`.
pub(in crate::source) fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        None => NAME_PART.fits(text),
        Some((prefix, name)) => SUBDOMAIN.fits(prefix) && NAME_PART.fits(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_those_of_kubernetes() {
        let long = "a".repeat(64);
        for (form, good, bad) in [
            (&LABEL, ["a", "1-a"], ["", "A"]),
            (&LABEL, ["0", "a-0"], ["a.b", "-a"]),
            (&LABEL_1035, ["a", "a-1"], ["1a", "a-"]),
            (&SUBDOMAIN, ["a.b", "1.a-b"], ["a..b", "a.b."]),
            (&NAME_PART, ["a_B.c", "x"], ["", "-a"]),
            (&LABEL_VALUE, ["", "v1.2"], ["a b", "a-"]),
            (&DATA_KEY, ["tls.crt", "_"], ["", "a/b"]),
            (&PORT_NAME, ["http", "p-1"], ["sixteen-letters-", "http_2"]),
        ] {
            for text in good {
                assert!(form.fits(text), "{text} for {}", form.expected);
            }
            for text in bad {
                assert!(!form.fits(text), "{text} for {}", form.expected);
            }
        }
        assert!(!LABEL.fits(&long) && SUBDOMAIN.fits(&long));
        assert!(
            is_qualified("kubernetes.io/h2c")
                && is_qualified("h2c")
                && !is_qualified("a/b/c")
                && !is_qualified("/a")
        );
    }

    #[test]
    fn formats_are_checked() {
        for (format, good, bad) in [
            (Format::Ipv4, "10.0.0.1", "10.0.0.01"),
            (Format::Ipv6, "::1", "1"),
            (Format::DateTime, "2026-01-31T10:00:00Z", "yesterday"),
        ] {
            assert!(format.fits(good) && !format.fits(bad), "{format:?}");
        }
        assert_eq!(Format::from_name("int64"), None);
    }
}
