//! Answers that come late: what a proxy says of a response meets a program that has gone on since.
//!
//! Here the real stream is between the program and a model of Envoy, and each has its own pace: what the proxy says
//! reaches the stream first, which may send again before the program has heard of it.

use std::collections::VecDeque;

use portolan_xds_proto::envoy::config::route::v3::VirtualHost as ProtoHost;
use portolan_xds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portolan_xds_proto::google::rpc::Status;
use proptest::prelude::*;
use prost::Message;

use super::tests::{TABLE, delta, good, origin, paths};
use super::*;
use crate::ads::{Event, Stream, StreamConfig};

const ROUTES: usize = 20;

/// One of the things that may happen next.
#[derive(Clone, Debug)]
enum Step {
    /// Objects change; `true` makes one bad, `false` good, nothing takes it away.
    Edit(BTreeMap<usize, Option<bool>>),
    /// The stream sends what it can.
    Send,
    /// The proxy answers what it got.
    Answer,
    /// The program hears of one thing that the proxy said.
    Hear,
}

/// A program, a stream, and a proxy that rejects each response with a path that contains `bad`.
struct Late {
    program: Program,
    store: Store,
    stream: Stream,
    now: Instant,
    desired: BTreeMap<usize, String>,
    edits: usize,
    sent: VecDeque<DeltaDiscoveryResponse>,
    said: VecDeque<Event>,
    accepted: BTreeMap<String, BTreeSet<String>>,
    rejected: usize,
}

impl Late {
    fn new() -> Self {
        let mut late = Self {
            program: Program::new(GatewayKey::new("apps", "public")),
            store: Store::default(),
            stream: Stream::new(StreamConfig::default()),
            now: Instant::now(),
            desired: (0..ROUTES).map(|index| (index, good(index))).collect(),
            edits: 0,
            sent: VecDeque::new(),
            said: VecDeque::new(),
            accepted: BTreeMap::new(),
            rejected: 0,
        };
        late.apply();
        late.ask(ResourceType::Cluster, &[]);
        late.ask(ResourceType::Listener, &[]);
        late.ask(ResourceType::RouteConfiguration, &[TABLE]);
        late.ask(ResourceType::VirtualHost, &[]);
        late.settle();
        late
    }

    fn apply(&mut self) {
        let desired = &self.desired;
        let mut delta = delta(desired.keys().copied(), &|index| desired[&index].clone());
        for domain in ["h0.test", "h1.test"] {
            delta
                .virtual_hosts
                .entry(VirtualHostKey { table: TABLE.into(), domain: domain.into() })
                .or_insert(None);
        }
        self.program.apply(delta, &mut self.store, self.now);
    }

    fn ask(&mut self, kind: ResourceType, names: &[&str]) {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        let said = self.stream.on_request(&self.store, &request, self.now);
        self.said.extend(said);
    }

    fn send(&mut self) -> bool {
        let before = self.sent.len();
        while let Some(response) = self.stream.poll(&self.store, self.now) {
            self.sent.push_back(response);
        }
        self.sent.len() > before
    }

    fn answer(&mut self) -> bool {
        let Some(response) = self.sent.pop_front() else { return false };
        let mut after = self.accepted.clone();
        let mut bad = false;
        if response.type_url == ResourceType::VirtualHost.type_url() {
            for each in &response.resources {
                let host = ProtoHost::decode(each.resource.clone().unwrap().value).unwrap();
                let paths = paths(&host);
                bad |= paths.iter().any(|path| path.contains("bad"));
                after.insert(each.name.clone(), paths);
            }
            for name in &response.removed_resources {
                after.remove(name);
            }
        }
        if bad {
            self.rejected += 1;
        } else {
            self.accepted = after;
        }
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: bad.then(|| Status { message: "no".to_owned(), ..Status::default() }),
            ..DeltaDiscoveryRequest::default()
        };
        let said = self.stream.on_request(&self.store, &request, self.now);
        self.said.extend(said);
        true
    }

    fn hear(&mut self) -> bool {
        let Some(event) = self.said.pop_front() else { return false };
        match event {
            Event::Acked(answer) => {
                self.program.on_ack(answer.kind, &answer.resources, &mut self.store, self.now);
            }
            Event::Nacked { answer, message } => {
                let (kind, built) = (answer.kind, answer.built);
                self.program.on_nack(kind, &answer.resources, built, &message, &mut self.store, self.now);
            }
            _ => {}
        }
        true
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Edit(changes) => {
                self.edits += 1;
                for (index, change) in changes {
                    match change {
                        Some(true) => self.desired.insert(index, format!("/bad{}/{index}", self.edits)),
                        Some(false) => self.desired.insert(index, format!("/v{}/{index}", self.edits)),
                        None => self.desired.remove(&index),
                    };
                }
                self.apply();
            }
            Step::Send => drop(self.send()),
            Step::Answer => drop(self.answer()),
            Step::Hear => drop(self.hear()),
        }
    }

    fn take_all(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.take(step);
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let sent = self.send();
            let answered = self.answer();
            if !(self.hear() || answered || sent) {
                return;
            }
        }
        panic!("no end of answers");
    }

    fn assert_only_the_bad_are_blamed(&self) {
        let is_bad = |path: &&String| path.contains("bad");
        let blamed: BTreeSet<Origin> =
            self.program.rejections().into_iter().map(|each| each.origin).collect();
        let bad = self.desired.iter().filter(|(_, path)| is_bad(path)).map(|(index, _)| origin(*index));
        assert_eq!(blamed, bad.collect::<BTreeSet<_>>(), "the blamed, and the bad");
        let good: BTreeSet<&String> = self.desired.values().filter(|path| !is_bad(path)).collect();
        let live: BTreeSet<&String> = self.accepted.values().flatten().collect();
        let missing: Vec<_> = good.difference(&live).collect();
        assert!(missing.is_empty(), "{missing:?} are not live, only {live:?}");
        let gone = |path: &&&String| {
            let index = path.rsplit('/').next().and_then(|index| index.parse().ok());
            index.is_none_or(|index| !self.desired.contains_key(&index))
        };
        let left: Vec<_> = live.iter().filter(gone).collect();
        assert!(left.is_empty(), "{left:?} are still live");
        assert!(self.program.unattributed().is_empty(), "{:?}", self.program.unattributed());
        assert!(self.program.origins_pending().is_empty(), "{:?}", self.program.origins_pending());
    }
}

