//! A folder of manifests over time: edited, broken, repaired, renamed, deleted.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
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
        self.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
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
            let Ok(batch) = timeout(LONG, self.batches.recv()).await else {
                panic!("{what}: not seen; there is {:?}\n{}", self.told.ports(), self.told.problems())
            };
            self.told.take(batch.unwrap());
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

#[tokio::test]
async fn a_tool_that_opens_its_output_long_before_it_writes_removes_nothing() {
    let mut watched = Watched::new(|folder| {
        fs::write(folder.join("a.yaml"), service("a", 1)).unwrap();
        fs::write(folder.join("b.yaml"), service("b", 1)).unwrap();
        vec![folder.to_owned()]
    })
    .await;
    watched.until_ports(&["a:1", "b:1"]).await;
    // `kustomize build > a.yaml`: the shell empties the file, then the tool computes.
    let mut output = fs::File::create(watched.path("a.yaml")).unwrap();
    fs::write(watched.path("b.yaml"), service("b", 2)).unwrap();
    watched.until_ports(&["a:1", "b:2"]).await;
    let text = service("a", 2);
    let (first, second) = text.split_at(40);
    output.write_all(first.as_bytes()).unwrap();
    output.flush().unwrap();
    fs::write(watched.path("b.yaml"), service("b", 3)).unwrap();
    watched.until_ports(&["a:1", "b:3"]).await;
    output.write_all(second.as_bytes()).unwrap();
    drop(output);
    watched.until_ports(&["a:2", "b:3"]).await;
    assert!(watched.told.changes.iter().all(|key| !key.starts_with('-')), "{:?}", watched.told.changes);
    assert_eq!(watched.told.problems(), "");
    watched.end().await;
}

#[tokio::test]
async fn a_root_that_is_moved_away_and_replaced_is_followed() {
    let mut watched = Watched::new(|folder| {
        fs::create_dir(folder.join("conf")).unwrap();
        fs::create_dir(folder.join("next")).unwrap();
        fs::write(folder.join("conf/a.yaml"), service("a", 1)).unwrap();
        fs::write(folder.join("next/a.yaml"), service("a", 2)).unwrap();
        vec![folder.join("conf")]
    })
    .await;
    watched.until_ports(&["a:1"]).await;
    fs::rename(watched.path("conf"), watched.path("old")).unwrap();
    fs::rename(watched.path("next"), watched.path("conf")).unwrap();
    watched.until_ports(&["a:2"]).await;
    fs::write(watched.path("conf/a.yaml"), service("a", 3)).unwrap();
    watched.until_ports(&["a:3"]).await;
    fs::write(watched.path("old/a.yaml"), service("a", 4)).unwrap();
    fs::write(watched.path("conf/b.yaml"), service("b", 1)).unwrap();
    watched.until_ports(&["a:3", "b:1"]).await;
    watched.end().await;
}

#[tokio::test]
async fn a_root_may_come_into_being_later() {
    let mut watched = Watched::new(|folder| vec![folder.join("not/yet")]).await;
    watched.until("the problem", |told| told.problems().contains("yet: error: does not exist")).await;
    fs::create_dir(watched.path("not")).unwrap();
    fs::create_dir(watched.path("not/yet")).unwrap();
    fs::write(watched.path("not/yet/a.yaml"), service("a", 1)).unwrap();
    watched.until_ports(&["a:1"]).await;
    assert_eq!(watched.told.problems(), "");
    watched.end().await;
}

#[tokio::test]
async fn a_link_to_a_file_elsewhere_is_followed_when_that_file_is_edited() {
    let mut watched = Watched::new(|folder| {
        fs::create_dir(folder.join("conf")).unwrap();
        fs::write(folder.join("elsewhere.yaml"), service("a", 1)).unwrap();
        symlink("../elsewhere.yaml", folder.join("conf/a.yaml")).unwrap();
        vec![folder.join("conf")]
    })
    .await;
    watched.until_ports(&["a:1"]).await;
    fs::write(watched.path("elsewhere.yaml"), service("a", 2)).unwrap();
    watched.until_ports(&["a:2"]).await;
    watched.end().await;
}

#[tokio::test]
async fn a_listener_that_is_busy_gets_the_end_of_the_story() {
    let mut watched = Watched::new(|folder| {
        fs::write(folder.join("a.yaml"), service("a", 1)).unwrap();
        vec![folder.to_owned()]
    })
    .await;
    // Nobody takes batches while this is written; the channel holds four.
    for port in 2..200 {
        fs::write(watched.path("a.yaml"), service("a", port)).unwrap();
        fs::write(watched.path(&format!("b{port}.yaml")), service("b", port)).unwrap();
    }
    watched.until("the last port", |told| told.ports().first().is_some_and(|port| port == "a:199")).await;
    watched.until("all problems", |told| told.problems.len() == 197).await;
    watched.end().await;
}

#[tokio::test]
async fn whatever_happens_to_a_folder_the_watcher_ends_where_a_fresh_look_does() {
    let mut watched = Watched::new(|folder| {
        fs::create_dir(folder.join("sub")).unwrap();
        vec![folder.to_owned()]
    })
    .await;
    // A small generator of numbers: the same history every time.
    let mut state = 7_u32;
    let mut pick = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let places = ["a.yaml", "b.yaml", "sub/c.yaml", "sub2/c.yaml", "z.json"];
    for _ in 0..300 {
        let (from, to) = (watched.path(places[pick(5) as usize]), watched.path(places[pick(5) as usize]));
        match pick(8) {
            0 => drop(fs::remove_file(&from)),
            1 => drop(fs::rename(&from, &to)),
            2 => drop(fs::rename(watched.path("sub"), watched.path("sub2"))),
            3 => drop(fs::rename(watched.path("sub2"), watched.path("sub"))),
            4 => drop(fs::create_dir(watched.path("sub2"))),
            _ => {
                let name = ["k", "l", "m"][pick(3) as usize];
                drop(fs::write(&from, service(name, u16::try_from(1 + pick(9)).unwrap())));
            }
        }
        if pick(4) == 0 {
            tokio::time::sleep(Duration::from_millis(u64::from(pick(20)))).await;
        }
    }
    let mut fresh = Told::default();
    fresh.take(Files::new([watched.folder.path()]).scan());
    let (ports, problems) = (fresh.ports(), fresh.problems());
    watched.until("the end", |told| told.ports() == ports && told.problems() == problems).await;
    watched.end().await;
}
