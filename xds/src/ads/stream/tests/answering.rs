//! Acknowledgements, rejections, and what is sent between them.

use super::*;

#[test]
fn a_stale_nonce_does_not_reject_a_change_of_subscriptions() {
    let mut bench = Bench::new();
    bench.put(RouteConfiguration, "r", "1");
    let events = bench.send(&DeltaDiscoveryRequest {
        response_nonce: "stale".to_owned(),
        resource_names_subscribe: strings(&["r"]),
        ..request(RouteConfiguration)
    });
    assert_eq!(events, []);
    assert_eq!(bench.settle(), ["rds r=1"]);
}

#[test]
fn a_request_may_acknowledge_and_subscribe_at_once() {
    let mut bench = Bench::new();
    bench.put(RouteConfiguration, "a", "1").put(RouteConfiguration, "b", "1");
    bench.ask(RouteConfiguration, &["a"]);
    bench.all();
    let nonce = bench.unanswered.remove(&RouteConfiguration).unwrap();
    let events = bench.send(&DeltaDiscoveryRequest {
        response_nonce: nonce,
        resource_names_subscribe: strings(&["b"]),
        ..request(RouteConfiguration)
    });
    assert!(matches!(events.as_slice(), [Event::Acked(_)]), "{events:?}");
    assert_eq!(bench.settle(), ["rds b=1"]);
}

#[test]
fn an_acknowledgement_names_what_it_accepts_and_how_long_it_took() {
    let mut bench = serving();
    bench.put(RouteConfiguration, "r", "2");
    bench.wait(2);
    bench.all();
    bench.wait(3);
    let events = bench.ack(RouteConfiguration);
    assert_eq!(
        events,
        [Event::Acked(Answer {
            kind: RouteConfiguration,
            resources: vec![("r".into(), Version::of(b"2"))],
            removed: Vec::new(),
            built: bench.store.seq(),
            change_to_sent: Some(Duration::from_secs(2)),
            sent_to_answer: Duration::from_secs(3),
        })]
    );
}

#[test]
fn a_rejection_is_never_answered_by_the_same_bytes() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1").put(Cluster, "b", "1");
    bench.ask(Cluster, &[]);
    bench.settle();
    bench.edit(&[(Cluster, "a", Some("bad"), &[]), (Cluster, "b", Some("2"), &[])]);
    assert_eq!(bench.all(), ["cds a=bad b=2"]);
    let events = bench.answer(Cluster, Some("a is bad"));
    assert!(matches!(events.as_slice(), [Event::Nacked { message, .. }] if &**message == "a is bad"));
    assert_eq!(bench.all(), NOTHING);
    let rejected: Vec<_> = bench.stream.rejected().into_keys().map(|(_, name)| name.to_string()).collect();
    assert_eq!(rejected, ["a", "b"]);
    // Another change of another resource does not bring it back.
    bench.put(Cluster, "c", "1");
    assert_eq!(bench.settle(), ["cds c=1"]);
}

#[test]
fn a_rejected_resource_that_goes_back_to_its_accepted_version_is_sent() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1");
    bench.ask(Cluster, &[]);
    bench.settle();
    bench.put(Cluster, "a", "bad");
    bench.all();
    bench.answer(Cluster, Some("bad"));
    bench.put(Cluster, "a", "1");
    assert_eq!(bench.settle(), ["cds a=1"]);
    assert!(bench.stream.rejected().is_empty());
}

#[test]
fn a_rejected_resource_is_sent_again_when_it_is_asked_for_anew() {
    let mut bench = Bench::new();
    bench.put(RouteConfiguration, "r", "bad");
    bench.ask(RouteConfiguration, &["r"]);
    bench.all();
    bench.answer(RouteConfiguration, Some("bad"));
    bench.ask(RouteConfiguration, &["r"]);
    assert_eq!(bench.settle(), ["rds r=bad"]);
}

#[test]
fn a_newer_version_replaces_an_unsent_one() {
    let mut bench = serving();
    bench.put(RouteConfiguration, "r", "2");
    assert_eq!(bench.all(), ["rds r=2"]);
    bench.put(RouteConfiguration, "r", "3");
    assert_eq!(bench.all(), NOTHING);
    bench.put(RouteConfiguration, "r", "4");
    bench.ack(RouteConfiguration);
    assert_eq!(bench.settle(), ["rds r=4"]);
}

