//! A folder's history: given what was written, expect changes and problems.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::Files;
use crate::{
    model::{Kind, Object, ObjectKey},
    source::Batch,
};

/// A folder with files, looked at with one `Files` all the time.
struct Folder {
    root: TempDir,
    files: Files,
    told: BTreeMap<ObjectKey, Object>,
    problems: Vec<String>,
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        let mut this =
            Self { files: Files::new([root.path()]), root, told: BTreeMap::new(), problems: Vec::new() };
        let batch = this.files.scan();
        this.take(batch);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The keys that changed, `-` before removed ones.
    fn take(&mut self, batch: Batch) -> Vec<String> {
        let root = format!("{}/", self.root.path().display());
        self.problems = batch.problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect();
        let changes = batch.changes.into_iter().map(|(key, object)| {
            let name = key.name.to_string();
            if let Some(object) = object {
                self.told.insert(key, object);
                return name;
            }
            assert!(self.told.remove(&key).is_some(), "{key} was never told");
            format!("-{name}")
        });
        changes.collect()
    }

    fn refresh(&mut self, names: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        let batch = self.files.refresh(&paths);
        self.take(batch)
    }

    fn scan(&mut self) -> Vec<String> {
        let batch = self.files.scan();
        self.take(batch)
    }

    fn write(&mut self, name: &str, text: &str) -> Vec<String> {
        fs::write(self.path(name), text).unwrap();
        self.refresh(&[name])
    }

    /// Names, ports and generations.
    fn objects(&self) -> Vec<String> {
        let show = |object: &Object| match object {
            Object::Service(service) => {
                format!("{}:{} #{}", service.meta.key.name, service.ports[0].port, service.meta.generation)
            }
            other => other.key().to_string(),
        };
        self.told.values().map(show).collect()
    }

