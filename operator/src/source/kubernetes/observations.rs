//! What the API server has of each object's status, as the watches last saw it: what a status writer compares with.
//!
//! Kept on every replica, so that a new leader starts without reading anything again. Promise: whoever follows is told of every
//! object that may need a write, and not of what other controllers do among themselves.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use portolan_crds::names::CONTROLLER_NAME;

use super::seen::Observed;
use crate::{
    model::ObjectKey,
    runtime::{Dirty, Urgency},
};

/// One object.
#[derive(Debug)]
struct Known {
    observed: Arc<Observed>,
    /// Whoever writes statuses has found that nothing of it is ours.
    foreign: bool,
    write: Write,
}

impl Known {
    fn new(observed: Observed) -> Self {
        Self { observed: Arc::new(observed), foreign: false, write: Write::None }
    }
}

/// What is known of a write of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    None,
    /// It has no answer yet.
    UnderWay,
    /// The same, and a watch has shown a version that may be what it made.
    Shown,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Observations {
    objects: RwLock<HashMap<ObjectKey, Known>>,
    follower: RwLock<Option<Arc<Dirty>>>,
}

impl Observations {
    /// The newest version of an object that was seen.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Observed>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).map(|known| Arc::clone(&known.observed))
    }

    /// Notes whether an object, with the status that it has, concerns whoever writes statuses. Of one that does not, the
    /// follower is told again when its status names our controller or when it is gone; the core tells when it becomes ours.
    /// Returns whether it was noted otherwise: of what was foreign, the newest version may not have been told.
    pub fn set_foreign(&self, key: &ObjectKey, foreign: bool) -> bool {
        let differs = |known: &Known| known.foreign != foreign;
        if !self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).is_some_and(differs) {
            return false;
        }
        if let Some(known) = self.objects.write().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            known.foreign = foreign;
        }
        true
    }

    /// Every object with a status.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// From now on adds every object that is seen again, but what is foreign and what a write of ours has shown already. It is
    /// urgent where a status is another than it was: what else changed is the core's to tell. One follower at a time.
    pub fn follow(&self, follower: Arc<Dirty>) {
        *self.follower.write().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    /// Takes in what was read besides the watch, unless the watch has seen a newer version.
    pub fn note(&self, key: &ObjectKey, observed: Observed) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        // An object that the watch does not know is gone, or is told soon.
        if let Some(known) = objects.get_mut(key)
            && is_newer(&observed, &known.observed)
        {
            known.observed = Arc::new(observed);
        }
    }

    /// A write of ours begins: what a watch shows of the object is told only once [`Observations::written`] says that it is another's.
    /// As often as not the watch is faster than the answer.
    pub fn writing(&self, key: &ObjectKey) {
        if let Some(known) = self.objects.write().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            known.write = Write::UnderWay;
        }
    }

    /// It has ended, with this version where it succeeded.
    pub fn written(&self, key: &ObjectKey, written: Option<Observed>) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = objects.get_mut(key) else { return };
        let shown = std::mem::replace(&mut known.write, Write::None) == Write::Shown;
        let others = shown && !written.as_ref().is_some_and(|written| is_same(written, &known.observed));
        if let Some(written) = written.filter(|written| is_newer(written, &known.observed)) {
            known.observed = Arc::new(written);
        }
        drop(objects);
        if others {
            self.tell([(key.clone(), Urgency::AtOnce)]);
        }
    }

    fn tell(&self, touched: impl IntoIterator<Item = (ObjectKey, Urgency)>) {
        if let Some(follower) = &*self.follower.read().unwrap_or_else(PoisonError::into_inner) {
            follower.add(touched);
        }
    }

    /// Takes in what the watches saw.
    pub(super) fn update(&self, seen: Vec<(ObjectKey, Option<Observed>)>) {
        if seen.is_empty() {
            return;
        }
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let mut touched = Vec::with_capacity(seen.len());
        for (key, observed) in seen {
            let Some(observed) = observed else {
                objects.remove(&key);
                touched.push((key, Urgency::AtOnce));
                continue;
            };
            let Some(known) = objects.get_mut(&key) else {
                // It may have been there under another operator, or before a restart of ours.
                let urgency = if may_name_us(&observed) { Urgency::AtOnce } else { Urgency::Later };
                objects.insert(key.clone(), Known::new(observed));
                touched.push((key, urgency));
                continue;
            };
            // The watch may be where a write of ours was, or behind that.
            if is_same(&known.observed, &observed) || is_newer(&known.observed, &observed) {
                continue;
            }
            known.foreign &= !may_name_us(&observed);
            let urgency =
                if says_the_same(&known.observed, &observed) { Urgency::Later } else { Urgency::AtOnce };
            known.observed = Arc::new(observed);
            if known.write != Write::None {
                known.write = Write::Shown;
            } else if !known.foreign {
                touched.push((key, urgency));
            }
        }
        drop(objects);
        self.tell(touched);
    }
}

