//! The state folder of a standalone: what it needs to find its proxies again, one folder per set of inputs.
//!
//! Only one standalone uses it at a time (its lock says who). Unix sockets lie in it too where its path is short enough
//! for them (about 107 bytes), else in a short folder beside, whose place is remembered: a proxy that still runs
//! knows its sockets by path.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::GatewayName;
use super::files::{FileError, private_folder, read_json, write_json};
use super::lock::{Lock, LockError};
use super::process::ProcessId;

/// The longest path of a Unix socket (`sun_path` has 108 bytes with its final zero).
const LONGEST_SOCKET: usize = 107;
/// Room for the longest name in the folder of sockets: `/<16 hex>-admin.sock`.
const SOCKET_NAME: usize = 1 + 16 + "-admin.sock".len();
const LOCK_FILE: &str = "standalone.lock";
const SOCKETS_FILE: &str = "sockets.json";

/// A socket whose path the system cannot take.
#[derive(Debug, thiserror::Error)]
#[error("the path of Unix socket {} is longer than {LONGEST_SOCKET} bytes; choose a shorter folder", .0.display())]
pub struct SocketError(PathBuf);

/// Refuses a Unix socket's path that is too long.
///
/// # Errors
/// Names the path.
pub fn check_socket(path: &Path) -> Result<(), SocketError> {
    if path.as_os_str().len() > LONGEST_SOCKET { Err(SocketError(path.to_owned())) } else { Ok(()) }
}

/// What is read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `$PORTOLAN_STATE`.
    pub portolan_state: Option<OsString>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<OsString>,
    /// `$HOME`.
    pub home: Option<OsString>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<OsString>,
}

impl Environment {
    /// This process' environment. An empty variable counts as unset.
    pub fn current() -> Self {
        let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            portolan_state: get("PORTOLAN_STATE"),
            xdg_state_home: get("XDG_STATE_HOME"),
            home: get("HOME"),
            xdg_runtime_dir: get("XDG_RUNTIME_DIR"),
        }
    }

    /// The folder of all state folders: `$PORTOLAN_STATE`, `$XDG_STATE_HOME/portolan` or `~/.local/state/portolan`.
    ///
    /// # Errors
    /// Where none of these variables is set.
    pub fn root(&self) -> Result<PathBuf, StateError> {
        if let Some(state) = &self.portolan_state {
            return Ok(state.into());
        }
        match (&self.xdg_state_home, &self.home) {
            (Some(state), _) => Ok(Path::new(state).join("portolan")),
            (None, Some(home)) => Ok(Path::new(home).join(".local/state/portolan")),
            (None, None) => Err(StateError::NoHome),
        }
    }
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Nothing says where it should be.
    #[error(
        "no place for state: set PORTOLAN_STATE to a folder (XDG_STATE_HOME and HOME are not set either)"
    )]
    NoHome,
    /// Another standalone uses it.
    #[error(
        "portolan standalone for these folders is {0}; stop it first, or look at it with `portolan status`"
    )]
    Locked(LockError),
    /// An input folder that does not exist, or a file that cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A state folder's place. Looking at it changes nothing: `portolan status` does so beside a running standalone.
#[derive(Debug, Clone)]
pub struct StatePaths {
    key: String,
    folder: PathBuf,
    sockets: PathBuf,
}

impl StatePaths {
    /// The place for a set of input folders or files; their order does not matter.
    ///
    /// # Errors
    /// Where an input does not exist, or there is no place for state.
    pub fn of(inputs: &[PathBuf], environment: &Environment) -> Result<Self, StateError> {
        let key = key(inputs)?;
        let root = environment.root()?;
        let root = std::path::absolute(&root).map_err(FileError::on("use", &root))?;
        let folder = root.join(&key);
        let sockets = match read_json::<PathBuf>(&folder.join(SOCKETS_FILE))? {
            Some(recorded) => recorded,
            None => sockets(&folder, &key, environment),
        };
        Ok(Self { key, folder, sockets })
    }

    /// The standalones of this user that run now.
    ///
    /// # Errors
    /// Where the place of state is unknown or cannot be read.
    pub fn running(environment: &Environment) -> Result<Vec<Self>, StateError> {
        let root = environment.root()?;
        let entries = match std::fs::read_dir(&root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::on("read", &root))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let folder = entry.map_err(FileError::on("read", &root))?.path();
            let Some(key) = folder.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                continue;
            };
            if let Ok(Some(sockets)) = read_json::<PathBuf>(&folder.join(SOCKETS_FILE)) {
                let paths = Self { key, folder, sockets };
                found.extend(paths.holder().is_some().then_some(paths));
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// 16 hex digits that stand for the inputs.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The state folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The socket that the standalone's own endpoint listens on.
    pub fn api_socket(&self) -> PathBuf {
        self.sockets.join("api.sock")
    }

    /// The socket that a Gateway's proxy gets its configuration from.
    pub fn xds_socket(&self, gateway: &GatewayName) -> PathBuf {
        self.sockets.join(format!("{}-xds.sock", gateway.hash()))
    }

    /// The socket of a Gateway's Envoy's admin interface.
    pub fn admin_socket(&self, gateway: &GatewayName) -> PathBuf {
        self.sockets.join(format!("{}-admin.sock", gateway.hash()))
    }

    /// The folder of all Gateways' folders.
    pub fn gateways(&self) -> PathBuf {
        self.folder.join("gateways")
    }

    /// A Gateway's folder.
    pub fn gateway(&self, gateway: &GatewayName) -> PathBuf {
        self.gateways().join(gateway.folder())
    }

    /// The running standalone that uses it, if any.
    pub fn holder(&self) -> Option<ProcessId> {
        Lock::holder(&self.folder.join(LOCK_FILE))
    }
}

/// A state folder in use by this process.
#[derive(Debug)]
pub struct StateFolder {
    paths: StatePaths,
    _lock: Lock,
}

impl StateFolder {
    /// Makes the folder where it is missing, and takes its lock.
    ///
    /// # Errors
    /// Where another standalone uses it, or it cannot be made or is open to others.
    pub fn open(paths: StatePaths) -> Result<Self, StateError> {
        private_folder(&paths.folder)?;
        let lock = Lock::take(&paths.folder.join(LOCK_FILE)).map_err(StateError::Locked)?;
        private_folder(&paths.gateways())?;
        private_folder(&paths.sockets)?;
        write_json(&paths.folder.join(SOCKETS_FILE), &paths.sockets)?;
        Ok(Self { paths, _lock: lock })
    }