    fn place(&self, name: &str) -> Option<(String, usize)> {
        let (file, line) = self.files.place(&ObjectKey::new(Kind::Service, "default", name))?;
        Some((file.file_name()?.to_string_lossy().into_owned(), line))
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_refresh_looks_at_nothing_else() {
    let mut folder = Folder::new(&[
        ("a.yaml", &service("a", 1)),
        ("b.yaml", &service("b", 1)),
        ("c.yaml", &service("c", 1)),
    ]);
    fs::write(folder.path("b.yaml"), service("b", 2)).unwrap();
    fs::remove_file(folder.path("c.yaml")).unwrap();
    assert_eq!(folder.write("a.yaml", &service("a", 2)), ["a"]);
    assert_eq!(folder.objects(), ["a:2 #2", "b:1 #1", "c:1 #1"], "nobody said a word about b and c");
    assert_eq!(folder.scan(), ["b", "-c"]);
    assert_eq!(folder.scan(), NONE);
}

#[test]
fn only_manifests_in_a_folder_are_read() {
    let folder = Folder::new(&[
        ("a.yaml", &service("a", 1)),
        ("b.yml", &service("b", 1)),
        ("c.json", &service("c", 1)),
        ("d.txt", &service("d", 1)),
        (".e.yaml", &service("e", 1)),
        ("f.yaml~", &service("f", 1)),
    ]);
    assert_eq!(folder.objects(), ["a:1 #1", "b:1 #1", "c:1 #1"]);
}

#[test]
fn an_edit_of_the_spec_is_a_generation_and_nothing_else_is() {
    let mut folder = Folder::new(&[("a.yaml", &service("a", 1))]);
    assert_eq!(folder.write("a.yaml", &format!("# a comment\n{}", service("a", 1))), NONE);
    assert_eq!(folder.write("a.yaml", &service("a", 1).replace("name: a", "name: a, labels: {x: y}")), NONE);
    assert_eq!(folder.write("a.yaml", &service("a", 1).replace("name: a", "name: a, generation: 7")), NONE);
    assert_eq!(folder.write("a.yaml", &service("a", 2)), ["a"]);
    assert_eq!(folder.write("a.yaml", &service("a", 1)), ["a"]);
    assert_eq!(folder.objects(), ["a:1 #3"]);
    assert_eq!(folder.write("a.yaml", ""), ["-a"]);
    assert_eq!(folder.write("a.yaml", &service("a", 1)), ["a"]);
    assert_eq!(folder.objects(), ["a:1 #1"], "another object of the same name");
}

#[test]
fn of_two_definitions_the_first_wins_and_the_other_takes_over() {
    let mut folder = Folder::new(&[
        ("b.yaml", &service("x", 2)),
        ("c.yaml", &[service("w", 1), service("x", 3)].join("---\n")),
    ]);
    let root = folder.root.path().display().to_string();
    let says = |file: &str, line: usize| {
        format!("error: Service/default/x is also defined in {file}:{line}, which wins because it comes first; remove one of the two")
            .replace(&format!("{root}/"), "")
    };
    assert_eq!(folder.objects(), ["w:1 #1", "x:2 #1"]);
    assert_eq!(folder.problems, [format!("c.yaml:6:1: {}", says("b.yaml", 1))]);
    assert_eq!(folder.place("x"), Some(("b.yaml".into(), 1)));
    assert_eq!(folder.write("a.yaml", &format!("\n{}", service("x", 1))), ["x"]);
    assert_eq!(
        folder.problems,
        [format!("b.yaml:1:1: {}", says("a.yaml", 2)), format!("c.yaml:6:1: {}", says("a.yaml", 2))]
    );
    fs::remove_file(folder.path("a.yaml")).unwrap();
    fs::remove_file(folder.path("b.yaml")).unwrap();
    assert_eq!(folder.refresh(&["a.yaml", "b.yaml"]), ["x"]);
    assert_eq!(folder.objects(), ["w:1 #1", "x:3 #3"], "the generation never goes back");
    assert_eq!(folder.place("x"), Some(("c.yaml".into(), 6)));
    assert_eq!(folder.problems, NONE);
}

#[test]
fn an_object_that_moves_between_files_is_not_removed() {
    let mut folder = Folder::new(&[("a.yaml", &service("x", 1))]);
    fs::rename(folder.path("a.yaml"), folder.path("b.yaml")).unwrap();
    assert_eq!(folder.refresh(&["a.yaml", "b.yaml"]), NONE);
    assert_eq!(folder.place("x"), Some(("b.yaml".into(), 1)));
}

#[test]
fn a_broken_object_keeps_its_last_good_version() {
    let both = |x: &str| [x, &service("w", 1)].join("---\n");
    let mut folder = Folder::new(&[("a.yaml", &both(&service("x", 1)))]);
    let broken = service("x", 1).replace("port: 1", "port: 0");
    assert_eq!(folder.write("a.yaml", &both(&broken)), NONE);
    assert_eq!(folder.problems.len(), 1);
    assert_eq!(folder.objects(), ["w:1 #1", "x:1 #1"]);
    // The other one is identified and gone: that x is broken is no reason to keep it.
    assert_eq!(folder.write("a.yaml", &broken), ["-w"]);
    assert_eq!(folder.write("a.yaml", &service("x", 2)), ["x"]);
    assert_eq!(folder.objects(), ["x:2 #2"]);
    assert_eq!(folder.problems, NONE);
}

#[test]
fn what_cannot_be_read_proves_no_deletion() {
    let mut folder = Folder::new(&[("a.yaml", &[service("x", 1), service("w", 1)].join("---\n"))]);
    for unreadable in [
        "kind: [\n".as_bytes(),
        &[0xff],
        b"kind: Service",
        b"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTProut",
        service("X", 1).as_bytes(),
    ] {
        fs::write(folder.path("a.yaml"), unreadable).unwrap();
        assert_eq!(folder.refresh(&["a.yaml"]), NONE);
        assert_eq!(folder.problems.len(), 1, "{:?}", folder.problems);
    }
    assert_eq!(folder.write("a.yaml", &[&service("x", 2), "kind: [\n"].join("---\n")), ["x"]);
    assert_eq!(folder.objects(), ["w:1 #1", "x:2 #2"]);
    assert_eq!(folder.write("a.yaml", &service("x", 2)), ["-w"]);
}

#[test]
fn a_definition_that_was_never_good_does_not_stand_in_the_way() {
    let mut folder = Folder::new(&[("a.yaml", &service("x", 0)), ("b.yaml", &service("x", 2))]);
    assert_eq!(folder.objects(), ["x:2 #1"]);
    assert_eq!(folder.problems.len(), 1);
    assert_eq!(folder.write("a.yaml", &service("x", 1)), ["x"]);
    assert_eq!(folder.objects(), ["x:1 #2"]);
}

#[test]
fn a_file_that_may_not_be_read_keeps_what_it_said() {
    let mut folder = Folder::new(&[("a.yaml", &service("x", 1))]);
    // A folder in its place cannot be read as a file, by nobody; rights do not stop the superuser.
    fs::remove_file(folder.path("a.yaml")).unwrap();
    symlink("a.yaml", folder.path("a.yaml")).unwrap();
    assert_eq!(folder.refresh(&["a.yaml"]), NONE);
    assert_eq!(folder.problems.len(), 1);
    assert!(folder.problems[0].starts_with("a.yaml: error: cannot be looked at: "), "{:?}", folder.problems);
    assert_eq!(folder.objects(), ["x:1 #1"]);
    fs::remove_file(folder.path("a.yaml")).unwrap();
    assert_eq!(folder.write("a.yaml", &service("x", 1)), NONE);
    assert_eq!(folder.problems, NONE);
}

#[test]
fn a_large_file_and_a_pipe_are_refused() {
    let mut folder = Folder::new(&[("a.yaml", &service("x", 1))]);
    let large = fs::File::create(folder.path("b.yaml")).unwrap();
    large.set_len(65 << 20).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("c.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    folder.scan();
    assert_eq!(
        folder.problems,
        ["b.yaml: error: is larger than 64 MiB; split it", "c.yaml: error: is neither a file nor a folder"]
    );
    assert_eq!(folder.objects(), ["x:1 #1"]);
}

#[test]
fn links_that_go_round_end() {
    let mut folder = Folder::new(&[("a.yaml", &service("x", 1))]);
    fs::create_dir(folder.path("sub")).unwrap();
    symlink("..", folder.path("sub/up")).unwrap();
    folder.scan();
    assert_eq!(folder.objects(), ["x:1 #1"]);
    assert_eq!(
        folder.problems,
        ["sub/up: error: is not followed: links go round, or more than 32 folders deep"]
    );
}

#[test]
fn a_path_that_does_not_exist_is_a_problem_and_what_it_said_stays() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("conf");
    let mut files = Files::new([&named]);
    let batch = files.scan();
    assert_eq!(batch.problems[0].to_string(), format!("{}: error: does not exist", named.display()));
    fs::create_dir(&named).unwrap();
    fs::write(named.join("a.yaml"), service("a", 1)).unwrap();
    let batch = files.scan();
    assert_eq!((batch.changes.len(), batch.problems.len()), (1, 0));
    fs::remove_dir_all(&named).unwrap();
    let batch = files.scan();
    assert_eq!((batch.changes.len(), batch.problems.len()), (0, 1));
}

#[test]
fn the_same_path_in_two_spellings_is_read_once() {
    let folder = Folder::new(&[("a.yaml", &service("x", 1))]);
    let path = folder.root.path();
    let mut files = Files::new([
        path.join("."),
        path.to_owned(),
        path.join("a.yaml"),
        PathBuf::from(format!("{}/", path.display())),
    ]);
    let batch = files.scan();
    assert_eq!((batch.changes.len(), batch.problems), (1, Vec::new()));
}

#[test]
fn many_files_are_read_by_several_threads_as_by_one() {
    let names: Vec<String> = (0..300).map(|index| format!("s{index:03}")).collect();
    let files: Vec<(String, String)> =
        names.iter().map(|name| (format!("{name}.yaml"), service(name, 1))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = Folder::new(&files);
    assert_eq!(folder.told.len(), 300);
    assert_eq!(folder.problems, NONE);
}

#[test]
fn rights_that_come_back_are_noticed() {
    let mut folder = Folder::new(&[]);
    fs::create_dir(folder.path("sub")).unwrap();
    fs::write(folder.path("sub/a.yaml"), service("x", 1)).unwrap();
    folder.scan();
    fs::set_permissions(folder.path("sub"), fs::Permissions::from_mode(0o000)).unwrap();
    folder.scan();
    // The superuser reads it all the same; for everybody else it is a problem, and x stays.
    assert_eq!(folder.objects(), ["x:1 #1"]);
    fs::set_permissions(folder.path("sub"), fs::Permissions::from_mode(0o755)).unwrap();
    folder.scan();
    assert_eq!(folder.problems, NONE);
    assert_eq!(folder.objects(), ["x:1 #1"]);
}

/// Something that happens to a folder.
#[derive(Clone, Debug)]
enum Event {
    Write(usize, Vec<(usize, u16)>),
    Break(usize, Vec<(usize, u16)>),
    Remove(usize),
    Rename(usize, usize),
}

const PLACES: [&str; 5] = ["a.yaml", "b.yaml", "sub/c.yaml", "sub/d.json", "z.yml"];

fn event() -> impl Strategy<Value = Event> {
    let place = 0..PLACES.len();
    let objects = prop::collection::vec((0usize..4, 0u16..4), 0..4);
    prop_oneof![
        4 => (place.clone(), objects.clone()).prop_map(|(place, objects)| Event::Write(place, objects)),
        2 => (place.clone(), objects).prop_map(|(place, objects)| Event::Break(place, objects)),
        1 => place.clone().prop_map(Event::Remove),
        2 => (place.clone(), place).prop_map(|(from, to)| Event::Rename(from, to)),
    ]
}

fn text(objects: &[(usize, u16)]) -> String {
    // Port 0 is a broken object.
    let texts: Vec<String> = objects.iter().map(|(name, port)| service(&format!("s{name}"), *port)).collect();
    texts.join("---\n")
}

fn without_generations(told: &BTreeMap<ObjectKey, Object>) -> Vec<Object> {
    told.values()
        .cloned()
        .map(|mut object| {
            object.set_generation(0);
            object
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_in_what_a_fresh_look_finds(history in prop::collection::vec((event(), any::<bool>()), 1..25)) {
        let mut folder = Folder::new(&[]);
        fs::create_dir(folder.path("sub")).unwrap();
        folder.scan();
        let mut seen: Vec<&str> = Vec::new();
        for (event, told_now) in &history {
            match event {
                Event::Write(place, objects) => {
                    fs::write(folder.path(PLACES[*place]), text(objects)).unwrap();
                    seen.push(PLACES[*place]);
                }
                Event::Break(place, objects) => {
                    fs::write(folder.path(PLACES[*place]), format!("{}---\nkind: [\n", text(objects))).unwrap();
                    seen.push(PLACES[*place]);
                }
                Event::Remove(place) => {
                    let _ = fs::remove_file(folder.path(PLACES[*place]));
                    seen.push(PLACES[*place]);
                }
                Event::Rename(from, to) => {
                    let _ = fs::rename(folder.path(PLACES[*from]), folder.path(PLACES[*to]));
                    seen.extend([PLACES[*from], PLACES[*to]]);
                }
            }
            if *told_now {
                let paths = std::mem::take(&mut seen);
                folder.refresh(&paths);
            }
        }
        // What is broken keeps what a fresh look cannot know: repaired, nothing is left of its history.
        for place in PLACES {
            let path = folder.path(place);
            if let Ok(text) = fs::read_to_string(&path) {
                fs::write(&path, text.replace("---\nkind: [\n", "").replace("port: 0", "port: 7")).unwrap();
            }
        }
        folder.refresh(&PLACES);
        let mut fresh = Folder { files: Files::new([folder.root.path()]), told: BTreeMap::new(), problems: Vec::new(), root: tempfile::tempdir().unwrap() };
        fresh.scan();
        let root = format!("{}/", folder.root.path().display());
        let problems: Vec<String> = fresh.problems.iter().map(|problem| problem.replace(&root, "")).collect();
        prop_assert_eq!(without_generations(&folder.told), without_generations(&fresh.told));
        prop_assert_eq!(&folder.problems, &problems);
        for key in folder.told.keys() {
            prop_assert_eq!(folder.files.place(key), fresh.files.place(key));
        }
        prop_assert_eq!(folder.scan(), Vec::<String>::new());
    }
}

#[test]
fn paths_show_as_they_were_named() {
    let files = Files::new([Path::new("no-such-folder/./x")]).scan();
    assert_eq!(files.problems[0].to_string(), "no-such-folder/x: error: does not exist");
}
