//! What Envoy rejected outlives all replicas: a Secret in the operator's namespace keeps it, so that they may all restart at once and
//! none tries it again (design: after a NACK).
//!
//! It is a Secret because what is served instead may be a certificate with its key. Every replica reads it once, before it serves
//! anybody; the leader writes it. Promises: what cannot be read, written or does not fit costs one question to Envoy, and neither the start
//! nor a route.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use portolan_crds::names::labels;
use portolan_xds::{GatewayKey, program::Frozen};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    leader::Leadership,
    runtime::{Handle, Keep, VerdictsOfAll},
    source::kubernetes::chain,
};

/// The Secret's name.
const REJECTIONS_SECRET: &str = "portolan-rejections";

/// An API server takes 1 MiB of values in one Secret.
const MOST_BYTES: usize = 900 * 1024;
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(20);
/// The least time between writes: a bad object is edited again and again until it is right.
const PACE: Duration = Duration::from_secs(1);
/// The wait after a write that failed.
const RETRY: Duration = Duration::from_secs(15);

type Data = BTreeMap<String, ByteString>;

/// What is kept of one Gateway.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    gateway: GatewayKey,
    frozen: Vec<Frozen>,
}

/// What was kept when this replica started, until it knows better: of a Gateway that is deleted and made again, nothing. What comes
/// later is written by [`Memory::run`].
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<GatewayKey, Vec<Frozen>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GatewayKey, Vec<Frozen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keep for Kept {
    fn load(&self, gateway: &GatewayKey) -> Vec<Frozen> {
        self.lock().get(gateway).cloned().unwrap_or_default()
    }

    fn keep(&self, gateway: &GatewayKey, _: &[Frozen]) {
        // While the Gateway is there its program knows.
        self.lock().remove(gateway);
    }
}

/// The Secret.
#[derive(Debug)]
pub(super) struct Memory(Api<Secret>);

