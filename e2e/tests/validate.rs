//! Every golden folder of the resolver becomes a configuration that the real Envoy accepts (`--mode validate`).
//!
//! Routes and clusters are put inline, so that Envoy looks at them; secrets stay behind SDS, which validation does not ask.

// A test may stop at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use portolan::{
    model::{Kind, Object, ObjectKey, parse},
    render::render,
};
use serde_json::{Value, json};

fn envoy() -> PathBuf {
    match std::env::var_os("PORTOLAN_ENVOY") {
        Some(path) => path.into(),
        None => {
            panic!("PORTOLAN_ENVOY is not set: run PORTOLAN_ENVOY=$(hack/envoy) cargo test, or hack/test")
        }
    }
}

fn objects(input: &str) -> BTreeMap<ObjectKey, Object> {
    input
        .split("\n---\n")
        .map(|document| {
            let json: Value = serde_saphyr::from_str(document).unwrap();
            let object = parse(Kind::from_name(json["kind"].as_str().unwrap()).unwrap(), &json).unwrap();
            (object.key().clone(), object)
        })
        .collect()
}

/// The resources of one Gateway as a bootstrap with everything inline.
fn bootstrap(resources: &Value) -> Value {
    let all = |kind: &str| resources[kind].as_object().unwrap().clone();
    let mut listeners: Vec<Value> = all("lds").into_iter().map(|(_, listener)| listener).collect();
    let chains =
        listeners.iter_mut().filter_map(|one| one.get_mut("filter_chains")?.as_array_mut()).flatten();
    for filter in chains.flat_map(|chain| chain["filters"].as_array_mut().unwrap()) {
        let config = filter["typed_config"].as_object_mut().unwrap();
        if let Some(rds) = config.remove("rds") {
            let name = rds["route_config_name"].as_str().unwrap();
            config.insert("route_config".into(), with_hosts(all("rds")[name].clone(), &all("vhds")));
        }
    }
    let mut clusters: Vec<Value> = Vec::new();
    for (name, mut cluster) in all("cds") {
        let cluster_fields = cluster.as_object_mut().unwrap();
        cluster_fields.remove("eds_cluster_config");
        cluster_fields.insert("type".into(), "STATIC".into());
        cluster_fields.insert("load_assignment".into(), all("eds")[&name].clone());
        without_sds(&mut cluster);
        clusters.push(cluster);
    }
    clusters.push(json!({"name": "xds", "connect_timeout": "1s", "load_assignment": {"cluster_name": "xds", "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/nowhere"}}}}]}]}}));
    json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamic_resources": {"ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "layered_runtime": {"layers": [{"name": "portolan", "static_layer": runtime()}]},
    })
}

/// A RouteConfiguration with its virtual hosts inline.
fn with_hosts(mut table: Value, hosts: &serde_json::Map<String, Value>) -> Value {
    let prefix = format!("{}/", table["name"].as_str().unwrap());
    let own = hosts
        .iter()
        .filter(|(name, _)| name.strip_prefix(&prefix).is_some_and(|domain| !domain.contains('/')));
    table["virtual_hosts"] = own.map(|(_, host)| host.clone()).collect();
    table.as_object_mut().unwrap().remove("vhds");
    table
}

/// What our own bootstrap says, too (`portolan_xds::bootstrap`).
fn runtime() -> Value {
    json!({"re2.max_program_size.error_level": 4096})
}

/// A static cluster cannot wait for secrets, so it gets authorities inline and no certificate.
fn without_sds(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("tls_certificate_sds_secret_configs");
            if let Some(mut combined) = fields.remove("combined_validation_context") {
                let mut context = combined["default_validation_context"].take();
                context["trusted_ca"] = json!({"filename": "/etc/ssl/certs/ca-certificates.crt"});
                fields.insert("validation_context".into(), context);
            }
            fields.values_mut().for_each(without_sds);
        }
        Value::Array(items) => items.iter_mut().for_each(without_sds),
        _ => {}
    }
}

fn validate(folder: &Path, work: &Path) -> Vec<String> {
    let input = fs::read_to_string(folder.join("in.yaml")).unwrap();
    let mut failures = Vec::new();
    for (gateway, resources) in render(&objects(&input)).unwrap() {
        let path = work.join(format!("{}.json", gateway.replace('/', "_")));
        fs::write(&path, bootstrap(&resources).to_string()).unwrap();
        let run = Command::new(envoy())
            .args(["--mode", "validate", "-l", "error", "-c"])
            .arg(&path)
            .output()
            .unwrap();
        if !run.status.success() {
            let text =
                String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
            failures.push(format!("{} {gateway}: {}", folder.display(), text.trim()));
        }
    }
    failures
}

#[test]
fn envoy_accepts_every_golden_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/testdata");
    let work = tempfile::tempdir().unwrap();
    let mut folders: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let failures: Vec<String> = folders.iter().flat_map(|folder| validate(folder, work.path())).collect();
    assert!(folders.len() >= 25);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
