//! One watch: a list, then events, for as long as the process runs, whatever the network and the API server do.
//!
//! A watch that breaks off goes on where it was. One that cannot (410 Gone, a version that a restored API server never
//! had, errors that do not end) starts over with a list, and what the list does not show any more is gone.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, Client,
    core::ApiResource,
    runtime::{
        utils::Backoff as _,
        watcher::{self, Config, DefaultBackoff, Event, watcher},
    },
};

use super::{
    feed::{Ended, Feed, Objects, Outlet, Subject},
    mirror::Mirror,
    resource::{Watched, resource, resource_in},
    seen::Seen,
};
use crate::model::{Kind, ObjectKey};

/// The API server ends a watch after this many seconds, and a connection that says nothing for a little longer counts as
/// lost: a network that drops packets without a word costs a minute at most.
pub(super) const WATCH_SECONDS: u32 = 60;

/// After this many failures in a row a watch starts over with a list. An API server that was restored from a backup
/// refuses versions that it never had, with an error that says nothing of it.
const PATIENCE: u32 = 3;

/// The longest wait between tries.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// What to watch.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) subject: Subject,
    resource: ApiResource,
    namespace: Option<Arc<str>>,
    config: Config,
}

impl Target {
    /// All objects of a kind, in a version.
    pub(super) fn kind(kind: Kind, version: &str, watched: &Watched) -> Self {
        let mut config = Config::default().timeout(WATCH_SECONDS);
        config.label_selector = watched.labels.map(ToOwned::to_owned);
        config.field_selector = watched.fields.map(ToOwned::to_owned);
        Self { subject: Subject::Kind(kind), resource: resource_in(kind, version), namespace: None, config }
    }

    /// One object. The selector makes a Role with `resourceNames` enough.
    pub(super) fn object(key: &ObjectKey) -> Self {
        Self {
            subject: Subject::Object(key.clone()),
            resource: resource(key.kind),
            namespace: Some(key.namespace.clone()),
            config: Config::default().timeout(WATCH_SECONDS).fields(&format!("metadata.name={}", key.name)),
        }
    }

    fn events(&self, client: &Client) -> Events {
        let api: Api<Seen> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        };
        watcher(api, self.config.clone()).boxed()
    }
}

type Events = BoxStream<'static, Result<Event<Seen>, watcher::Error>>;

/// Watches until the collector is gone; cancelled by dropping.
pub(super) async fn watch(client: &Client, target: &Target, mirror: &mut Mirror, outlet: &Outlet) -> Ended {
    let mut trouble = Trouble::default();
    loop {
        let mut events = target.events(client);
        let mut objects = Objects::new(target.subject.clone());
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    if let Err(ended) = trouble.wait(&target.subject, &error, outlet).await {
                        return ended;
                    }
                    if trouble.start_over(&error) {
                        break;
                    }
                    continue;
                }
            };
            // A list is one message.
            let listing = matches!(event, Event::Init | Event::InitApply(_));
            if !listing {
                trouble.over();
            }
            let step = mirror.on(event);
            objects.listed |= step.listed;
            for news in step.news {
                objects.add(news);
            }
            if !listing && !objects.is_empty() {
                let told = std::mem::replace(&mut objects, Objects::new(target.subject.clone()));
                if let Err(ended) = outlet.send(Feed::Objects(told)).await {
                    return ended;
                }
            }
        }
        // What a broken list had shown is known to the mirror: it must reach the collector, too.
        if !objects.is_empty()
            && let Err(ended) = outlet.send(Feed::Objects(objects)).await
        {
            return ended;
        }
    }
}

/// Failures in a row.
#[derive(Default)]
pub(super) struct Trouble {
    backoff: DefaultBackoff,
    failures: u32,
    told: Option<Arc<str>>,
}

impl Trouble {
    /// Tells of a failure and waits before the next try.
    pub(super) async fn wait(
        &mut self,
        subject: &Subject,
        error: &watcher::Error,
        outlet: &Outlet,
    ) -> Result<(), Ended> {
        if let Some(feed) = self.tell(subject, error) {
            outlet.send(feed).await?;
        }
        tokio::time::sleep(self.backoff.next().unwrap_or(MAX_DELAY)).await;
        Ok(())
    }

    /// What to tell of a failure: each message once, until it is over.
    fn tell(&mut self, subject: &Subject, error: &watcher::Error) -> Option<Feed> {
        self.failures += 1;
        let (message, refused) = explain(error);
        // A connection that ends is part of a watch's life; one that cannot be made again is not.
        if self.told.as_deref() == Some(&*message) || (self.failures == 1 && is_interruption(error)) {
            return None;
        }
        self.told = Some(message.clone());
        Some(Feed::Trouble { subject: subject.clone(), message, refused })
    }

    pub(super) fn start_over(&self, error: &watcher::Error) -> bool {
        status_of(error).is_some_and(|status| status.code == 410) || self.failures.is_multiple_of(PATIENCE)
    }

    pub(super) fn over(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            self.backoff.reset();
            self.told = None;
        }
    }
}

fn is_interruption(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchFailed(_) => true,
        watcher::Error::WatchError(status) => status.code == 410,
        _ => false,
    }
}

fn status_of(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// The failure in plain words, and whether the API server refuses.
fn explain(error: &watcher::Error) -> (Arc<str>, bool) {
    match status_of(error) {
        Some(status) if status.is_forbidden() => {
            (format!("{}; see the roles in config/rbac", status.message).into(), true)
        }
        Some(status) => (format!("the API server answers {}: {}", status.code, status.message).into(), false),
        None => (chain(error).into(), false),
    }
}

/// An error with its causes: the outermost alone rarely says why.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