#[test]
fn a_change_that_is_taken_back_before_it_is_sent_is_not_sent() {
    let mut bench = serving();
    bench.put(RouteConfiguration, "r", "2");
    bench.all();
    bench.put(RouteConfiguration, "r", "3");
    bench.all();
    bench.put(RouteConfiguration, "r", "2");
    bench.ack(RouteConfiguration);
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn a_resource_that_comes_and_goes_unsent_is_never_mentioned() {
    let mut bench = serving();
    bench.put(Cluster, "x", "1");
    bench.all();
    bench.put(Cluster, "y", "1");
    bench.all();
    bench.remove(Cluster, "y");
    bench.ack(Cluster);
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn responses_are_cut_by_number_and_by_size() {
    let config = StreamConfig { max_resources: 2, max_bytes: 20, ..StreamConfig::default() };
    let mut bench = Bench::with(config);
    for name in ["a", "b", "c"] {
        bench.put(Cluster, name, "1");
    }
    bench.put(Cluster, "d", "a body that is larger than a response").put(Cluster, "e", "1");
    bench.ask(Cluster, &[]);
    assert_eq!(
        bench.settle(),
        ["cds a=1 b=1", "cds c=1", "cds d=a body that is larger than a response", "cds e=1"]
    );
}

#[test]
fn a_stream_that_is_too_far_behind_compares_everything() {
    let mut bench = Bench::new();
    bench.store = Store::new(1);
    for name in ["a", "b", "c"] {
        bench.put(Listener, name, "1");
    }
    bench.ask(Cluster, &[]);
    bench.ask(Listener, &[]);
    bench.settle();
    bench.put(Listener, "a", "2").remove(Listener, "b").remove(Listener, "c");
    assert_eq!(bench.settle(), ["lds a=2 -b -c"]);
}

#[test]
fn nothing_is_acknowledged_before_clusters_and_listeners_are() {
    let mut bench = Bench::new();
    bench.put(Cluster, "c", "1");
    assert_eq!(bench.acked(), 0);
    bench.ask(Cluster, &[]);
    bench.settle();
    assert_eq!(bench.acked(), 0);
    bench.ask(Listener, &[]);
    bench.all();
    assert_eq!(bench.acked(), 0);
    bench.settle();
    assert_eq!(bench.acked(), 1);
}

#[test]
fn an_edit_counts_when_every_part_of_it_is_acknowledged() {
    let mut bench = serving();
    assert_eq!(bench.acked(), 1);
    bench.edit(&[(Cluster, "x", Some("1"), &[]), (RouteConfiguration, "r", Some("2"), &[])]);
    bench.all();
    assert_eq!(bench.acked(), 1);
    bench.ack(Cluster);
    bench.all();
    assert_eq!(bench.acked(), 1);
    bench.ack(RouteConfiguration);
    assert_eq!(bench.acked(), 2);
}

#[test]
fn a_parent_counts_when_the_proxy_has_asked_for_its_children_or_long_had_the_time_to() {
    let mut bench = serving();
    bench.edit(&[(Cluster, "x", Some("1"), &[(Endpoints, "x")]), (Endpoints, "x", Some("1"), &[])]);
    bench.settle();
    assert_eq!(bench.acked(), 1);
    let mut asks = serving();
    asks.edit(&[(Cluster, "x", Some("1"), &[(Endpoints, "x")])]);
    asks.settle();
    asks.ask(Endpoints, &["x"]);
    asks.settle();
    assert_eq!(asks.acked(), 2);
    bench.wait(15);
    bench.settle();
    assert_eq!(bench.acked(), 2);
}

#[test]
fn a_child_that_was_there_before_its_parent_counts_when_it_is_acknowledged() {
    let mut bench = Bench::new();
    bench.edit(&[(Cluster, "c", Some("1"), &[]), (VirtualHost, "t/a", Some("1"), &[])]);
    bench.edit(&[(RouteConfiguration, "t", Some("1"), &[])]);
    bench.edit(&[(Listener, "l", Some("1"), &[(RouteConfiguration, "t")])]);
    bench.ask(Cluster, &[]);
    bench.ask(Listener, &[]);
    assert_eq!(bench.all(), ["cds c=1"]);
    assert_eq!(bench.acked(), 0);
    bench.ack(Cluster);
    assert_eq!(bench.acked(), 0, "the listener that names the table is not even sent");
    assert_eq!(bench.all(), ["lds l=1"]);
    assert_eq!(bench.acked(), 0);
    bench.ack(Listener);
    assert_eq!(bench.acked(), 0, "it lacks the host of the first edit");
    bench.ask(RouteConfiguration, &["t"]);
    assert_eq!(bench.acked(), 0);
    bench.settle();
    assert_eq!(bench.acked(), 0);
    bench.ask(VirtualHost, &[]);
    bench.settle();
    assert_eq!(bench.acked(), 3);
}

#[test]
fn a_rejected_resource_does_not_count_and_a_held_removal_does() {
    let mut bench = serving();
    bench.put(RouteConfiguration, "r", "bad");
    bench.all();
    bench.answer(RouteConfiguration, Some("bad"));
    assert_eq!(bench.acked(), 1);
    bench.put(RouteConfiguration, "r", "3");
    bench.settle();
    bench.remove(Cluster, "c");
    bench.settle();
    assert_eq!(bench.acked(), 4);
    bench.wait(10);
    bench.all();
    assert_eq!(bench.acked(), 4, "sending the removal later takes nothing back");
}

#[test]
fn an_edit_that_does_not_concern_the_proxy_counts() {
    let mut bench = serving();
    bench.put(Secret, "other", "1");
    bench.settle();
    assert_eq!(bench.acked(), 2);
}

#[test]
fn the_summary_shows_what_is_going_on() {
    let mut bench = serving();
    bench.put(RouteConfiguration, "r", "bad");
    bench.all();
    bench.answer(RouteConfiguration, Some("no such filter"));
    let summary = bench.stream.summary(&bench.store);
    assert_eq!(summary.rejected.get("rds r").map(|text| &**text), Some("no such filter"));
    let routes = &summary.types["rds"];
    assert_eq!((routes.names, routes.sent, routes.acked, routes.nacked), (1, 2, 1, 1));
    assert!(summary.types["cds"].wildcard);
}

#[test]
fn what_was_rejected_is_sent_again_when_it_was_put_back_and_is_tried_again() {
    let mut bench = serving();
    bench.put(Cluster, "d", "bad");
    assert_eq!(bench.all(), ["cds d=bad"]);
    bench.answer(Cluster, Some("no"));
    bench.remove(Cluster, "d");
    bench.put(Cluster, "d", "bad");
    assert_eq!(bench.all(), ["cds d=bad"]);
    bench.answer(Cluster, Some("no"));
    assert_eq!(bench.all(), NOTHING);
}
