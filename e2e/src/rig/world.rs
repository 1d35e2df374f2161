//! A world: manifests, echo backends, and a standalone that serves them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use portolan::fleet::process::ProcessId;
use portolan::fleet::state::{Environment, StateError, StatePaths};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::backends::Backends;
use super::client::Target;
use super::keeper::Keeper;
use super::processes::{self, Proxy};
use super::status::Status;
use super::{binary, manifest, socket};

/// How long anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How long the end of everything may take, drains included.
pub(super) const END: Duration = Duration::from_secs(20);
/// How many lines of the log are shown with a failure.
const LINES: usize = 25;

/// What a world starts with.
#[derive(Debug, Default)]
pub struct Plan {
    backends: Vec<String>,
    manifests: Vec<(String, String)>,
    arguments: Vec<String>,
    envoy: Option<PathBuf>,
}

/// See the module. Dropping it ends everything that it started; one in a static is ended when the tests of its file are over.
#[derive(Debug)]
pub struct World {
    /// The echo backends.
    pub backends: Backends,
    keeper: Mutex<Keeper>,
    folder: TempDir,
    arguments: Vec<String>,
    envoy: PathBuf,
    paths: StatePaths,
    running: Mutex<Option<Child>>,
}

impl Plan {
    /// An echo backend of that name, as a Service with one endpoint ([`manifest::service`]).
    #[must_use]
    pub fn backend(mut self, name: &str) -> Self {
        self.backends.push(name.to_owned());
        self
    }

    /// Several of them.
    #[must_use]
    pub fn backends(self, names: &[&str]) -> Self {
        names.iter().fold(self, |plan, name| plan.backend(name))
    }

    /// A file in the folder of manifests.
    #[must_use]
    pub fn manifest(mut self, file: &str, yaml: &str) -> Self {
        self.manifests.push((file.to_owned(), yaml.to_owned()));
        self
    }

    /// One more argument for `portolan standalone`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// An Envoy other than the usual one.
    #[must_use]
    pub fn envoy(mut self, path: &Path) -> Self {
        self.envoy = Some(path.to_owned());
        self
    }

    /// Makes the folder and the backends; nothing of Portolan runs yet.
    pub fn prepare(self) -> World {
        let folder = tempfile::Builder::new().prefix("portolan-").tempdir().unwrap();
        for part in ["manifests", "new", "state"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let paths = state_paths(folder.path()).unwrap();
        let world = World {
            backends: Backends::default(),
            keeper: Mutex::new(Keeper::start(folder.path())),
            folder,
            arguments: self.arguments,
            envoy: self.envoy.unwrap_or_else(|| binary::envoy().to_owned()),
            paths,
            running: Mutex::default(),
        };
        world.write("class.yaml", manifest::CLASS);
        for name in &self.backends {
            let address = world.backends.start(name);
            world.write(&format!("backend-{name}.yaml"), &manifest::service(name, &[address]));
        }
        for (file, yaml) in &self.manifests {
            world.write(file, yaml);
        }
        world
    }

    /// Starts everything, and waits until what can be programmed is.
    pub async fn start(self) -> World {
        let world = self.prepare();
        world.run();
        world.settled().await;
        world
    }
}

impl World {
    /// A new world's plan.
    pub fn plan() -> Plan {
        Plan::default()
    }

    /// The folder of manifests.
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// Where the standalone's state is.
    pub fn paths(&self) -> &StatePaths {
        &self.paths
    }

    /// Writes a manifest in one step, as a careful editor does.
    pub fn write(&self, file: &str, yaml: &str) {
        let new = self.folder.path().join("new").join(file);
        std::fs::write(&new, yaml).unwrap();
        std::fs::rename(new, self.manifests().join(file)).unwrap();
    }

    /// Deletes a manifest.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.manifests().join(file)).unwrap();
    }

