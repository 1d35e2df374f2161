//! Golden folders of fleets: `tests/fleet/<feature>/in.yaml` is given. `defaults/objects.yaml` has all objects of a fleet;
//! every other feature has `difference.txt`: in what its objects differ from those.
//!
//! `PORTOLAN_GOLDEN=write cargo test -p portolan --test fleet` writes what is found; read the difference before you commit it.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use portolan::fleet::cluster::{Desired, Fleet, Identity, Inside, Installation, Settings, identity, objects};
use portolan_crds::fleet_config::FleetConfigSpec;
use portolan_xds::ir::Transport;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Input {
    gateway: String,
    #[serde(default = "http")]
    ports: Vec<String>,
    #[serde(default)]
    addresses: Vec<std::net::IpAddr>,
    inside: Option<Within>,
    #[serde(default)]
    infrastructure: Infrastructure,
    #[serde(default)]
    class_config: FleetConfigSpec,
    #[serde(default)]
    config: FleetConfigSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Within {
    #[serde(default)]
    addresses: Vec<std::net::IpAddr>,
    #[serde(default)]
    only: bool,
}

#[derive(Default, Deserialize)]
struct Infrastructure {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn http() -> Vec<String> {
    vec!["80/TCP".to_owned()]
}

fn port(text: &str) -> (u16, Transport) {
    let (port, transport) = text.split_once('/').unwrap();
    let transport = if transport == "UDP" { Transport::Udp } else { Transport::Tcp };
    (port.parse().unwrap(), transport)
}

fn run(input: &str) -> Vec<Desired> {
    let input: Input = serde_saphyr::from_str(input).unwrap();
    let fleet = Fleet {
        gateway: input.gateway.parse().unwrap(),
        uid: "11111111-2222-3333-4444-555555555555".into(),
        class: "portolan".into(),
        ports: input.ports.iter().map(|text| port(text)).collect(),
        addresses: input.addresses,
        inside: input.inside.map(|Within { addresses, only }| Inside { addresses, only }),
        labels: input.infrastructure.labels,
        annotations: input.infrastructure.annotations,
        settings: Settings::of(&input.config.over(&input.class_config).spec).unwrap(),
    };
    let installation = Installation {
        namespace: "portolan-system".to_owned(),
        proxy_image: "portolan.dev/portolan-proxy:dev".to_owned(),
        xds_host: "portolan.portolan-system.svc".to_owned(),
        xds_port: 18_000,
    };
    let certificate = Identity {
        certificate: "chain".to_owned(),
        key: "key".to_owned(),
        authorities: "authorities".to_owned(),
    };
    let mut all = vec![identity(&fleet, &certificate).unwrap()];
    all.extend(objects(&fleet, &installation).unwrap());
    all
}

/// Every leaf of every object, by path.
fn leaves(objects: &[Desired]) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    // Labels and annotations have dots in their names.
                    let key = if key.contains('.') { format!("[{key}]") } else { format!(".{key}") };
                    walk(&format!("{path}{key}"), value, leaves);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (index, value) in items.iter().enumerate() {
                    // Items have a name where they can.
                    let key =
                        value.get("name").and_then(Value::as_str).map_or(index.to_string(), str::to_owned);
                    walk(&format!("{path}[{key}]"), value, leaves);
                }
            }
            leaf => _ = leaves.insert(path.to_owned(), leaf.to_string()),
        }
    }
    let mut all = BTreeMap::new();
    for object in objects {
        walk(&format!("{} {} ", object.kind, object.name), &object.value, &mut all);
    }
    all
}

fn difference(from: &[Desired], to: &[Desired]) -> String {
    let same = |one: &Desired, other: &Desired| (one.kind, &one.name) == (other.kind, &other.name);
    let (gone, kept): (Vec<_>, Vec<_>) =
        from.iter().cloned().partition(|old| !to.iter().any(|new| same(old, new)));
    let mut text = String::new();
    for object in gone {
        writeln!(text, "- {} {}", object.kind, object.name).unwrap();
    }
    let (from, to) = (leaves(&kept), leaves(to));
    for path in from.keys().chain(to.keys()).collect::<BTreeSet<_>>() {
        match (from.get(path), to.get(path)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => writeln!(text, "~ {path}: {old} -> {new}").unwrap(),
            (None, Some(new)) => writeln!(text, "+ {path}: {new}").unwrap(),
            (Some(old), None) => writeln!(text, "- {path}: {old}").unwrap(),
            (None, None) => unreachable!(),
        }
    }
    text
}

fn yaml(objects: &[Desired]) -> String {
    let documents: Vec<_> =
        objects.iter().map(|object| serde_saphyr::to_string(&object.value).unwrap()).collect();
    documents.join("---\n")
}

fn compare(path: &Path, found: &str, failures: &mut Vec<String>) {
    if std::env::var("PORTOLAN_GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != found {
        let line = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or_else(|| expected.lines().count().min(found.lines().count()));
        failures.push(format!(
            "{}:{}: expected {:?}, found {:?}",
            path.display(),
            line + 1,
            expected.lines().nth(line).unwrap_or("the end"),
            found.lines().nth(line).unwrap_or("the end")
        ));
    }
}

#[test]
fn every_golden_fleet_is_as_expected() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fleet");
    let input = |folder: &Path| run(&fs::read_to_string(folder.join("in.yaml")).unwrap());
    let defaults = input(&root.join("defaults"));
    let mut failures = Vec::new();
    compare(&root.join("defaults/objects.yaml"), &yaml(&defaults), &mut failures);
    let mut folders: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.retain(|folder| !folder.ends_with("defaults"));
    assert!(folders.len() >= 15, "{} golden fleets", folders.len());
    for folder in folders {
        let found = difference(&defaults, &input(&folder));
        compare(&folder.join("difference.txt"), &found, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_same_fleet_gives_the_same_bytes() {
    let input = include_str!("fleet/class-and-gateway/in.yaml");
    assert_eq!(yaml(&run(input)), yaml(&run(input)));
}
