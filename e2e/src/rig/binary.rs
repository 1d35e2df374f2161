//! Which `portolan` and which Envoy the tests run.
//!
//! `$PORTOLAN_BIN` if it is set, else the `portolan` that cargo built beside the test. A test of one package does not make cargo
//! build another one's binary, so one that is missing, or older than a source file that it is made of, is built first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use portolan::fleet::envoy::{self, Environment};

/// The `portolan` to test.
pub fn portolan() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(named) = std::env::var_os("PORTOLAN_BIN").filter(|path| !path.is_empty()) {
            let named = PathBuf::from(named);
            assert!(named.is_file(), "PORTOLAN_BIN names {}, which is not a file", named.display());
            return named;
        }
        let path = beside("portolan");
        if let Some(reason) = stale(&path) {
            build(&path, &reason);
        }
        path
    })
}

/// A binary that cargo built for the same profile.
pub(super) fn beside(name: &str) -> PathBuf {
    // A test is <target>/<profile>/deps/<test>-<hash>, a binary <target>/<profile>/<name>.
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().expect("a program lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().expect("cargo's folder") } else { folder };
    profile.join(name)
}

/// Why the binary cannot be used as it is, by the list of its sources that cargo writes beside it.
fn stale(binary: &Path) -> Option<String> {
    let modified = |path: &Path| -> Option<SystemTime> { std::fs::metadata(path).ok()?.modified().ok() };
    let Some(built) = modified(binary) else { return Some("it is missing".to_owned()) };
    let Ok(sources) = std::fs::read_to_string(binary.with_extension("d")) else {
        return Some("its list of sources is missing".to_owned());
    };
    let (_, sources) = sources.split_once(':')?;
    let newer = sources
        .replace("\\ ", "\0")
        .split_ascii_whitespace()
        .map(|path| PathBuf::from(path.replace('\0', " ")))
        .find(|path| modified(path).is_none_or(|modified| modified > built));
    newer.map(|path| format!("{} is newer", path.display()))
}

fn build(binary: &Path, reason: &str) {
    let profile = binary.parent().expect("a binary lies in a folder");
    tracing::info!(%reason, "building portolan");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Together with this package: alone, its dependencies would be built once more, with fewer features.
    command.args(["build", "--quiet", "--locked", "--package", "portolan", "--package", "portolan-e2e"]);
    command.args(["--bin", "portolan"]);
    command.arg("--target-dir").arg(profile.parent().expect("a profile lies in the target folder"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let done = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(done.success(), "portolan does not build");
}

/// The Envoy to test with; like `hack/test`, with the repository's own cache where nothing else is named.
pub fn envoy() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut environment = Environment::current();
        let cache = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache").into_os_string();
        environment.portolan_cache.get_or_insert_with(cache);
        envoy::find(None, &environment).expect("these tests need Envoy: hack/envoy installs it")
    })
}
