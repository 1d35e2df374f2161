//! Lanes of HTTP.

use std::sync::Arc;

use super::{Client, Lane, Loss, Seen};
use crate::rig::client::{Answer, Ask, ClientError, Connection, Target};

pub(super) type Check = Arc<dyn Fn(&Answer) -> Result<(), String> + Send + Sync>;

/// Asks over HTTP.
pub(super) struct Runner {
    lane: Lane,
    target: Target,
    ask: Ask,
    check: Check,
    open: Option<Connection>,
}

impl Runner {
    pub(super) fn new(lane: Lane, target: Target, ask: Ask, check: Check) -> Self {
        Self { lane, target, ask, check, open: None }
    }

    /// Notes that the server ended a connection between two requests. HTTP/2 says so before (GOAWAY), HTTP/1.1 did not, or the
    /// connection would not be kept.
    fn left(&self, seen: &mut Seen) {
        *(if self.lane == Lane::Http2 { &mut seen.drained } else { &mut seen.resets }) += 1;
    }

    /// Asks over the kept connection, or over a new one.
    async fn answer(&mut self, seen: &mut Seen) -> Result<Answer, Loss> {
        if let Some(mut kept) = self.open.take() {
            if kept.is_closed() {
                self.left(seen);
            } else {
                match kept.ask(&self.ask).await {
                    // It was closed at this moment, and nothing was sent on it.
                    Err(ClientError::Unsent(_)) => self.left(seen),
                    Err(error) => return Err(loss(&error, false)),
                    Ok(answer) => {
                        self.open = Some(kept);
                        return Ok(answer);
                    }
                }
            }
        }
        seen.connections += 1;
        let mut fresh = self.target.connect().await.map_err(|error| loss(&error, true))?;
        let answer = fresh.ask(&self.ask).await.map_err(|error| loss(&error, true))?;
        self.open = (self.lane != Lane::Fresh).then_some(fresh);
        Ok(answer)
    }
}

impl Client for Runner {
    async fn ask(&mut self, seen: &mut Seen) -> Result<(), Loss> {
        let answer = self.answer(seen).await?;
        *seen.answers.entry(answer.short()).or_default() += 1;
        if answer.header("connection").contains(&"close") && self.open.take().is_some() {
            seen.drained += 1;
        }
        (self.check)(&answer).map_err(Loss::plain)
    }
}

/// A fresh connection that ends before it answered anything was refused, even where the system had accepted it.
fn loss(error: &ClientError, fresh: bool) -> Loss {
    let (reset, refused) = match error {
        ClientError::Connect(..) => (false, true),
        ClientError::Tls(_) | ClientError::Http(_) | ClientError::Unsent(_) => (true, fresh),
        ClientError::Late => (false, false),
    };
    Loss { reason: error.to_string(), reset, refused }
}
