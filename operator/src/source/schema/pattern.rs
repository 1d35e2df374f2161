//! Patterns of texts, with what they ask for in words: nobody reads `^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.…` with pleasure.

use regex::Regex;

/// A pattern of a schema.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// What it asks for; empty for a pattern that has no words yet.
    meaning: &'static str,
}

/// The patterns of the Gateway API in words. A test holds that each one is in use.
const MEANINGS: [(&str, &str); 15] = [
    (
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "a host name such as www.example.com or *.example.com (lower case letters, digits, '-' and '.')",
    ),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "a name of lower case letters, digits, '-' and '.', with a letter or a digit at both ends of each part",
    ),
    (
        r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "an API group such as gateway.networking.k8s.io, or \"\" for the core group",
    ),
    (r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$", "a kind such as Service"),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "a name of lower case letters, digits and '-', with a letter or a digit at both ends",
    ),
    (
        r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$",
        "the name of a header or a parameter (letters, digits and !#$%&'*+-.^_`|~)",
    ),
    (r"^[!-~]+([\t ]?[!-~]+)*$", "the value of a header (visible ASCII, single spaces between words)"),
    (
        r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$",
        "a URL path (RFC 3986: letters, digits, /._~!$&'()*+,;=:@- and %41-like escapes)",
    ),
    (
        r"^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        "a duration such as 1m30s (GEP-2257: up to four numbers of at most five digits, each with h, m, s or ms)",
    ),
    (
        r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)",
        "an origin such as https://www.example.com, https://*.example.com:8443, or *",
    ),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
        "a name with a domain before it, such as portolan.dev/gateway-controller",
    ),
    (
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        "a name, optionally with a domain and '/' before it",
    ),
    (r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", "the value of a label"),
    (
        r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+$",
        "a protocol such as HTTP, HTTPS, TLS, TCP or UDP, or one with a domain before it",
    ),
    (r"^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\?([^#]*))?(#(.*))?", "a URI such as spiffe://example.com/ns/web"),
];

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, regex::Error> {
        let meaning = MEANINGS.iter().find(|(other, _)| *other == pattern).map_or("", |(_, meaning)| meaning);
        Ok(Self { regex: Regex::new(pattern)?, meaning })
    }

    /// Whether a text matches, anywhere in it where the pattern has no anchors, as in Go.
    pub(super) fn fits(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What it asks for.
    pub(super) fn expected(&self) -> String {
        if self.meaning.is_empty() {
            format!("a text that matches {}", self.regex)
        } else {
            self.meaning.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_crds::schema::{known, schema};

    #[test]
    fn every_pattern_in_words_is_in_use() {
        let all: String = known()
            .map(|(group, kind, version)| schema(group, version, kind).unwrap().value.to_string())
            .collect();
        for (pattern, meaning) in MEANINGS {
            let json = serde_json::to_string(&serde_json::json!({"pattern": pattern})).unwrap();
            assert!(all.contains(json.trim_start_matches('{').trim_end_matches('}')), "{meaning}: {pattern}");
        }
    }

    #[test]
    fn a_pattern_says_what_it_asks_for() {
        let hostname = Pattern::new(MEANINGS[0].0).unwrap();
        assert!(
            hostname.fits("*.example.com") && !hostname.fits("http://a<") && !hostname.fits("A.example.com")
        );
        assert!(hostname.expected().contains("host name"));
        assert_eq!(Pattern::new("^x$").unwrap().expected(), "a text that matches ^x$");
        assert!(Pattern::new("(").is_err());
    }
}
