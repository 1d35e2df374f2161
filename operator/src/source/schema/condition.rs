//! `oneOf`, `anyOf`, `allOf` and `not`: conditions that say what a value must look like in one case or another.

use serde_json::Value;

use super::format::Format;

/// A condition on a value.
#[derive(Debug, PartialEq)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    One(Vec<Condition>),
    Not(Box<Condition>),
    Words(Vec<Value>),
    Format(Format),
    Field(String, Box<Condition>),
}

impl Condition {
    /// The conditions at a node of a schema, beside its plain keywords.
    pub(super) fn of(json: &Value) -> Vec<Self> {
        let branches =
            |keyword: &str| json[keyword].as_array().map(|all| all.iter().map(Self::whole).collect());
        let mut conditions = Vec::new();
        conditions.extend(branches("oneOf").map(Self::One));
        conditions.extend(branches("anyOf").map(Self::Any));
        conditions.extend(branches("allOf").map(Self::All));
        conditions.extend(json.get("not").map(|not| Self::Not(Box::new(Self::whole(not)))));
        conditions
    }

    /// A branch with everything that it says.
    fn whole(json: &Value) -> Self {
        let mut conditions = Self::of(json);
        conditions.extend(json["enum"].as_array().cloned().map(Self::Words));
        conditions.extend(json["format"].as_str().and_then(Format::from_name).map(Self::Format));
        for (name, field) in json["properties"].as_object().into_iter().flatten() {
            conditions.push(Self::Field(name.clone(), Box::new(Self::whole(field))));
        }
        if conditions.len() == 1 { conditions.swap_remove(0) } else { Self::All(conditions) }
    }

    /// Whether a value meets it. What is not there meets everything.
    pub(super) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::All(branches) => branches.iter().all(|branch| branch.holds(value)),
            Self::Any(branches) => branches.iter().any(|branch| branch.holds(value)),
            Self::One(branches) => branches.iter().filter(|branch| branch.holds(value)).count() == 1,
            Self::Not(branch) => !branch.holds(value),
            Self::Words(words) => words.contains(value),
            Self::Format(format) => value.as_str().is_none_or(|text| format.fits(text)),
            Self::Field(name, condition) => value.get(name).is_none_or(|value| condition.holds(value)),
        }
    }

    /// What it asks for.
    pub(super) fn expected(&self) -> String {
        let list = |branches: &[Self], word: &str| {
            let several = branches.len() > 1;
            branches.iter().map(|branch| branch.grouped(several)).collect::<Vec<_>>().join(word)
        };
        match self {
            Self::All(branches) => list(branches, " and "),
            Self::Any(branches) | Self::One(branches) => list(branches, " or "),
            Self::Not(branch) => format!("other than {}", branch.grouped(true)),
            Self::Words(words) => {
                let words =
                    words.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned));
                words.collect::<Vec<_>>().join(", ")
            }
            Self::Format(format) => format.expected().to_owned(),
            Self::Field(name, condition) => format!("{name} {}", condition.grouped(true)),
        }
    }

    fn grouped(&self, among_others: bool) -> String {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::One(parts) if among_others && parts.len() > 1 => {
                format!("({})", self.expected())
            }
            _ => self.expected(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_addresses_of_a_gateway_are_ip_addresses_or_something_else() {
        let conditions = Condition::of(&json!({"oneOf": [
            {"properties": {"type": {"enum": ["IPAddress"]}, "value": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}}},
            {"properties": {"type": {"not": {"enum": ["IPAddress"]}}}}
        ]}));
        let [one] = conditions.as_slice() else { panic!("{conditions:?}") };
        assert!(one.holds(&json!({"type": "IPAddress", "value": "::1"})));
        assert!(one.holds(&json!({"type": "Hostname", "value": "a.b"})));
        assert!(one.holds(&json!({"type": "Hostname"})));
        assert!(!one.holds(&json!({"type": "IPAddress", "value": "a.b"})));
        assert_eq!(
            one.expected(),
            "(type IPAddress and value (an IPv4 address or an IPv6 address)) or type other than IPAddress"
        );
    }
}
