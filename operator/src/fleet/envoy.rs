//! Finding the Envoy binary.
//!
//! In this order: what the user names, `$PORTOLAN_ENVOY`, `envoy` on `$PATH`, the cache folder. A place that the user
//! names must work: nothing else is tried then.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version that is tested with, and that `hack/envoy` installs.
pub const VERSION: &str = "1.40.0";
/// The oldest version, major and minor, that has what our configuration uses.
pub const OLDEST: (u32, u32) = (1, 38);

/// What is read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `$PORTOLAN_ENVOY`.
    pub portolan_envoy: Option<OsString>,
    /// `$PATH`.
    pub path: Option<OsString>,
    /// `$PORTOLAN_CACHE`.
    pub portolan_cache: Option<OsString>,
    /// `$XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<OsString>,
    /// `$HOME`.
    pub home: Option<OsString>,
}

impl Environment {
    /// This process' environment. An empty variable counts as unset.
    pub fn current() -> Self {
        let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            portolan_envoy: get("PORTOLAN_ENVOY"),
            path: get("PATH"),
            portolan_cache: get("PORTOLAN_CACHE"),
            xdg_cache_home: get("XDG_CACHE_HOME"),
            home: get("HOME"),
        }
    }

    /// The cache folder: `$PORTOLAN_CACHE`, `$XDG_CACHE_HOME/portolan` or `~/.cache/portolan`.
    pub fn cache(&self) -> Option<PathBuf> {
        if let Some(cache) = &self.portolan_cache {
            return Some(cache.into());
        }
        match (&self.xdg_cache_home, &self.home) {
            (Some(cache), _) => Some(Path::new(cache).join("portolan")),
            (None, Some(home)) => Some(Path::new(home).join(".cache/portolan")),
            (None, None) => None,
        }
    }
}

/// Why there is no Envoy to run.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The place that the user named has none.
    #[error("{by} names {}, which is not an executable file", path.display())]
    Named {
        /// `--envoy` or `PORTOLAN_ENVOY`.
        by: &'static str,
        /// The place.
        path: PathBuf,
    },
    /// No place has one.
    #[error(
        "no Envoy found. Looked for {}. Name one with --envoy PATH or PORTOLAN_ENVOY; `hack/envoy` installs one and prints its path",
        tried.join(", ")
    )]
    Missing {
        /// The places, in the order that they were tried.
        tried: Vec<String>,
    },
    /// It is too old.
    #[error("{} is Envoy {found}; at least {}.{} is needed ({VERSION} is tested). `hack/envoy` installs that and prints its path", path.display(), OLDEST.0, OLDEST.1)]
    Old {
        /// The binary.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
    /// It does not say which version it is.
    #[error("{} is not an Envoy that runs here: {reason}", path.display())]
    Unusable {
        /// The binary.
        path: PathBuf,
        /// What `--version` did.
        reason: String,
    },
}

/// An Envoy's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Always 1 so far.
    pub major: u32,
    /// A new one each quarter.
    pub minor: u32,
    /// Security and bug fixes.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Finds a binary, without running it.
///
/// # Errors
/// Names all places that were tried, and how to install one.
pub fn find(explicit: Option<&Path>, environment: &Environment) -> Result<PathBuf, EnvoyError> {
    let named = [
        ("--envoy", explicit.map(Path::to_path_buf)),
        ("PORTOLAN_ENVOY", environment.portolan_envoy.as_ref().map(PathBuf::from)),
    ];
    let mut tried = Vec::new();
    for (by, path) in named {
        match path {
            Some(path) if executable(&path) => return Ok(path),
            Some(path) => return Err(EnvoyError::Named { by, path }),
            None => tried.push(format!("{by} (not given)")),
        }
    }
    let path = environment.path.clone().unwrap_or_default();
    if let Some(found) =
        std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|path| executable(path))
    {
        return Ok(found);
    }
    tried.push("`envoy` on PATH".to_owned());
    if let Some(cache) = environment.cache() {
        let path = cache.join("envoy").join(VERSION).join("envoy");
        if executable(&path) {
            return Ok(path);
        }
        tried.push(path.display().to_string());
    }
    Err(EnvoyError::Missing { tried })
}

