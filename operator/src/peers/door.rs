//! The leader's side of a line: lets followers in and tells the core what they say.

use std::{fmt, pin::Pin, sync::Arc};

use futures::{FutureExt as _, Stream, future::BoxFuture};
use portolan_xds::ads::ReplicaMethod;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, StreamingService},
};

use super::{Connections, PATH, PeerId, Report, Verdicts, codec::Json, line::News};
use crate::{leader::Leadership, runtime::Handle};

/// A follower's name is kept no longer than this, in bytes.
const MAX_NAME: usize = 300;
/// The largest message, in bytes: what is put back of a Gateway is one.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// How many verdicts may wait for a follower to read them.
const QUEUED: usize = 4;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    handle: Handle,
    leadership: Leadership,
    connections: Arc<Connections>,
    shutdown: CancellationToken,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peers::Door")
    }
}

impl Door {
    /// Lets followers in while this replica leads, until `shutdown`.
    pub fn new(
        handle: Handle,
        leadership: Leadership,
        connections: Arc<Connections>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { handle, leadership, connections, shutdown }
    }
}

impl ReplicaMethod for Door {
    fn path(&self) -> &'static str {
        PATH
    }

    fn call(&self, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> {
        let door = self.clone();
        async move {
            let codec = Json::<Verdicts, Report>::default();
            let mut grpc = Grpc::new(codec).apply_max_message_size_config(Some(MAX_MESSAGE), None);
            grpc.streaming(door, request).await
        }
        .boxed()
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Verdicts, Status>> + Send>>;

impl StreamingService<Report> for Door {
    type Response = Verdicts;
    type ResponseStream = Answers;
    type Future = std::future::Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Report>>) -> Self::Future {
        std::future::ready(if self.leadership.holds() {
            let (answers, outgoing) = mpsc::channel(QUEUED);
            let guest = Guest { peer: self.connections.next(), door: self.clone() };
            tokio::spawn(guest.run(request.into_inner(), answers));
            Ok(Response::new(Box::pin(ReceiverStream::new(outgoing)) as Answers))
        } else {
            Err(Status::unavailable("this replica does not lead"))
        })
    }
}

/// One follower.
struct Guest {
    peer: PeerId,
    door: Door,
}

impl Guest {
    async fn run(self, reports: Streaming<Report>, answers: mpsc::Sender<Result<Verdicts, Status>>) {
        let mut name = String::new();
        let ended = self.serve(&mut name, reports, &answers).await;
        tracing::info!(replica = %name, reason = ended.message(), "a follower is gone; its proxies are unknown");
        self.door.connections.follower(self.peer, None);
        let peer = self.peer;
        // The core has stopped: then nobody judges any more.
        let _ = self.door.handle.ask(move |core| core.peer_gone(peer)).await;
        let _ = answers.try_send(Err(ended));
    }

    async fn serve(
        &self,
        name: &mut String,
        mut reports: Streaming<Report>,
        answers: &mpsc::Sender<Result<Verdicts, Status>>,
    ) -> Status {
        let stopped = || Status::unavailable("the control plane is shutting down");
        let mut leads = self.door.leadership.changes();
        leads.borrow_and_update();
        let mut news = News::new(self.door.handle.verdicts());
        loop {
            tokio::select! {
                () = self.door.shutdown.cancelled() => return stopped(),
                // Holding counts, and not what was announced: that comes a moment later.
                changed = leads.changed() => if changed.is_err() || !*leads.borrow_and_update() {
                    return Status::unavailable("this replica does not lead any more");
                },
                report = reports.message() => match report {
                    Ok(Some(report)) => if self.take(name, report).await.is_err() {
                        return stopped();
                    },
                    Ok(None) => return Status::ok("it closed the line"),
                    Err(status) => return status,
                },
                verdicts = news.next() => match verdicts {
                    Some(verdicts) => if answers.send(Ok(verdicts)).await.is_err() {
                        return Status::cancelled("it does not listen any more");
                    },
                    None => return stopped(),
                },
            }
        }
    }

    /// The core takes one report at a time of each follower: who tells faster waits.
    async fn take(&self, name: &mut String, report: Report) -> Result<(), crate::runtime::Stopped> {
        let (peer, handle) = (self.peer, &self.door.handle);
        self.door.connections.metrics().on_peer_report("received");
        match report {
            Report::Hello { replica } => {
                *name = replica;
                name.truncate(name.floor_char_boundary(MAX_NAME));
                tracing::info!(replica = %name, "a follower is connected");
                self.door.connections.follower(peer, Some(name.clone()));
                Ok(())
            }
            Report::Stream(report) => handle.ask(move |core| core.peer_reports(peer, &report)).await,
            Report::Verdicts(verdicts) => handle.ask(move |core| core.told_by_follower(peer, verdicts)).await,
        }
    }
}