impl Memory {
    /// Reads it, in the operator's namespace.
    pub(super) async fn open(client: &Client, namespace: &str) -> (Self, Kept) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let kept = match tokio::time::timeout(REQUEST, secrets.get_opt(REJECTIONS_SECRET)).await {
            Ok(Ok(found)) => decode(found.and_then(|secret| secret.data).unwrap_or_default()),
            Ok(Err(error)) => unknown(&chain(&error)),
            Err(_) => unknown(&format!("no answer for {} s", REQUEST.as_secs())),
        };
        (Self(secrets), kept)
    }

    /// Keeps it as the core has it, while this replica leads.
    pub(super) async fn run(self, handle: Handle, leadership: Leadership, synced: CancellationToken) {
        // Before that, objects that are rejected are not there yet.
        synced.cancelled().await;
        let (mut verdicts, mut leads) = (handle.verdicts(), leadership.changes());
        let mut written: Option<Data> = None;
        loop {
            let data = encode(&verdicts.borrow_and_update());
            if !leadership.holds() {
                // Another one may write now.
                written = None;
            } else if written.as_ref() != Some(&data) {
                match write(&self.0, &data, &leadership).await {
                    Ok(true) => written = Some(data),
                    // It stopped leading meanwhile. Should it lead again before that is noticed, nothing would tell.
                    Ok(false) => {
                        tokio::time::sleep(PACE).await;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(secret = REJECTIONS_SECRET, error = %chain(&*error), "what Envoy rejected is not kept; trying again");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
                tokio::time::sleep(PACE).await;
            }
            let changed = tokio::select! {
                changed = verdicts.changed() => changed,
                changed = leads.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

fn unknown(error: &str) -> Kept {
    tracing::warn!(secret = REJECTIONS_SECRET, %error, "what Envoy rejected before is unknown; it is asked again");
    Kept::default()
}

/// Tells whether the Secret has this now; not where this replica has stopped leading.
async fn write(
    secrets: &Api<Secret>,
    data: &Data,
    leadership: &Leadership,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let found = tokio::time::timeout(REQUEST, secrets.get_opt(REJECTIONS_SECRET)).await??;
    if found.as_ref().map_or(data.is_empty(), |found| found.data.as_ref().unwrap_or(&Data::new()) == data) {
        return Ok(true);
    }
    let known = found.is_some();
    let next = secret(data.clone(), found.and_then(|found| found.metadata.resource_version));
    // Every write carries the version that it is based on; and who has stopped leading meanwhile writes nothing.
    let Some(left) = leadership.remaining() else { return Ok(false) };
    let parameters = PostParams::default();
    let write = async {
        if known {
            secrets.replace(REJECTIONS_SECRET, &parameters, &next).await
        } else {
            secrets.create(&parameters, &next).await
        }
    };
    tokio::time::timeout(left.min(REQUEST), write).await??;
    Ok(true)
}

fn secret(data: Data, resource_version: Option<String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(REJECTIONS_SECRET.to_owned()),
            labels: Some([(labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_PORTOLAN.to_owned())].into()),
            resource_version,
            ..ObjectMeta::default()
        },
        type_: Some("portolan.dev/rejections".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// One value per Gateway, under a hash of its name, which is too long for a key. What does not fit is left out, the largest first.
fn encode(verdicts: &VerdictsOfAll) -> Data {
    let mut data = Data::new();
    for (gateway, verdicts) in verdicts.iter().filter(|(_, verdicts)| !verdicts.frozen.is_empty()) {
        let entry = Entry { gateway: gateway.clone(), frozen: verdicts.frozen.clone() };
        match serde_json::to_vec(&entry) {
            Ok(bytes) => _ = data.insert(key_of(gateway), ByteString(bytes)),
            Err(error) => {
                tracing::warn!(%gateway, %error, "what Envoy rejected cannot be kept; a restart will ask it again");
            }
        }
    }
    let mut sizes: BTreeSet<(usize, String)> =
        data.iter().map(|(key, bytes)| (bytes.0.len(), key.clone())).collect();
    let mut total: usize = sizes.iter().map(|(size, _)| size).sum();
    while total > MOST_BYTES
        && let Some((size, key)) = sizes.pop_last()
    {
        tracing::warn!(
            bytes = size,
            "what Envoy rejected of one Gateway is too much to be kept; a restart will ask it again"
        );
        data.remove(&key);
        total -= size;
    }
    data
}

fn key_of(gateway: &GatewayKey) -> String {
    blake3::hash(gateway.to_string().as_bytes()).to_hex()[..32].to_owned()
}

fn decode(data: Data) -> Kept {
    let entries = data.into_iter().filter_map(|(key, bytes)| {
        let entry = serde_json::from_slice::<Entry>(&bytes.0).ok();
        if entry.is_none() {
            // Without the error: what it quotes may be a key.
            tracing::warn!(secret = REJECTIONS_SECRET, %key, "what Envoy rejected before cannot be read; it is asked again");
        }
        entry.map(|entry| (entry.gateway, entry.frozen))
    });
    Kept(Mutex::new(entries.collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::peers::Verdicts;

    fn verdicts(name: &str, size: usize) -> (GatewayKey, Arc<Verdicts>) {
        let frozen = json!({
            "origin": "HTTPRoute/apps/bad", "name": "apps/web/80/*", "part": "Whole",
            "type_url": "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            "content": "00000000000000000000000000000001", "message": "x".repeat(size), "served": null,
        });
        let gateway = GatewayKey::new("apps", name);
        let frozen = vec![serde_json::from_value(frozen).unwrap()];
        (gateway.clone(), Arc::new(Verdicts { gateway, frozen, unattributed: Vec::new() }))
    }

    #[test]
    fn what_is_kept_comes_back() {
        let long = "g".repeat(253);
        let all = VerdictsOfAll::from([verdicts("web", 10), verdicts(&long, 10)]);
        let data = encode(&all);
        assert!(data.keys().all(|key| key.len() == 32), "{:?}", data.keys());
        let kept = decode(data);
        for (gateway, verdicts) in &all {
            assert_eq!(kept.load(gateway), verdicts.frozen);
        }
        assert!(kept.load(&GatewayKey::new("apps", "other")).is_empty());
        // A Gateway that is gone, and comes again, is another one.
        let (web, _) = verdicts("web", 10);
        kept.keep(&web, &[]);
        assert!(kept.load(&web).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_left_out_the_largest_first() {
        let all = VerdictsOfAll::from([
            verdicts("small", 10),
            verdicts("large", MOST_BYTES - 2000),
            verdicts("larger", MOST_BYTES - 1000),
        ]);
        let kept = decode(encode(&all));
        let names: Vec<_> = kept.lock().keys().map(|gateway| gateway.name.to_string()).collect();
        assert_eq!(names, ["large", "small"]);
    }

    #[test]
    fn a_broken_value_costs_the_others_nothing() {
        let all = VerdictsOfAll::from([verdicts("web", 10)]);
        let mut data = encode(&all);
        data.insert("broken".into(), ByteString(b"{".to_vec()));
        assert_eq!(decode(data).lock().len(), 1);
    }
}
