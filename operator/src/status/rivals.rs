//! Somebody else who writes what is ours, such as a second operator with our controller's name. Pure.
//!
//! Two that correct each other would write as fast as the API server lets them. Whoever sees the same words taken back
//! again and again says so, and waits longer and longer before it says them once more.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::ObjectKey;

/// So often words are said again at once: people edit statuses, too.
const FREE: u32 = 3;
/// The first wait; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_mins(10);
/// After so much peace all is forgotten.
const FORGIVEN: Duration = Duration::from_mins(30);

/// What was said last about an object.
#[derive(Debug)]
struct Said {
    /// A hash of it.
    words: u64,
    at: Instant,
    /// How often it was taken back.
    taken_back: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rivals(HashMap<ObjectKey, Said>);

impl Rivals {
    /// Until when these words should wait, if they should.
    pub(super) fn wait(&self, key: &ObjectKey, words: u64, now: Instant) -> Option<Instant> {
        let said = self.0.get(key).filter(|said| said.words == words)?;
        let times = said.taken_back.checked_sub(FREE)?;
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST);
        Some(said.at + wait).filter(|until| *until > now)
    }

    /// These words were written. Says how long the next time would wait, where that is new.
    pub(super) fn on_written(&mut self, key: &ObjectKey, words: u64, now: Instant) -> Option<Duration> {
        let taken_back = match self.0.get(key) {
            Some(said) if said.words == words && now.saturating_duration_since(said.at) < FORGIVEN => {
                said.taken_back.saturating_add(1)
            }
            _ => 0,
        };
        self.0.insert(key.clone(), Said { words, at: now, taken_back });
        self.wait(key, words, now).map(|until| until.saturating_duration_since(now))
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn words_that_are_taken_back_again_and_again_wait_longer_and_longer() {
        let (mut rivals, key) = (Rivals::default(), ObjectKey::new(Kind::Gateway, "apps", "web"));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..14 {
            waits.push(rivals.on_written(&key, 1, now).map_or(0, |wait| wait.as_secs()));
            now = rivals.wait(&key, 1, now).unwrap_or(now);
        }
        assert_eq!(waits, [0, 0, 0, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        let later = now + FORGIVEN;
        assert_eq!(rivals.on_written(&key, 1, later), None, "after some peace it is forgotten");
    }

    #[test]
    fn other_words_do_not_wait() {
        let (mut rivals, key) = (Rivals::default(), ObjectKey::new(Kind::Gateway, "apps", "web"));
        let now = Instant::now();
        for _ in 0..9 {
            rivals.on_written(&key, 1, now);
        }
        assert!(rivals.wait(&key, 1, now).is_some());
        assert_eq!(rivals.wait(&key, 2, now), None);
        rivals.forget(&key);
        assert_eq!(rivals.wait(&key, 1, now), None);
    }
}
