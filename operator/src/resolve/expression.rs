//! Regular expressions: what is sure to work in Envoy's engine (RE2), and no more than it takes.
//!
//! The API leaves the dialect open and Envoy decides late, with a rejection. So expressions are read here first, and
//! what RE2 refuses, reads differently or finds too large is refused with a message that names it. An expression that
//! passes and is rejected all the same costs its own route only (`portolan_xds::program`).
//!
//! Envoy gives RE2 bytes, not characters (seen in 1.40): a character beyond ASCII matches itself, and is two or more
//! members of a class.

use regex_syntax::ast::{
    self, Ast, ClassAsciiKind, ClassPerlKind, ClassSet, ClassSetItem, ClassUnicodeKind, HexLiteralKind,
    LiteralKind, RepetitionKind, RepetitionRange,
};

/// The most characters of an expression; the API's own limit is 1,024 for a path and 4,096 for a header.
const MOST_CHARACTERS: usize = 4096;

/// The most instructions that Envoy accepts (`re2.max_program_size.error_level` in our bootstrap), less those around
/// every expression.
const MOST_INSTRUCTIONS: u64 = 4096 - 16;

/// RE2 writes repetitions out, at most this often, those inside each other multiplied.
const MOST_REPEATS: u32 = 1000;

/// Byte ranges of a general category.
const CATEGORY: u64 = 8;

/// Checks an expression. The error says what is wrong with it.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.chars().count() > MOST_CHARACTERS {
        return Err(format!("it is longer than {MOST_CHARACTERS} characters"));
    }
    let ast = ast::parse::Parser::new().parse(text).map_err(|error| error.kind().to_string())?;
    let size = Reader { text }.size(&ast, MOST_REPEATS)?;
    // Names of categories and empty ranges are only known after the translation.
    let hir =
        regex_syntax::hir::translate::TranslatorBuilder::new().utf8(false).build().translate(text, &ast);
    hir.map_err(|error| error.kind().to_string())?;
    if size > MOST_INSTRUCTIONS {
        return Err("it is too large once its repetitions are written out".into());
    }
    Ok(())
}

/// Finds what RE2 does not have, and counts instructions as RE2 does: one per byte or byte range, two per capture.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn size(&self, ast: &Ast, repeats: u32) -> Result<u64, String> {
        Ok(match ast {
            Ast::Empty(_) => 0,
            Ast::Flags(set) => self.flags(&set.flags)?,
            Ast::Literal(literal) => literal_size(literal)?,
            Ast::Dot(_) => 2,
            Ast::Assertion(assertion) => self.assertion(assertion)?,
            Ast::ClassUnicode(class) => unicode_class(class)?,
            Ast::ClassPerl(class) => perl_class(class),
            Ast::ClassBracketed(class) => u64::from(class.negated) + self.class(&class.kind)?,
            Ast::Repetition(repetition) => self.repetition(repetition, repeats)?,
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => {
                    self.flags(flags)?;
                    self.size(&group.ast, repeats)?
                }
                _ => self.size(&group.ast, repeats)?.saturating_add(2),
            },
            Ast::Alternation(branches) => self.sum(&branches.asts, repeats)?,
            Ast::Concat(parts) => self.sum(&parts.asts, repeats)?,
        })
    }

    fn sum(&self, parts: &[Ast], repeats: u32) -> Result<u64, String> {
        parts.iter().try_fold(0u64, |sum, part| Ok(sum.saturating_add(self.size(part, repeats)?)))
    }

    fn flags(&self, flags: &ast::Flags) -> Result<u64, String> {
        for item in &flags.items {
            use ast::Flag::{CaseInsensitive, DotMatchesNewLine, MultiLine, SwapGreed};
            if let ast::FlagsItemKind::Flag(flag) = &item.kind
                && !matches!(flag, CaseInsensitive | MultiLine | DotMatchesNewLine | SwapGreed)
            {
                let written = self.part(&item.span);
                return Err(format!("flag {written} is not known to Envoy: it knows i, m, s and U"));
            }
        }
        Ok(0)
    }

    fn assertion(&self, assertion: &ast::Assertion) -> Result<u64, String> {
        use ast::AssertionKind::{EndLine, EndText, NotWordBoundary, StartLine, StartText, WordBoundary};
        match assertion.kind {
            StartLine | EndLine | StartText | EndText | WordBoundary | NotWordBoundary => Ok(1),
            _ => Err(format!("{} is not known to Envoy", self.part(&assertion.span))),
        }
    }

    fn repetition(&self, repetition: &ast::Repetition, repeats: u32) -> Result<u64, String> {
        let written = self.part(&repetition.op.span);
        if let Ast::Repetition(_) = &*repetition.ast {
            return Err(format!("{written} repeats a repetition: put that into parentheses"));
        }
        let RepetitionKind::Range(range) = &repetition.op.kind else {
            return self.size(&repetition.ast, repeats);
        };
        let (RepetitionRange::Exactly(most)
        | RepetitionRange::AtLeast(most)
        | RepetitionRange::Bounded(_, most)) = *range;
        let left = repeats / most.max(1);
        if left == 0 {
            return Err(format!("{written} repeats more than {MOST_REPEATS} times in all"));
        }
        Ok(self.size(&repetition.ast, left)?.saturating_mul(u64::from(most.max(1))))
    }

    fn class(&self, set: &ClassSet) -> Result<u64, String> {
        match set {
            ClassSet::Item(item) => self.class_item(item),
            // `[a&&b]` is the intersection in one engine and the characters a, & and b in the other.
            ClassSet::BinaryOp(operation) => {
                Err(format!("{} in a class is not known to Envoy", self.part(&operation.span)))
            }
        }
    }

    fn class_item(&self, item: &ClassSetItem) -> Result<u64, String> {
        let member = |literal: &ast::Literal| {
            literal_size(literal)?;
            if literal.c.is_ascii() {
                return Ok(1);
            }
            Err(format!("{} cannot be in a class: Envoy matches bytes; write (?:a|b) for [ab]", literal.c))
        };
        Ok(match item {
            ClassSetItem::Empty(_) => 0,
            ClassSetItem::Literal(literal) => member(literal)?,
            ClassSetItem::Range(range) => member(&range.start).and(member(&range.end))?,
            ClassSetItem::Ascii(class) => match class.kind {
                ClassAsciiKind::Digit | ClassAsciiKind::Lower | ClassAsciiKind::Upper => 1,
                _ => 4,
            },
            ClassSetItem::Perl(class) => perl_class(class),
            ClassSetItem::Unicode(class) => unicode_class(class)?,
            ClassSetItem::Bracketed(class) => {
                let written = self.part(&class.span);
                return Err(format!("the class {written} inside a class is not known to Envoy"));
            }
            ClassSetItem::Union(union) => {
                let mut sum = 0;
                for item in &union.items {
                    sum += self.class_item(item)?;
                }
                sum
            }
        })
    }

    fn part(&self, span: &ast::Span) -> &str {
        self.text.get(span.start.offset..span.end.offset).unwrap_or(self.text)
    }
}

