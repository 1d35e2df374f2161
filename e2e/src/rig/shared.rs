//! One world for several tests of a file: starting one takes a second or two.
//!
//! The first test that needs it makes it, the last one that holds it ends it. A static alone would never be dropped, and its
//! processes would outlive the tests.

use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use super::World;

/// A place for the world of a test file.
#[derive(Debug)]
pub struct Shared(Mutex<Weak<World>>);

impl Shared {
    /// An empty place.
    #[must_use]
    #[allow(clippy::new_without_default)] // It stands in a static, where Default is of no use.
    pub const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// The world, made now if no test holds it.
    pub async fn get(&self, make: impl AsyncFnOnce() -> World) -> Arc<World> {
        let mut place = self.0.lock().await;
        if let Some(world) = place.upgrade() {
            return world;
        }
        let world = Arc::new(make().await);
        *place = Arc::downgrade(&world);
        world
    }
}
