//! Gateway API durations (GEP-2257).

use portolan_xds::ir::Millis;
use thiserror::Error;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a duration: expected one to four numbers of at most five digits with units h, m, s or ms, such as 1m30s"
)]
pub struct InvalidDuration {
    text: String,
}

/// Parses a duration: `([0-9]{1,5}(h|m|s|ms)){1,4}`.
pub fn parse_duration(text: &str) -> Result<Millis, InvalidDuration> {
    let invalid = || InvalidDuration { text: text.chars().take(100).collect() };
    let (mut rest, mut total, mut parts) = (text, 0u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        if !(1..=5).contains(&digits) {
            return Err(invalid());
        }
        let (unit, tail) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find_map(|(name, unit)| tail.strip_prefix(name).map(|tail| (unit, tail)))
            .ok_or_else(invalid)?;
        total += number.parse::<u64>().map_err(|_| invalid())? * unit;
        rest = tail;
        parts += 1;
    }
    if (1..=4).contains(&parts) { Ok(Millis(total)) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        assert_eq!(parse_duration("1h2m3s4ms"), Ok(Millis(3_723_004)));
        assert_eq!(parse_duration("0s"), Ok(Millis(0)));
        for text in ["", "1", "s", "1d", "123456s", "1s1s1s1s1s", "-1s", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
