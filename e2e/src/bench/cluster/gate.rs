//! The gate of `--quick`: figures that hardly depend on the machine, held against those that are recorded in the repository.
//!
//! A count (status writes, units, resources) is the same everywhere. A ratio of CPU times is taken within one run, and the run's
//! own noise widens what it may be. A regression is what lies beyond the larger of 30 % and three times that noise.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BenchError;

/// The recorded figures, by name, of each profile of the binary: a debug build has other ratios.
type Baseline = BTreeMap<String, BTreeMap<String, Recorded>>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    value: f64,
    /// The compiler, where the figure belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rustc: Option<String>,
}

/// What is held against a record.
#[derive(Debug, Clone, PartialEq)]
struct Gated {
    name: String,
    value: f64,
    /// The share by which it may exceed what is recorded.
    slack: f64,
    /// What it may exceed it by in any case: a count that is recorded as 0 has no share.
    least: f64,
    /// Whether it may fall short by no more, either: of a count that stays away, something is wrong with what counts it.
    both: bool,
    rustc: Option<String>,
}

/// The outcome of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What was held, in words.
    pub held: Vec<String>,
    /// What was not.
    pub failed: Vec<String>,
}

/// Holds lines against the record; with `record`, writes them there first. Where the lines are of all benchmarks (`complete`), a
/// recorded figure that was not measured is a failure, as is one that is gated and not recorded; of B9, which needs valgrind, the
/// former is told.
///
/// # Errors
/// Where the file cannot be read or written.
pub fn gate(
    file: &Path,
    profile: &str,
    lines: &[Value],
    complete: bool,
    record: bool,
) -> Result<Verdict, BenchError> {
    let text = fs::read_to_string(file).unwrap_or_else(|_| "{}".into());
    let mut baseline: Baseline = serde_json::from_str(&text)
        .map_err(|error| BenchError::Setting(format!("{}: {error}", file.display())))?;
    let gated = gated(lines);
    if record {
        let of = |it: &Gated| (it.name.clone(), Recorded { value: it.value, rustc: it.rustc.clone() });
        let recorded = baseline.entry(profile.to_owned()).or_default();
        if complete {
            // What is not gated any more goes, but what valgrind would count.
            recorded.retain(|name, _| name.starts_with(COUNTED_BY_VALGRIND));
        }
        recorded.extend(gated.iter().map(of));
        let text = serde_json::to_string_pretty(&baseline).unwrap_or_default();
        fs::write(file, text + "\n")?;
    }
    let Some(recorded) = baseline.get(profile) else {
        let why = format!("of the profile {profile} nothing is recorded: hack/bench --quick --record does");
        return Ok(Verdict { held: Vec::new(), failed: vec![why] });
    };
    let mut verdict = judge(recorded, &gated);
    if complete {
        let new = gated.iter().filter(|it| !recorded.contains_key(&it.name));
        verdict.failed.extend(new.map(|it| format!("{}: gated, and not recorded", it.name)));
        let missing = recorded.keys().filter(|name| gated.iter().all(|it| it.name != **name));
        for name in missing {
            let told =
                if name.starts_with(COUNTED_BY_VALGRIND) { &mut verdict.held } else { &mut verdict.failed };
            told.push(format!("{name}: recorded, and not measured"));
        }
    }
    Ok(verdict)
}

fn judge(recorded: &BTreeMap<String, Recorded>, gated: &[Gated]) -> Verdict {
    let mut verdict = Verdict { held: Vec::new(), failed: Vec::new() };
    for it in gated {
        let Some(recorded) = recorded.get(&it.name) else {
            verdict.held.push(format!("{}: {:.3}, nothing is recorded", it.name, it.value));
            continue;
        };
        if recorded.rustc != it.rustc {
            let of = recorded.rustc.as_deref().unwrap_or("no compiler");
            verdict.held.push(format!("{}: {:.0}, not held against {of}", it.name, it.value));
            continue;
        }
        let most = (recorded.value * (1.0 + it.slack)).max(recorded.value + it.least);
        let fewest = if it.both {
            (recorded.value / (1.0 + it.slack)).min(recorded.value - it.least)
        } else {
            f64::MIN
        };
        let least = if it.both { format!(" and at least {fewest:.3}") } else { String::new() };
        let text =
            format!("{}: {:.3}, recorded {:.3}, at most {most:.3}{least}", it.name, it.value, recorded.value);
        // What is not a number is no pass.
        if (fewest..=most).contains(&it.value) { &mut verdict.held } else { &mut verdict.failed }.push(text);
    }
    verdict
}

