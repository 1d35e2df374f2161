//! What a scalar means, exactly as `kubectl` reads it (go-yaml v2 through sigs.k8s.io/yaml): `yes` and `on` are
//! booleans, `0777` is an octal number, `1_000` a number, and a date is a text.

use std::borrow::Cow;

use saphyr_parser::Tag;
use serde_json::Number;

use super::yaml::Content;

/// The value of a scalar. `plain` is one without quotes.
pub(super) fn resolve(text: Cow<'_, str>, plain: bool, tag: Option<&Tag>) -> Result<Content, String> {
    let Some(tag) = tag else {
        return if plain { plain_value(text) } else { Ok(Content::Text(text.into_owned())) };
    };
    // `!` alone says: not what it looks like, but a text.
    if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
        return Ok(Content::Text(text.into_owned()));
    }
    if !tag.is_yaml_core_schema() {
        return Err("has a tag that means nothing in a manifest: remove it".into());
    }
    if tag.suffix == "str" || tag.suffix == "timestamp" {
        return Ok(Content::Text(text.into_owned()));
    }
    let value = plain_value(text)?;
    match (tag.suffix.as_str(), &value) {
        ("bool", Content::Bool(_)) | ("null", Content::Null) | ("float", Content::Number(_)) => Ok(value),
        ("int", Content::Number(number)) if !number.is_f64() => Ok(value),
        ("bool" | "null" | "float" | "int", _) => Err(format!("is not what its tag !!{} says", tag.suffix)),
        _ => Err("has a tag that means nothing in a manifest: remove it".into()),
    }
}

fn plain_value(text: Cow<'_, str>) -> Result<Content, String> {
    let value = match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Content::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Content::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Err("is a number that JSON cannot say".into()),
        other if other.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => {
            match number(other)? {
                Some(number) => Content::Number(number),
                None => Content::Text(text.into_owned()),
            }
        }
        _ => Content::Text(text.into_owned()),
    };
    Ok(value)
}

/// A number, if it looks like one.
fn number(text: &str) -> Result<Option<Number>, String> {
    // A port is a number like 8080; this is the short way.
    if let Ok(value) = text.parse::<i64>()
        && (!text.starts_with(['0', '+', '-']) || text == "0")
    {
        return Ok(Some(value.into()));
    }
    let compact: Cow<'_, str> =
        if text.contains('_') && !text.starts_with('.') { text.replace('_', "").into() } else { text.into() };
    if let Some(whole) = whole(&compact) {
        return Ok(Some(whole));
    }
    if !looks_like_float(&compact) {
        return Ok(None);
    }
    let value: f64 = compact.parse().map_err(|_| "is not a number".to_owned())?;
    // A whole number is one however it is written, as Go writes it to JSON.
    if value.fract() == 0.0 && value.abs() < 1e21 {
        let digits = format!("{value:.0}");
        if let Some(whole) = digits
            .parse::<i64>()
            .map(Number::from)
            .ok()
            .or_else(|| digits.parse::<u64>().map(Number::from).ok())
        {
            return Ok(Some(whole));
        }
    }
    Number::from_f64(value).map(Some).ok_or_else(|| "is a number that JSON cannot say".into())
}

/// Go's `strconv.ParseInt(text, 0, 64)`, or `ParseUint`.
fn whole(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0_i64.checked_sub_unsigned(value).map(Number::from) } else { Some(value.into()) }
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn looks_like_float(text: &str) -> bool {
    fn digits(text: &str) -> (usize, &str) {
        let count = text.bytes().take_while(u8::is_ascii_digit).count();
        (count, &text[count..])
    }
    let (before, rest) = digits(text.strip_prefix(['-', '+']).unwrap_or(text));
    let (after, rest) = rest.strip_prefix('.').map_or((0, rest), digits);
    if before == 0 && after == 0 {
        return false;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return rest.is_empty() };
    let (count, rest) = digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
    count > 0 && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> serde_json::Value {
        match plain_value(text.into()).unwrap() {
            Content::Null => json!(null),
            Content::Bool(value) => json!(value),
            Content::Number(number) => json!(number),
            Content::Text(text) => json!(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_scalars_mean_what_kubectl_reads() {
        for (text, expected) in [
            ("a", json!("a")),
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("n", json!(false)),
            ("nO", json!("nO")),
            ("80", json!(80)),
            ("0", json!(0)),
            ("-1", json!(-1)),
            ("+1", json!(1)),
            ("0777", json!(511)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("08", json!(8)),
            ("1_000", json!(1000)),
            ("1.50", json!(1.5)),
            ("1e3", json!(1000)),
            ("1.", json!(1)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1e400x", json!("1e400x")),
            ("1.2.3.4", json!("1.2.3.4")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("2001-01-01", json!("2001-01-01")),
            ("1m30s", json!("1m30s")),
            ("-", json!("-")),
            ("-a", json!("-a")),
            ("...", json!("...")),
            ("0x", json!("0x")),
            ("12:30", json!("12:30")),
            ("é", json!("é")),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        for text in [".inf", "-.INF", ".nan", "1e400"] {
            assert!(plain_value(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tag_decides_where_it_is_one_of_yaml() {
        let tag = |handle: &str, suffix: &str| Tag { handle: handle.into(), suffix: suffix.into() };
        let core = |suffix: &str| tag("tag:yaml.org,2002:", suffix);
        let resolved = |text: &str, tag: &Tag| resolve(text.into(), true, Some(tag));
        assert_eq!(resolved("80", &core("str")), Ok(Content::Text("80".into())));
        assert_eq!(resolved("80", &core("int")), Ok(Content::Number(80.into())));
        assert_eq!(resolved("1", &core("float")), Ok(Content::Number(1.into())));
        assert!(resolved("a", &core("int")).is_err());
        assert!(resolved("1.5", &core("int")).is_err());
        assert!(resolved("aGk=", &core("binary")).is_err());
        assert!(resolved("a", &tag("!", "mine")).is_err());
    }
}