/// Whether a status has entries of ours, perhaps. It is JSON: in a text without escapes, a name is as it is.
fn may_name_us(observed: &Observed) -> bool {
    observed.status.contains(CONTROLLER_NAME) || observed.status.contains('\\')
}

/// Whether two versions are of one object, and nothing changed that is compared with what it should be.
fn says_the_same(one: &Observed, other: &Observed) -> bool {
    one.uid == other.uid
        && one.finalizers == other.finalizers
        && one.deleted == other.deleted
        && one.status == other.status
}

/// Whether both are the same version of the same object.
fn is_same(one: &Observed, other: &Observed) -> bool {
    one.uid == other.uid && one.resource_version == other.resource_version
}

/// Whether `one` is a later version than `other` of the same object. Versions of a resource are decimal numbers that
/// grow (Kubernetes 1.35: KEP-5504); of other texts nothing is known.
fn is_newer(one: &Observed, other: &Observed) -> bool {
    let number = |observed: &Observed| observed.resource_version.parse::<u128>().ok();
    match (number(one), number(other)) {
        (Some(one_version), Some(other_version)) => one.uid == other.uid && one_version > other_version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Kind;

    fn route() -> ObjectKey {
        ObjectKey::new(Kind::HttpRoute, "apps", "r")
    }

    fn observed(version: u32, status: &str) -> Observed {
        Observed {
            uid: "u".into(),
            resource_version: version.to_string().into(),
            generation: 1,
            finalizers: Vec::new(),
            deleted: false,
            status: status.into(),
        }
    }

    struct Follower(Arc<Observations>, Arc<Dirty>);

    impl Follower {
        fn new() -> Self {
            let follower = Self(Arc::default(), Arc::default());
            follower.0.follow(Arc::clone(&follower.1));
            follower
        }

        /// Whether the follower is told of what a watch shows.
        async fn is_told(&self, shown: Option<Observed>) -> bool {
            self.0.update(vec![(route(), shown)]);
            tokio::time::timeout(Duration::from_millis(5), self.1.take()).await.is_ok()
        }
    }

    #[tokio::test]
    async fn what_other_controllers_do_is_not_told() {
        let follower = Follower::new();
        let theirs = r#"{"parents": [{"controllerName": "example.com/other"}]}"#;
        assert!(follower.is_told(Some(observed(1, theirs))).await, "nobody has looked at it yet");
        assert!(follower.is_told(Some(observed(2, theirs))).await);
        follower.0.set_foreign(&route(), true);
        assert!(!follower.is_told(Some(observed(3, theirs))).await);
        assert_eq!(&*follower.0.get(&route()).unwrap().resource_version, "3", "it is kept all the same");
        follower.0.set_foreign(&route(), false);
        assert!(follower.is_told(Some(observed(4, theirs))).await);
        follower.0.set_foreign(&route(), true);
        assert!(follower.is_told(None).await);
        assert!(follower.is_told(Some(observed(5, theirs))).await, "another object of that name");
    }

    #[tokio::test]
    async fn an_entry_in_our_name_is_told_whoever_wrote_it() {
        for status in [
            format!(r#"{{"parents": [{{"controllerName": "{CONTROLLER_NAME}"}}]}}"#),
            format!(
                r#"{{"parents": [{{"controllerName": "{}"}}]}}"#,
                CONTROLLER_NAME.replace('/', "\\u002f")
            ),
        ] {
            let follower = Follower::new();
            follower.is_told(Some(observed(1, "{}"))).await;
            follower.0.set_foreign(&route(), true);
            assert!(follower.is_told(Some(observed(2, &status))).await, "{status}");
            assert!(follower.is_told(Some(observed(3, "{}"))).await, "until somebody has looked");
        }
    }

    #[tokio::test]
    async fn what_others_write_into_a_status_is_urgent() {
        let follower = Follower::new();
        let ours = format!(r#"{{"parents": [{{"controllerName": "{CONTROLLER_NAME}"}}]}}"#);
        let shown = async |observed| {
            follower.0.update(vec![(route(), Some(observed))]);
            follower.1.take().await[&route()]
        };
        let at = |version, status: &str| observed(version, status);
        assert_eq!(shown(at(1, "{}")).await, Urgency::Later, "the core tells of what is new");
        assert_eq!(shown(at(2, "{}")).await, Urgency::Later, "and of what is new in its spec");
        assert_eq!(shown(at(3, &ours)).await, Urgency::AtOnce);
        assert_eq!(shown(at(4, &ours)).await, Urgency::Later);
        assert_eq!(shown(at(5, "{}")).await, Urgency::AtOnce);
        assert_eq!(shown(Observed { uid: "v".into(), ..at(6, "{}") }).await, Urgency::AtOnce);
        assert_eq!(shown(Observed { deleted: true, uid: "v".into(), ..at(7, "{}") }).await, Urgency::AtOnce);
        follower.0.update(vec![(route(), None)]);
        assert_eq!(follower.1.take().await[&route()], Urgency::AtOnce);
        assert_eq!(shown(at(8, &ours)).await, Urgency::AtOnce, "whoever wrote it");
    }

    #[tokio::test]
    async fn what_a_write_of_ours_has_shown_is_not_told() {
        let follower = Follower::new();
        follower.is_told(Some(observed(1, "{}"))).await;
        follower.0.writing(&route());
        follower.0.written(&route(), Some(observed(3, r#"{"parents": []}"#)));
        assert!(!follower.is_told(Some(observed(2, "{}"))).await, "older than our write");
        assert!(!follower.is_told(Some(observed(3, r#"{"parents": []}"#))).await, "our write");
        assert!(follower.is_told(Some(observed(4, "{}"))).await, "somebody else's");
    }

    #[tokio::test]
    async fn a_watch_may_be_faster_than_the_answer_to_a_write() {
        let follower = Follower::new();
        let told = async || tokio::time::timeout(Duration::from_millis(5), follower.1.take()).await.is_ok();
        follower.is_told(Some(observed(1, "{}"))).await;

        follower.0.writing(&route());
        assert!(!follower.is_told(Some(observed(2, "ours"))).await, "it may be ours");
        follower.0.written(&route(), Some(observed(2, "ours")));
        assert!(!told().await, "it is");

        follower.0.writing(&route());
        assert!(!follower.is_told(Some(observed(3, "ours"))).await);
        assert!(!follower.is_told(Some(observed(4, "theirs"))).await);
        follower.0.written(&route(), Some(observed(3, "ours")));
        assert!(told().await, "somebody wrote after us");
        assert_eq!(&*follower.0.get(&route()).unwrap().resource_version, "4");

        follower.0.writing(&route());
        assert!(!follower.is_told(Some(observed(5, "theirs"))).await);
        follower.0.written(&route(), None);
        assert!(told().await, "our write failed");

        follower.0.writing(&route());
        follower.0.written(&route(), None);
        assert!(!told().await, "nothing was shown");
        assert!(follower.is_told(Some(observed(6, "theirs"))).await, "nothing is under way any more");

        follower.0.writing(&route());
        assert!(follower.is_told(None).await, "it is gone whoever writes");
        assert!(follower.is_told(Some(observed(7, "{}"))).await);
        follower.0.written(&route(), None);
        assert!(!told().await, "another object of that name");
    }
}
