//! `portolan status`: asks a running standalone how everything stands.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use comfy_table::{Table, presets::NOTHING};
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::Format;
use crate::fleet::{
    state::{Environment, StatePaths},
    unix_http,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Shows how everything stands; `false` when nobody can be asked.
pub(super) fn status(inputs: &[PathBuf], format: Format) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(find(inputs)) {
        Ok(document) => show(&document, format).map(|()| true),
        Err(message) => {
            writeln!(io::stderr(), "portolan: {message}")?;
            Ok(false)
        }
    }
}

async fn find(inputs: &[PathBuf]) -> Result<Value, String> {
    let environment = Environment::current();
    if !inputs.is_empty() {
        let paths = StatePaths::of(inputs, &environment).map_err(|error| error.to_string())?;
        if paths.holder().is_none() {
            let shown: Vec<_> = inputs.iter().map(|input| input.display().to_string()).collect();
            let shown = shown.join(" ");
            return Err(format!(
                "no standalone runs for {shown}; start one with `portolan standalone {shown}`"
            ));
        }
        return ask(&paths).await;
    }
    let running = StatePaths::running(&environment).map_err(|error| error.to_string())?;
    match running.as_slice() {
        [] => Err("no standalone of yours runs; start one with `portolan standalone PATH`".into()),
        [one] => ask(one).await,
        several => {
            let mut message = "several standalones run; name the folders of one:".to_owned();
            for paths in several {
                let inputs = match ask(paths).await {
                    Ok(document) => texts(&document["inputs"]).join(" "),
                    Err(error) => error,
                };
                message.push_str("\n  portolan status ");
                message.push_str(&inputs);
            }
            Err(message)
        }
    }
}

/// The status document of a running standalone.
pub(super) async fn ask(paths: &StatePaths) -> Result<Value, String> {
    let socket = paths.api_socket();
    let failed = |reason: String| format!("the standalone at {} does not answer: {reason}", socket.display());
    let (status, body) =
        unix_http::request(&socket, Method::GET, "/status", PATIENCE).await.map_err(failed)?;
    if status != StatusCode::OK {
        return Err(failed(String::from_utf8_lossy(&body).trim().to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
}

/// Whether every Gateway is programmed or will not be.
pub(super) fn is_settled(document: &Value) -> bool {
    let pending = |conditions: &Value| {
        list(conditions).iter().any(|one| one["type"] == "Programmed" && one["reason"] == "Pending")
    };
    document["ready"] == true
        && entries(&document["objects"])
            .iter()
            .all(|(key, status)| !key.starts_with("Gateway/") || !pending(&status["conditions"]))
}

/// Shows a status document.
pub(super) fn show(document: &Value, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => tables(&mut out, document),
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(document).map_err(io::Error::other)?)
        }
        Format::Yaml => write!(out, "{}", serde_saphyr::to_string(document).map_err(io::Error::other)?),
    }
}

