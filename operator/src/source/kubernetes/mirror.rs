//! What is known to exist of one kind: just enough to tell from a list what is gone. Pure.
//!
//! An object that is deleted while the watch is disconnected gives no event, so what a list (`Init … InitDone`) does not
//! show any more is removed when the list ends. A list that breaks off removes nothing.

use std::collections::{HashMap, HashSet};

use kube::runtime::watcher::Event;

use super::seen::{Seen, Version};
use crate::model::{Kind, ObjectKey};

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// It is new, or its spec is another one.
    Changed(ObjectKey, Box<Seen>),
    /// Only what resolving does not look at changed: its status or other metadata.
    Touched(ObjectKey, Box<Seen>),
    /// It is gone.
    Gone(ObjectKey),
}

/// What one event led to.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) news: Vec<News>,
    /// Everything that exists has been seen.
    pub(super) listed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mirror {
    kind: Kind,
    known: HashMap<ObjectKey, Version>,
    /// What the list that is under way has shown.
    shown: Option<HashSet<ObjectKey>>,
}

impl Mirror {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, known: HashMap::new(), shown: None }
    }

    /// Takes in an event of the watch.
    pub(super) fn on(&mut self, event: Event<Seen>) -> Step {
        let mut step = Step::default();
        match event {
            Event::Init => self.shown = Some(HashSet::new()),
            Event::InitApply(seen) => {
                if let Some(shown) = &mut self.shown {
                    shown.insert(seen.key(self.kind));
                }
                step.news.extend(self.see(seen));
            }
            Event::InitDone => {
                let shown = self.shown.take().unwrap_or_default();
                let mut gone: Vec<_> =
                    self.known.keys().filter(|key| !shown.contains(key)).cloned().collect();
                gone.sort();
                for key in gone {
                    self.known.remove(&key);
                    step.news.push(News::Gone(key));
                }
                step.listed = true;
            }
            Event::Apply(seen) => step.news.extend(self.see(seen)),
            Event::Delete(seen) => {
                let key = seen.key(self.kind);
                if self.known.remove(&key).is_some() {
                    step.news.push(News::Gone(key));
                }
            }
        }
        step
    }

    /// Forgets everything, because the kind or the watch is gone.
    pub(super) fn clear(&mut self) -> Vec<News> {
        self.shown = None;
        let mut gone: Vec<_> = self.known.drain().map(|(key, _)| key).collect();
        gone.sort();
        gone.into_iter().map(News::Gone).collect()
    }

    fn see(&mut self, seen: Seen) -> Option<News> {
        let (key, version) = (seen.key(self.kind), seen.version());
        let before = self.known.insert(key.clone(), version.clone());
        match before {
            Some(before) if before.resource == version.resource => None,
            // Everything that resolving reads of a kind with generations is in its spec.
            Some(before) if version.spec.is_some() && before.spec == version.spec => {
                Some(News::Touched(key, Box::new(seen)))
            }
            _ => Some(News::Changed(key, Box::new(seen))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A route: name, generation, resourceVersion. A status write raises the last alone.
    fn route(name: &str, generation: i64, version: &str) -> Seen {
        let json = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {
                "name": name, "namespace": "apps", "uid": format!("uid-{name}"),
                "generation": generation, "resourceVersion": version,
            },
        });
        serde_json::from_value(json).unwrap()
    }

    /// What a sequence of events says, as `+name`, `~name` and `-name`; `!` when everything is listed.
    fn told(mirror: &mut Mirror, events: impl IntoIterator<Item = Event<Seen>>) -> String {
        let mut told = Vec::new();
        for event in events {
            let step = mirror.on(event);
            told.extend(step.news.iter().map(|news| match news {
                News::Changed(key, _) => format!("+{}", key.name),
                News::Touched(key, _) => format!("~{}", key.name),
                News::Gone(key) => format!("-{}", key.name),
            }));
            told.extend(step.listed.then(|| "!".to_owned()));
        }
        told.join(" ")
    }

    fn listed() -> Mirror {
        let mut mirror = Mirror::new(Kind::HttpRoute);
        let first = [
            Event::Init,
            Event::InitApply(route("a", 1, "1")),
            Event::InitApply(route("b", 1, "2")),
            Event::InitDone,
        ];
        assert_eq!(told(&mut mirror, first), "+a +b !");
        mirror
    }

    #[test]
    fn a_watch_tells_what_changes() {
        let mut mirror = listed();
        let events = [
            Event::Apply(route("c", 1, "3")),
            Event::Apply(route("a", 2, "4")),
            Event::Apply(route("a", 2, "5")),
            Event::Delete(route("b", 1, "6")),
            Event::Delete(route("b", 1, "6")),
        ];
        assert_eq!(told(&mut mirror, events), "+c +a ~a -b");
    }

    #[test]
    fn what_was_deleted_while_disconnected_is_gone_after_the_list() {
        let mut mirror = listed();
        let again = [
            Event::Init,
            Event::InitApply(route("b", 1, "2")),
            Event::InitApply(route("c", 1, "9")),
            Event::InitDone,
        ];
        assert_eq!(told(&mut mirror, again), "+c -a !");
    }

    #[test]
    fn a_list_that_breaks_off_removes_nothing() {
        let mut mirror = listed();
        let broken = [Event::Init, Event::InitApply(route("c", 1, "9"))];
        assert_eq!(told(&mut mirror, broken), "+c");
        // The list after it has what the broken one showed no more.
        let whole = [
            Event::Init,
            Event::InitApply(route("a", 1, "1")),
            Event::InitApply(route("b", 1, "2")),
            Event::InitDone,
        ];
        assert_eq!(told(&mut mirror, whole), "-c !");
    }

    #[test]
    fn a_recreated_object_is_another_one_though_its_generation_is_the_same() {
        let mut mirror = listed();
        let mut other = serde_json::to_value(json!({
            "metadata": {"name": "a", "namespace": "apps", "uid": "other", "generation": 1, "resourceVersion": "8"},
        }))
        .unwrap();
        other["apiVersion"] = "gateway.networking.k8s.io/v1".into();
        other["kind"] = "HTTPRoute".into();
        let other = serde_json::from_value(other).unwrap();
        assert_eq!(told(&mut mirror, [Event::Apply(other)]), "+a");
    }

    #[test]
    fn a_kind_that_goes_takes_its_objects_along() {
        let mut mirror = listed();
        assert_eq!(mirror.clear().len(), 2);
        let again = [Event::Init, Event::InitApply(route("a", 1, "1")), Event::InitDone];
        assert_eq!(told(&mut mirror, again), "+a !");
    }
}
