//! What other replicas know: content that their proxies reject is put back here, too.
//!
//! Replicas have the same objects, and not the same proxies. What one of them has found out by bisection, the others need
//! not find out again; and they must serve the same instead of it, or a proxy's acknowledgement of one replica's
//! resources would say nothing of another's.

use std::{collections::BTreeMap, time::Instant};

use super::{
    Applied, Frozen, Program,
    chunk::{Chunk, ChunkKey},
};
use crate::store::Store;

impl Program {
    /// Takes in all that other replicas have put back, in place of what they told before. It counts now and for content
    /// to come; what is put back stays so until its content changes. `decide` says that they are right where
    /// both sides have put content back and serve something else instead.
    pub fn heed(&mut self, told: Vec<Frozen>, decide: bool, store: &mut Store, now: Instant) -> Applied {
        let mut by_chunk: BTreeMap<ChunkKey, Vec<Frozen>> = BTreeMap::new();
        for frozen in told {
            if let Some(chunk) = frozen.chunk() {
                by_chunk.entry(chunk).or_default().push(frozen);
            }
        }
        self.told = by_chunk;
        let wanted = |key: &ChunkKey| Some((key.clone(), self.desired(key)?));
        let desired: Vec<(ChunkKey, Chunk)> = self.told.keys().filter_map(wanted).collect();
        for (key, content) in desired {
            let Some(frozen) = self.told_of(&key, &content).cloned() else { continue };
            let origin = frozen.origin().clone();
            if self.admission.blame(&key, &origin, None, &frozen, decide) {
                self.touch(&key);
            }
        }
        self.publish(store, now)
    }

    /// Whether others have put this content back.
    pub(super) fn told_of(&self, key: &ChunkKey, content: &Chunk) -> Option<&Frozen> {
        // Hashing it is not for every change.
        let told = self.told.get(key)?;
        let content = content.fingerprint();
        told.iter().find(|frozen| frozen.content() == content)
    }
}