fn tables(out: &mut impl Write, document: &Value) -> io::Result<()> {
    let objects = entries(&document["objects"]);
    let mut gateways = table(&["GATEWAY", "LISTENER", "ADDRESS", "ATTACHED", "STATE"]);
    let mut routes = table(&["ROUTE", "PARENT", "STATE"]);
    for (key, status) in &objects {
        if let Some(name) = key.strip_prefix("Gateway/") {
            let fleet = &document["gateways"][name];
            let state = faults(&status["conditions"], fleet["proxy"]["message"].as_str());
            gateways.add_row([name, "", &texts(&bound(&fleet["ports"])).join("\n"), "", &state]);
            for listener in list(&status["listeners"]) {
                gateways.add_row([
                    "",
                    listener["name"].as_str().unwrap_or_default(),
                    "",
                    &listener["attachedRoutes"].to_string(),
                    &faults(&listener["conditions"], None),
                ]);
            }
        } else {
            for parent in list(&status["parents"]) {
                let name = parent["parentRef"]["name"].as_str().unwrap_or_default();
                let section = parent["parentRef"]["sectionName"].as_str();
                let name = section.map_or_else(|| name.to_owned(), |section| format!("{name}, {section}"));
                routes.add_row([key.as_str(), &name, &faults(&parent["conditions"], None)]);
            }
        }
    }
    writeln!(out, "{gateways}\n")?;
    writeln!(out, "{routes}")?;
    let problems = list(&document["problems"]);
    if !problems.is_empty() {
        writeln!(out, "\nPROBLEMS")?;
    }
    for problem in problems {
        let text = |name: &str| problem[name].as_str().unwrap_or_default();
        writeln!(
            out,
            "{}:{}:{}: {}: {}",
            text("file"),
            problem["line"],
            problem["column"],
            text("severity"),
            text("message")
        )?;
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// `80 at 127.9.8.7:80`, for each port.
fn bound(ports: &Value) -> Value {
    let shown = entries(ports).into_iter().map(|(port, bound)| {
        let port = port.strip_suffix("/tcp").unwrap_or(port);
        match bound["unavailable"].as_str() {
            Some(why) => format!("{port}: {why}"),
            None => format!("{port} at {}", texts(bound).join(", ")),
        }
    });
    shown.collect()
}

/// What a person should know of these conditions: what is wrong, or that it is in force.
fn faults(conditions: &Value, also: Option<&str>) -> String {
    let mut shown: Vec<String> = list(conditions)
        .iter()
        .filter(|one| is_fault(one))
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_default();
            format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
        })
        .collect();
    shown.extend(also.map(ToOwned::to_owned));
    if !shown.is_empty() {
        return shown.join("\n");
    }
    let programmed = list(conditions).iter().any(|one| {
        one["type"].as_str().is_some_and(|name| name.ends_with("Programmed")) && one["status"] == "True"
    });
    if programmed { "programmed".into() } else { "accepted".into() }
}

/// Whether a condition tells of something wrong. Some types are good when True, others when absent.
fn is_fault(condition: &Value) -> bool {
    let good_when_true =
        ["Accepted", "Programmed", "ResolvedRefs", "portolan.dev/Programmed", "SupportedVersion"];
    let bad_when_true = ["Conflicted", "PartiallyInvalid"];
    let name = condition["type"].as_str().unwrap_or_default();
    (good_when_true.contains(&name) && condition["status"] != "True")
        || (bad_when_true.contains(&name) && condition["status"] == "True")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn entries(value: &Value) -> Vec<(&String, &Value)> {
    value.as_object().map(|fields| fields.iter().collect()).unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(|one| one.as_str().map(ToOwned::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_addresses_and_what_is_wrong() {
        let good = json!([{"type": "Accepted", "status": "True"}, {"type": "Programmed", "status": "True"}]);
        let bad = json!([{"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "no"}]);
        let document = json!({
            "problems": [{"file": "a.yaml", "line": 3, "column": 5, "severity": "error", "message": "broken"}],
            "gateways": {"default/web": {"proxy": {}, "ports": {"80/tcp": ["127.9.1.2:10080"], "81/tcp": {"unavailable": "taken"}}}},
            "objects": {
                "Gateway/default/web": {"conditions": good, "listeners": [{"name": "http", "attachedRoutes": 2, "conditions": good}]},
                "HTTPRoute/default/r": {"parents": [{"parentRef": {"name": "web", "sectionName": "http"}, "conditions": bad}]},
            },
        });
        let mut out = Vec::new();
        tables(&mut out, &document).unwrap();
        let out = String::from_utf8(out).unwrap();
        for text in [
            "80 at 127.9.1.2:10080",
            "81: taken",
            "programmed",
            "web, http",
            "ResolvedRefs=False BackendNotFound: no",
            "a.yaml:3:5: error: broken",
        ] {
            assert!(out.contains(text), "{text} is not in\n{out}");
        }
    }
}
