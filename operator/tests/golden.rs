//! Golden folders: `testdata/<feature>/in.yaml` is given, `ir.yaml` and `status.yaml` are expected.
//!
//! `PORTOLAN_GOLDEN=write cargo test -p portolan --test golden` writes what is found; read the difference before you commit it.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use portolan::{
    model::{Kind, Object, ObjectKey, parse},
    resolve::{Engine, Placement, Programmed, Resolved},
};
use portolan_xds::ir::Transport;
use serde_json::{Value, json};

fn objects(text: &str) -> Vec<(ObjectKey, Option<Object>)> {
    text.split("\n---\n")
        .map(|document| {
            let json: Value = serde_saphyr::from_str(document).unwrap();
            let kind = Kind::from_name(json["kind"].as_str().unwrap()).unwrap();
            let meta = &json["metadata"];
            let namespace =
                if kind.cluster_scoped() { "" } else { meta["namespace"].as_str().unwrap_or("default") };
            let key = ObjectKey::new(kind, namespace, meta["name"].as_str().unwrap());
            (key, Some(parse(kind, &json).unwrap()))
        })
        .collect()
}

/// Everything that Envoys would be told, by Gateway and piece.
#[derive(Default)]
struct Told(BTreeMap<String, BTreeMap<String, Value>>);

impl Told {
    fn take(&mut self, resolved: &Resolved) {
        for (gateway, delta) in &resolved.deltas {
            let mut pieces: Vec<(String, Value)> = Vec::new();
            macro_rules! pieces {
                ($($field:ident),*) => {$(
                    for (key, piece) in &delta.$field {
                        pieces.push((format!("{}: {key}", stringify!($field)), json!(piece)));
                    }
                )*};
            }
            pieces!(listeners, tables, clusters, endpoints, secrets);
            for (key, piece) in &delta.virtual_hosts {
                pieces.push((format!("virtual_hosts: {} {}", key.table, key.domain), json!(piece)));
            }
            let told = self.0.entry(gateway.to_string()).or_default();
            for (name, value) in pieces {
                if value.is_null() {
                    told.remove(&name)
                } else {
                    told.insert(name, value)
                };
            }
        }
    }
}

/// The folder that shows the features of a class; elsewhere they would hide what a folder is about.
const FEATURES: &str = "gateway-class";

fn run(input: &str, with_features: bool) -> (String, String) {
    let objects = objects(input);
    let keys: Vec<ObjectKey> = objects.iter().map(|(key, _)| key.clone()).collect();
    let mut engine = Engine::new();
    let mut told = Told::default();
    told.take(&engine.apply(objects));
    for (gateway, ports) in engine.wanted_ports() {
        let bind = |port: (u16, Transport)| (port, Ok(vec![([127, 0, 0, 1], port.0).into()]));
        told.take(&engine.place(&gateway, Some(Placement { ports: ports.into_iter().map(bind).collect() })));
    }
    let mut status: BTreeMap<String, Value> = keys
        .iter()
        .filter_map(|key| Some((key.to_string(), json!(engine.report(key, &|_, _| Programmed::Yes)?))))
        .collect();
    for class in status.values_mut().filter_map(Value::as_object_mut).filter(|_| !with_features) {
        class.remove("supportedFeatures");
    }
    (serde_saphyr::to_string(&told.0).unwrap(), serde_saphyr::to_string(&status).unwrap())
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
fn every_golden_folder_resolves_as_expected() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut folders: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 25, "{} golden folders", folders.len());
    let mut failures = Vec::new();
    for folder in folders {
        let input = fs::read_to_string(folder.join("in.yaml")).unwrap();
        let (ir, status) = run(&input, folder.ends_with(FEATURES));
        assert!(
            !ir.contains("PRIVATE KEY") && !status.contains("PRIVATE KEY"),
            "{} shows a key",
            folder.display()
        );
        compare(&folder.join("ir.yaml"), &ir, &mut failures);
        compare(&folder.join("status.yaml"), &status, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