    /// `portolan` with this world's state, for a command of the test's own.
    pub fn portolan(&self) -> Command {
        let mut command = Command::new(binary::portolan());
        command
            .env("PORTOLAN_STATE", self.folder.path().join("state"))
            .env_remove("PORTOLAN_ENVOY")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// `portolan standalone` over this world's folder, with its arguments, and our own for what these do not say.
    pub fn standalone(&self) -> Command {
        let mut command = self.portolan();
        command.arg("standalone").arg(self.manifests()).arg("--envoy").arg(&self.envoy);
        for (name, value) in [("--drain-time", "1"), ("--max-detached", "60"), ("--concurrency", "2")] {
            if !self.arguments.iter().any(|given| given == name) {
                command.args([name, value]);
            }
        }
        command.args(&self.arguments);
        command
    }

    /// Runs `portolan <command> <manifests> …` to its end.
    pub fn command(&self, command: &str, arguments: &[&str]) -> Output {
        self.portolan().arg(command).arg(self.manifests()).args(arguments).output().unwrap()
    }

    /// Starts the standalone, which must not run.
    pub fn run(&self) {
        let mut running = self.running.lock().unwrap();
        assert!(running.is_none(), "the standalone runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.standalone();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.process_group(0).spawn().unwrap();
        self.keeper.lock().unwrap().watch(&ProcessId::of(child.id()).unwrap());
        *running = Some(child);
    }

    /// The standalone's process.
    pub fn process(&self) -> ProcessId {
        let running = self.running.lock().unwrap();
        ProcessId::of(running.as_ref().expect("the standalone was started").id()).unwrap()
    }

    /// The proxies that run.
    pub fn proxies(&self) -> Vec<Proxy> {
        processes::proxies(&self.paths)
    }

    /// Kills the standalone hard; its proxies go on.
    pub fn kill(&self) {
        let mut child = self.running.lock().unwrap().take().expect("the standalone was started");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the standalone as Ctrl-C does, and waits for its end.
    pub fn stop(&self) -> ExitStatus {
        let child = self.running.lock().unwrap().take().expect("the standalone was started");
        end(child, END).unwrap_or_else(|| panic!("does not stop within {END:?}\n{}", self.log_end()))
    }

    /// The standalone's exit status, if it ended by itself.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.running.lock().unwrap().as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// Asks the running standalone over its Unix socket; the status code and the body.
    ///
    /// # Errors
    /// Where none answers.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        socket::get(&self.paths.api_socket(), path).await
    }

    /// What the control plane counts of its responses to proxies: type and `ack` or `nack` → how many, since it started.
    pub async fn responses(&self) -> BTreeMap<String, u64> {
        let (_, text) = self.get("/metrics").await.unwrap_or_else(|error| panic!("/metrics: {error}"));
        let counted = text.lines().filter_map(|line| {
            let (labels, count) = line.strip_prefix("portolan_xds_responses_total{")?.split_once("} ")?;
            let value = |name: &str| labels.split(',').find_map(|label| label.strip_prefix(name));
            let key =
                format!("{} {}", value("type=")?.trim_matches('"'), value("result=")?.trim_matches('"'));
            Some((key, count.parse().ok()?))
        });
        counted.collect()
    }

    /// Asks for a page of JSON that must be there.
    pub async fn json(&self, path: &str) -> Value {
        let (code, body) = self.get(path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// The status of the running standalone, if one answers.
    pub async fn try_status(&self) -> Option<Status> {
        let (code, body) = self.get("/status").await.ok()?;
        (code == 200).then(|| Status::parse(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// The status of the running standalone.
    pub async fn status(&self) -> Status {
        self.until("a status", |_| true).await
    }

    /// Waits until the status is as a test wants it.
    pub async fn until(&self, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
        let started = Instant::now();
        loop {
            let status = self.try_status().await;
            if let Some(status) = status.as_ref().filter(|status| reached(status)) {
                return status.clone();
            }
            let ended = self.ended();
            if started.elapsed() > DEADLINE || ended.is_some() {
                let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
                panic!(
                    "not reached within {:?}: {what}\nstandalone ended: {ended:?}\nstatus: {status}\n{}",
                    started.elapsed(),
                    self.log_end()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until nothing is on its way: every proxy ready, every condition decided.
    pub async fn settled(&self) -> Status {
        self.until("settled", Status::settled).await
    }

    /// Writes a manifest in which the spec of every Gateway and route is new, and waits until their Envoys acknowledged it.
    pub async fn edit(&self, file: &str, yaml: &str) -> Status {
        let keys = reported_keys(yaml);
        let before = self.status().await;
        self.write(file, yaml);
        let done = |status: &Status, key: &String| {
            status.generation(key) > before.generation(key) && status.programmed(key)
        };
        let what = format!("{} edited and programmed", keys.join(", "));
        self.until(&what, |status| keys.iter().all(|key| done(status, key))).await
    }

    /// HTTP/1.1 to a port of a Gateway in the default namespace.
    pub async fn http(&self, gateway: &str, port: u16) -> Target {
        Target::http(self.bound(gateway, &format!("{port}/tcp")).await)
    }

    /// Where a port of a Gateway in the default namespace is bound: `80/tcp`, `53/udp`.
    pub async fn bound(&self, gateway: &str, port: &str) -> SocketAddr {
        let gateway = format!("default/{gateway}");
        let bound = |status: &Status| status.bound_on(&gateway, port);
        let status = self.until("the port is bound", |status| bound(status).is_some()).await;
        bound(&status).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("standalone.log")
    }

    /// Everything the standalone logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The end of the log, and of the proxies' logs.
    pub fn log_end(&self) -> String {
        let mut text = format!("--- end of the standalone's log\n{}", tail(&self.log_file(), LINES));
        let gateways = std::fs::read_dir(self.paths.gateways()).into_iter().flatten();
        for folder in gateways.filter_map(Result::ok) {
            let log = folder.path().join(portolan::fleet::host::LOG_FILE);
            write!(text, "\n--- end of {}\n{}", log.display(), tail(&log, LINES / 3)).unwrap();
        }
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let child = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let stopped = child.is_none_or(|child| end(child, END).is_some());
        processes::kill_left_over(&self.paths);
        let failing = std::thread::panicking();
        assert!(stopped || failing, "the standalone did not stop within {END:?}\n{}", self.log_end());
    }
}

/// The state folder of the world in a folder.
pub(super) fn state_paths(folder: &Path) -> Result<StatePaths, StateError> {
    let environment =
        Environment { portolan_state: Some(folder.join("state").into()), ..Environment::default() };
    StatePaths::of(&[folder.join("manifests")], &environment)
}

/// Ends a child: SIGTERM, and SIGKILL where that is not enough. Its exit status, if SIGTERM was.
fn end(mut child: Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(process) = ProcessId::of(child.id()) {
        process.signal(Signal::TERM).ok();
    }
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().ok();
    child.wait().ok();
    None
}

/// The Gateways and routes of a manifest: `<Kind>/<namespace>/<name>`.
fn reported_keys(yaml: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for document in yaml.split("\n---") {
        let object: Value =
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}: {document}"));
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind == "Gateway" || kind.ends_with("Route") {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            keys.push(format!("{kind}/{namespace}/{name}"));
        }
    }
    keys
}

fn tail(path: &Path, most: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].join("\n")
}
