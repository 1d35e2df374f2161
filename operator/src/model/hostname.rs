//! Hostnames, exact or wildcard, and how two of them meet.

use std::{cmp::Reverse, fmt, sync::Arc};

use serde::Serialize;
use thiserror::Error;

/// A hostname as Gateway API defines it: an RFC 1123 name in lower case, or `*.` before one.
///
/// ```
/// use portolan::model::Hostname;
/// let wildcard: Hostname = "*.example.com".parse()?;
/// assert!(wildcard.covers(&"a.b.example.com".parse()?));
/// assert!(!wildcard.covers(&"example.com".parse()?));
/// # Ok::<(), portolan::model::InvalidHostname>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Hostname(Arc<str>);

/// A text that is not a hostname.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a hostname: expected a lower-case DNS name of at most 253 characters, optionally after \"*.\", and no IP address"
)]
pub struct InvalidHostname {
    text: String,
}

impl Hostname {
    /// The text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Whether it starts with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Whether every host that `other` stands for is one that `self` stands for. A wildcard covers names with one or
    /// more further labels, and never the bare suffix (HTTPRouteSpec.hostnames).
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let Some(suffix) = self.0.strip_prefix('*') else { return false };
        let name = other.0.strip_prefix('*').unwrap_or(&other.0);
        name.len() > suffix.len() && name.ends_with(suffix)
    }

    /// The hosts that both stand for: the narrower of the two, if one covers the other.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if self.covers(other) {
            Some(other.clone())
        } else if other.covers(self) {
            Some(self.clone())
        } else {
            None
        }
    }

    /// The wildcards that cover this name, the narrowest first: `*.b.c` and `*.c` for `a.b.c`, `*.c` for `*.b.c`.
    pub fn wider(&self) -> impl Iterator<Item = Self> {
        let name = self.0.strip_prefix("*.").unwrap_or(&self.0);
        name.match_indices('.').map(|(dot, _)| Self(format!("*{}", &name[dot..]).into()))
    }

    /// Sorts the more specific hostname first: exact before wildcard, then more characters.
    pub fn specificity(hostname: Option<&Self>) -> Reverse<(bool, usize)> {
        Reverse(hostname.map_or((false, 0), |name| (!name.is_wildcard(), name.0.len())))
    }
}

impl std::str::FromStr for Hostname {
    type Err = InvalidHostname;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidHostname { text: text.chars().take(300).collect() };
        let name = text.strip_prefix("*.").unwrap_or(text);
        let label = |label: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            (1..=63).contains(&label.len())
                && ends(label.chars().next())
                && ends(label.chars().last())
                && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let valid =
            text.len() <= 253 && name.split('.').all(label) && name.parse::<std::net::IpAddr>().is_err();
        if valid { Ok(Self(text.into())) } else { Err(invalid()) }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Hostname {
        text.parse().unwrap()
    }

    #[test]
    fn a_wildcard_covers_deeper_names_and_not_its_suffix() {
        assert!(host("*.example.com").covers(&host("a.example.com")));
        assert!(host("*.example.com").covers(&host("a.b.example.com")));
        assert!(host("*.example.com").covers(&host("*.b.example.com")));
        assert!(!host("*.example.com").covers(&host("example.com")));
        assert!(!host("*.example.com").covers(&host("badexample.com")));
        assert!(!host("a.example.com").covers(&host("*.example.com")));
    }

    #[test]
    fn wider_names_are_the_wildcards_that_cover_a_name() {
        let wider = |text: &str| host(text).wider().map(|one| one.to_string()).collect::<Vec<_>>();
        assert_eq!(wider("a.b.example.com"), ["*.b.example.com", "*.example.com", "*.com"]);
        assert_eq!(wider("*.b.com"), ["*.com"]);
        assert_eq!(wider("com"), Vec::<String>::new());
        for name in ["a.b.example.com", "*.b.com", "localhost"] {
            assert!(host(name).wider().all(|one| one.covers(&host(name)) && one != host(name)), "{name}");
        }
    }

    #[test]
    fn an_intersection_is_the_narrower_one() {
        assert_eq!(host("*.com").intersect(&host("*.example.com")), Some(host("*.example.com")));
        assert_eq!(host("a.com").intersect(&host("*.com")), Some(host("a.com")));
        assert_eq!(host("a.com").intersect(&host("b.com")), None);
    }

    #[test]
    fn what_is_not_a_hostname_is_refused() {
        for text in
            ["", "*", "*.*.com", "A.com", "-a.com", "a..b", "1.2.3.4", "a.com.", "a_b.com", &"a".repeat(254)]
        {
            assert!(text.parse::<Hostname>().is_err(), "{text}");
        }
        assert!("a-1.example.com".parse::<Hostname>().is_ok());
        assert!("localhost".parse::<Hostname>().is_ok());
    }
}
