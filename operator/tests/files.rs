//! A folder of manifests over time: edited, broken, repaired, renamed, deleted.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use portolan::{
    model::{Object, ObjectKey},
    source::{
        Batch, Problem,
        files::{Files, watch},
    },
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

fn documents(parts: &[&str]) -> String {
    parts.join("---\n")
}

/// What a source has told so far.
#[derive(Default)]
struct Told {
    objects: BTreeMap<ObjectKey, Object>,
    problems: Vec<Problem>,
    /// Keys of all changes, with `-` before removed ones.
    changes: Vec<String>,
}

impl Told {
    fn take(&mut self, batch: Batch) -> Vec<String> {
        let mut changed = Vec::new();
        for (key, object) in batch.changes {
            changed.push(format!("{}{key}", if object.is_some() { "" } else { "-" }));
            match object {
                Some(object) => self.objects.insert(key, object),
                None => self.objects.remove(&key),
            };
        }
        self.problems = batch.problems;
        self.changes.extend(changed.iter().cloned());
        changed
    }

    fn ports(&self) -> Vec<String> {
        let show = |object: &Object| match object {
            Object::Service(service) => format!("{}:{}", service.meta.key.name, service.ports[0].port),
            other => other.key().to_string(),
        };
        self.objects.values().map(show).collect()
    }

    fn problems(&self) -> String {
        self.problems.iter().map(|problem| format!("{problem}\n")).collect()
    }
}

/// A watched folder.
struct Watched {
    folder: TempDir,
    batches: mpsc::Receiver<Batch>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    told: Told,
}

const LONG: Duration = Duration::from_secs(20);

impl Watched {
    async fn new(prepare: impl FnOnce(&Path) -> Vec<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = prepare(folder.path());
        let (sender, mut batches) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(watch(Files::new(paths), sender, shutdown.clone()));
        let mut told = Told::default();
        told.take(timeout(LONG, batches.recv()).await.unwrap().unwrap());
        Self { folder, batches, shutdown, task, told }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Told) -> bool) {
        while !done(&self.told) {
            match timeout(LONG, self.batches.recv()).await {
                Ok(batch) => drop(self.told.take(batch.unwrap())),
                Err(_) => {
                    panic!("{what}: not seen; there is {:?}\n{}", self.told.ports(), self.told.problems())
                }
            }
        }
    }

    async fn until_ports(&mut self, ports: &[&str]) {
        self.until(&format!("{ports:?}"), |told| told.ports() == ports).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(LONG, self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_folder_is_followed_through_edits_new_files_renamings_and_deletions() {
    let mut watched = Watched::new(|folder| {
        fs::write(folder.join("a.yaml"), service("a", 1)).unwrap();
        vec![folder.to_owned()]
    })
    .await;
    watched.until_ports(&["a:1"]).await;
    fs::write(watched.path("a.yaml"), service("a", 2)).unwrap();
    watched.until_ports(&["a:2"]).await;
    fs::write(watched.path("b.yaml"), service("b", 1)).unwrap();
    watched.until_ports(&["a:2", "b:1"]).await;
    fs::write(watched.path("new"), service("b", 2)).unwrap();
    fs::rename(watched.path("new"), watched.path("b.yaml")).unwrap();
    watched.until_ports(&["a:2", "b:2"]).await;
    fs::create_dir_all(watched.path("deep/deeper")).unwrap();
    fs::write(watched.path("deep/deeper/c.yaml"), service("c", 1)).unwrap();
    watched.until_ports(&["a:2", "b:2", "c:1"]).await;
    fs::write(watched.path("deep/deeper/c.yaml"), service("c", 2)).unwrap();
    watched.until_ports(&["a:2", "b:2", "c:2"]).await;
    fs::rename(watched.path("deep"), watched.path("moved")).unwrap();
    fs::write(watched.path("moved/deeper/c.yaml"), service("c", 3)).unwrap();
    watched.until_ports(&["a:2", "b:2", "c:3"]).await;
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until_ports(&["b:2", "c:3"]).await;
    fs::remove_dir_all(watched.path("moved")).unwrap();
    watched.until_ports(&["b:2"]).await;
    let removed: Vec<_> = watched.told.changes.iter().filter(|key| key.starts_with('-')).collect();
    assert_eq!(removed, ["-Service/default/a", "-Service/default/c"], "a renaming drops nothing");
    watched.end().await;
}

#[tokio::test]
async fn a_broken_edit_keeps_the_last_good_version_until_it_is_repaired() {
    let mut watched = Watched::new(|folder| {
        fs::write(folder.join("a.yaml"), documents(&[&service("a", 1), &service("b", 1)])).unwrap();
        vec![folder.to_owned()]
    })
    .await;
    fs::write(watched.path("a.yaml"), documents(&[&service("a", 2), "kind: [\n"])).unwrap();
    watched.until("the problem", |told| told.problems().contains("a.yaml:")).await;
    watched.until_ports(&["a:2", "b:1"]).await;
    fs::write(watched.path("a.yaml"), service("a", 3)).unwrap();
    watched.until_ports(&["a:3"]).await;
    assert_eq!(watched.told.problems(), "");
    watched.end().await;
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_swap() {
    let mut watched = Watched::new(|folder| {
        for (version, port) in [("..1", 1), ("..2", 2)] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("a.yaml"), service("a", port)).unwrap();
        }
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
        vec![folder.to_owned()]
    })
    .await;
    watched.until_ports(&["a:1"]).await;
    symlink("..2", watched.path("..data_tmp")).unwrap();
    fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
    watched.until_ports(&["a:2"]).await;
    assert_eq!(watched.told.changes, ["Service/default/a", "Service/default/a"]);
    watched.end().await;
}

#[tokio::test]
async fn a_root_that_is_a_link_is_followed_when_it_is_swapped_or_edited() {
    let mut watched = Watched::new(|folder| {
        for (version, port) in [("one", 1), ("two", 2)] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("a.yaml"), service("a", port)).unwrap();
        }
        symlink("one", folder.join("link")).unwrap();
        symlink("link", folder.join("current")).unwrap();
        vec![folder.join("current")]
    })
    .await;
    watched.until_ports(&["a:1"]).await;
    symlink("two", watched.path("new")).unwrap();
    fs::rename(watched.path("new"), watched.path("link")).unwrap();
    watched.until_ports(&["a:2"]).await;
    fs::write(watched.path("two/a.yaml"), service("a", 3)).unwrap();
    watched.until_ports(&["a:3"]).await;
    watched.end().await;
}

#[tokio::test]
async fn a_single_file_is_followed_through_an_editors_rename_and_kept_when_it_is_gone() {
    let mut watched = Watched::new(|folder| {
        fs::write(folder.join("only.txt"), service("a", 1)).unwrap();
        fs::write(folder.join("other.yaml"), service("other", 1)).unwrap();
        vec![folder.join("only.txt")]
    })
    .await;
    watched.until_ports(&["a:1"]).await;
    fs::rename(watched.path("only.txt"), watched.path("only.txt~")).unwrap();
    fs::write(watched.path("only.txt"), service("a", 2)).unwrap();
    watched.until_ports(&["a:2"]).await;
    fs::remove_file(watched.path("only.txt")).unwrap();
    watched.until("the problem", |told| told.problems().contains("only.txt: error: does not exist")).await;
    assert_eq!(watched.told.ports(), ["a:2"], "what was named stays in force");
    fs::write(watched.path("only.txt"), service("a", 3)).unwrap();
    watched.until_ports(&["a:3"]).await;
    assert_eq!(watched.told.problems(), "");
    watched.end().await;
}