/// Runs `envoy --version` and checks that it is new enough.
///
/// # Errors
/// Where it does not run, is no Envoy, or is too old.
pub async fn check(path: &Path) -> Result<Version, EnvoyError> {
    let unusable = |reason: String| EnvoyError::Unusable { path: path.to_owned(), reason };
    let run = tokio::process::Command::new(path)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(Duration::from_secs(20), run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unusable(error.to_string())),
        Err(_) => return Err(unusable("`--version` does not end".to_owned())),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(found) = parse(&text) else {
        let errors = String::from_utf8_lossy(&output.stderr);
        let first = text.lines().chain(errors.lines()).find(|line| !line.trim().is_empty());
        return Err(unusable(format!("`--version` said {:?}", first.unwrap_or_default())));
    };
    if (found.major, found.minor) < OLDEST {
        return Err(EnvoyError::Old { path: path.to_owned(), found });
    }
    Ok(found)
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// From `envoy  version: <commit>/<version>/<tree>/<build>/<crypto>`.
fn parse(text: &str) -> Option<Version> {
    let (_, build) = text.split_once("version:")?;
    let version = build.split('/').nth(1)?;
    // Development builds say 1.41.0-dev.
    let mut numbers = version.split('-').next()?.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Version { major: next()?, minor: next()?, patch: next()? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Written by another process: a file that is open for writing in this one may be so in a child of a test beside
    /// it, and cannot be run then.
    fn script(path: &Path, said: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("#!/bin/sh\necho '{said}'\n");
        let write = r#"printf %s "$1" >"$2" && chmod 755 "$2""#;
        let mut command = std::process::Command::new("sh");
        assert!(command.args(["-c", write, "sh", &text]).arg(path).status().unwrap().success());
    }

    #[test]
    fn places_are_tried_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut environment = Environment { home: Some(at("home").into()), ..Environment::default() };
        let missing = find(None, &environment).unwrap_err().to_string();
        for part in
            ["--envoy", "PORTOLAN_ENVOY", "PATH", "home/.cache/portolan/envoy/1.40.0/envoy", "hack/envoy"]
        {
            assert!(missing.contains(part), "{missing}");
        }
        for (place, path) in [
            ("home", at("home/.cache/portolan/envoy/1.40.0/envoy")),
            ("xdg", at("xdg/portolan/envoy/1.40.0/envoy")),
            ("cache", at("cache/envoy/1.40.0/envoy")),
            ("path", at("bin/envoy")),
            ("variable", at("own")),
        ] {
            script(&path, "");
            match place {
                "xdg" => environment.xdg_cache_home = Some(at("xdg").into()),
                "cache" => environment.portolan_cache = Some(at("cache").into()),
                "path" => environment.path = Some(at("bin").into()),
                "variable" => environment.portolan_envoy = Some(at("own").into()),
                _ => {}
            }
            assert_eq!(find(None, &environment).unwrap(), path, "{place}");
        }
        script(&at("explicit"), "");
        assert_eq!(find(Some(&at("explicit")), &environment).unwrap(), at("explicit"));
        let error = find(Some(&at("none")), &environment).unwrap_err().to_string();
        assert!(error.contains("--envoy names") && error.contains("/none"), "{error}");
    }

    #[test]
    fn versions_are_parsed() {
        let text = "\nenvoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse(text).unwrap().to_string(), "1.40.0");
        assert_eq!(parse("envoy version: 9e55/1.41.0-dev/Clean/RELEASE/x").unwrap().minor, 41);
        assert_eq!(parse("hello"), None);
    }

    #[tokio::test]
    async fn old_and_foreign_binaries_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        script(&path, "envoy  version: 0/1.22.3/Clean/RELEASE/BoringSSL");
        let error = check(&path).await.unwrap_err().to_string();
        assert!(error.contains("Envoy 1.22.3") && error.contains("1.38"), "{error}");
        script(&path, "hello");
        assert!(check(&path).await.unwrap_err().to_string().contains("hello"));
    }
}
