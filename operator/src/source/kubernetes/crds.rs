//! Which kinds an API server has: CRDs come and go while Portolan runs.
//!
//! What a CRD itself says counts, not discovery: an API server that has just started has not discovered its CRDs yet, and
//! taking that for their absence would take every Gateway away. The metadata of CRDs is watched, and the few that are
//! ours are read when it changes. A kind counts as there when its CRD is established and serves the version that we read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::GetParams,
    core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta, Request},
    runtime::watcher::{self, Config, Event, watcher},
};
use portolan_crds::names::annotations::{BUNDLE_VERSION, CHANNEL};
use serde::Deserialize;

use super::{
    feed::{Ended, Feed, Outlet, Subject},
    resource::{crd_name, is_custom, version},
    watch::{Trouble, WATCH_SECONDS},
};
use crate::model::Kind;

/// Where a CRD of the Gateway API is from, as its annotations tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Such as `v1.7.0`.
    pub version: Arc<str>,
    /// `standard` or `experimental`.
    pub channel: Arc<str>,
}

/// What is read of a CRD.
#[derive(Debug, Deserialize)]
struct Crd {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Metadata {
    fn release(&self) -> Option<Release> {
        let text = |name: &str| self.annotations.get(name).map(|text| Arc::from(text.as_str()));
        Some(Release { version: text(BUNDLE_VERSION)?, channel: text(CHANNEL).unwrap_or_else(|| "".into()) })
    }
}

#[derive(Debug, Deserialize)]
struct Spec {
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    name: String,
    served: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    /// Null in a CRD that has just been created.
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Crd {
    fn serves(&self, kind: Kind) -> bool {
        let mut conditions = self.status.conditions.iter().flatten();
        let established = conditions.any(|one| one.type_ == "Established" && one.status == "True");
        established && self.spec.versions.iter().any(|one| one.name == version(kind) && one.served)
    }
}

/// Whether a kind is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// It is, from this release if its CRD says so.
    Yes(Option<Release>),
    /// Its CRD serves these versions only.
    OtherVersions(Vec<String>),
    /// It has no CRD.
    No,
}

/// Looks once whether the kinds that have CRDs are installed.
pub async fn installed(client: &Client) -> Result<Vec<(Kind, Installed)>, kube::Error> {
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| is_custom(*kind)) {
        let state = match get(client, kind).await? {
            None => Installed::No,
            Some(crd) if crd.serves(kind) => Installed::Yes(crd.metadata.release()),
            Some(crd) => {
                let served = crd.spec.versions.into_iter().filter(|one| one.served);
                Installed::OtherVersions(served.map(|one| one.name).collect())
            }
        };
        found.push((kind, state));
    }
    Ok(found)
}

/// The CRDs of kinds that Portolan reads.
#[derive(Debug, Default)]
struct Definitions {
    /// Those that exist, whether they serve the right version or not.
    names: BTreeSet<Kind>,
    served: BTreeMap<Kind, Option<Release>>,
}

/// The resource of CRDs.
pub(super) fn definitions() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"))
}

fn kind_of(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| is_custom(*kind) && crd_name(*kind) == name)
}

/// Tells which kinds there are, whenever that changes.
pub(super) async fn follow(client: Client, outlet: Outlet) {
    // The collector is gone: so is who started this.
    let _: Ended = try_follow(&client, &outlet).await;
}

