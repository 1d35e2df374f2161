//! One of the replicas leads: it alone writes statuses and fleets.
//!
//! Promises: at most one replica writes at a time, also if one was suspended and wakes up believing that it leads: before
//! each write it asks [`Leadership::remaining`], a deadline on a clock that goes on while the process or the machine
//! sleeps, and every write carries the version that it is based on. A replica that ends gives the Lease back.

mod election;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Api, Client, api::PostParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::election::Leader;
use self::election::{Decision, Election, RENEW_DEADLINE, RETRY};
use crate::source::kubernetes::chain;

/// No single request to renew may take longer, so that there is time for another.
const REQUEST: Duration = Duration::from_secs(4);

/// Whether this replica leads, and until when it may write.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// In milliseconds of [`uptime`]; zero for a follower.
    until: Arc<AtomicU64>,
    leads: watch::Receiver<bool>,
    leader: watch::Receiver<Option<Leader>>,
}

impl Leadership {
    /// How long this replica may go on writing; nothing for a follower. Ask before each write.
    pub fn remaining(&self) -> Option<Duration> {
        let until = Duration::from_millis(self.until.load(Ordering::Acquire));
        until.checked_sub(uptime()).filter(|left| !left.is_zero())
    }

    /// Whether this replica may write now.
    pub fn holds(&self) -> bool {
        self.remaining().is_some()
    }

    /// Whether this replica leads, as it changes. For acting on the change; before a write, ask
    /// [`Leadership::remaining`].
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Who leads, as it changes: this replica or another; nothing while nobody is known to.
    pub fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }
}

/// A leadership that a test decides about.
#[cfg(test)]
pub(crate) struct Throne {
    until: Arc<AtomicU64>,
    leads: watch::Sender<bool>,
    leader: watch::Sender<Option<Leader>>,
}

#[cfg(test)]
impl Throne {
    pub(crate) fn new() -> (Self, Leadership) {
        let (leads, leads_changes) = watch::channel(false);
        let (leader, leader_changes) = watch::channel(None);
        let until = Arc::new(AtomicU64::new(0));
        let leadership =
            Leadership { until: Arc::clone(&until), leads: leads_changes, leader: leader_changes };
        (Self { until, leads, leader }, leadership)
    }

    /// Whether this replica leads, and who does.
    pub(crate) fn set(&self, leads: bool, leader: Option<Leader>) {
        self.until.store(if leads { u64::MAX } else { 0 }, Ordering::Release);
        self.leader.send_replace(leader);
        self.leads.send_replace(leads);
    }
}

/// Since the machine started, its sleep included.
fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Which Lease, and under which name this replica asks for it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Unique to this process: a pod's name, and something that a restart changes.
    pub identity: String,
    /// Where the other replicas reach this one, `<address>:<port>`; it is in the Lease.
    pub address: Option<String>,
}

/// The task that asks for the Lease and renews it.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    candidate: Candidate,
    election: Election,
    until: Arc<AtomicU64>,
    leads: watch::Sender<bool>,
    leader: watch::Sender<Option<Leader>>,
    told: Option<String>,
}

impl Elector {
    /// A candidate that does not ask yet.
    pub fn new(client: &Client, candidate: Candidate) -> (Self, Leadership) {
        let (leads, changes) = watch::channel(false);
        let (leader, leader_changes) = watch::channel(None);
        let until = Arc::new(AtomicU64::new(0));
        let elector = Self {
            api: Api::namespaced(client.clone(), &candidate.namespace),
            election: Election::new(
                &candidate.namespace,
                &candidate.name,
                &candidate.identity,
                candidate.address.as_deref(),
            ),
            candidate,
            until: Arc::clone(&until),
            leads,
            leader,
            told: None,
        };
        (elector, Leadership { until, leads: changes, leader: leader_changes })
    }

    /// Asks for the Lease and renews it until `stop`; then gives it back. Whoever writes must have ended before.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(RETRY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = rounds.tick() => {}
            }
            let done = tokio::select! {
                () = stop.cancelled() => break,
                done = tokio::time::timeout(REQUEST * 2, self.round()) => done,
            };
            match done {
                Ok(Ok(())) => self.told = None,
                Ok(Err(error)) => self.tell(chain(&error)),
                Err(_) => self.tell(format!("no answer for {} s", REQUEST.as_secs() * 2)),
            }
            self.announce();
        }
        self.resign().await;
    }

    /// One look at the Lease, and what follows from it.
    async fn round(&mut self) -> Result<(), kube::Error> {
        if !self.election.is_ours() {
            let lease = request(self.api.get_opt(&self.candidate.name)).await?;
            self.election.observe(lease, uptime());
        }
        let asked = uptime();
        let written = match self.election.decide(asked, Timestamp::now()) {
            Decision::Follow => return Ok(()),
            Decision::Create(lease) => request(self.api.create(&PostParams::default(), &lease)).await,
            Decision::Replace(lease) => {
                request(self.api.replace(&self.candidate.name, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                self.election.observe(Some(lease), uptime());
                // Others count from when they see it, which is later than when it was asked for.
                let until = asked + RENEW_DEADLINE;
                self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
                Ok(())
            }
            // Somebody else was faster, or the Lease is gone: look again.
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                let lease = request(self.api.get_opt(&self.candidate.name)).await?;
                self.election.observe(lease, uptime());
                if !self.election.is_ours() {
                    self.until.store(0, Ordering::Release);
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tells who leads, and whether it is this replica, if that changed.
    fn announce(&self) {
        let leader = self.election.leader();
        self.leader.send_if_modified(|was| {
            let changed = *was != leader;
            was.clone_from(&leader);
            changed
        });
        let left = Duration::from_millis(self.until.load(Ordering::Acquire)).checked_sub(uptime());
        let leads = left.is_some_and(|left| !left.is_zero());
        let changed = self.leads.send_if_modified(|was| std::mem::replace(was, leads) != leads);
        if changed && leads {
            tracing::info!(identity = %self.candidate.identity, "this replica leads");
        } else if changed {
            tracing::warn!(identity = %self.candidate.identity, leader = ?self.election.holder(), "this replica does not lead any more");
        }
    }

    fn tell(&mut self, message: String) {
        if self.told.as_deref() != Some(message.as_str()) {
            tracing::warn!(lease = %self.candidate.name, namespace = %self.candidate.namespace, %message, "the lease cannot be read or renewed; trying again");
            self.told = Some(message);
        }
    }

    async fn resign(self) {
        self.until.store(0, Ordering::Release);
        self.leads.send_replace(false);
        let Some(lease) = self.election.release(Timestamp::now()) else { return };
        match request(self.api.replace(&self.candidate.name, &PostParams::default(), &lease)).await {
            Ok(_) => tracing::info!("the lease is given back"),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the lease is not given back; it runs out by itself");
            }
        }
    }
}

/// A request that does not hang.
async fn request<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(format!("no answer for {} s", REQUEST.as_secs()).into())),
    }
}
