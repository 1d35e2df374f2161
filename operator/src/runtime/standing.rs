//! How each object stands: its report as it would be written, with transition times that move only with a status.
//!
//! In a cluster the API server remembers them; a standalone has only us. Kept per condition: where it stands in the
//! report, its status, and since when. Reports themselves are made anew when somebody asks.

use foldhash::HashMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Urgency;
use crate::{
    model::ObjectKey,
    resolve::{Report, Status},
};

/// One condition's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    /// A hash of where it stands in the report, and its type.
    place: u64,
    status: Status,
    since: Timestamp,
}

/// One object's memory.
#[derive(Debug)]
struct Stands {
    /// A hash of its report.
    content: u64,
    /// The same of all but the counts in it.
    words: u64,
    conditions: Vec<Condition>,
}

/// The memory of all objects.
#[derive(Debug, Default)]
pub struct Standing {
    objects: HashMap<ObjectKey, Stands>,
}

impl Standing {
    /// Takes in an object's newest report. Returns how soon somebody should look at it, if anything in it changed.
    pub fn observe(&mut self, key: &ObjectKey, report: Option<Report>, now: Timestamp) -> Option<Urgency> {
        let Some(mut report) = report else {
            return self.objects.remove(key).map(|_| Urgency::AtOnce);
        };
        let (content, words) = (report.digest(), report.digest_of_words());
        let before = self.objects.get(key);
        if before.is_some_and(|before| before.content == content) {
            return None;
        }
        let mut urgency = Urgency::AtOnce;
        let old = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
        let conditions = report.conditions_mut().into_iter().map(|(place, condition)| {
            if condition.awaits_proxies() {
                urgency = Urgency::Later;
            }
            let status = condition.status;
            let same = old.iter().find(|one| one.place == place && one.status == status);
            Condition { place, status, since: same.map_or(now, |one| one.since) }
        });
        let conditions = conditions.collect();
        if before.is_some_and(|before| before.words == words) {
            urgency = Urgency::Counts;
        }
        self.objects.insert(key.clone(), Stands { content, words, conditions });
        Some(urgency)
    }

    /// A report as JSON, with `lastTransitionTime` in every condition.
    pub fn stamp(&self, key: &ObjectKey, mut report: Report) -> Value {
        let known = self.objects.get(key).map(|stands| stands.conditions.as_slice()).unwrap_or_default();
        for (place, condition) in report.conditions_mut() {
            let since = known.iter().find(|one| one.place == place).map(|one| one.since);
            // The API has whole seconds (metav1.Time).
            condition.last_transition_time =
                since.and_then(|since| Timestamp::from_second(since.as_second()).ok());
        }
        json!(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Kind,
        resolve::{ClassReport, Condition, GatewayReport, ListenerReport},
    };

    fn condition(type_: &'static str, status: Status, reason: &'static str) -> Condition {
        let message = String::new();
        Condition { type_, status, reason, message, observed_generation: 1, last_transition_time: None }
    }

    fn report(status: Status, reason: &'static str) -> Report {
        let conditions = vec![condition("Accepted", status, reason)];
        Report::Class(ClassReport { conditions, supported_features: Vec::new() })
    }

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let key = ObjectKey::new(Kind::GatewayClass, "", "c");
        let mut standing = Standing::default();
        let (good, other) = (report(Status::True, "Accepted"), report(Status::True, "Again"));
        assert!(standing.observe(&key, Some(good.clone()), second(10)).is_some());
        assert!(standing.observe(&key, Some(good), second(20)).is_none());
        assert!(standing.observe(&key, Some(other.clone()), second(30)).is_some());
        assert_eq!(
            standing.stamp(&key, other)["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:10Z"
        );
        let bad = report(Status::False, "Pending");
        assert!(
            standing.observe(&key, Some(bad.clone()), Timestamp::new(40, 999_999_999).unwrap()).is_some()
        );
        assert_eq!(standing.stamp(&key, bad)["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:40Z");
        assert_eq!(standing.observe(&key, None, second(50)), Some(Urgency::AtOnce));
    }

    #[test]
    fn a_transition_time_stays_with_its_listener_wherever_that_stands() {
        let gateway = |listeners: &[(&str, Status)]| {
            let listener = |(name, status): &(&str, Status)| ListenerReport {
                name: (*name).into(),
                attached_routes: 0,
                supported_kinds: Vec::new(),
                conditions: vec![condition("Programmed", *status, "Programmed")],
            };
            Report::Gateway(GatewayReport {
                addresses: Vec::new(),
                conditions: Vec::new(),
                listeners: listeners.iter().map(listener).collect(),
                attached_listener_sets: 0,
            })
        };
        let key = ObjectKey::new(Kind::Gateway, "d", "web");
        let mut standing = Standing::default();
        let before = gateway(&[("a", Status::True), ("b", Status::True)]);
        standing.observe(&key, Some(before), second(10));
        let after = gateway(&[("new", Status::True), ("b", Status::False), ("a", Status::True)]);
        standing.observe(&key, Some(after.clone()), second(20));
        let shown = standing.stamp(&key, after);
        let times =
            [0, 1, 2].map(|index| shown["listeners"][index]["conditions"][0]["lastTransitionTime"].clone());
        assert_eq!(times, ["1970-01-01T00:00:20Z", "1970-01-01T00:00:20Z", "1970-01-01T00:00:10Z"]);
    }

    #[test]
    fn what_changed_says_how_soon_to_look() {
        let gateway = |routes, sets, reason| {
            let conditions = || vec![condition("Programmed", Status::False, reason)];
            let listener = ListenerReport {
                name: "http".into(),
                attached_routes: routes,
                supported_kinds: Vec::new(),
                conditions: conditions(),
            };
            Report::Gateway(GatewayReport {
                addresses: Vec::new(),
                conditions: conditions(),
                listeners: vec![listener],
                attached_listener_sets: sets,
            })
        };
        let key = ObjectKey::new(Kind::Gateway, "d", "web");
        let mut standing = Standing::default();
        let mut observe = |report| standing.observe(&key, Some(report), second(1));
        assert_eq!(observe(gateway(0, 0, "Pending")), Some(Urgency::Later));
        assert_eq!(observe(gateway(1, 0, "Pending")), Some(Urgency::Counts));
        assert_eq!(observe(gateway(1, 1, "Pending")), Some(Urgency::Counts));
        assert_eq!(observe(gateway(2, 1, "Invalid")), Some(Urgency::AtOnce));
        assert_eq!(observe(gateway(2, 1, "Invalid")), None);
        assert_eq!(observe(gateway(2, 1, "Pending")), Some(Urgency::Later));
    }
}
