//! `portolan check`: what would happen to these manifests.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{Format, manifests::Manifests};
use crate::{
    model::ObjectKey,
    resolve::{Condition, Engine, GatewayReport, Programmed, Report, SetReport, Status},
};

/// Checks manifests and shows what it found; `false` when something is wrong.
pub(super) fn check(paths: &[PathBuf], format: Format) -> io::Result<bool> {
    let manifests = Manifests::read(paths);
    let mut engine = Engine::new();
    engine.set_time(jiff::Timestamp::now().as_second());
    engine.apply(manifests.objects.iter().map(|(key, object)| (key.clone(), Some(object.clone()))));
    let offline = |_: &ObjectKey, _: &ObjectKey| Programmed::Pending("checked offline".into());
    let reports: BTreeMap<&ObjectKey, Report> =
        manifests.objects.keys().filter_map(|key| Some((key, engine.report(key, &offline)?))).collect();
    let mut out = io::stdout().lock();
    match format {
        Format::Table => table(&mut out, &manifests, &reports)?,
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&status(&reports)).map_err(io::Error::other)?)?;
        }
        Format::Yaml => {
            write!(out, "{}", serde_saphyr::to_string(&status(&reports)).map_err(io::Error::other)?)?;
        }
    }
    manifests.complain()?;
    let refused =
        reports.values().flat_map(|report| conditions(report)).any(|(_, condition)| is_fault(condition));
    Ok(manifests.sound() && !refused)
}

fn status(reports: &BTreeMap<&ObjectKey, Report>) -> BTreeMap<String, Value> {
    reports.iter().map(|(key, report)| (key.to_string(), json!(report))).collect()
}

/// All conditions of a report, each with the part that it is about.
fn conditions(report: &Report) -> Vec<(String, &Condition)> {
    fn part<'a>(name: &str, list: &'a [Condition]) -> Vec<(String, &'a Condition)> {
        list.iter().map(|condition| (name.to_owned(), condition)).collect()
    }
    match report {
        Report::Class(class) => part("", &class.conditions),
        Report::Gateway(gateway) => {
            let listeners = gateway.listeners.iter();
            let parts = listeners.flat_map(|one| part(&format!("listener {}", one.name), &one.conditions));
            part("", &gateway.conditions).into_iter().chain(parts).collect()
        }
        Report::Set(set) => {
            let listeners = set.listeners.iter();
            let parts = listeners.flat_map(|one| part(&format!("listener {}", one.name), &one.conditions));
            part("", &set.conditions).into_iter().chain(parts).collect()
        }
        Report::Policy(policy) => {
            let ancestors = policy.ancestors.iter();
            ancestors
                .flat_map(|one| part(&format!("ancestor {}", one.ancestor_ref.name), &one.conditions))
                .collect()
        }
        Report::Route(route) => {
            let parents = route.parents.iter();
            parents
                .flat_map(|one| part(&format!("parent {}", one.parent_ref.name), &one.conditions))
                .collect()
        }
    }
}

/// Offline nothing is programmed, so only what the manifests decide counts.
fn is_fault(condition: &Condition) -> bool {
    match condition.type_ {
        "Accepted" | "ResolvedRefs" => condition.status == Status::False,
        "Conflicted" | "PartiallyInvalid" | "portolan.dev/CertificateExpired" => {
            condition.status == Status::True
        }
        _ => false,
    }
}

fn table(
    out: &mut impl Write,
    manifests: &Manifests,
    reports: &BTreeMap<&ObjectKey, Report>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["OBJECT", "DEFINED IN", "ATTACHED", "RESULT"]);
    for (key, report) in reports {
        let attached = match report {
            Report::Gateway(GatewayReport { listeners, .. }) | Report::Set(SetReport { listeners, .. }) => {
                let counts = listeners.iter().map(|one| format!("{}: {}", one.name, one.attached_routes));
                counts.collect::<Vec<_>>().join(", ")
            }
            Report::Route(route) => {
                let accepted = |condition: &&Condition| {
                    condition.type_ == "Accepted" && condition.status == Status::True
                };
                let count = route
                    .parents
                    .iter()
                    .filter(|one| one.conditions.iter().any(|one| accepted(&one)))
                    .count();
                format!("{count} of {}", route.parents.len())
            }
            Report::Policy(policy) => policy.ancestors.len().to_string(),
            Report::Class(_) => String::new(),
        };
        let faults: Vec<String> = conditions(report)
            .into_iter()
            .filter(|(_, condition)| is_fault(condition))
            .map(|(part, condition)| {
                let at = if part.is_empty() { String::new() } else { format!("{part}: ") };
                format!(
                    "{at}{}={:?} {}: {}",
                    condition.type_, condition.status, condition.reason, condition.message
                )
            })
            .collect();
        let result = match report {
            // Not an error: an app team checks its own folder, and the Gateway is somebody else's.
            Report::Route(route) if route.parents.is_empty() => {
                "not attached: no parentRef names a Gateway of Portolan's in these files".to_owned()
            }
            Report::Policy(policy) if policy.ancestors.is_empty() => {
                "not in use: no route in these files reaches its targets through a Gateway of Portolan's"
                    .to_owned()
            }
            _ if faults.is_empty() => "ok".to_owned(),
            _ => faults.join("\n"),
        };
        table.add_row([key.to_string(), manifests.place(key), attached, result]);
    }
    writeln!(out, "{table}")
}
