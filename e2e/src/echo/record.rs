//! What arrived: counts per path, the latest requests, and the failures still owed.
//!
//! Mirror tests read it: a mirrored request's answer goes nowhere, so only its arrival can be observed.
//! Memory is bounded whatever arrives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// How many requests are kept with their headers.
const KEPT: usize = 1000;
/// How many different paths, and failure ids, are counted.
const COUNTED: usize = 10_000;

/// One request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Path without the query string.
    pub path: String,
    /// Path and query string.
    pub uri: String,
    /// `Host` header or `:authority`.
    pub host: String,
    /// Request method.
    pub method: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub proto: String,
    /// Values by lower-case header name, `host` left out.
    pub headers: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<String, u64>,
    seen: VecDeque<Seen>,
    attempts: BTreeMap<String, u64>,
}

/// The memory of one echo backend.
#[derive(Debug, Default)]
pub struct Record {
    inner: Mutex<Inner>,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a request.
    pub fn add(&self, seen: Seen) {
        let mut inner = self.lock();
        count(&mut inner.counts, &seen.path);
        if inner.seen.len() == KEPT {
            inner.seen.pop_front();
        }
        inner.seen.push_back(seen);
    }

    /// Counts an attempt for a failure id and tells its number, from 1.
    pub fn attempt(&self, id: &str) -> u64 {
        count(&mut self.lock().attempts, id)
    }

    /// Requests per path.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// The kept requests for one path, oldest first.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.lock().seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    /// Starts again from nothing.
    pub fn forget(&self) {
        *self.lock() = Inner::default();
    }
}

fn count(map: &mut BTreeMap<String, u64>, key: &str) -> u64 {
    if let Some(value) = map.get_mut(key) {
        *value += 1;
        return *value;
    }
    if map.len() == COUNTED {
        map.pop_first();
    }
    map.insert(key.to_owned(), 1);
    1
}
