//! Where objects come from: changes in, one at a time or many at once, whoever saw them.
//!
//! A source watches, parses and hands over [`Change`]s; it decides nothing about traffic. Files are one source
//! ([`files`]); an API server yields the same changes. Promise: a change carries an object that is valid on its own, or
//! its removal. What is not valid becomes a [`Problem`], and the last good version of the object stays in force.

pub mod files;
mod kinds;
pub mod kubernetes;
mod manifest;
mod problem;
mod schema;

use std::time::Instant;

pub use problem::{Problem, Severity};

use crate::model::{Object, ObjectKey};

/// An object as it is now; `None` when it is gone.
pub type Change = (ObjectKey, Option<Object>);

/// What one look at the source found.
#[derive(Debug)]
pub struct Batch {
    /// What is different from the batch before, sorted by key.
    pub changes: Vec<Change>,
    /// Every problem there is now, not only the new ones, sorted by file and place.
    pub problems: Vec<Problem>,
    /// When the event was seen that led to this batch.
    pub seen: Instant,
}
