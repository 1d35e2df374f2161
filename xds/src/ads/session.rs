//! The task of one stream: gives the state machine requests, changes and time, and sends what it answers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portolan_xds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::event::bounded;
use super::messages::Incoming;
use super::server::Programs;
use super::shared::{SharedRegistry, SharedStore};
use super::{Event, Stream, StreamConfig, StreamId};
use crate::GatewayKey;
use crate::store::Seq;

/// Boxed: a channel has room for 32 at once, 8 KiB of every silent stream.
type Responses = mpsc::Sender<Result<Box<DeltaDiscoveryResponse>, Status>>;

/// The limits and times of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionConfig {
    pub(super) stream: StreamConfig,
    pub(super) read_timeout: Duration,
}

/// One stream of one proxy.
pub(super) struct Session<P: Programs> {
    pub(super) programs: Arc<P>,
    pub(super) registry: Arc<SharedRegistry>,
    pub(super) store: Arc<SharedStore>,
    pub(super) gateway: GatewayKey,
    pub(super) id: StreamId,
    pub(super) config: SessionConfig,
    pub(super) shutdown: CancellationToken,
}

/// Why a session ends.
struct End {
    reason: String,
    /// What the proxy is told, if it is still there.
    status: Option<Status>,
}

impl End {
    fn gone(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), status: None }
    }

    fn told(status: Status) -> Self {
        Self { reason: status.message().to_owned(), status: Some(status) }
    }
}

/// Takes the stream out of the registry however its task ends.
struct Registered<P: Programs> {
    programs: Arc<P>,
    registry: Arc<SharedRegistry>,
    gateway: GatewayKey,
    id: StreamId,
    reason: Arc<str>,
}

impl<P: Programs> Drop for Registered<P> {
    fn drop(&mut self) {
        self.registry.update(|registry| registry.close(self.id));
        tracing::info!(gateway = %self.gateway, stream = %self.id, reason = %self.reason, "stream closed");
        let event = Event::Closed { reason: Arc::clone(&self.reason) };
        self.programs.on_event(&self.gateway, self.id, event);
    }
}

impl<P: Programs> Session<P> {
    /// Runs until the proxy leaves, the Gateway or the server ends, or the proxy does not read.
    pub(super) async fn run(self, requests: Incoming<DeltaDiscoveryRequest>, responses: Responses) {
        self.registry.update(|registry| registry.open(self.id, self.gateway.clone(), SystemTime::now()));
        let mut registered = Registered {
            programs: Arc::clone(&self.programs),
            registry: Arc::clone(&self.registry),
            gateway: self.gateway.clone(),
            id: self.id,
            reason: Arc::from("the stream's task failed"),
        };
        tracing::info!(gateway = %self.gateway, stream = %self.id, "stream opened");
        self.programs.on_event(&self.gateway, self.id, Event::Opened);
        let mut told = Told { events: Vec::new(), progress: None };
        let end = self.serve(requests, &responses, &mut told).await;
        self.tell(&mut told);
        registered.reason = bounded(&end.reason);
        if let Some(status) = end.status {
            // A full queue means that the proxy does not read: then closing must do.
            let _ = responses.try_send(Err(status));
        }
    }

    async fn serve(
        &self,
        mut requests: Incoming<DeltaDiscoveryRequest>,
        responses: &Responses,
        told: &mut Told,
    ) -> End {
        let mut stream = Stream::new(self.config.stream);
        let mut changes = self.store.subscribe();
        let mut blocked_since: Option<Instant> = None;
        loop {
            if changes.borrow_and_update().closed {
                return End::told(Status::not_found(format!("Gateway {} is gone", self.gateway)));
            }
            match self.send_all(&mut stream, responses) {
                Ok(Sent::All) => blocked_since = None,
                Ok(Sent::QueueFull) => {
                    blocked_since.get_or_insert_with(Instant::now);
                }
                Err(end) => return end,
            }
            self.report(&stream, told);
            self.tell(told);
            let unread = blocked_since.map(|since| since + self.config.read_timeout);
            let due = match blocked_since {
                Some(_) => None,
                None => stream.next_deadline(Instant::now()),
            };
            tokio::select! {
                () = self.shutdown.cancelled() => {
                    return End::told(Status::unavailable("the control plane is shutting down"));
                }
                request = requests.message() => match request {
                    Ok(Some(request)) => self.on_request(&mut stream, &request, told),
                    Ok(None) => return End::gone("the proxy ended the stream"),
                    // Told, too: it may be the proxy's own mistake, and where the connection broke nobody hears it.
                    Err(status) => return End {
                        reason: format!("the requests cannot be read: {}", status.message()),
                        status: Some(status),
                    },
                },
                outcome = changes.changed() => if outcome.is_err() {
                    return End::told(Status::not_found(format!("Gateway {} is gone", self.gateway)));
                },
                () = until(due) => {}
                permit = responses.reserve(), if blocked_since.is_some() => match permit {
                    // It reads again.
                    Ok(_) => blocked_since = None,
                    Err(_) => return End::gone("the proxy is gone"),
                },
                () = until(unread) => {
                    let seconds = self.config.read_timeout.as_secs();
                    return End::gone(format!("the proxy has not read for {seconds} s"));
                }
            }
        }
    }

    fn on_request(&self, stream: &mut Stream, request: &DeltaDiscoveryRequest, told: &mut Told) {
        let events = self.store.read(|store| stream.on_request(store, request, Instant::now()));
        if !events.is_empty() {
            self.report(stream, told);
        }
        for event in &events {
            if let Event::Nacked { answer, message } = event {
                tracing::warn!(
                    gateway = %self.gateway, stream = %self.id, kind = %answer.kind, %message,
                    "the proxy rejected a response"
                );
            }
        }
        told.events.extend(events);
    }

    /// Sends what there is to send and what the queue holds.
    fn send_all(&self, stream: &mut Stream, responses: &Responses) -> Result<Sent, End> {
        loop {
            let permit = match responses.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => return Ok(Sent::QueueFull),
                Err(TrySendError::Closed(())) => return Err(End::gone("the proxy is gone")),
            };
            match self.store.read(|store| stream.poll(store, Instant::now())) {
                Some(response) => permit.send(Ok(Box::new(response))),
                None => return Ok(Sent::All),
            }
        }
    }

    /// Writes the stream's state to the registry, and notes when more is acknowledged, or less.
    fn report(&self, stream: &Stream, told: &mut Told) {
        let summary = self.store.read(|store| stream.summary(store));
        let acked_through = summary.acked_through;
        self.registry.update(|registry| registry.update(self.id, summary));
        if told.progress.replace(acked_through) != Some(acked_through) {
            told.events.push(Event::Progress { acked_through });
        }
    }

    /// Tells what was noted, in order.
    fn tell(&self, told: &mut Told) {
        // Taken, not drained: a silent stream keeps no room for events.
        for event in std::mem::take(&mut told.events) {
            self.programs.on_event(&self.gateway, self.id, event);
        }
    }
}

/// What whoever listens is told of a stream, after the stream is done with the store for now: a listener that wakes up at
/// once would wait for the store, and the stream for the listener.
struct Told {
    events: Vec<Event>,
    /// The last [`Event::Progress`].
    progress: Option<Seq>,
}

enum Sent {
    All,
    QueueFull,
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
