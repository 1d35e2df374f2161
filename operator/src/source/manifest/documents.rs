//! A file's text, cut into documents.
//!
//! A line that starts with `---` separates documents wherever it stands (YAML 1.2, §9.1.2), so a document that is no YAML
//! at all ends there, and its neighbours are read.

use std::{borrow::Cow, fmt::Write as _};

/// A part of a file's text that holds one document, or several where `...` separates them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    pub(super) text: &'t str,
    /// Counted from 1.
    pub(super) first_line: usize,
}

/// The parts of a text that are not blank.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut first_line, mut blank) = (0, 1, true);
    let (mut offset, mut line_number) = (0, 1);
    let mut push = |start: usize, end: usize, first_line: usize, blank: bool| {
        if !blank {
            pieces.push(Piece { text: &text[start..end], first_line });
        }
    };
    for line in text.split_inclusive('\n') {
        let separator = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if separator.is_some() {
            push(start, offset, first_line, blank);
            (start, first_line, blank) = (offset, line_number, true);
        }
        let said = separator.unwrap_or(line).trim();
        // A directive belongs to the document after it; none of the two that exist changes how a manifest is read.
        blank &= said.is_empty() || said.starts_with('#') || said == "..." || is_directive(line);
        offset += line.len();
        line_number += 1;
    }
    push(start, text.len(), first_line, blank);
    pieces
}

fn is_directive(line: &str) -> bool {
    line.starts_with("%YAML ") || line.starts_with("%TAG ")
}

/// JSON may write a character beyond U+FFFF as two escapes, which YAML cannot read; as one of YAML's escapes it can. Places behind
/// it in the same line shift by two columns.
pub(super) fn join_surrogates(text: &str) -> Cow<'_, str> {
    fn escape(text: &str) -> Option<u32> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    }
    let mut joined = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        let rest = &text[at..];
        let high = escape(rest).filter(|high| (0xD800..0xDC00).contains(high));
        let low = rest.get(6..).and_then(escape).filter(|low| (0xDC00..0xE000).contains(low));
        if let (Some(high), Some(low)) = (high, low) {
            let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            joined.push_str(&text[done..at]);
            // Writing to a String does not fail.
            let _ = write!(joined, "\\U{code:08X}");
            at += 12;
            done = at;
        } else {
            // An escaped backslash must not be taken for the start of an escape.
            at += 1 + usize::from(rest[1..].starts_with('\\'));
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    joined.push_str(&text[done..]);
    Cow::Owned(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(usize, &str)> {
        pieces(text).into_iter().map(|piece| (piece.first_line, piece.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_separators_and_blank_ones_are_none() {
        assert_eq!(cut(""), []);
        assert_eq!(cut("---\n# nothing\n---\n...\n"), []);
        assert_eq!(cut("a: 1"), [(1, "a: 1")]);
        assert_eq!(cut("a: 1\n---\nb: 2\n"), [(1, "a: 1\n"), (2, "---\nb: 2\n")]);
        assert_eq!(cut("a: 1\r\n---\r\nb: 2\r\n"), [(1, "a: 1\r\n"), (2, "---\r\nb: 2\r\n")]);
        assert_eq!(cut("--- {a: 1}\n--- # two\nb: 2"), [(1, "--- {a: 1}\n"), (2, "--- # two\nb: 2")]);
        assert_eq!(cut("%YAML 1.2\n---\na: 1\n"), [(2, "---\na: 1\n")]);
        assert_eq!(cut("%nonsense\n"), [(1, "%nonsense\n")]);
        assert_eq!(cut("a: ---\n  ---\n----\n"), [(1, "a: ---\n  ---\n----\n")], "no separators");
    }

    #[test]
    fn surrogates_become_one_escape() {
        assert_eq!(join_surrogates(r#"{"a": "\ud83d\ude00!"}"#), r#"{"a": "\U0001F600!"}"#);
        for same in [r"a\\ud83d\ude00", r"\ud83d", r"\ude00\ud83d", r"\u00e9\", "é\\", r"\ud83d\ud83d", ""] {
            assert_eq!(join_surrogates(same), same);
        }
    }
}
