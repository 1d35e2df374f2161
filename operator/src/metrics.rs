//! What Portolan counts and times of itself, in Prometheus names with units.

use std::{fmt, fs, time::Duration};

use portolan_xds::ads::{Answer, Event};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// From a tenth of a millisecond to thirteen seconds.
fn latencies() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_1, 2.0, 18))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfType {
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusWrites {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfDirection {
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// What came of writing a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// It is written.
    Written,
    /// Somebody else wrote meanwhile.
    Conflict,
    /// It could not be written.
    Failed,
}

type Latencies = Family<OfType, Histogram, fn() -> Histogram>;

/// All metrics. Counting is lock-free or nearly so.
pub struct Metrics {
    registry: Registry,
    change_to_sent: Latencies,
    sent_to_answer: Latencies,
    change_to_answer: Latencies,
    responses: Family<Outcome, Counter>,
    streams: Gauge,
    changes: Counter,
    units: Counter,
    resolve: Histogram,
    lower: Histogram,
    watch_failures: Family<OfKind, Counter>,
    status_writes: Family<StatusWrites, Counter>,
    status_queue: Gauge,
    events: Family<OfResult, Counter>,
    peers: Gauge,
    peer_reports: Family<OfDirection, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("portolan");
        let change_to_sent = Latencies::new_with_constructor(latencies as fn() -> Histogram);
        let sent_to_answer = Latencies::new_with_constructor(latencies as fn() -> Histogram);
        let change_to_answer = Latencies::new_with_constructor(latencies as fn() -> Histogram);
        let responses = Family::<Outcome, Counter>::default();
        let (streams, changes, units) = (Gauge::default(), Counter::default(), Counter::default());
        let (resolve, lower) = (latencies(), latencies());
        let watch_failures = Family::<OfKind, Counter>::default();
        let events = Family::<OfResult, Counter>::default();
        let (status_writes, status_queue) = (Family::<StatusWrites, Counter>::default(), Gauge::default());
        for (name, help, family) in [
            (
                "xds_change_to_sent",
                "From an event at its source to the response that carries it",
                &change_to_sent,
            ),
            (
                "xds_sent_to_answer",
                "From a response to the proxy's acknowledgement or rejection",
                &sent_to_answer,
            ),
            ("xds_change_to_answer", "From an event at its source to the proxy's answer", &change_to_answer),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        registry.register("xds_responses", "Responses that proxies answered", responses.clone());
        registry.register("xds_streams", "Connected proxies", streams.clone());
        registry.register("source_changes", "Changed objects", changes.clone());
        registry.register(
            "source_watch_failures",
            "Times that a kind could not be watched for a new reason",
            watch_failures.clone(),
        );
        registry.register("status_writes", "Statuses that were to be written", status_writes.clone());
        registry.register("events", "Events about objects", events.clone());
        registry.register("status_queue", "Objects whose status is to be looked at", status_queue.clone());
        let (peers, peer_reports) = (Gauge::default(), Family::<OfDirection, Counter>::default());
        registry.register("peers", "Connected replicas", peers.clone());
        registry.register(
            "peer_reports",
            "Reports of what proxies have in force or reject, to the leader and from followers",
            peer_reports.clone(),
        );
        registry.register("resolve_units", "Units that were resolved", units.clone());
        registry.register_with_unit(
            "resolve",
            "Resolving one batch of changes",
            Unit::Seconds,
            resolve.clone(),
        );
        registry.register_with_unit(
            "lower",
            "Lowering and publishing one batch",
            Unit::Seconds,
            lower.clone(),
        );
        registry.register_collector(Box::new(Process));
        Self {
            registry,
            change_to_sent,
            sent_to_answer,
            change_to_answer,
            responses,
            streams,
            changes,
            units,
            resolve,
            lower,
            watch_failures,
            status_writes,
            status_queue,
            events,
            peers,
            peer_reports,
        }
    }
}

impl Metrics {
    /// Counts what happened on a stream.
    pub fn on_stream_event(&self, event: &Event) {
        match event {
            Event::Opened => _ = self.streams.inc(),
            Event::Closed { .. } => _ = self.streams.dec(),
            Event::Acked(answer) => self.answer(answer, "ack"),
            Event::Nacked { answer, .. } => self.answer(answer, "nack"),
            _ => {}
        }
    }

    fn answer(&self, answer: &Answer, result: &'static str) {
        let r#type = answer.kind.short_name();
        self.responses.get_or_create(&Outcome { r#type, result }).inc();
        let label = OfType { r#type };
        let sent_to_answer = answer.sent_to_answer.as_secs_f64();
        self.sent_to_answer.get_or_create(&label).observe(sent_to_answer);
        if let Some(change_to_sent) = answer.change_to_sent.map(|time| time.as_secs_f64()) {
            self.change_to_sent.get_or_create(&label).observe(change_to_sent);
            self.change_to_answer.get_or_create(&label).observe(change_to_sent + sent_to_answer);
        }
    }

    /// Counts a batch of changes that was resolved.
    pub fn on_resolved(&self, changes: usize, units: usize, took: Duration) {
        self.changes.inc_by(changes as u64);
        self.units.inc_by(units as u64);
        self.resolve.observe(took.as_secs_f64());
    }

    /// Counts a watch that cannot go on.
    pub fn on_watch_failure(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&OfKind { kind }).inc();
    }

    /// Counts a status that was to be written.
    pub fn on_status_write(&self, kind: &'static str, result: StatusWrite) {
        let result = match result {
            StatusWrite::Written => "written",
            StatusWrite::Conflict => "conflict",
            StatusWrite::Failed => "failed",
        };
        self.status_writes.get_or_create(&StatusWrites { kind, result }).inc();
    }

    /// Counts an event: sent, failed or dropped.
    pub fn on_event(&self, result: &'static str) {
        self.events.get_or_create(&OfResult { result }).inc();
    }

    /// How many other replicas are connected.
    pub fn on_peers(&self, replicas: usize) {
        self.peers.set(i64::try_from(replicas).unwrap_or(i64::MAX));
    }

    /// Counts a report to the leader (`sent`) or from a follower (`received`).
    pub fn on_peer_report(&self, direction: &'static str) {
        self.peer_reports.get_or_create(&OfDirection { direction }).inc();
    }

    /// How many objects wait for a look at their status.
    pub fn on_status_queue(&self, objects: usize) {
        self.status_queue.set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// Times the lowering of a batch.
    pub fn on_lowered(&self, took: Duration) {
        self.lower.observe(took.as_secs_f64());
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    ///
    /// # Errors
    /// Never in practice: writing to a text does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What the system knows of this process, under the names that every Prometheus client uses.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some((resident, cpu)) = process() else { return Ok(()) };
        let gauge = ConstGauge::new(resident);
        let metric = encoder.encode_descriptor(
            "process_resident_memory",
            "Resident memory",
            Some(&Unit::Bytes),
            gauge.metric_type(),
        )?;
        gauge.encode(metric)?;
        let counter = ConstCounter::new(cpu);
        let metric = encoder.encode_descriptor(
            "process_cpu",
            "CPU time, user and system",
            Some(&Unit::Seconds),
            counter.metric_type(),
        )?;
        counter.encode(metric)
    }
}

/// Resident memory in bytes and CPU time in seconds.
fn process() -> Option<(u64, f64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // Fields 14 and 15, counted after the command, which may hold spaces; in hundredths of a second on Linux.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((resident * 1024, (ticks(11)? + ticks(12)?) / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_units_and_our_prefix() {
        let metrics = Metrics::default();
        metrics.on_stream_event(&Event::Opened);
        metrics.on_resolved(3, 7, Duration::from_millis(2));
        let text = metrics.text().unwrap();
        for line in [
            "portolan_xds_streams 1",
            "portolan_source_changes_total 3",
            "portolan_resolve_units_total 7",
            "portolan_resolve_seconds_count 1",
            "# UNIT portolan_resolve_seconds seconds",
            "portolan_process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
