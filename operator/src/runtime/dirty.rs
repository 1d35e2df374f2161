//! Objects that somebody should look at again: a set, so that it holds each once however often it changes, and a slow
//! reader costs memory for the objects there are and no more.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::model::ObjectKey;

/// How soon to look at an object that changed; the most urgent is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Another change is to come, and will be more urgent: it waits for proxies, whose answer is one.
    Later,
    /// Nothing changed but how many objects are attached to it, and these come one after the other.
    Counts,
    /// Anything else.
    AtOnce,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Dirty {
    keys: Mutex<BTreeMap<ObjectKey, Urgency>>,
    added: Notify,
}

impl Dirty {
    /// Adds objects. One that is there already is as urgent as the more urgent of both changes.
    pub fn add(&self, keys: impl IntoIterator<Item = (ObjectKey, Urgency)>) {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for (key, urgency) in keys {
            let before = all.get(&key).copied();
            if before < Some(urgency) {
                all.insert(key, urgency);
                news = true;
            }
        }
        // Whoever is woken needs them.
        drop(all);
        if news {
            // A permit stays until somebody waits.
            self.added.notify_one();
        }
    }

    /// Takes all objects out; waits until there are some. For one reader.
    pub async fn take(&self) -> BTreeMap<ObjectKey, Urgency> {
        loop {
            let keys = std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner));
            if !keys.is_empty() {
                return keys;
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::model::Kind;

    #[tokio::test]
    async fn a_reader_gets_each_object_once_and_waits_for_the_next() {
        let dirty = Arc::new(Dirty::default());
        let key = |name: &str| ObjectKey::new(Kind::Gateway, "d", name);
        dirty.add([(key("b"), Urgency::Counts), (key("a"), Urgency::AtOnce)]);
        dirty.add([(key("a"), Urgency::Later), (key("b"), Urgency::Later)]);
        let taken = BTreeMap::from([(key("a"), Urgency::AtOnce), (key("b"), Urgency::Counts)]);
        assert_eq!(dirty.take().await, taken);
        let nothing = tokio::time::timeout(Duration::from_millis(20), dirty.take()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        let reader = tokio::spawn({
            let dirty = Arc::clone(&dirty);
            async move { dirty.take().await }
        });
        tokio::task::yield_now().await;
        dirty.add([(key("c"), Urgency::AtOnce)]);
        assert_eq!(reader.await.unwrap(), BTreeMap::from([(key("c"), Urgency::AtOnce)]));
    }
}
