//! What was put back, in a form that outlives the process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Program, ResourceKey,
    chunk::{Chunk, ChunkKey, Kept, Part},
};
use crate::{
    ir::Origin,
    store::{ResourceType, domain_of, table_of},
};

/// A blamed chunk: which content of it is known to be bad, why, and what is served instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    origin: Origin,
    type_url: String,
    name: Arc<str>,
    part: Part,
    /// The fingerprint of the rejected content, as 32 hexadecimal digits.
    content: String,
    message: Arc<str>,
    served: Option<Kept>,
}

impl Frozen {
    /// The object that is blamed.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn content(&self) -> u128 {
        u128::from_str_radix(&self.content, 16).unwrap_or_default()
    }

    pub(super) fn message(&self) -> Arc<str> {
        Arc::clone(&self.message)
    }

    pub(super) fn chunk(&self) -> Option<ChunkKey> {
        let kind = ResourceType::from_type_url(&self.type_url)?;
        let resource = ResourceKey { kind, name: Arc::clone(&self.name) };
        Some(ChunkKey { resource, part: self.part.clone() })
    }

    pub(super) fn into_proven(self) -> Option<Chunk> {
        self.served.map(Chunk::from)
    }
}

impl Program {
    /// What is put back and blamed, for the caller to keep. Sorted, so equal states give equal text.
    pub fn frozen(&self) -> Vec<Frozen> {
        self.admission
            .blamed()
            .filter_map(|blamed| {
                let content = self.desired(blamed.key)?.fingerprint();
                Some(Frozen {
                    origin: blamed.origin.clone(),
                    type_url: blamed.key.resource.kind.type_url().to_owned(),
                    name: Arc::clone(&blamed.key.resource.name),
                    part: blamed.key.part.clone(),
                    content: format!("{content:032x}"),
                    message: Arc::clone(blamed.message),
                    served: blamed.proven.and_then(Chunk::keep),
                })
            })
            .collect()
    }

    /// Takes up what an earlier process had put back. Call it before the first [`Program::apply`]: content that is
    /// known to be bad stays out until it changes.
    pub fn restore(&mut self, frozen: Vec<Frozen>) {
        for each in frozen {
            let Some(chunk) = each.chunk() else { continue };
            self.restored.insert(chunk, each);
        }
    }

    pub(super) fn desired(&self, key: &ChunkKey) -> Option<Chunk> {
        let name = &key.resource.name;
        match (key.resource.kind, &key.part) {
            (ResourceType::Cluster, _) => self.clusters.get(name).cloned().map(Chunk::Cluster),
            (ResourceType::Endpoints, _) => self.endpoints.get(name).cloned().map(Chunk::Endpoints),
            (ResourceType::Secret, _) => self.secrets.get(name).cloned().map(Chunk::Secret),
            (ResourceType::Listener, Part::Chain(chain)) => {
                let listener = self.listeners.get(name)?;
                listener.chains.iter().find(|each| each.name == *chain).cloned().map(Chunk::Chain)
            }
            (ResourceType::VirtualHost, Part::Routes(origin)) => {
                Some(Chunk::Routes(self.tables.get(table_of(name))?.routes_of(domain_of(name), origin)?))
            }
            _ => None,
        }
    }
}