async fn try_follow(client: &Client, outlet: &Outlet) -> Ended {
    let mut trouble = Trouble::default();
    let mut known = Definitions::default();
    loop {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &definitions());
        let mut events = watcher(api, Config::default().timeout(WATCH_SECONDS)).boxed();
        let mut listing: Option<BTreeSet<Kind>> = None;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    if let Err(ended) = trouble.wait(&Subject::Definitions, &error, outlet).await {
                        return ended;
                    }
                    if trouble.start_over(&error) {
                        break;
                    }
                    continue;
                }
            };
            let changed = match event {
                Event::Init => {
                    listing = Some(BTreeSet::new());
                    continue;
                }
                Event::InitApply(object) | Event::Apply(object) => {
                    let Some(kind) = object.metadata.name.as_deref().and_then(kind_of) else { continue };
                    if let Some(kinds) = &mut listing {
                        kinds.insert(kind);
                    }
                    match look(client, kind, &mut trouble, outlet).await {
                        Ok(crd) => known.put(kind, crd),
                        Err(ended) => return ended,
                    }
                }
                Event::Delete(object) => {
                    let Some(kind) = object.metadata.name.as_deref().and_then(kind_of) else { continue };
                    known.remove(kind)
                }
                Event::InitDone => {
                    let shown = listing.take().unwrap_or_default();
                    let gone: Vec<_> = known.names.difference(&shown).copied().collect();
                    for kind in gone {
                        known.remove(kind);
                    }
                    // The first list is told also when there is nothing in it.
                    true
                }
            };
            trouble.over();
            if changed
                && listing.is_none()
                && let Err(ended) = outlet.send(Feed::Kinds(known.served.clone())).await
            {
                return ended;
            }
        }
    }
}

/// A kind's CRD as it is now. Asks until it gets an answer.
async fn look(
    client: &Client,
    kind: Kind,
    trouble: &mut Trouble,
    outlet: &Outlet,
) -> Result<Option<Crd>, Ended> {
    loop {
        match get(client, kind).await {
            Ok(crd) => return Ok(crd),
            Err(error) => {
                let error = watcher::Error::InitialListFailed(error);
                trouble.wait(&Subject::Definitions, &error, outlet).await?;
            }
        }
    }
}

async fn get(client: &Client, kind: Kind) -> Result<Option<Crd>, kube::Error> {
    let url = format!("/apis/apiextensions.k8s.io/v1/{}", definitions().plural);
    let request = Request::new(url).get(&crd_name(kind), &GetParams::default());
    match client.request(request.map_err(kube::Error::BuildRequest)?).await {
        Ok(crd) => Ok(Some(crd)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Definitions {
    /// Takes in a CRD that exists, if it does by now. Tells whether what is served is new.
    fn put(&mut self, kind: Kind, crd: Option<Crd>) -> bool {
        self.names.insert(kind);
        match crd.filter(|crd| crd.serves(kind)) {
            Some(crd) => {
                let release = crd.metadata.release();
                self.served.insert(kind, release.clone()) != Some(release)
            }
            None => self.served.remove(&kind).is_some(),
        }
    }

    fn remove(&mut self, kind: Kind) -> bool {
        self.names.remove(&kind);
        self.served.remove(&kind).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd(versions: &[(&str, bool)], established: &str) -> Crd {
        let versions: Vec<_> = versions
            .iter()
            .map(|(name, served)| json!({"name": name, "served": served, "schema": {}}))
            .collect();
        let conditions = json!([{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": established}]);
        serde_json::from_value(json!({"spec": {"versions": versions}, "status": {"conditions": conditions}}))
            .unwrap()
    }

    #[test]
    fn a_kind_is_there_when_its_version_is_served_and_established() {
        let kind = Kind::HttpRoute;
        assert!(crd(&[("v1beta1", true), ("v1", true)], "True").serves(kind));
        assert!(!crd(&[("v1", true)], "False").serves(kind));
        assert!(!crd(&[("v1", false)], "True").serves(kind));
        assert!(!crd(&[("v1alpha2", true)], "True").serves(kind));
        // As the API server first has it: with conditions that are null, or without a status.
        let new = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}});
        for status in [new, json!({})] {
            let new = json!({"spec": {"versions": [{"name": "v1", "served": true}]}, "status": status});
            assert!(!serde_json::from_value::<Crd>(new).unwrap().serves(kind));
        }
    }

    #[test]
    fn only_crds_of_our_kinds_count() {
        assert_eq!(kind_of("gateways.gateway.networking.k8s.io"), Some(Kind::Gateway));
        assert_eq!(kind_of("gateways.networking.istio.io"), None);
        assert_eq!(kind_of("services."), None);
    }
}
