//! One corpus of good and bad manifests, e2e/corpus, given to a real API server and to `portolan check`: they agree on each
//! case, or it is in the table of docs/validation.md.
//!
//! A case is one object and one rule. An annotation `refused` says that it must be refused, and which field the answer must
//! name; without it the object is valid.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use portolan_e2e::{apiserver::ApiServer, rig::binary};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// One object.
struct Case {
    /// `file.yaml name`.
    name: String,
    file: PathBuf,
    /// The first and the last line of its document, counted from 1.
    lines: (usize, usize),
    object: Value,
}

impl Case {
    /// The field that must be refused.
    fn refused(&self) -> Option<&str> {
        self.object["metadata"]["annotations"]["refused"].as_str()
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").canonicalize().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut from = 1;
        for document in text.split("---\n") {
            let lines = (from, from + document.lines().count());
            from = lines.1 + 1;
            let object: Value = serde_saphyr::from_str(document).unwrap_or(Value::Null);
            if object.is_null() {
                continue;
            }
            let name = object["metadata"]["name"].as_str().unwrap();
            let name = format!("{} {name}", file.file_name().unwrap().to_string_lossy());
            all.push(Case { name, file: file.clone(), lines, object });
        }
    }
    all
}

/// What the API server says to a dry run with strict validation; nothing where it takes the object.
async fn server(client: &Client, case: &Case) -> Option<String> {
    let text = |name: &str| case.object[name].as_str().unwrap();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let api: Api<DynamicObject> = match text("kind") {
        "GatewayClass" | "ClusterTrustBundle" => Api::all_with(client.clone(), &resource),
        _ => Api::namespaced_with(client.clone(), "default", &resource),
    };
    let path = format!("{}?dryRun=All&fieldValidation=Strict", api.resource_url());
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(case.object.to_string().into_bytes()).unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Some(status.message.clone()),
        Err(error) => panic!("{}: {error}", case.name),
    }
}

/// What `portolan check` says, by place.
fn checked() -> Vec<(PathBuf, usize, String)> {
    let mut command = Command::new(binary::portolan());
    let done = command.args(["check", "corpus"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    let place = regex::Regex::new(r"^(.+?):(\d+):\d+: error: (.*)$").unwrap();
    let line = |line: &str| {
        let parts = place.captures(line)?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&parts[1]).canonicalize().unwrap();
        Some((file, parts[2].parse().unwrap(), parts[3].to_owned()))
    };
    said.lines().filter_map(line).collect()
}

/// The table of differences in docs/validation.md: case, what the API server does, what `portolan check` does.
fn differences() -> BTreeMap<String, (bool, bool)> {
    let text = std::fs::read_to_string(root().join("docs/validation.md")).unwrap();
    let (_, part) = text.split_once("## Cases of the corpus that differ\n").expect("the list of differences");
    let part = part.split("\n## ").next().unwrap();
    let takes = |word: &str| match word {
        "takes it" => true,
        "refuses it" => false,
        other => panic!("docs/validation.md: {other:?} is neither \"takes it\" nor \"refuses it\""),
    };
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), (takes(cells[2]), takes(cells[3])))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_and_portolan_check_agree() {
    let apiserver = ApiServer::shared().await;
    apiserver.objects().await.install(&root().join("config/crd/portolan")).await;
    let client = apiserver.client().await;
    let (cases, checked, mut differences) = (cases(), checked(), differences());
    assert!(cases.len() >= 100, "only {} cases", cases.len());
    let kinds: BTreeSet<&str> = cases.iter().map(|case| case.object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 16, "{kinds:?}");
    let mut wrong = Vec::new();
    for case in &cases {
        let said: Vec<&str> = checked
            .iter()
            .filter(|(file, line, _)| *file == case.file && (case.lines.0..=case.lines.1).contains(line))
            .map(|(_, _, what)| what.as_str())
            .collect();
        let answer = server(&client, case).await;
        let found = (answer.is_none(), said.is_empty());
        let expected = (case.refused().is_none(), case.refused().is_none());
        let documented = differences.remove(&case.name);
        if found != documented.unwrap_or(expected) {
            wrong.push(format!(
                "{}: expected {:?}\n  API server: {answer:?}\n  portolan check: {said:?}",
                case.name,
                case.refused()
            ));
            continue;
        }
        let Some(field) = case.refused() else { continue };
        for (who, text) in [("API server", answer), ("portolan check", Some(said.join("; ")))] {
            let text = text.unwrap_or_default();
            if !text.is_empty() && !text.contains(field) {
                wrong.push(format!("{}: {who} does not name {field}: {text}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let gone: Vec<_> = differences.keys().collect();
    assert!(gone.is_empty(), "docs/validation.md lists cases that there are not: {gone:?}");
}
