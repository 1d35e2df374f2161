//! docs/fleets.md has every field of a FleetConfig, and no other.

use std::{collections::BTreeSet, fs, path::Path};

use portolan_crds::install;
use serde_json::Value;

/// Adds the paths of a schema's fields. Objects of Kubernetes (tolerations, references) are documented there.
fn fields(path: &str, schema: &Value, all: &mut BTreeSet<String>) {
    let inner = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
    for (name, schema) in inner(schema) {
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        let items = &schema["items"];
        if !inner(&schema).is_empty() {
            fields(&path, &schema, all);
        } else if path == "topologySpread" {
            fields(&format!("{path}[]"), items, all);
            all.insert(path);
        } else {
            all.insert(path);
        }
    }
}

#[test]
fn every_field_is_in_the_table() {
    let crd = serde_json::to_value(install::own().remove(0)).unwrap();
    let mut expected = BTreeSet::from(["accessLog".to_owned()]);
    fields("", &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut expected);
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleets.md")).unwrap();
    let table = page.split_once("| field | default |").unwrap().1.split_once("\n\n").unwrap().0;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let found: BTreeSet<_> = rows.map(|(field, _)| field.to_owned()).collect();
    assert_eq!(found, expected);
}
