//! The follower's side of a line: finds the leader by the Lease, connects, tells, and takes in what the leader says.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use portolan_xds::GatewayKey;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Uri},
};

use super::{Connections, PATH, Report, Verdicts, codec::Json, door::MAX_MESSAGE};
use crate::{
    identity::Authorities,
    leader::{Leader, Leadership},
    runtime::{Handle, Stopped, VerdictsOfAll},
    source::kubernetes::chain,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long to wait before the next attempt: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A line that was open for so long was a good one.
const GOOD: Duration = Duration::from_secs(30);
/// An idle connection is probed so often, and may not answer for so long.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How many reports may wait for the leader to read them.
const QUEUED: usize = 4;

/// See the module.
pub struct Line {
    /// The core whose proxies are told of.
    pub handle: Handle,
    /// Who leads.
    pub leadership: Leadership,
    /// This replica.
    pub identity: String,
    /// Who signs, as it changes.
    pub authorities: watch::Receiver<Arc<Authorities>>,
    /// The trust domain of replicas.
    pub trust_domain: Arc<str>,
    /// The name that a replica's certificate has.
    pub host: String,
    /// What is shown of the line.
    pub connections: Arc<Connections>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Line {
    /// Keeps a line open to whichever other replica leads, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        // Whether it ended or was ended is the same.
        let _ = shutdown.run_until_cancelled(self.follow()).await;
        self.connections.leader(None);
    }

    async fn follow(&self) {
        let mut leader = self.leadership.leader();
        loop {
            let now = leader.borrow_and_update().clone();
            let other = now.filter(|leader| leader.identity != self.identity);
            let keep = async {
                match other.and_then(|leader| Some((leader.address.clone()?, leader))) {
                    Some((address, leader)) => self.keep(&address, &leader).await,
                    // Nobody to tell, or nobody who says where.
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                changed = leader.changed() => changed.is_err(),
                Stopped = keep => true,
            };
            self.connections.leader(None);
            if self.handle.ask(crate::runtime::Core::line_closed).await.is_err() || ended {
                return;
            }
        }
    }

    /// Keeps a line open to one leader, for as long as the core runs.
    async fn keep(&self, address: &str, leader: &Leader) -> Stopped {
        let (mut pause, mut told) = (BACKOFF.0, None);
        loop {
            let started = tokio::time::Instant::now();
            let status = match self.connect(address).await {
                Ok(channel) => match self.talk(channel, leader).await {
                    Ok(status) => status,
                    Err(stopped) => return stopped,
                },
                Err(message) => Status::unavailable(message),
            };
            self.connections.leader(None);
            if self.handle.ask(crate::runtime::Core::line_closed).await.is_err() {
                return Stopped;
            }
            if started.elapsed() >= GOOD {
                (pause, told) = (BACKOFF.0, None);
            }
            if told.as_deref() != Some(status.message()) {
                tracing::warn!(leader = %leader.identity, %address, reason = status.message(), "no line to the leader; trying again");
                told = Some(status.message().to_owned());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn connect(&self, address: &str) -> Result<Channel, String> {
        let authorities = Arc::clone(&self.authorities.borrow());
        let config = authorities.replica_config(&self.trust_domain, Timestamp::now());
        let connector = TlsConnector::from(config.map_err(|error| error.to_string())?);
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let to = address.to_owned();
        let connect = tower::service_fn(move |_: Uri| {
            let (connector, name, to) = (connector.clone(), name.clone(), to.clone());
            async move {
                let stream = TcpStream::connect(to).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        let endpoint = Endpoint::from_static("http://leader")
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        match tokio::time::timeout(CONNECT, endpoint.connect_with_connector(connect)).await {
            Ok(connected) => connected.map_err(|error| chain(&error)),
            Err(_) => Err(format!("no connection for {} s", CONNECT.as_secs())),
        }
    }

    /// Tells everything, and then what changes, until the line ends.
    async fn talk(&self, channel: Channel, leader: &Leader) -> Result<Status, Stopped> {
        let (reports, outgoing) = mpsc::channel(QUEUED);
        let hello = Report::Hello { replica: self.identity.clone() };
        // There is room for the first one.
        let _ = reports.try_send(hello);
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let opened = async {
            grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            let request = Request::new(ReceiverStream::new(outgoing));
            let codec = Json::<Report, Verdicts>::default();
            grpc.streaming(request, PathAndQuery::from_static(PATH), codec).await
        };
        let mut verdicts = match tokio::time::timeout(CONNECT, opened).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Ok(status),
            Err(_) => return Ok(Status::deadline_exceeded("it does not answer")),
        };
        tracing::info!(leader = %leader.identity, "the leader is told of this replica's proxies");
        self.connections.leader(Some(leader.identity.clone()));
        let mut turns = self.handle.ask(crate::runtime::Core::line_opened).await?;
        let mut news = News::new(self.handle.verdicts());
        let telling = async {
            loop {
                let report = tokio::select! {
                    changed = turns.changed() => match changed {
                        Ok(()) => None,
                        Err(_) => return Stopped,
                    },
                    verdicts = news.next() => match verdicts {
                        Some(verdicts) => Some(Report::Verdicts(verdicts)),
                        None => return Stopped,
                    },
                };
                if let Some(report) = report {
                    self.send(&reports, report).await;
                    continue;
                }
                turns.borrow_and_update();
                // One at a time, when there is room for it: what changes meanwhile takes its place.
                loop {
                    match self.handle.ask(crate::runtime::Core::next_report).await {
                        Ok(Some(report)) => self.send(&reports, Report::Stream(report)).await,
                        Ok(None) => break,
                        Err(stopped) => return stopped,
                    }
                }
            }
        };
        let listening = async {
            loop {
                match verdicts.message().await {
                    Ok(Some(verdicts)) => {
                        self.handle.ask(move |core| core.told_by_leader(verdicts)).await?;
                    }
                    Ok(None) => return Ok(Status::unavailable("the leader closed the line")),
                    Err(status) => return Ok(status),
                }
            }
        };
        tokio::select! {
            Stopped = telling => Err(Stopped),
            status = listening => status,
        }
    }

    async fn send(&self, reports: &mpsc::Sender<Report>, report: Report) {
        // A line that has ended is told by the other direction.
        if reports.send(report).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.connections.metrics().on_peer_report("sent");
    }
}

/// The verdicts of a core, each as it changes, for one listener.
pub(super) struct News {
    all: watch::Receiver<VerdictsOfAll>,
    told: BTreeMap<GatewayKey, Arc<Verdicts>>,
}

impl News {
    /// All that there are are news.
    pub(super) fn new(mut all: watch::Receiver<VerdictsOfAll>) -> Self {
        all.mark_changed();
        Self { all, told: BTreeMap::new() }
    }

    /// The next that changed; nothing when the core has stopped. A Gateway that is gone has none any more.
    pub(super) async fn next(&mut self) -> Option<Verdicts> {
        loop {
            if let Some(next) = self.differing() {
                return Some(next);
            }
            self.all.changed().await.ok()?;
        }
    }

    fn differing(&mut self) -> Option<Verdicts> {
        let all = self.all.borrow_and_update();
        let changed = all.iter().find(|(gateway, verdicts)| self.told.get(*gateway) != Some(*verdicts));
        if let Some((gateway, verdicts)) = changed {
            self.told.insert(gateway.clone(), Arc::clone(verdicts));
            return Some(Verdicts::clone(verdicts));
        }
        let gone = self.told.keys().find(|gateway| !all.contains_key(*gateway)).cloned()?;
        self.told.remove(&gone);
        Some(Verdicts { gateway: gone, frozen: Vec::new(), unattributed: Vec::new() })
    }
}