/// What the names of figures begin with that need valgrind.
const COUNTED_BY_VALGRIND: &str = "B9";

/// Counts that should be there: fewer of them is no progress.
const COUNTED: [&str; 6] = [
    "B1 bytes per route",
    "endpoints bytes per change",
    "B1 status writes per route, by the operator",
    "B4 units per change",
    "proxy series",
    "proxy clusters",
];

/// The figures that are gated.
fn gated(lines: &[Value]) -> Vec<Gated> {
    let of = |bench: &str| lines.iter().find(move |line| line["bench"] == bench);
    let figure = |bench: &str, name: &str| of(bench)?["figures"][name].as_f64();
    let noise =
        of("B0").and_then(|line| line["figures"]["noise_percent"].as_f64()).unwrap_or_default() / 100.0;
    let mut gated = Vec::new();
    let mut add = |name: &str, value: Option<f64>, slack: f64, least: f64| {
        if let Some(value) = value {
            // Nothing is better than 0 of what should not be; of the rest, a count may go wrong.
            let both = COUNTED.contains(&name);
            gated.push(Gated { name: name.into(), value, slack, least, both, rustc: None });
        }
    };
    let slack = f64::max(0.3, 3.0 * noise);
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    add("B1 answers other than 200 and 404", figure("B1", "wrong_answers"), 0.0, 0.0);
    add("B1 bytes per route", figure("B1", "bytes_per_route"), 0.3, 0.0);
    add("B1 status writes per route", figure("B1", "status_writes_per_route"), 0.3, 0.0);
    let written =
        ratio(figure("B1", "status_writes"), of("B1").and_then(|line| line["inputs"]["routes"].as_f64()));
    add("B1 status writes per route, by the operator", written, 0.3, 0.0);
    // In writes of the API server, as the machine and its noise are in both. It is a fraction of one, so that another one is what it
    // may take more; 100 ms that somebody waits are ten or more.
    let waited = ratio(figure("B1", "t2_t1_p50_ms"), figure("B0", "write_p50_ms"));
    add("B1 watch to probe over a write", waited, slack, 1.0);
    add("B2 answers other than 200 and 404", figure("B2", "wrong_answers"), 0.0, 0.0);
    add("B5 answers other than 200 and 404", figure("B5", "wrong_answers"), 0.0, 0.0);
    add("endpoints bytes per change", figure("endpoints", "bytes_per_change"), 0.3, 0.0);
    let waited = ratio(figure("endpoints", "t2_t1_p50_ms"), figure("B0", "write_p50_ms"));
    add("endpoints watch to probe over a write", waited, slack, 1.0);
    add("B3 status writes per route", figure("B3", "status_writes_per_route"), 0.3, 0.0);
    add("B3 status writes of the Gateway", figure("B3", "gateway_status_writes"), 0.3, 20.0);
    add("B4 units per change", figure("B4", "units_per_change"), 0.3, 0.0);
    add("B4 bytes over bytes of the changed resources", figure("B4", "bytes_over_changed_bytes"), 0.3, 0.0);
    // Among many and among few: what a change costs must not follow how much is there. Both of B2, in the same minute: CPU
    // time of the same work differed by a third within minutes, with what else the machine did.
    let among =
        ratio(figure("B2", "among_many_cpu_ms_per_route"), figure("B2", "among_few_cpu_ms_per_route"));
    // Few routes and ticks of 10 ms: runs of the same binaries gave 0.83 to 1.15. What follows the number of routes is far beyond.
    add("CPU per route created among many over among few", among, slack, 0.8);
    add("B6 units resolved", figure("B6", "units_resolved"), 0.0, 0.0);
    add("B6 status writes", figure("B6", "status_writes"), 0.0, 0.0);
    // The difference of two sizes of a process, over 60 streams: 1 MiB that has another reason is 17 of it.
    add("B7 KiB per idle stream", figure("B7", "kib_per_idle_stream"), 0.3, 17.0);
    add("B8 resources sent again", figure("B8", "resent_resources"), 0.0, 0.0);
    add("B8 removals", figure("B8", "removals"), 0.0, 0.0);
    add("proxy series", figure("proxy", "series"), 0.3, 0.0);
    add("proxy clusters", figure("proxy", "clusters"), 0.0, 0.0);
    if let Some(line) = of("B9") {
        let rustc = line["figures"]["rustc"].as_str().map(String::from);
        let counts = line["figures"].as_object().into_iter().flatten();
        for (name, value) in counts.filter(|(name, _)| name.starts_with("instructions")) {
            let value = value.as_f64().unwrap_or(f64::NAN);
            let name = format!("B9 {}", name.replace('_', " "));
            gated.push(Gated { name, value, slack: 0.05, least: 0.0, both: false, rustc: rustc.clone() });
        }
    }
    gated
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_count_that_stays_away_is_a_regression() {
        for (now, fails) in [(2.0, false), (1.6, false), (1.4, true), (0.0, true)] {
            let it = Gated { both: true, ..measured(now, 0.3, 0.0, None) };
            assert_eq!(!judge(&recorded(2.0, None), &[it]).failed.is_empty(), fails, "{now}");
        }
    }

    #[test]
    fn what_was_not_measured_passes_no_gate() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("baseline.json");
        let lines =
            |bench: &str| vec![json!({"bench": bench, "figures": {"removals": 0, "units_per_change": 2}})];
        let failed = |lines: &[Value], profile: &str, complete| {
            gate(&file, profile, lines, complete, false).unwrap().failed
        };
        assert_eq!(failed(&lines("B8"), "dev", false).len(), 1, "nothing is recorded");
        gate(&file, "dev", &lines("B8"), true, true).unwrap();
        assert_eq!(failed(&lines("B8"), "dev", true), Vec::<String>::new());
        let both =
            ["B4 units per change: gated, and not recorded", "B8 removals: recorded, and not measured"];
        assert_eq!(failed(&lines("B4"), "dev", true), both);
        // Who runs some of them knows.
        assert_eq!(failed(&lines("B4"), "dev", false), Vec::<String>::new());
        assert_eq!(failed(&lines("B8"), "release", false).len(), 1);
        // What a whole record does not gate any more is gone.
        gate(&file, "dev", &lines("B4"), true, true).unwrap();
        assert_eq!(failed(&lines("B4"), "dev", true), Vec::<String>::new());
    }

    fn recorded(value: f64, rustc: Option<&str>) -> BTreeMap<String, Recorded> {
        BTreeMap::from([("it".to_owned(), Recorded { value, rustc: rustc.map(String::from) })])
    }

    fn measured(value: f64, slack: f64, least: f64, rustc: Option<&str>) -> Gated {
        Gated { name: "it".into(), value, slack, least, both: false, rustc: rustc.map(String::from) }
    }

    #[test]
    fn beyond_the_slack_is_a_regression() {
        let cases = [
            (1.0, 1.29, 0.3, 0.0, false),
            (1.0, 1.31, 0.3, 0.0, true),
            (0.0, 1.0, 0.3, 0.0, true),
            (0.0, 1.0, 0.3, 2.0, false),
            (1.0, f64::NAN, 0.3, 0.0, true),
        ];
        for (before, now, slack, least, fails) in cases {
            let verdict = judge(&recorded(before, None), &[measured(now, slack, least, None)]);
            assert_eq!(!verdict.failed.is_empty(), fails, "{before} {now}: {verdict:?}");
        }
    }

    #[test]
    fn counts_of_another_compiler_are_told_and_not_held() {
        let verdict = judge(&recorded(1.0, Some("rustc 1")), &[measured(9.0, 0.05, 0.0, Some("rustc 2"))]);
        assert!(verdict.failed.is_empty());
        let verdict = judge(&recorded(1.0, Some("rustc 2")), &[measured(9.0, 0.05, 0.0, Some("rustc 2"))]);
        assert!(!verdict.failed.is_empty());
    }

    #[test]
    fn noise_of_the_run_widens_ratios_of_times_only() {
        let lines = |noise: f64| {
            [
                json!({"bench": "B0", "figures": {"noise_percent": noise}}),
                json!({"bench": "B2", "figures": {"among_many_cpu_ms_per_route": 4.0, "among_few_cpu_ms_per_route": 2.0}}),
                json!({"bench": "B4", "figures": {"units_per_change": 3.0}}),
            ]
        };
        let slack_of = |noise: f64, name: &str| {
            let all = gated(&lines(noise));
            all.into_iter().find(|it| it.name.contains(name)).map(|it| it.slack)
        };
        assert_eq!(slack_of(1.0, "CPU per route"), Some(0.3));
        assert_eq!(slack_of(25.0, "CPU per route"), Some(0.75));
        assert_eq!(slack_of(25.0, "units per change"), Some(0.3));
    }
}
