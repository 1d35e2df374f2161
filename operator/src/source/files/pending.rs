//! What is to be looked at, and when: between the thread that hears of events and the task that acts on them.
//!
//! The first event is acted on at once; what arrives while the task is busy is coalesced by path. Two things wait: a file
//! that a program still writes, until it is closed; and a deletion, a moment, since its other half (the new name of a
//! renamed file, the file that an editor puts in its place) follows, and acting on one half would drop an object for nothing.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// How soon an event is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// What stands there is whole.
    Now,
    /// The other half may follow.
    Soon,
    /// Someone is still writing; if nothing more is heard, what stands there counts.
    WhenClosed,
}

impl Haste {
    fn wait(self) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::Soon => Duration::from_millis(50),
            // A tool that opens its output first and computes then (`kustomize build > all.yaml`) leaves an empty file for
            // as long as it takes: that must not remove every object of the file.
            Self::WhenClosed => Duration::from_secs(5),
        }
    }
}

/// Paths with the time at which they are due.
#[derive(Debug, Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct State {
    paths: HashMap<PathBuf, Due>,
    /// Events were lost: everything is to be looked at.
    everything: Option<Due>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    seen: Instant,
    at: Instant,
}

/// What is due now.
#[derive(Debug)]
pub(super) struct Work {
    /// The paths; `None` is everything.
    pub(super) paths: Option<Vec<PathBuf>>,
    /// When the first of the events was seen.
    pub(super) seen: Instant,
}

/// More paths than this at once: looking at everything is cheaper than remembering them.
const MANY: usize = 10_000;

impl Pending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event on a path.
    pub(super) fn note(&self, path: PathBuf, haste: Haste, now: Instant) {
        let at = now + haste.wait();
        let mut state = self.lock();
        if state.paths.len() >= MANY && !state.paths.contains_key(&path) {
            state.paths.clear();
            state.everything = Some(Due { seen: now, at: now });
        } else {
            let due = state.paths.entry(path).or_insert(Due { seen: now, at });
            // Writing goes on, so waiting goes on; everything else makes it due no later than before.
            due.at = if haste == Haste::WhenClosed && due.at > now { at } else { due.at.min(at) };
        }
        drop(state);
        self.woken.notify_one();
    }

    /// Notes that anything may have changed.
    pub(super) fn note_everything(&self, wait: Duration, now: Instant) {
        let at = now + wait;
        let mut state = self.lock();
        let due = state.everything.get_or_insert(Due { seen: now, at });
        due.at = due.at.min(at);
        drop(state);
        self.woken.notify_one();
    }

    /// Notes a path that was looked at too early, for an event that was seen before.
    pub(super) fn note_again(&self, path: PathBuf, wait: Duration, seen: Instant) {
        let at = Instant::now() + wait;
        let mut state = self.lock();
        let due = state.paths.entry(path).or_insert(Due { seen, at });
        due.seen = due.seen.min(seen);
        drop(state);
        self.woken.notify_one();
    }

    /// Takes what is due, or tells when something will be.
    pub(super) fn take(&self, now: Instant) -> Result<Work, Option<Instant>> {
        let mut state = self.lock();
        if let Some(due) = state.everything.take_if(|due| due.at <= now) {
            // Looking at everything settles what is due; what waits keeps waiting.
            let paths = state.paths.extract_if(|_, due| due.at <= now);
            let seen = paths.map(|(_, due)| due.seen).fold(due.seen, Instant::min);
            return Ok(Work { paths: None, seen });
        }
        let due: Vec<(PathBuf, Due)> = state.paths.extract_if(|_, due| due.at <= now).collect();
        let Some(seen) = due.iter().map(|(_, due)| due.seen).min() else {
            return Err(state.paths.values().chain(&state.everything).map(|due| due.at).min());
        };
        let mut paths: Vec<PathBuf> = due.into_iter().map(|(path, _)| path).collect();
        paths.sort();
        Ok(Work { paths: Some(paths), seen })
    }

    /// Waits until something is due.
    pub(super) async fn next(&self) -> Work {
        loop {
            match self.take(Instant::now()) {
                Ok(work) => return work,
                Err(None) => self.woken.notified().await,
                Err(Some(at)) => {
                    let _ = tokio::time::timeout_at(at.into(), self.woken.notified()).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(pending: &Pending, at: Instant) -> Vec<String> {
        match pending.take(at) {
            Ok(Work { paths: Some(paths), .. }) => {
                paths.iter().map(|path| path.display().to_string()).collect()
            }
            Ok(Work { paths: None, .. }) => vec!["everything".into()],
            Err(_) => Vec::new(),
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_event_is_due_at_once_and_what_follows_is_coalesced() {
        let (pending, start) = (Pending::default(), Instant::now());
        for step in 0..3 {
            pending.note("a".into(), Haste::Now, start + ms(step));
            pending.note("b".into(), Haste::Now, start + ms(step));
        }
        let work = pending.take(start + ms(2)).unwrap();
        assert_eq!(work.paths, Some(vec!["a".into(), "b".into()]));
        assert_eq!(work.seen, start, "the first event counts");
        assert_eq!(pending.take(start + ms(9)).unwrap_err(), None);
    }

    #[test]
    fn a_file_that_is_written_waits_until_it_is_closed() {
        let (pending, start) = (Pending::default(), Instant::now());
        pending.note("a".into(), Haste::WhenClosed, start);
        pending.note("a".into(), Haste::WhenClosed, start + ms(3000));
        assert_eq!(paths(&pending, start + ms(7000)), [""; 0], "more was written");
        pending.note("a".into(), Haste::Now, start + ms(7500));
        assert_eq!(paths(&pending, start + ms(7500)), ["a"]);
        pending.note("a".into(), Haste::WhenClosed, start + ms(8000));
        assert_eq!(paths(&pending, start + ms(13_000)), ["a"], "nobody closed it, and nobody writes");
    }

    #[test]
    fn a_deletion_waits_for_its_other_half() {
        let (pending, start) = (Pending::default(), Instant::now());
        pending.note("a".into(), Haste::Soon, start);
        assert_eq!(pending.take(start).unwrap_err(), Some(start + ms(50)));
        pending.note("a".into(), Haste::Now, start + ms(10));
        assert_eq!(paths(&pending, start + ms(10)), ["a"]);
    }

    #[test]
    fn too_many_paths_become_everything() {
        let (pending, start) = (Pending::default(), Instant::now());
        for index in 0..=MANY {
            pending.note(index.to_string().into(), Haste::Now, start);
        }
        assert_eq!(paths(&pending, start), ["everything"]);
        assert_eq!(paths(&pending, start), [""; 0]);
    }

    #[tokio::test]
    async fn waiting_ends_with_an_event() {
        let pending = std::sync::Arc::new(Pending::default());
        let waiting = tokio::spawn({
            let pending = pending.clone();
            async move { pending.next().await }
        });
        tokio::task::yield_now().await;
        pending.note("a".into(), Haste::Soon, Instant::now());
        let work = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
        assert_eq!(work.paths, Some(vec!["a".into()]));
    }
}
