//! What the core is told, in order: a queue with many writers and one reader, who takes out all there is at once.
//!
//! The standard library's channel wakes its reader while it holds a lock that the reader needs first of all; on a machine with
//! several processors that put the reader back to sleep for nearly every message (two system calls and a switch more, B1 of
//! docs/performance.md). Here nobody is woken under the lock, and nobody who is awake is woken.
//!
//! Promises: nothing that was accepted is passed over, unless the reader goes first; then what waits is dropped, and whoever sends
//! is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::Stopped;

/// An emptied buffer that is larger than this many messages is given back.
const KEPT: usize = 1_024;

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Whether the reader sleeps and nobody has woken it up yet.
    asleep: bool,
    closed: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No step of a queue leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer's end.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The reader's end. Dropping it closes the queue.
#[derive(Debug)]
pub(super) struct Inputs<T>(Arc<Shared<T>>);

/// Makes a queue.
pub(super) fn queue<T>() -> (Sender<T>, Inputs<T>) {
    let state = State { waiting: VecDeque::new(), asleep: false, closed: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new() });
    (Sender(Arc::clone(&shared)), Inputs(shared))
}

impl<T> Sender<T> {
    /// Adds a message.
    ///
    /// # Errors
    /// Where nobody reads any more.
    pub(super) fn send(&self, message: T) -> Result<(), Stopped> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(Stopped);
        }
        state.waiting.push_back(message);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.0.arrived.notify_one();
        }
        Ok(())
    }
}

impl<T> Inputs<T> {
    /// Puts what waits into `taken`, which is empty.
    pub(super) fn take(&self, taken: &mut VecDeque<T>) {
        Self::swap(&mut self.0.lock(), taken);
    }

    /// The same; waits until there is something, or for this time.
    pub(super) fn wait(&self, taken: &mut VecDeque<T>, until: Option<Instant>) {
        let mut state = self.0.lock();
        while state.waiting.is_empty() {
            state.asleep = true;
            state = match until {
                None => self.0.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.0.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.asleep = false;
        Self::swap(&mut state, taken);
    }

    fn swap(state: &mut State<T>, taken: &mut VecDeque<T>) {
        if taken.capacity() > KEPT {
            *taken = VecDeque::new();
        }
        std::mem::swap(&mut state.waiting, taken);
    }
}

impl<T> Drop for Inputs<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        // Not under the lock: who waits for an answer may send again.
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn taken(inputs: &Inputs<u32>, until: Option<Instant>) -> Vec<u32> {
        let mut taken = VecDeque::new();
        inputs.wait(&mut taken, until);
        taken.into()
    }

    #[test]
    fn what_was_sent_is_taken_together_and_in_order() {
        let (sender, inputs) = queue();
        for message in 0..3 {
            sender.clone().send(message).unwrap();
        }
        assert_eq!(taken(&inputs, None), [0, 1, 2]);
        let mut rest = VecDeque::new();
        inputs.take(&mut rest);
        assert!(rest.is_empty());
        let until = Instant::now() + Duration::from_millis(20);
        assert!(taken(&inputs, Some(until)).is_empty());
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_reader_that_sleeps_misses_nothing() {
        const WRITERS: u32 = 4;
        const EACH: u32 = 20_000;
        let (sender, inputs) = queue();
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                let sender = sender.clone();
                scope.spawn(move || (0..EACH).for_each(|message| sender.send(message).unwrap()));
            }
            let (mut sum, mut count) = (0_u64, 0);
            while count < WRITERS * EACH {
                for message in taken(&inputs, None) {
                    sum += u64::from(message);
                    count += 1;
                }
            }
            assert_eq!(sum, u64::from(WRITERS) * u64::from(EACH) * u64::from(EACH - 1) / 2);
        });
    }

    #[test]
    fn a_reader_that_goes_drops_what_waits_and_tells_who_sends() {
        let (sender, inputs) = queue();
        let witness = Arc::new(());
        sender.send(Arc::clone(&witness)).unwrap();
        drop(inputs);
        assert_eq!(Arc::strong_count(&witness), 1);
        assert_eq!(sender.send(witness), Err(Stopped));
    }
}
