//! Names and label values of a fleet's objects.
//!
//! A Gateway's name may have 253 letters and dots; a Service's name is a DNS label of at most 63, a label's value
//! has at most 63 letters. What does not fit is cut, and a hash of the whole keeps it distinct and stable.

/// The longest DNS label, and the longest value of a label.
const LONGEST: usize = 63;
/// Hex digits of the hash: 40 bits, among the Gateways of one namespace.
const HASH: usize = 10;

/// The name of a fleet's objects: `<gateway>-<class>` (GEP-1762), where that is a DNS label.
pub fn fleet_name(gateway: &str, class: &str) -> String {
    let plain = format!("{gateway}-{class}");
    if is_label(&plain) {
        return plain;
    }
    // `/` stands in no name, so that no two pairs hash alike.
    shortened(&plain, &format!("{gateway}/{class}"))
}

/// The name of one more Service of a fleet: of a static address that the first one does not have.
pub(super) fn address_service_name(fleet: &str, address: &str) -> String {
    shortened(fleet, &format!("{fleet}/{address}"))
}

/// A name as a label's value.
pub fn label_value(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let end = name.get(..LONGEST - HASH - 1).unwrap_or(name).trim_end_matches(['-', '.']);
    format!("{end}-{}", hash(name))
}

fn shortened(text: &str, whole: &str) -> String {
    let mut start: String = text
        .chars()
        .map(|letter| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' })
        .collect();
    // A Service's name begins with a letter (RFC 1035).
    if !start.starts_with(|first: char| first.is_ascii_lowercase()) {
        start.insert_str(0, "gw-");
    }
    start.truncate(LONGEST - HASH - 1);
    format!("{}-{}", start.trim_end_matches('-'), hash(whole))
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().chars().take(HASH).collect()
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= LONGEST
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays() {
        assert_eq!(fleet_name("web", "portolan"), "web-portolan");
        assert_eq!(label_value("web.example"), "web.example");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_hashed() {
        let long = "g".repeat(253);
        for (gateway, class) in [
            (long.as_str(), "portolan"),
            ("web", long.as_str()),
            ("web.v1", "portolan"),
            ("1web", "portolan"),
            (&format!("{}-.x", "a".repeat(50)), "portolan"),
        ] {
            let name = fleet_name(gateway, class);
            assert!(is_label(&name), "{name}");
            assert_ne!(name, fleet_name(&format!("{gateway}x"), class), "distinct");
            assert_eq!(name, fleet_name(gateway, class), "stable");
        }
        let value = label_value(&long);
        assert_eq!(value.len(), LONGEST);
        assert_ne!(value, label_value(&"g".repeat(252)));
        let cut_at_dot = label_value(&format!("{}.{}", "a".repeat(51), "b".repeat(20)));
        assert!(cut_at_dot.starts_with(&format!("{}-", "a".repeat(51))), "{cut_at_dot}");
    }

    #[test]
    fn a_dot_and_a_dash_are_distinct() {
        assert_ne!(fleet_name("web.v1", "portolan"), fleet_name("web-v1", "portolan"));
    }

    #[test]
    fn each_static_address_has_a_service_of_its_own() {
        let fleet = fleet_name(&"g".repeat(253), "portolan");
        let one = address_service_name(&fleet, "10.0.0.1");
        assert!(is_label(&one), "{one}");
        assert_ne!(one, address_service_name(&fleet, "10.0.0.2"));
        assert_ne!(one, fleet);
    }
}
