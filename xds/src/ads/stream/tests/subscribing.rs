//! What a proxy asks for, first and after a reconnect.

use super::*;

#[test]
fn a_first_request_without_names_is_a_wildcard_and_stays_one_when_names_are_added() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1").put(Cluster, "b", "1");
    bench.ask(Cluster, &[]);
    assert_eq!(bench.settle(), ["cds a=1 b=1"]);
    bench.ask(Cluster, &["a"]);
    assert_eq!(bench.settle(), ["cds a=1"]);
    bench.put(Cluster, "b", "2");
    assert_eq!(bench.settle(), ["cds b=2"]);
}

#[test]
fn unsubscribing_the_star_ends_the_wildcard_and_keeps_the_names() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1").put(Cluster, "b", "1");
    bench.ask(Cluster, &["*", "a"]);
    bench.settle();
    bench.drop_names(Cluster, &["*"]);
    bench.put(Cluster, "a", "2").put(Cluster, "b", "2");
    assert_eq!(bench.settle(), ["cds a=2"]);
}

#[test]
fn an_empty_set_after_names_is_nothing() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1");
    bench.ask(Cluster, &["a"]);
    bench.settle();
    bench.drop_names(Cluster, &["a"]);
    bench.ask(Cluster, &[]);
    bench.put(Cluster, "a", "2");
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn only_clusters_and_listeners_have_the_legacy_wildcard() {
    let mut bench = Bench::new();
    bench.put(Secret, "s", "1");
    bench.ask(Secret, &[]);
    assert_eq!(bench.settle(), NOTHING);
    bench.ask(Secret, &["*"]);
    assert_eq!(bench.settle(), ["sds s=1"]);
}

#[test]
fn the_first_answer_to_a_wildcard_is_sent_even_if_it_is_empty() {
    let mut bench = Bench::new();
    bench.ask(Cluster, &[]);
    bench.ask(Listener, &["*"]);
    assert_eq!(bench.settle(), ["cds", "lds"]);
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn a_name_is_answered_again_when_it_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.put(RouteConfiguration, "r", "1");
    bench.ask(RouteConfiguration, &["r"]);
    assert_eq!(bench.settle(), ["rds r=1"]);
    bench.ask(RouteConfiguration, &["r"]);
    assert_eq!(bench.settle(), ["rds r=1"]);
}

#[test]
fn a_name_that_is_asked_for_while_it_is_in_flight_is_answered_once_more() {
    let mut bench = Bench::new();
    bench.put(RouteConfiguration, "r", "1");
    bench.ask(RouteConfiguration, &["r"]);
    assert_eq!(bench.all(), ["rds r=1"]);
    bench.ask(RouteConfiguration, &["r"]);
    assert_eq!(bench.all(), NOTHING);
    bench.ack(RouteConfiguration);
    assert_eq!(bench.settle(), ["rds r=1"]);
}

#[test]
fn a_missing_name_is_answered_as_removed_once_and_sent_when_it_appears() {
    let mut bench = Bench::new();
    bench.ask(RouteConfiguration, &["r"]);
    assert_eq!(bench.settle(), ["rds -r"]);
    bench.put(RouteConfiguration, "other", "1");
    assert_eq!(bench.settle(), NOTHING);
    bench.put(RouteConfiguration, "r", "1");
    assert_eq!(bench.settle(), ["rds r=1"]);
}

#[test]
fn endpoints_are_never_missing_only_empty() {
    let mut bench = Bench::new();
    bench.ask(Endpoints, &["c"]);
    assert_eq!(bench.settle(), ["eds c=empty"]);
    bench.put(Endpoints, "c", "1");
    assert_eq!(bench.settle(), ["eds c=1"]);
    bench.put(Cluster, "c", "1").remove(Endpoints, "c");
    assert_eq!(bench.settle(), ["eds c=empty"]);
}

