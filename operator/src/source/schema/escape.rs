//! Field names in CEL: what is no identifier there, or a word of the language, is written in another way
//! (Kubernetes, "Validation rules", escaping).

/// Words that no identifier can be.
const RESERVED: [&str; 20] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

/// Sequences with their escapes; the order is the one in which they are undone.
const SEQUENCES: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// A field's name as rules call it.
pub(super) fn escape(name: &str) -> String {
    if RESERVED.contains(&name) || name == "while" {
        return format!("__{name}__");
    }
    let (mut escaped, mut rest) = (String::with_capacity(name.len()), name);
    'next: while let Some(letter) = rest.chars().next() {
        for (sequence, escape) in SEQUENCES {
            if let Some(behind) = rest.strip_prefix(sequence) {
                escaped.push_str(escape);
                rest = behind;
                continue 'next;
            }
        }
        escaped.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    escaped
}

/// The field that a rule means.
pub(super) fn unescape(name: &str) -> String {
    let word = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"));
    if let Some(word) = word.filter(|word| RESERVED.contains(word) || *word == "while") {
        return word.to_owned();
    }
    let (mut plain, mut rest) = (String::with_capacity(name.len()), name);
    'next: while let Some(letter) = rest.chars().next() {
        for (sequence, escape) in SEQUENCES {
            if let Some(behind) = rest.strip_prefix(escape) {
                plain.push_str(sequence);
                rest = behind;
                continue 'next;
            }
        }
        plain.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_kubernetes_documents_it() {
        for (name, escaped) in [
            ("name", "name"),
            ("namespace", "__namespace__"),
            ("x-prop", "x__dash__prop"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("redact__d", "redact__underscores__d"),
            ("string", "string"),
            ("is_ok", "is_ok"),
        ] {
            assert_eq!(escape(name), escaped);
            assert_eq!(unescape(escaped), name);
        }
    }
}
