//! One Envoy kept alive, and ended without cutting what it serves.
//!
//! The supervisor starts Envoy, joins its log into ours, tells from its admin interface when it is live, starts it again
//! when it dies (100 ms to 10 s later, afresh after a minute of health), and drains it when told to or when its
//! control plane has been gone for too long. What it knows it writes to `status.json` in its folder. Envoy runs in a
//! process group of its own, so that a terminal's Ctrl-C reaches only whoever decides to drain.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admin::{Admin, Open};
use super::backoff::{Backoff, jitter};
use super::files::{FileError, remove, write_json, write_private};
use super::logs;
use super::process::ProcessId;
use super::status::{ProxyState, ProxyStatus};

/// Envoy's configuration, in the supervisor's folder.
pub const BOOTSTRAP_FILE: &str = "bootstrap.json";
/// Which process is Envoy, in the supervisor's folder: whoever comes next ends what is left over.
pub const ENVOY_FILE: &str = "envoy.pid";

/// First and longest wait between two starts.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// After so long a health, the waits start afresh.
const HEALTHY: Duration = Duration::from_mins(1);
/// How often the admin interface is asked before and after Envoy is live.
const PROBES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long connections may outlive their listener after a change of configuration; Envoy's own default. It bounds
/// downloads and streams, not stops: [`ProxyConfig::drain_time`] does.
const LISTENER_DRAIN: Duration = Duration::from_mins(10);

/// So long after the last request, clients that hold idle HTTP connections are not waited for: they were not told to go,
/// as HTTP/1.1 says that only with an answer, and would keep a pod for the whole drain time.
const IDLE: Duration = Duration::from_secs(5);

/// How to run one Envoy.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Whose proxy it is, `<namespace>/<name>`; for logs and the status.
    pub gateway: String,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// Its bootstrap, JSON. The admin interface in it must be at [`ProxyConfig::admin_socket`].
    pub bootstrap: String,
    /// A private folder that exists: bootstrap, status and Envoy's process id go there.
    pub folder: PathBuf,
    /// The Unix socket of Envoy's admin interface.
    pub admin_socket: PathBuf,
    /// Worker threads; one per processor if absent.
    pub concurrency: Option<u32>,
    /// Envoy's log level, as it names them.
    pub log_level: String,
    /// How long a stop waits for connections and UDP sessions to end by themselves.
    pub drain_time: Duration,
    /// How long a stop goes on accepting connections at least, although none is open.
    pub min_drain_time: Duration,
    /// How long Envoy may take to end after SIGTERM before it is killed.
    pub kill_grace: Duration,
    /// How long Envoy serves without a control plane before it drains and ends; `None` is for ever.
    pub max_detached: Option<Duration>,
}

/// How to end a supervisor.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Drain, then end.
    pub drain: CancellationToken,
    /// End at once, also in the middle of a drain.
    pub now: CancellationToken,
}

/// Why a supervisor ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The control plane was gone for longer than [`ProxyConfig::max_detached`].
    Detached,
}

/// Why a supervisor gave up.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A file of its folder could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Envoy could not be started even once.
    #[error("cannot start {}: {source}", envoy.display())]
    Spawn {
        /// The binary.
        envoy: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    config: ProxyConfig,
    admin: Admin,
    status: tokio::sync::watch::Sender<ProxyStatus>,
}

/// What ended a time of watching.
enum Event {
    Died(ExitStatus),
    Drain(Ended),
    Now,
}

struct Envoy {
    child: Child,
    tail: Arc<Mutex<logs::Tail>>,
    log: JoinHandle<()>,
}

impl Supervisor {
    /// A supervisor that has not started anything.
    pub fn new(config: ProxyConfig) -> Self {
        let admin = Admin::new(&config.admin_socket);
        let status = tokio::sync::watch::Sender::new(ProxyStatus::starting(&config.gateway));
        Self { config, admin, status }
    }

    /// What it reports, as it changes.
    pub fn status(&self) -> tokio::sync::watch::Receiver<ProxyStatus> {
        self.status.subscribe()
    }