#[test]
fn a_name_that_leaves_a_wildcard_subscription_is_told_what_becomes_of_it() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1");
    bench.ask(Cluster, &["*", "a", "gone"]);
    assert_eq!(bench.settle(), ["cds a=1 -gone"]);
    bench.drop_names(Cluster, &["a", "gone", "never"]);
    assert_eq!(bench.settle(), ["cds a=1 -gone"]);
}

#[test]
fn an_unsubscribed_name_is_not_sent_any_more() {
    let mut bench = Bench::new();
    bench.put(Endpoints, "a", "1").put(Endpoints, "b", "1");
    bench.ask(Endpoints, &["a", "b"]);
    bench.settle();
    bench.drop_names(Endpoints, &["a"]);
    bench.put(Endpoints, "a", "2").put(Endpoints, "b", "2");
    assert_eq!(bench.settle(), ["eds b=2"]);
}

#[test]
fn names_of_forms_that_are_not_served_are_ignored_and_told() {
    let mut bench = Bench::new();
    let events = bench.ask(RouteConfiguration, &["xdstp://a/b/*", "b/*", "r"]);
    let ignored = |name: &str| Event::UnsupportedName { kind: RouteConfiguration, name: name.into() };
    assert_eq!(events, [ignored("xdstp://a/b/*")]);
    assert_eq!(bench.settle(), ["rds -b/* -r"]);
}

#[test]
fn an_unknown_type_is_answered_as_removed_and_its_answer_is_ignored() {
    let mut bench = Bench::new();
    let url = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
    let mut request = DeltaDiscoveryRequest {
        type_url: url.to_owned(),
        resource_names_subscribe: strings(&["x"]),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(bench.send(&request), [Event::UnsupportedType { type_url: url.into() }]);
    let response = bench.stream.poll(&bench.store, bench.now).unwrap();
    assert_eq!((response.type_url.as_str(), &response.removed_resources), (url, &strings(&["x"])));
    request.resource_names_subscribe.clear();
    request.response_nonce = response.nonce;
    assert_eq!(bench.send(&request), []);
    assert_eq!(bench.all(), NOTHING);
}

#[test]
fn unknown_types_cost_a_bounded_number_of_answers() {
    let mut bench = Bench::new();
    for index in 0..1000 {
        bench.send(&DeltaDiscoveryRequest { type_url: format!("t{index}"), ..Default::default() });
    }
    assert_eq!(bench.all().len(), MAX_FOREIGN);
}

#[test]
fn the_node_is_told_once() {
    let mut bench = Bench::new();
    let node = Some(Node { id: "pod".to_owned(), ..Node::default() });
    let with_node = DeltaDiscoveryRequest { node, ..request(Cluster) };
    assert!(matches!(bench.send(&with_node).as_slice(), [Event::Node(info)] if &*info.id == "pod"));
    assert_eq!(bench.send(&with_node), []);
}

#[test]
fn what_the_proxy_already_has_is_not_sent() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1").put(Cluster, "b", "2").put(Cluster, "c", "1");
    bench.resume(Cluster, &[], &[("a", "1"), ("b", "1")]);
    assert_eq!(bench.settle(), ["cds b=2 c=1"]);
    bench.put(Endpoints, "a", "1").put(Endpoints, "b", "2");
    bench.resume(Endpoints, &["a", "b"], &[("a", "1"), ("b", "1")]);
    assert_eq!(bench.settle(), ["eds b=2"]);
}

#[test]
fn versions_count_only_in_the_first_request_of_a_type() {
    let mut bench = Bench::new();
    bench.put(Endpoints, "a", "1").put(Endpoints, "b", "1");
    bench.ask(Endpoints, &["a"]);
    bench.settle();
    bench.resume(Endpoints, &["b"], &[("b", "1")]);
    assert_eq!(bench.settle(), ["eds b=1"]);
}