fn literal_size(literal: &ast::Literal) -> Result<u64, String> {
    match &literal.kind {
        LiteralKind::HexFixed(HexLiteralKind::X) | LiteralKind::HexBrace(HexLiteralKind::X)
            if literal.c.is_ascii() => {}
        LiteralKind::HexFixed(_) | LiteralKind::HexBrace(_) => {
            let number = u32::from(literal.c);
            return Err(format!(
                "U+{number:04X} as a number is not known to Envoy: write the character itself"
            ));
        }
        _ => {}
    }
    Ok(u64::try_from(literal.c.len_utf8()).unwrap_or(4))
}

fn perl_class(class: &ast::ClassPerl) -> u64 {
    let ranges = match class.kind {
        ClassPerlKind::Digit => 1,
        ClassPerlKind::Space => 3,
        ClassPerlKind::Word => 4,
    };
    ranges + u64::from(class.negated)
}

/// RE2 knows general categories by their one or two letters, and scripts by their names.
fn unicode_class(class: &ast::ClassUnicode) -> Result<u64, String> {
    let known = |name: &str| {
        let script = || regex_syntax::parse(&format!(r"\p{{Script={name}}}")).is_ok();
        let capital = name.split('_').all(|word| word.starts_with(|first: char| first.is_ascii_uppercase()));
        name.len() <= 2 || name == "Any" || (capital && script())
    };
    match &class.kind {
        ClassUnicodeKind::OneLetter(_) => Ok(CATEGORY),
        ClassUnicodeKind::Named(name) if known(name) => Ok(CATEGORY),
        ClassUnicodeKind::Named(name) => {
            Err(format!("\\p{{{name}}} is not known to Envoy: it knows scripts, and categories such as Lu"))
        }
        ClassUnicodeKind::NamedValue { name, value, .. } => {
            Err(format!("\\p{{{name}={value}}} is not known to Envoy: write \\p{{{value}}}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn expressions_of_the_common_dialect_pass() {
        for text in [
            "",
            "/a+",
            "^/v[0-9]+/.*$",
            "(?i)abc",
            r"\d{3}-\w*",
            "(?P<name>x)",
            "[^/]+",
            r"\p{Greek}|\pL",
            r"\x{41}\x2f",
            "(?:é|ü)+",
            "a{2,5}?",
            r"\bword\B",
            "[[:alpha:]]",
            r"\.\/\-",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_another_engine_would_read_differently_is_refused_by_name() {
        for (text, part) in [
            ("(", "unclosed group"),
            ("(?=x)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("[a-z&&[^b]]", "a-z&&[^b]"),
            ("[a[b]]", "[b]"),
            ("(?x)a b", "flag x"),
            ("(?u:a)", "flag u"),
            ("a{,3}", "repetition"),
            ("a{1001}", "1000"),
            ("((a{10}){10}){11}", "1000"),
            (r"\b{start}x", r"\b{start}"),
            (r"\u00e9", "U+00E9"),
            (r"\x{e9}", "U+00E9"),
            ("[à-ü]", "à cannot be in a class"),
            ("a**", "* repeats a repetition"),
            ("a{2}{3}", "{3} repeats a repetition"),
            (r"\p{Script=Greek}", r"\p{Greek}"),
            (r"\p{Nonsense}", r"\p{Nonsense}"),
            (r"\p{Alphabetic}", r"\p{Alphabetic}"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn size_is_bounded() {
        assert_eq!(check("((a{10}){10}){10}"), Ok(()));
        for text in ["(((a{100}){100}){100})", "[abcde]{900}", &"ab".repeat(2049), &"a".repeat(10 << 20)] {
            assert!(check(text).is_err());
        }
    }
}
