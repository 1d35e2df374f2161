//! Objects that are watched one by one, by their names, because an accepted object refers to them.
//!
//! One connection each: meant for the Secrets of listeners, of which there are few, so that no role has to allow reading
//! all of them.

use std::{collections::BTreeMap, collections::BTreeSet};

use kube::Client;
use tokio::{sync::watch as channel, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    feed::{Feed, Objects, Outlet, Subject},
    mirror::Mirror,
    resource::{SecretAccess, watched},
    watch::{Target, watch},
};
use crate::model::ObjectKey;

/// Follows what is referred to, until nobody tells it any more or the collector is gone.
pub(super) async fn follow(
    client: Client,
    mut referenced: channel::Receiver<BTreeSet<ObjectKey>>,
    secrets: SecretAccess,
    outlet: Outlet,
) {
    let mut running: BTreeMap<ObjectKey, Running> = BTreeMap::new();
    loop {
        let mut wanted = referenced.borrow_and_update().clone();
        wanted.retain(|key| watched(key.kind, secrets).is_none());
        let unwanted: Vec<_> = running.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in unwanted {
            if let Some(one) = running.remove(&key) {
                one.end().await;
            }
        }
        for key in wanted {
            running.entry(key).or_insert_with_key(|key| Running::start(&client, key, &outlet));
        }
        if referenced.changed().await.is_err() {
            break;
        }
    }
    for one in running.into_values() {
        one.end().await;
    }
}

/// One watch.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(client: &Client, key: &ObjectKey, outlet: &Outlet) -> Self {
        let stop = CancellationToken::new();
        let (client, key, outlet, stopped) = (client.clone(), key.clone(), outlet.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let target = Target::object(&key);
            let mut mirror = Mirror::new(key.kind);
            tokio::select! {
                _ = watch(&client, &target, &mut mirror, &outlet) => return,
                () = stopped.cancelled() => {}
            }
            let mut objects = Objects::new(Subject::Object(key));
            mirror.clear().into_iter().for_each(|news| objects.add(news));
            // The collector is gone: then nobody needs it.
            let _ = outlet.send(Feed::Objects(objects)).await;
        });
        Self { stop, task }
    }

    /// Waits for it: the next watch of the same object must not be overtaken by this one's last words.
    async fn end(self) {
        self.stop.cancel();
        // It panicked: its log said so.
        let _ = self.task.await;
    }
}