    /// Runs Envoy until told to stop. Dropping the future kills Envoy.
    ///
    /// # Errors
    /// Where Envoy cannot be started the first time, or the folder cannot be written.
    pub async fn run(self, stop: Stop) -> Result<Ended, SupervisorError> {
        let ended = self.keep(&stop).await;
        let message = match &ended {
            Ok(Ended::Stopped) => "stopped".to_owned(),
            Ok(Ended::Detached) => "ended: no control plane for too long".to_owned(),
            Err(error) => error.to_string(),
        };
        self.report(|status| {
            status.state = ProxyState::Stopped;
            status.envoy = None;
            status.connected = None;
            status.message = Some(message);
        });
        ended
    }

    async fn keep(&self, stop: &Stop) -> Result<Ended, SupervisorError> {
        write_private(&self.config.folder.join(BOOTSTRAP_FILE), self.config.bootstrap.as_bytes())?;
        self.report(|_| {});
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut detached = Detached::new(self.config.max_detached);
        let mut started_before = false;
        loop {
            let reason = match self.start() {
                Ok(mut envoy) => {
                    started_before = true;
                    let mut live_since = None;
                    let event = self.watch(&mut envoy, stop, &mut live_since, &mut detached).await;
                    let died = match event {
                        Event::Died(status) => status,
                        Event::Drain(ended) => {
                            self.drain(&mut envoy, stop).await;
                            self.end(&mut envoy).await;
                            return Ok(ended);
                        }
                        Event::Now => {
                            self.end(&mut envoy).await;
                            return Ok(Ended::Stopped);
                        }
                    };
                    if live_since.is_some_and(|since: Instant| since.elapsed() >= HEALTHY) {
                        backoff.reset();
                    }
                    self.epitaph(envoy, died).await
                }
                Err(source) if !started_before => {
                    return Err(SupervisorError::Spawn { envoy: self.config.envoy.clone(), source });
                }
                Err(source) => format!("cannot start {}: {source}", self.config.envoy.display()),
            };
            let wait = backoff.fail(jitter());
            tracing::warn!(
                gateway = self.config.gateway,
                reason,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "Envoy ended; starting it again"
            );
            self.report(|status| {
                status.state = ProxyState::Restarting;
                status.envoy = None;
                status.connected = None;
                status.restarts += 1;
                status.message = Some(reason);
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.drain.cancelled() => return Ok(Ended::Stopped),
                () = stop.now.cancelled() => return Ok(Ended::Stopped),
            }
        }
    }

    fn start(&self) -> std::io::Result<Envoy> {
        // Envoy refuses a socket file that a killed predecessor left.
        remove(&self.config.admin_socket).map_err(std::io::Error::other)?;
        let mut command = Command::new(&self.config.envoy);
        command
            .arg("--config-path")
            .arg(self.config.folder.join(BOOTSTRAP_FILE))
            .args(["--log-format", logs::FORMAT, "--log-format-escaped"])
            .args(["--log-level", &self.config.log_level])
            .arg("--disable-hot-restart")
            .args(["--drain-time-s", &LISTENER_DRAIN.as_secs().to_string()])
            // A stop waits for connections to end, so they are asked to at once and not over ten minutes.
            .args(["--drain-strategy", "immediate"]);
        if let Some(concurrency) = self.config.concurrency {
            command.args(["--concurrency", &concurrency.to_string()]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let tail = Arc::new(Mutex::new(logs::Tail::default()));
        let log = tokio::spawn(join_log(child.stderr.take(), tail.clone()));
        let pid = child.id();
        if let Some(id) = pid.and_then(|pid| ProcessId::of(pid).ok()) {
            write_json(&self.config.folder.join(ENVOY_FILE), &id).map_err(std::io::Error::other)?;
        }
        tracing::info!(gateway = self.config.gateway, pid, "started Envoy");
        self.report(|status| {
            status.state = ProxyState::Starting;
            status.envoy = pid;
        });
        Ok(Envoy { child, tail, log })
    }

    /// Waits for the end of Envoy, or for a reason to end it.
    async fn watch(
        &self,
        envoy: &mut Envoy,
        stop: &Stop,
        live_since: &mut Option<Instant>,
        detached: &mut Detached,
    ) -> Event {
        tokio::select! {
            biased;
            () = stop.now.cancelled() => Event::Now,
            () = stop.drain.cancelled() => Event::Drain(Ended::Stopped),
            status = envoy.child.wait() => Event::Died(status.unwrap_or_else(|_| ExitStatus::from_raw(0))),
            () = self.probe(&envoy.tail, live_since, detached) => Event::Drain(Ended::Detached),
        }
    }

    /// Asks the admin interface again and again. Returns only when the control plane has been gone for too long.
    async fn probe(
        &self,
        tail: &Mutex<logs::Tail>,
        live_since: &mut Option<Instant>,
        detached: &mut Detached,
    ) {
        loop {
            let ready = self.admin.ready().await;
            let connected = self.admin.connected().await.ok().flatten();
            if matches!(ready, Ok(true)) {
                if live_since.replace(live_since.unwrap_or_else(Instant::now)).is_none() {
                    tail.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
            } else if live_since.take().is_some() {
                tracing::warn!(gateway = self.config.gateway, ?ready, "Envoy is no longer ready");
            }
            self.report(|status| {
                let was_live = matches!(status.state, ProxyState::Ready | ProxyState::NotReady);
                (status.state, status.message) = match ready {
                    Ok(true) => (ProxyState::Ready, None),
                    Ok(false) if was_live => {
                        (ProxyState::NotReady, Some("Envoy says that it is not live".to_owned()))
                    }
                    Err(error) if was_live => (ProxyState::NotReady, Some(error.to_string())),
                    // Why the last one died is worth more than that this one starts.
                    _ => (ProxyState::Starting, status.message.take()),
                };
                status.connected = connected;
            });
            if detached.observe(connected, Instant::now()) {
                tracing::warn!(gateway = self.config.gateway, "no control plane for too long; draining");
                return;
            }
            tokio::time::sleep(if live_since.is_some() { PROBES.1 } else { PROBES.0 }).await;
        }
    }

    /// Asks clients to leave and waits until they did, the drain time is over, or there is no more time at all.
    async fn drain(&self, envoy: &mut Envoy, stop: &Stop) {
        self.report(|status| {
            status.state = ProxyState::Draining;
            status.message = Some("waiting for connections to end".to_owned());
        });
        if let Err(error) = self.admin.drain().await {
            tracing::warn!(gateway = self.config.gateway, %error, "Envoy does not drain; ending it");
            return;
        }
        let quiet = async {
            // Who sends traffic here may not know yet that we are going.
            tokio::time::sleep(self.config.min_drain_time).await;
            let mut idle_since = None;
            loop {
                match self.admin.open().await {
                    Ok(Open { connections: 0, .. }) => return,
                    Ok(Open { busy: 0, .. }) => {
                        if idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE {
                            return;
                        }
                    }
                    Ok(open) => {
                        idle_since = None;
                        tracing::debug!(gateway = self.config.gateway, ?open, "draining");
                    }
                    Err(error) => tracing::debug!(gateway = self.config.gateway, %error, "draining"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = quiet => tracing::info!(gateway = self.config.gateway, "drained"),
            () = tokio::time::sleep(self.config.drain_time) => {
                tracing::info!(gateway = self.config.gateway, "drain time is over; closing what is left");
            }
            () = stop.now.cancelled() => {}
            _ = envoy.child.wait() => {}
        }
    }

    /// SIGTERM, then SIGKILL.
    async fn end(&self, envoy: &mut Envoy) {
        // `id` is None once the child was waited for, so no stranger is signalled.
        let pid = envoy.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            if let Err(error) = kill_process(pid, Signal::TERM) {
                tracing::warn!(gateway = self.config.gateway, %error, "cannot signal Envoy");
            }
            if tokio::time::timeout(self.config.kill_grace, envoy.child.wait()).await.is_err() {
                tracing::warn!(gateway = self.config.gateway, "Envoy does not end; killing it");
                if let Err(error) = envoy.child.kill().await {
                    tracing::warn!(gateway = self.config.gateway, %error, "cannot kill Envoy");
                }
            }
        }
        self.forget();
    }

    /// What an exit was, with Envoy's last words.
    async fn epitaph(&self, envoy: Envoy, status: ExitStatus) -> String {
        self.forget();
        // The rest of the log is in the pipe already; a grandchild that holds it open must not hold us up.
        tokio::time::timeout(Duration::from_secs(1), envoy.log).await.ok();
        let how = match (status.code(), status.signal()) {
            (_, Some(signal)) => format!("killed by signal {signal}"),
            (Some(code), None) => format!("exited with status {code}"),
            (None, None) => "ended".to_owned(),
        };
        let words = envoy.tail.lock().unwrap_or_else(PoisonError::into_inner).text();
        if words.is_empty() { how } else { format!("{how}; last words: {words}") }
    }

    fn forget(&self) {
        for path in [self.config.folder.join(ENVOY_FILE), self.config.admin_socket.clone()] {
            if let Err(error) = remove(&path) {
                tracing::warn!(gateway = self.config.gateway, %error, "left over");
            }
        }
    }

    /// Changes the status and writes it where that made a difference.
    fn report(&self, change: impl FnOnce(&mut ProxyStatus)) {
        let mut next = self.status.borrow().clone();
        let before = next.state;
        change(&mut next);
        if next.state != before {
            next.since = Timestamp::now();
        }
        let changed = *self.status.borrow() != next;
        let path = self.config.folder.join(super::status::FILE);
        if (changed || !path.exists())
            && let Err(error) = next.write(&self.config.folder)
        {
            tracing::warn!(gateway = self.config.gateway, %error, "status not written");
        }
        if changed {
            self.status.send_replace(next);
        }
    }
}

/// How long the control plane has been gone.
#[derive(Debug)]
struct Detached {
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Detached {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: None }
    }

    /// Notes what Envoy said, and tells whether the limit is passed. Silence changes nothing: an Envoy without a
    /// control plane says nothing for ever, and one that starts again says nothing for a moment.
    fn observe(&mut self, connected: Option<bool>, now: Instant) -> bool {
        match connected {
            Some(true) => self.since = None,
            Some(false) => _ = self.since.get_or_insert(now),
            None => {}
        }
        match (self.limit, self.since) {
            (Some(limit), Some(since)) => now.duration_since(since) > limit,
            _ => false,
        }
    }
}

async fn join_log(stderr: Option<ChildStderr>, tail: Arc<Mutex<logs::Tail>>) {
    let Some(mut stderr) = stderr else { return };
    let mut splitter = logs::Splitter::default();
    let mut buffer = vec![0; 8192];
    let hear = |text: &str| {
        let line = logs::parse(text);
        logs::emit(&line);
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
    };
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        for line in splitter.push(buffer.get(..length).unwrap_or_default()) {
            hear(&line);
        }
    }
    if let Some(line) = splitter.finish() {
        hear(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_is_missed_only_when_it_is_said_to_be_gone() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut detached = Detached::new(Some(Duration::from_secs(10)));
        assert!(!detached.observe(None, at(100)), "no control plane is configured");
        assert!(!detached.observe(Some(false), at(100)));
        assert!(!detached.observe(Some(false), at(109)));
        assert!(!detached.observe(Some(true), at(110)));
        assert!(!detached.observe(Some(false), at(200)));
        assert!(!detached.observe(None, at(205)), "a restart does not start the time again");
        assert!(detached.observe(Some(false), at(211)));
        let mut endless = Detached::new(None);
        assert!(!endless.observe(Some(false), at(0)));
        assert!(!endless.observe(Some(false), at(1_000_000)));
    }
}