    /// Where everything is.
    pub fn paths(&self) -> &StatePaths {
        &self.paths
    }
}

fn key(inputs: &[PathBuf]) -> Result<String, FileError> {
    let mut canonical = BTreeSet::new();
    for input in inputs {
        let path = input.canonicalize().map_err(FileError::on("use", input))?;
        canonical.insert(path.into_os_string());
    }
    let mut hasher = blake3::Hasher::new();
    for path in &canonical {
        // No path holds a zero byte, so no two sets of paths are one.
        hasher.update(path.as_encoded_bytes()).update(&[0]);
    }
    Ok(hasher.finalize().to_hex().chars().take(16).collect())
}

fn sockets(folder: &Path, key: &str, environment: &Environment) -> PathBuf {
    let fits = |path: &Path| path.as_os_str().len() + SOCKET_NAME <= LONGEST_SOCKET;
    let inside = folder.join("run");
    if fits(&inside) {
        return inside;
    }
    // The key names inputs; two state roots may hold the same one.
    let whole: String =
        blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex().chars().take(16).collect();
    if let Some(runtime) = &environment.xdg_runtime_dir {
        let beside = Path::new(runtime).join(format!("portolan-{whole}"));
        if fits(&beside) {
            return beside;
        }
    }
    tracing::debug!(key, "the state folder's path is too long for sockets");
    PathBuf::from(format!("/tmp/portolan-{}-{whole}", rustix::process::geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(state: &Path) -> Environment {
        Environment { portolan_state: Some(state.into()), ..Environment::default() }
    }

    #[test]
    fn one_standalone_per_set_of_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let environment = environment(&folder.path().join("state"));
        let of = |inputs: &[&PathBuf]| {
            StatePaths::of(&inputs.iter().map(|path| (*path).clone()).collect::<Vec<_>>(), &environment)
                .unwrap()
        };
        assert_eq!(of(&[&a, &b]).folder(), of(&[&b, &a.join("../a"), &a]).folder());
        assert_ne!(of(&[&a]).folder(), of(&[&b]).folder());
        let open = StateFolder::open(of(&[&a])).unwrap();
        let error = StateFolder::open(of(&[&a])).unwrap_err().to_string();
        assert!(error.contains(&format!("already running as pid {}", std::process::id())), "{error}");
        assert_eq!(of(&[&a]).holder().unwrap().pid, std::process::id());
        StateFolder::open(of(&[&b])).unwrap();
        drop(open);
        StateFolder::open(of(&[&a])).unwrap();
        assert!(StatePaths::of(&[folder.path().join("none")], &environment).is_err());
    }

    #[test]
    fn sockets_move_out_of_long_paths_and_stay_where_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let input = [folder.path().to_owned()];
        let gateway = GatewayName::new("default", "gw").unwrap();
        let short = StatePaths::of(&input, &environment(&folder.path().join("s"))).unwrap();
        assert!(short.xds_socket(&gateway).starts_with(short.folder()));

        let long = folder.path().join("x".repeat(100));
        let mut environment = environment(&long);
        environment.xdg_runtime_dir = Some(folder.path().join("run").into());
        let paths = StatePaths::of(&input, &environment).unwrap();
        assert!(paths.admin_socket(&gateway).starts_with(folder.path().join("run")));
        check_socket(&paths.admin_socket(&gateway)).unwrap();
        drop(StateFolder::open(paths.clone()).unwrap());
        environment.xdg_runtime_dir = None;
        let again = StatePaths::of(&input, &environment).unwrap();
        assert_eq!(again.xds_socket(&gateway), paths.xds_socket(&gateway));
        assert!(check_socket(&long.join("a.sock")).is_err());
    }

    #[test]
    fn the_root_follows_the_environment() {
        let mut environment = Environment::default();
        assert!(environment.root().unwrap_err().to_string().contains("PORTOLAN_STATE"));
        environment.home = Some("/h".into());
        assert_eq!(environment.root().unwrap(), Path::new("/h/.local/state/portolan"));
        environment.xdg_state_home = Some("/x".into());
        assert_eq!(environment.root().unwrap(), Path::new("/x/portolan"));
        environment.portolan_state = Some("/p".into());
        assert_eq!(environment.root().unwrap(), Path::new("/p"));
    }
}
