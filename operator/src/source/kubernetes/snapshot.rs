//! Everything in an API server that Portolan reads, once: for commands that look and end.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, Client, api::ListParams, core::ApiResource};

use super::{
    Releases,
    crds::{Installed, installed},
    resource::{SecretAccess, Watched, is_custom, is_optional, resource, resource_in, version, watched},
    seen::{Observed, Seen},
    served::served,
    watch::chain,
};
use crate::{
    model::{Kind, Object, ObjectKey},
    source::Problem,
};

/// How many objects an answer holds at most.
const PAGE: u32 = 500;

/// See the module.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The objects.
    pub objects: BTreeMap<ObjectKey, Object>,
    /// What stands in the status of those that have one.
    pub statuses: BTreeMap<ObjectKey, Observed>,
    /// The kinds that are there.
    pub releases: Releases,
    /// What could not be read or parsed.
    pub problems: Vec<Problem>,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
#[error("{subject} cannot be read: {message}")]
pub struct SnapshotError {
    /// What.
    pub subject: String,
    /// What the API server said.
    pub message: String,
}

impl Snapshot {
    /// Reads all objects of some kinds, as far as they are installed. Those that are read by name are left out: see
    /// [`Snapshot::read_named`].
    ///
    /// # Errors
    /// Where a kind cannot be listed: half of the objects would mislead.
    pub async fn read(client: &Client, kinds: impl IntoIterator<Item = Kind>) -> Result<Self, SnapshotError> {
        let failed =
            |subject: String| move |error: kube::Error| SnapshotError { subject, message: chain(&error) };
        let found = installed(client).await.map_err(failed("CustomResourceDefinition".into()))?;
        let releases = found.into_iter().filter_map(|(kind, state)| match state {
            Installed::Yes(release) => Some((kind, release)),
            _ => None,
        });
        let mut snapshot = Self { releases: releases.collect(), ..Self::default() };
        for kind in kinds {
            let Some(watched) = watched(kind, SecretAccess::Referenced) else { continue };
            if is_custom(kind) && !snapshot.releases.contains_key(&kind) {
                continue;
            }
            let mut version = version(kind);
            if is_optional(kind) {
                match served(client, kind).await.map_err(failed(kind.to_string()))? {
                    Some(found) => version = found,
                    None => continue,
                }
                snapshot.releases.insert(kind, None);
            }
            let seen = list(client, &resource_in(kind, version), &watched)
                .await
                .map_err(failed(kind.to_string()))?;
            for seen in seen {
                snapshot.add(kind, seen);
            }
        }
        Ok(snapshot)
    }

    /// Reads objects by their names. One that cannot be read becomes a problem.
    pub async fn read_named(&mut self, client: &Client, keys: BTreeSet<ObjectKey>) {
        for key in keys {
            let api: Api<Seen> = Api::namespaced_with(client.clone(), &key.namespace, &resource(key.kind));
            match api.get_opt(&key.name).await {
                Ok(Some(object)) => self.add(key.kind, object),
                Ok(None) => {}
                Err(error) => self.problems.push(Problem::of_object(key, chain(&error))),
            }
        }
    }

    fn add(&mut self, kind: Kind, seen: Seen) {
        let key = seen.key(kind);
        let (observed, content) = seen.split(kind);
        self.statuses.extend(observed.map(|observed| (key.clone(), observed)));
        match content.parse(kind) {
            Ok(object) => _ = self.objects.insert(key, object),
            Err(error) => self.problems.push(Problem::of_object(key, error.message)),
        }
    }
}

async fn list(client: &Client, resource: &ApiResource, watched: &Watched) -> Result<Vec<Seen>, kube::Error> {
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector = watched.labels.map(ToOwned::to_owned);
    params.field_selector = watched.fields.map(ToOwned::to_owned);
    let mut all = Vec::new();
    loop {
        let page = Api::<Seen>::all_with(client.clone(), resource).list(&params).await?;
        all.extend(page.items);
        let more = page.metadata.continue_;
        params.continue_token = more.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(all);
        }
    }
}
