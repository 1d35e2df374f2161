//! `portolan status`: asks a running standalone, or a cluster, how everything stands.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use comfy_table::{Table, presets::NOTHING};
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{
    Format,
    cluster::{MaybeCluster, document},
};
use crate::fleet::{
    state::{Environment, StatePaths},
    unix_http,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// How often [`status`] looks again while it waits.
const GLANCE: Duration = Duration::from_millis(100);

/// Shows how everything stands; `false` when nobody can be asked, or what was waited for did not come.
pub(super) fn status(
    inputs: &[PathBuf],
    cluster: &MaybeCluster,
    format: Format,
    wait: Option<Duration>,
) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = match wait {
        None => runtime.block_on(find(inputs, cluster)),
        Some(limit) => runtime.block_on(wait_for(inputs, cluster, limit)),
    };
    match found {
        Ok(document) => {
            show(&document, format)?;
            Ok(wait.is_none() || is_programmed(&document))
        }
        Err(message) => {
            writeln!(io::stderr(), "portolan: {message}")?;
            Ok(false)
        }
    }
}

/// Looks until everything is programmed, at most that long; then what the last look saw.
async fn wait_for(inputs: &[PathBuf], cluster: &MaybeCluster, limit: Duration) -> Result<Value, String> {
    let until = tokio::time::Instant::now() + limit;
    loop {
        let found = find(inputs, cluster).await;
        let done = found.as_ref().is_ok_and(is_programmed);
        if done || tokio::time::Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn find(inputs: &[PathBuf], cluster: &MaybeCluster) -> Result<Value, String> {
    if let Some(cluster) = cluster.chosen() {
        return document(cluster).await;
    }
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

/// Whether there is a Gateway, and all Gateways, their listeners and all routes are in force as they stand in the manifests.
fn is_programmed(document: &Value) -> bool {
    let in_force = |part: &Value| {
        list(&part["conditions"]).iter().any(|one| is_programmed_type(one) && one["status"] == "True")
    };
    let mut gateways = 0;
    let all = entries(&document["objects"]).into_iter().all(|(key, status)| {
        if key.starts_with("Gateway/") {
            gateways += 1;
            in_force(status) && list(&status["listeners"]).iter().all(in_force)
        } else {
            list(&status["parents"]).iter().all(in_force)
        }
    });
    let broken = list(&document["problems"]).iter().any(|one| one["severity"] == "error");
    document["ready"] == true && gateways > 0 && all && !broken
}

/// `Programmed` of a Gateway or a listener, `portolan.dev/Programmed` of a route's parent.
fn is_programmed_type(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|name| name.ends_with("Programmed"))
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
    let mut reasons = Vec::new();
    for (key, status) in &objects {
        if let Some(name) = key.strip_prefix("Gateway/") {
            let fleet = &document["gateways"][name];
            let proxy = fleet["proxy"]["message"].as_str();
            reasons.extend(proxy.map(|message| format!("{key}: its proxy: {message}")));
            let state = state(key, &status["conditions"], &mut reasons);
            let mut addresses = bound(&fleet["ports"]);
            if fleet["ports"].is_null() {
                // In a cluster the ports are those of the listeners, and the addresses are their Service's.
                let values = list(&status["addresses"]).iter().filter_map(|one| one["value"].as_str());
                addresses = values.map(ToOwned::to_owned).collect();
            }
            gateways.add_row([name, "", &addresses.join("\n"), "", &state]);
            for listener in list(&status["listeners"]) {
                let name = listener["name"].as_str().unwrap_or_default();
                let place = format!("{key}, listener {name}");
                let state = self::state(&place, &listener["conditions"], &mut reasons);
                gateways.add_row(["", name, "", &listener["attachedRoutes"].to_string(), &state]);
            }
        } else {
            let parents = list(&status["parents"]);
            for parent in parents {
                let name = parent["parentRef"]["name"].as_str().unwrap_or_default();
                let section = parent["parentRef"]["sectionName"].as_str();
                let name = section.map_or_else(|| name.to_owned(), |section| format!("{name}, {section}"));
                let state = state(&format!("{key}, parent {name}"), &parent["conditions"], &mut reasons);
                routes.add_row([key.as_str(), &name, &state]);
            }
            // A misspelt parent leaves no other trace: nobody reports on a Gateway that does not exist.
            if parents.is_empty() && status.get("parents").is_some() {
                routes.add_row([key.as_str(), "", "not attached"]);
                reasons.push(format!("{key}: no parentRef of it names a Gateway of Portolan's"));
            }
        }
    }
    writeln!(out, "{gateways}\n")?;
    writeln!(out, "{routes}")?;
    if !reasons.is_empty() {
        writeln!(out, "\nREASONS")?;
    }
    for reason in reasons {
        writeln!(out, "{reason}")?;
    }
    let problems = list(&document["problems"]);
    if !problems.is_empty() {
        writeln!(out, "\nPROBLEMS")?;
    }
    for problem in problems {
        let text = |name: &str| problem[name].as_str().unwrap_or_default();
        // Line 0 is the whole file.
        let place = match problem["line"].as_u64() {
            None | Some(0) => text("file").to_owned(),
            Some(line) => format!("{}:{line}:{}", text("file"), problem["column"]),
        };
        writeln!(out, "{place}: {}: {}", text("severity"), text("message"))?;
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// `80 at 127.9.8.7:80`, for each port.
fn bound(ports: &Value) -> Vec<String> {
    let shown = entries(ports).into_iter().map(|(port, bound)| {
        let port = port.strip_suffix("/tcp").unwrap_or(port);
        // Why it is not is told by the listener's condition.
        match bound["unavailable"].as_str() {
            Some(_) => format!("{port}: not bound"),
            None => format!("{port} at {}", texts(bound).join(", ")),
        }
    });
    shown.collect()
}

/// What a person should know of these conditions: what is wrong, or that they are in force. A table has no room for messages,
/// which can be sentences of Envoy's: they are added to `reasons`, with the place that they are about.
fn state(place: &str, conditions: &Value, reasons: &mut Vec<String>) -> String {
    let mut shown = Vec::new();
    for one in list(conditions).iter().filter(|one| is_fault(one)) {
        let text = |name: &str| one[name].as_str().unwrap_or_default();
        let fault = format!("{}={} {}", text("type"), text("status"), text("reason"));
        reasons.push(format!("{place}: {fault}: {}", text("message")));
        shown.push(fault);
    }
    if !shown.is_empty() {
        return shown.join("\n");
    }
    let programmed = list(conditions).iter().any(|one| is_programmed_type(one) && one["status"] == "True");
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

    /// A Gateway with one listener and a route, all in force, and nothing wrong.
    fn in_force() -> Value {
        let good = json!([{"type": "Accepted", "status": "True"}, {"type": "Programmed", "status": "True"}]);
        let route = json!([{"type": "Accepted", "status": "True"}, {"type": "portolan.dev/Programmed", "status": "True"}]);
        json!({
            "ready": true,
            "problems": [],
            "objects": {
                "GatewayClass/portolan": {"conditions": [{"type": "Accepted", "status": "True"}]},
                "Gateway/default/web": {"conditions": good, "listeners": [{"name": "http", "conditions": good}]},
                "HTTPRoute/default/r": {"parents": [{"parentRef": {"name": "web"}, "conditions": route}]},
            },
        })
    }

    #[test]
    fn waiting_ends_when_every_part_is_in_force() {
        assert!(is_programmed(&in_force()));
        for (part, value) in [
            ("/ready", json!(false)),
            ("/problems", json!([{"severity": "error", "message": "broken"}])),
            ("/objects", json!({})),
            ("/objects/Gateway~1default~1web/conditions/1/status", json!("False")),
            ("/objects/Gateway~1default~1web/listeners/0/conditions/1/status", json!("Unknown")),
            ("/objects/HTTPRoute~1default~1r/parents/0/conditions/1/status", json!("False")),
            // A route that is not accepted has no such condition at all.
            ("/objects/HTTPRoute~1default~1r/parents/0/conditions", json!([])),
        ] {
            let mut document = in_force();
            *document.pointer_mut(part).unwrap() = value;
            assert!(!is_programmed(&document), "{part}");
        }
    }

    #[test]
    fn a_table_shows_addresses_and_what_is_wrong() {
        let good = json!([{"type": "Accepted", "status": "True"}, {"type": "Programmed", "status": "True"}]);
        let bad = json!([{"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "no"}]);
        let document = json!({
            "problems": [
                {"file": "a.yaml", "line": 3, "column": 5, "severity": "error", "message": "broken"},
                {"file": "b.yaml", "line": 0, "column": 0, "severity": "error", "message": "is not UTF-8"},
            ],
            "gateways": {"default/web": {"proxy": {}, "ports": {"80/tcp": ["127.9.1.2:10080"], "81/tcp": {"unavailable": "taken"}}}},
            "objects": {
                "Gateway/default/web": {"conditions": good, "listeners": [{"name": "http", "attachedRoutes": 2, "conditions": good}]},
                "GatewayClass/portolan": {"conditions": good},
                "HTTPRoute/default/lost": {"parents": []},
                "HTTPRoute/default/r": {"parents": [{"parentRef": {"name": "web", "sectionName": "http"}, "conditions": bad}]},
            },
        });
        let mut out = Vec::new();
        tables(&mut out, &document).unwrap();
        let out = String::from_utf8(out).unwrap();
        for text in [
            "80 at 127.9.1.2:10080",
            "81: not bound",
            "programmed",
            "web, http",
            "\nHTTPRoute/default/r, parent web, http: ResolvedRefs=False BackendNotFound: no\n",
            "\nHTTPRoute/default/lost: no parentRef of it names a Gateway",
            "a.yaml:3:5: error: broken",
            "b.yaml: error: is not UTF-8",
        ] {
            assert!(out.contains(text), "{text} is not in\n{out}");
        }
        assert!(!out.contains("GatewayClass"), "{out}");
    }
}
