//! Writes what was measured into the repository: the lines, a plot for each, and the table of docs/performance.md. Nothing of it is
//! edited by hand.

use std::{fs, path::Path};

use serde_json::Value;

use super::{BenchError, plot, report::Plot};

/// The table is between these lines.
const BEGIN: &str = "<!-- begin: written by hack/bench --record -->";
const END: &str = "<!-- end: written by hack/bench --record -->";

/// The field of a line that says on what it was measured.
const MEASURED: &str = "measured";

/// A line, and what is drawn of it.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) line: Value,
    pub(super) plot: Option<Plot>,
}

/// Writes into the folder `docs` of the repository; `machine` is what it was measured on, and of which commit. Lines of benchmarks that
/// did not run stay as they are, with the machine and the commit that they were measured on.
pub(super) fn record(docs: &Path, machine: &str, all: &[Recorded]) -> Result<(), BenchError> {
    let folder = docs.join("performance");
    fs::create_dir_all(&folder)?;
    for recorded in all {
        let Some(plot) = &recorded.plot else { continue };
        let name = text(&recorded.line, "bench").to_lowercase();
        plot::draw(plot, &text(&recorded.line, "title"), &folder.join(format!("{name}.svg")))?;
    }
    let file = folder.join("results.jsonl");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let before = before.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut lines: Vec<Value> =
        before.filter(|old| all.iter().all(|new| old["bench"] != new.line["bench"])).collect();
    lines.extend(all.iter().map(|recorded| {
        let mut line = recorded.line.clone();
        line[MEASURED] = machine.into();
        line
    }));
    lines.sort_by_key(|line| (text(line, "bench"), line["inputs"]["routes"].as_u64()));
    let texts: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&file, texts.join("\n") + "\n")?;
    let page = docs.join("performance.md");
    let text = format!("{}{}", table(&lines), plots(&folder)?);
    let written = with_table(&fs::read_to_string(&page)?, &text).ok_or_else(|| {
        BenchError::Setting(format!("{} has no lines {BEGIN} and {END} for the table", page.display()))
    })?;
    Ok(fs::write(page, written)?)
}

fn text(line: &Value, name: &str) -> String {
    line[name].as_str().unwrap_or_default().to_owned()
}

/// The page with another table.
fn with_table(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// The runs, a row for each bar, and the figures of each benchmark below. A row names its run where there are several.
fn table(lines: &[Value]) -> String {
    let mut runs: Vec<String> = Vec::new();
    for line in lines {
        let run = text(line, MEASURED);
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let mut table = String::new();
    for (index, run) in runs.iter().enumerate() {
        let label = if runs.len() > 1 { format!(" ({})", letter(index)) } else { String::new() };
        let run = if run.is_empty() { "on a machine that was not noted" } else { run };
        table.extend(["\nMeasured", &label, ": ", run, ".\n"]);
    }
    let name_of = |line: &Value| {
        let run = text(line, MEASURED);
        let run = runs.iter().position(|one| *one == run).filter(|_| runs.len() > 1);
        run.map_or_else(|| name_of(line), |run| format!("{} ({})", name_of(line), letter(run)))
    };
    table.push_str("\n| | what | measured | bar | met |\n|---|---|---|---|---|\n");
    for line in lines {
        for bar in line["bars"].as_array().into_iter().flatten() {
            let met = if bar["met"] == true { "yes" } else { "**no**" };
            let row = format!(
                "| {} | {} | {} | {} | {met} |\n",
                name_of(line),
                text(bar, "what"),
                bar["value"],
                bar["bar"]
            );
            table.push_str(&row);
        }
    }
    table.push_str("\nAll figures:\n\n| | figures |\n|---|---|\n");
    for line in lines {
        let figures = line["figures"].as_object().into_iter().flatten();
        let figures = figures.map(|(name, value)| format!("{} {value}", name.replace('_', " ")));
        let row = format!("| {} | {} |\n", name_of(line), figures.collect::<Vec<_>>().join("; "));
        table.push_str(&row);
    }
    table.push('\n');
    table
}

/// a, b, c … of a run; there are never more than benchmarks.
fn letter(index: usize) -> char {
    u8::try_from(index).map_or('?', |index| char::from(b'a'.saturating_add(index)))
}

/// Pictures of all benchmarks that have one.
fn plots(folder: &Path) -> Result<String, BenchError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        names.extend(file.strip_suffix(".svg").map(str::to_owned));
    }
    names.sort();
    let pictures: Vec<String> =
        names.iter().map(|name| format!("![{name}](performance/{name}.svg)\n\n")).collect();
    Ok(pictures.concat())
}

fn name_of(line: &Value) -> String {
    match line["inputs"]["routes"].as_u64() {
        Some(routes) => format!("{}, {routes} routes", text(line, "bench")),
        None => text(line, "bench"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let page = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let once = with_table(&page, "new\n").unwrap();
        assert_eq!(once, format!("above\n{BEGIN}\nnew\n{END}\nbelow\n"));
        assert_eq!(with_table(&once, "new\n").unwrap(), once);
        assert_eq!(with_table("a page without", "new"), None);
    }

    #[test]
    fn a_missed_bar_is_seen_in_the_table() {
        let bars = json!([{"what": "ms", "bar": 5.0, "value": 6.5, "met": false}]);
        let line =
            json!({"bench": "B1", "inputs": {"routes": 10}, "figures": {"t2_p50_ms": 6.5}, "bars": bars});
        let table = table(&[line]);
        assert!(table.contains("| B1, 10 routes | ms | 6.5 | 5.0 | **no** |"), "{table}");
        assert!(table.contains("| B1, 10 routes | t2 p50 ms 6.5 |"), "{table}");
    }

    #[test]
    fn a_row_says_of_which_run_it_is_where_there_are_several() {
        let line = |bench: &str, measured: &str| {
            let bars = json!([{"what": "ms", "bar": 5.0, "value": 4.5, "met": true}]);
            json!({"bench": bench, "inputs": {}, "figures": {}, "bars": bars, "measured": measured})
        };
        let one = table(&[line("B1", "here; commit 1"), line("B2", "here; commit 1")]);
        assert!(one.contains("\nMeasured: here; commit 1.\n"), "{one}");
        assert!(one.contains("| B2 | ms |"), "{one}");
        let two = table(&[line("B1", "here; commit 1"), line("B2", "there; commit 2")]);
        assert!(two.contains("\nMeasured (a): here; commit 1.\n"), "{two}");
        assert!(two.contains("\nMeasured (b): there; commit 2.\n"), "{two}");
        assert!(two.contains("| B1 (a) | ms |") && two.contains("| B2 (b) | ms |"), "{two}");
    }
}
