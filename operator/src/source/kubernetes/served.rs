//! Whether an API server serves kinds of Kubernetes itself that it can be told not to, and in which version.
//!
//! There is no object to watch for that: discovery is asked, at the start and again and again, for an API server may be
//! upgraded while Portolan runs (GEP-5075, "API Availability"). An API server that does not answer takes nothing away. The
//! kinds of Kubernetes itself are in discovery from the first moment on, unlike those of CRDs (see `super::crds`).

use std::time::Duration;

use kube::{Client, runtime::watcher};

use super::{
    feed::{Ended, Feed, Outlet, Subject},
    resource::{resource, versions},
    watch::Trouble,
};
use crate::model::Kind;

/// The time between two questions.
const EVERY: Duration = Duration::from_secs(30);

/// Tells in which version a kind is served, whenever that changes.
pub(super) async fn follow(client: Client, kind: Kind, outlet: Outlet) {
    // The collector is gone: so is who started this.
    let _: Ended = try_follow(&client, kind, &outlet).await;
}

async fn try_follow(client: &Client, kind: Kind, outlet: &Outlet) -> Ended {
    let mut trouble = Trouble::default();
    let mut told = None;
    loop {
        let found = match served(client, kind).await {
            Ok(found) => {
                trouble.over();
                found
            }
            Err(error) => {
                let refused = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
                let error = watcher::Error::InitialListFailed(error);
                if let Err(ended) = trouble.wait(&Subject::Served(kind), &error, outlet).await {
                    return ended;
                }
                if !refused {
                    continue;
                }
                // Whoever may not even ask must not wait for the answer for ever: few need the kind.
                None
            }
        };
        if told != Some(found) {
            told = Some(found);
            if let Err(ended) = outlet.send(Feed::Served(kind, found)).await {
                return ended;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The version in which a kind is served: of those that can be read the preferred one.
pub(crate) async fn served(client: &Client, kind: Kind) -> Result<Option<&'static str>, kube::Error> {
    let groups = client.list_api_groups().await?.groups;
    let Some(group) = groups.iter().find(|group| group.name == kind.group()) else { return Ok(None) };
    let plural = resource(kind).plural;
    for version in versions(kind).iter().filter(|one| group.versions.iter().any(|it| it.version == **one)) {
        let listed = client.list_api_group_resources(&format!("{}/{version}", kind.group())).await;
        let found = match listed {
            Ok(list) => list.resources.iter().any(|one| one.name == plural),
            // It went between the two questions.
            Err(kube::Error::Api(status)) if status.is_not_found() => false,
            Err(error) => return Err(error),
        };
        if found {
            return Ok(Some(version));
        }
    }
    Ok(None)
}
