//! Objects that somebody should look at again: a set, so that it holds each once however often it changes, and a slow
//! reader costs memory for the objects there are and no more.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::model::ObjectKey;

/// See the module.
#[derive(Debug, Default)]
pub struct Dirty {
    keys: Mutex<BTreeSet<ObjectKey>>,
    added: Notify,
}

impl Dirty {
    /// Adds objects.
    pub fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.extend(keys);
        if all.len() > before {
            // A permit stays until somebody waits.
            self.added.notify_one();
        }
    }

    /// Takes all objects out; waits until there are some. For one reader.
    pub async fn take(&self) -> BTreeSet<ObjectKey> {
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
        dirty.add([key("b"), key("a")]);
        dirty.add([key("a")]);
        assert_eq!(dirty.take().await, BTreeSet::from([key("a"), key("b")]));
        let nothing = tokio::time::timeout(Duration::from_millis(20), dirty.take()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        let reader = tokio::spawn({
            let dirty = Arc::clone(&dirty);
            async move { dirty.take().await }
        });
        tokio::task::yield_now().await;
        dirty.add([key("c")]);
        assert_eq!(reader.await.unwrap(), BTreeSet::from([key("c")]));
    }
}