#[test]
fn what_is_gone_is_removed_listeners_at_once_and_clusters_after_the_hold() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "1").put(Listener, "l", "1");
    bench.resume(Cluster, &[], &[("a", "1"), ("old", "1")]);
    bench.resume(Listener, &[], &[("l", "1"), ("old", "1")]);
    assert_eq!(bench.settle(), ["cds", "lds -old"]);
    bench.wait(11);
    assert_eq!(bench.settle(), ["cds -old"]);
}

/// A route moved while the proxy was away: its old cluster serves until the new one is warm and the route is there.
#[test]
fn what_routes_use_until_they_are_replaced_keeps_its_endpoints_over_a_reconnect() {
    let mut bench = Bench::new();
    bench.edit(&[
        (Cluster, "new", Some("1"), &[(Endpoints, "new")]),
        (Endpoints, "new", Some("1"), &[]),
        (RouteConfiguration, "r", Some("to new"), &[]),
    ]);
    bench.resume(Cluster, &[], &[("old", "1")]);
    bench.resume(Endpoints, &["old"], &[("old", "1")]);
    bench.resume(Listener, &[], &[]);
    bench.resume(RouteConfiguration, &["r"], &[("r", "to old")]);
    assert_eq!(bench.all(), ["cds new=1", "lds"]);
    bench.ask(Endpoints, &["new"]);
    assert_eq!(bench.all(), ["eds new=1"]);
    bench.ack(Endpoints);
    bench.ack(Cluster);
    assert_eq!(bench.settle(), ["rds r=to new"]);
    bench.wait(11);
    assert_eq!(bench.all(), ["cds -old"]);
    bench.ack(Cluster);
    bench.drop_names(Endpoints, &["old"]);
    assert_eq!(bench.settle(), NOTHING);
}

/// Its cluster lives, and has no endpoints any more: that is news.
#[test]
fn endpoints_that_went_from_a_cluster_that_lives_are_told_over_a_reconnect() {
    let mut bench = Bench::new();
    bench.put(Cluster, "c", "1");
    bench.resume(Cluster, &[], &[("c", "1")]);
    bench.resume(Endpoints, &["c"], &[("c", "1")]);
    assert_eq!(bench.settle(), ["cds", "eds c=empty"]);
}

#[test]
fn a_missing_name_is_removed_though_the_proxy_has_a_version() {
    let mut bench = Bench::new();
    bench.resume(RouteConfiguration, &["r"], &[("r", "1")]);
    assert_eq!(bench.settle(), ["rds -r"]);
}

#[test]
fn secrets_are_sent_again_after_every_reconnect() {
    let mut bench = Bench::new();
    bench.put(Secret, "s", "1");
    bench.resume(Secret, &["s"], &[("s", "1")]);
    assert_eq!(bench.settle(), ["sds s=1"]);
    let mut bench = Bench::new();
    bench.put(Secret, "s", "1");
    bench.resume(Secret, &["*"], &[("s", "1")]);
    assert_eq!(bench.settle(), ["sds s=1"]);
}

#[test]
fn a_cluster_sent_before_endpoints_are_asked_for_makes_their_version_count_for_nothing() {
    let mut bench = Bench::new();
    bench.edit(&[(Cluster, "c", Some("2"), &[(Endpoints, "c")]), (Endpoints, "c", Some("1"), &[])]);
    bench.resume(Cluster, &[], &[("c", "1")]);
    assert_eq!(bench.settle(), ["cds c=2"]);
    bench.resume(Endpoints, &["c"], &[("c", "1")]);
    assert_eq!(bench.settle(), ["eds c=1"]);
}

#[test]
fn a_version_that_we_did_not_write_is_none_of_ours() {
    let mut bench = Bench::new();
    bench.put(Cluster, "a", "");
    bench.send(&DeltaDiscoveryRequest {
        initial_resource_versions: [("a".to_owned(), "7".to_owned())].into(),
        ..request(Cluster)
    });
    assert_eq!(bench.settle(), ["cds a="]);
}
