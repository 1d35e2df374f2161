//! Envoy's log, joined into ours: target `envoy`, Envoy's level, its logger as a field.

use std::collections::VecDeque;

use tracing::Level;

/// The format that [`parse`] reads (spdlog syntax, Envoy's `--log-format`): level, logger, message.
pub const FORMAT: &str = "%L|%n|%v";

/// Lines kept to explain an exit.
const KEPT: usize = 8;
/// A longer line is cut: a log must not grow our memory.
const LONGEST: usize = 16 * 1024;

/// One line of Envoy's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Envoy's level as ours; `critical` is an error.
    pub level: Level,
    /// Envoy's logger, such as `upstream`; empty for what bypasses the log.
    pub logger: &'a str,
    /// The text.
    pub message: &'a str,
}

/// Reads one line. What is not in [`FORMAT`] (a stack trace, a message on standard error) is a warning.
pub fn parse(line: &str) -> Line<'_> {
    let structured = || {
        let (level, rest) = line.split_once('|')?;
        let (logger, message) = rest.split_once('|')?;
        let level = match level {
            "T" => Level::TRACE,
            "D" => Level::DEBUG,
            // The list of all extensions, at every start.
            "I" if logger == "main" && message.starts_with("  ") => Level::TRACE,
            "I" => Level::INFO,
            "W" => Level::WARN,
            "E" | "C" => Level::ERROR,
            _ => return None,
        };
        Some(Line { level, logger, message })
    };
    structured().unwrap_or(Line { level: Level::WARN, logger: "", message: line })
}

/// Hands one line to `tracing`.
pub fn emit(line: &Line<'_>) {
    let (logger, message) = (line.logger, line.message);
    match line.level {
        Level::TRACE => tracing::trace!(target: "envoy", logger, "{message}"),
        Level::DEBUG => tracing::debug!(target: "envoy", logger, "{message}"),
        Level::INFO => tracing::info!(target: "envoy", logger, "{message}"),
        Level::WARN => tracing::warn!(target: "envoy", logger, "{message}"),
        Level::ERROR => tracing::error!(target: "envoy", logger, "{message}"),
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
pub struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// The lines that these bytes complete. Over-long lines come in pieces.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.extend(self.finish());
            } else {
                self.rest.push(byte);
                if self.rest.len() == LONGEST {
                    lines.extend(self.finish());
                }
            }
        }
        lines
    }

    /// What is left without an end of line.
    pub fn finish(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// The latest lines that may explain an exit.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    /// Remembers a warning or an error; the rest explains nothing.
    pub fn push(&mut self, line: &Line<'_>) {
        if line.level > Level::WARN || line.message.contains("caught ENVOY_SIGTERM") {
            return;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        let text = if line.logger.is_empty() { String::new() } else { format!("[{}] ", line.logger) };
        self.lines.push_back(text + line.message);
    }

    /// Forgets all: what was said before a success explains no later failure.
    pub fn clear(&mut self) {
        self.lines.clear();
    }

    /// The kept lines, oldest first, joined by `; `.
    pub fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        let line = |level, logger, message| Line { level, logger, message };
        assert_eq!(parse("W|config|a | b"), line(Level::WARN, "config", "a | b"));
        assert_eq!(parse("C|main|bad"), line(Level::ERROR, "main", "bad"));
        assert_eq!(parse("I|main|  envoy.clusters: x"), line(Level::TRACE, "main", "  envoy.clusters: x"));
        assert_eq!(parse("Killed"), line(Level::WARN, "", "Killed"));
        assert_eq!(parse("a|b|c"), line(Level::WARN, "", "a|b|c"));
    }

    #[test]
    fn bytes_become_lines() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"a\nb"), ["a"]);
        assert_eq!(splitter.push(b"c\n\n\xff\n"), ["bc", "\u{fffd}"]);
        assert_eq!(splitter.push(&vec![b'x'; LONGEST + 1]).len(), 1);
        assert_eq!(splitter.finish().as_deref(), Some("x"));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn the_tail_keeps_the_latest_problems() {
        let mut tail = Tail::default();
        tail.push(&parse("I|main|starting"));
        for number in 0..20 {
            tail.push(&parse(&format!("E|main|problem {number}")));
        }
        assert!(tail.text().starts_with("[main] problem 12; ") && tail.text().ends_with("problem 19"));
        tail.clear();
        assert_eq!(tail.text(), "");
    }
}