fn edit(changes: &[(usize, Option<bool>)]) -> Step {
    Step::Edit(changes.iter().copied().collect())
}

#[test]
fn a_good_route_in_a_response_with_one_that_is_known_to_be_bad_by_now_is_not_blamed() {
    let mut late = Late::new();
    let steps = [
        edit(&[(0, Some(true)), (10, Some(true))]),
        Step::Send,
        Step::Answer,
        // The program has not heard of that yet when a change makes the rest of the response go out again.
        edit(&[(11, Some(false)), (1, Some(false))]),
        Step::Send,
        Step::Hear,
        Step::Answer,
    ];
    late.take_all(steps);
    late.settle();
    late.assert_only_the_bad_are_blamed();
}

#[test]
fn a_bad_route_that_is_mended_or_removed_before_its_rejection_comes_leaves_the_blame_to_nobody() {
    for cure in [Some(false), None] {
        let mut late = Late::new();
        let steps = [
            edit(&[(0, Some(true)), (10, Some(false))]),
            Step::Send,
            edit(&[(0, cure)]),
            Step::Answer,
            Step::Hear,
        ];
        late.take_all(steps);
        assert!(late.program.rejections().is_empty(), "{cure:?}");
        late.settle();
        late.assert_only_the_bad_are_blamed();
    }
}

#[test]
fn an_edit_that_changes_nothing_proves_nothing_of_the_next() {
    let mut late = Late::new();
    late.take_all([edit(&[(0, Some(false))]), Step::Send]);
    // The same again: its number is given to the next edit, which is bad.
    late.apply();
    late.take_all([edit(&[(1, Some(true))]), Step::Answer, Step::Hear]);
    assert_eq!(late.program.origins_pending(), [origin(1)].into());
    late.settle();
    late.assert_only_the_bad_are_blamed();
}

#[test]
fn a_trial_of_the_bytes_that_are_just_being_rejected_gets_its_answer() {
    let mut late = Late::new();
    late.take_all([
        edit(&[(0, Some(true)), (1, Some(true))]),
        Step::Send,
        edit(&[(2, Some(true))]),
        Step::Answer,
        Step::Send,
        Step::Hear,
        Step::Answer,
        edit(&[(0, None)]),
        Step::Send,
        Step::Hear,
        Step::Answer,
        Step::Send,
        Step::Hear,
        Step::Send,
    ]);
    late.settle();
    late.assert_only_the_bad_are_blamed();
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![2 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None)];
    prop_oneof![
        2 => prop::collection::btree_map(0..ROUTES, change, 1..4).prop_map(Step::Edit),
        3 => Just(Step::Send),
        3 => Just(Step::Answer),
        2 => Just(Step::Hear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// At whatever pace the proxy and the program answer: in the end exactly the bad are blamed, and all else is live.
    #[test]
    fn exactly_the_bad_are_blamed_at_any_pace(steps in prop::collection::vec(step(), 0..60)) {
        let mut late = Late::new();
        late.take_all(steps);
        late.settle();
        late.assert_only_the_bad_are_blamed();
        prop_assert!(late.rejected <= 300, "{} rejections", late.rejected);
    }
}
