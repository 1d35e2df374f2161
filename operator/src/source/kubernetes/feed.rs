//! What watches tell the collector.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use tokio::sync::mpsc::Sender;

use super::{crds::Release, mirror::News, seen::Observed, slices::Slices};
use crate::{
    model::{Kind, ObjectKey},
    source::{Change, Problem},
};

/// What one watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// All objects of a kind.
    Kind(Kind),
    /// One object, by its name.
    Object(ObjectKey),
    /// The CRDs that say which kinds there are.
    Definitions,
    /// Whether a kind of Kubernetes itself is served.
    Served(Kind),
}

impl Subject {
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Kind(kind) | Self::Served(kind) => Some(*kind),
            Self::Object(key) => Some(key.kind),
            Self::Definitions => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => kind.fmt(f),
            Self::Object(key) => key.fmt(f),
            Self::Definitions => f.write_str("CustomResourceDefinition"),
            Self::Served(kind) => write!(f, "whether {kind} of {} is served", kind.group()),
        }
    }
}

/// One message.
#[derive(Debug)]
pub(super) enum Feed {
    /// Which kinds the API server has, and the releases that their CRDs are from.
    Kinds(BTreeMap<Kind, Option<Release>>),
    /// In which version a kind of Kubernetes itself is served, if in any.
    Served(Kind, Option<&'static str>),
    /// Objects changed.
    Objects(Objects),
    /// A watch cannot go on; it tries again.
    Trouble {
        subject: Subject,
        message: Arc<str>,
        /// The API server understood and refuses: trying again alone will not help.
        refused: bool,
    },
}

/// Objects of one watch that changed.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) subject: Subject,
    pub(super) changes: Vec<Change>,
    /// Also of objects whose status alone changed.
    pub(super) observed: Vec<(ObjectKey, Option<Observed>)>,
    /// Objects that cannot be parsed. One that changes and is not in here is well.
    pub(super) problems: Vec<Problem>,
    /// Everything that exists has been told.
    pub(super) listed: bool,
    pub(super) seen: Instant,
}

impl Objects {
    pub(super) fn new(subject: Subject) -> Self {
        Self {
            subject,
            changes: Vec::new(),
            observed: Vec::new(),
            problems: Vec::new(),
            listed: false,
            seen: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.observed.is_empty() && self.problems.is_empty() && !self.listed
    }

    /// Parses what is new and adds it.
    pub(super) fn add(&mut self, news: News) {
        match news {
            News::Changed(key, seen) => {
                let (observed, content) = seen.split(key.kind);
                self.observed.extend(observed.map(|observed| (key.clone(), Some(observed))));
                match content.parse(key.kind) {
                    Ok(object) => self.changes.push((key, Some(object))),
                    // The last good version stays in force (the source's promise).
                    Err(error) => self.problems.push(Problem::of_object(key, error.message)),
                }
            }
            News::Touched(key, seen) => {
                let (observed, _) = seen.split(key.kind);
                self.observed.extend(observed.map(|observed| (key, Some(observed))));
            }
            News::Gone(key) => {
                if super::resource::has_status(key.kind) {
                    self.observed.push((key.clone(), None));
                }
                self.changes.push((key, None));
            }
        }
    }
}

/// The sending end. Bounded: a watch that is ahead of the collector waits, and the API server with it.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    pub(super) queue: Sender<Feed>,
    /// Where EndpointSlices go instead.
    pub(super) slices: Arc<Slices>,
}

/// The collector is gone: the source ends.
#[derive(Debug)]
pub(super) struct Ended;

impl Outlet {
    pub(super) async fn send(&self, feed: Feed) -> Result<(), Ended> {
        match feed {
            Feed::Objects(objects) if objects.subject == Subject::Kind(Kind::EndpointSlice) => {
                self.slices.put(objects);
                Ok(())
            }
            Feed::Trouble { subject: Subject::Kind(Kind::EndpointSlice), .. } => {
                self.slices.fail(feed);
                Ok(())
            }
            feed => self.queue.send(feed).await.map_err(|_| Ended),
        }
    }
}
