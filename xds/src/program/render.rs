//! Shows the resources of a store as JSON. Key material is redacted.

use portolan_xds_proto::dump;
use serde_json::{Map, Value};

use crate::store::{ResourceType, Store};

/// A resource that cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name}: {source}")]
pub struct RenderError {
    kind: ResourceType,
    name: String,
    source: dump::DumpError,
}

/// All resources of a store by type (`cds`, `eds` …) and name, as proto JSON.
pub fn render(store: &Store) -> Result<Value, RenderError> {
    let mut all = Map::new();
    for kind in ResourceType::ORDER {
        let mut resources = Map::new();
        for live in store.iter(kind) {
            let json = dump::to_json(kind.type_url(), &live.resource.body().to_bytes())
                .map_err(|source| RenderError { kind, name: live.resource.name().to_string(), source })?;
            resources.insert(live.resource.name().to_string(), json);
        }
        all.insert(kind.short_name().to_owned(), Value::Object(resources));
    }
    Ok(Value::Object(all))
}

impl super::Program {
    /// The IR pieces that are desired now, by kind and name, for people. Secrets show their sizes only.
    pub fn pieces(&self) -> Value {
        let tables = self.tables.iter().map(|(name, table)| (name.to_string(), table.pieces()));
        serde_json::json!({
            "listeners": self.listeners,
            "tables": tables.collect::<Map<_, _>>(),
            "clusters": self.clusters,
            "endpoints": self.endpoints,
            "secrets": self.secrets,
        })
    }
}
