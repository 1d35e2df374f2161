//! One world for the tests of a file: starting one takes a second or two.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::sync::OnceCell;

use super::World;

/// A place for it, in a static. The first test that needs it starts it; the keeper ends it when the tests are over.
#[derive(Debug)]
pub struct Shared(OnceCell<Option<World>>);

impl Shared {
    /// An empty place.
    #[must_use]
    #[allow(clippy::new_without_default)] // It stands in a static, where Default is of no use.
    pub const fn new() -> Self {
        Self(OnceCell::const_new())
    }

    /// The world, started now by the first test that asks. Where it does not start, that test says why, and all fail.
    pub async fn get(&'static self, start: impl AsyncFnOnce() -> World) -> &'static World {
        let start = async || AssertUnwindSafe(start()).catch_unwind().await.ok();
        let world = self.0.get_or_init(start).await;
        world
            .as_ref()
            .expect("the world of these tests starts; the first test that failed says why it did not")
    }
}
