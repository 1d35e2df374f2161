//! Virtual hosts, whose tables come and go. What Envoy does is as `e2e/tests/virtual_hosts.rs` sees it.

use super::*;

/// Envoy's order: it asks for a table, gets it, and asks for all virtual hosts before it acknowledges the table.
fn routing() -> Bench {
    let mut bench = Bench::new();
    bench.edit(&[
        (Listener, "l", Some("1"), &[]),
        (RouteConfiguration, "a/b", Some("1"), &[]),
        (VirtualHost, "a/b/*", Some("1"), &[]),
        (VirtualHost, "a/b/h.test", Some("1"), &[]),
        // Of another table, whose name begins with the other's.
        (RouteConfiguration, "a/b/c", Some("1"), &[]),
        (VirtualHost, "a/b/c/h.test", Some("1"), &[]),
    ]);
    bench.ask(Cluster, &[]);
    bench.ask(Listener, &[]);
    bench.settle();
    bench.ask(RouteConfiguration, &["a/b"]);
    assert_eq!(bench.all(), ["rds a/b=1"]);
    bench.ask(VirtualHost, &[]);
    bench
}

#[test]
fn a_table_brings_its_virtual_hosts_and_no_others() {
    let mut bench = routing();
    assert_eq!(bench.all(), ["vhds a/b/*=1 a/b/h.test=1"]);
    bench.settle();
    assert_eq!(bench.acked(), bench.store.seq().0);
    bench.put(VirtualHost, "a/b/c/h.test", "2");
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn nothing_is_acknowledged_before_the_virtual_hosts_are() {
    let mut bench = routing();
    bench.ack(RouteConfiguration);
    assert_eq!(bench.acked(), 0);
    bench.all();
    bench.ack(VirtualHost);
    assert_eq!(bench.acked(), bench.store.seq().0);
}

#[test]
fn one_changed_host_goes_out_alone_and_a_removed_one_at_once() {
    let mut bench = routing();
    bench.settle();
    bench.put(VirtualHost, "a/b/h.test", "2");
    assert_eq!(bench.settle(), ["vhds a/b/h.test=2"]);
    bench.remove(VirtualHost, "a/b/h.test");
    assert_eq!(bench.settle(), ["vhds -a/b/h.test"]);
}

#[test]
fn a_table_that_comes_later_gets_its_hosts_unasked_and_after_it() {
    let mut bench = routing();
    bench.settle();
    bench.ask(RouteConfiguration, &["a/b/c"]);
    assert_eq!(bench.all(), ["rds a/b/c=1", "vhds a/b/c/h.test=1"]);
}

#[test]
fn a_table_that_is_asked_for_again_gets_its_hosts_again() {
    let mut bench = routing();
    bench.settle();
    bench.drop_names(RouteConfiguration, &["a/b"]);
    bench.put(VirtualHost, "a/b/h.test", "2");
    assert_eq!(bench.settle(), NOTHING, "it has no table to put it in");
    bench.ask(RouteConfiguration, &["a/b"]);
    assert_eq!(bench.all(), ["rds a/b=1", "vhds a/b/*=1 a/b/h.test=2"]);
}

#[test]
fn a_changed_table_does_not_bring_its_hosts_again() {
    let mut bench = routing();
    bench.settle();
    bench.put(RouteConfiguration, "a/b", "2");
    assert_eq!(bench.settle(), ["rds a/b=2"]);
}

#[test]
fn hosts_of_a_removed_table_stay_until_the_listener_has_drained() {
    let mut bench = routing();
    bench.settle();
    bench.edit(&[
        (Listener, "l", None, &[]),
        (RouteConfiguration, "a/b", None, &[]),
        (VirtualHost, "a/b/*", None, &[]),
        (VirtualHost, "a/b/h.test", None, &[]),
    ]);
    assert_eq!(bench.settle(), ["lds -l"]);
    bench.wait(11);
    assert_eq!(bench.settle(), ["rds -a/b"], "Envoy keeps a table that is removed");
    bench.wait(60);
    assert_eq!(bench.settle(), NOTHING);
    bench.drop_names(RouteConfiguration, &["a/b"]);
    assert_eq!(bench.settle(), ["vhds -a/b/* -a/b/h.test"]);
}

#[test]
fn after_a_reconnect_only_what_is_new_goes_out() {
    let mut bench = routing();
    bench.settle();
    bench.stream = Stream::new(StreamConfig::default());
    bench.unanswered.clear();
    bench.put(VirtualHost, "a/b/h.test", "2");
    bench.remove(VirtualHost, "a/b/*");
    bench.resume(RouteConfiguration, &["a/b"], &[("a/b", "1")]);
    bench.resume(VirtualHost, &[], &[("a/b/*", "1"), ("a/b/h.test", "1")]);
    assert_eq!(bench.settle(), ["vhds a/b/h.test=2 -a/b/*"]);
}

#[test]
fn a_proxy_that_lost_its_table_gets_hosts_that_it_says_it_has() {
    let mut bench = routing();
    bench.settle();
    bench.stream = Stream::new(StreamConfig::default());
    bench.unanswered.clear();
    bench.resume(RouteConfiguration, &["a/b"], &[]);
    assert_eq!(bench.all(), ["rds a/b=1"]);
    bench.resume(VirtualHost, &[], &[("a/b/*", "1"), ("a/b/h.test", "1")]);
    assert_eq!(bench.all(), ["vhds a/b/*=1 a/b/h.test=1"]);
}

#[test]
fn hosts_wait_for_the_clusters_that_they_may_name() {
    let mut bench = routing();
    bench.settle();
    bench.edit(&[(Cluster, "c", Some("1"), &[]), (VirtualHost, "a/b/h.test", Some("2"), &[])]);
    assert_eq!(bench.all(), ["cds c=1"]);
    bench.ack(Cluster);
    assert_eq!(bench.all(), ["vhds a/b/h.test=2"]);
}

#[test]
fn all_hosts_of_a_table_are_in_one_response() {
    let mut bench = Bench::with(StreamConfig { max_resources: 2, max_bytes: 10, ..StreamConfig::default() });
    bench.put(RouteConfiguration, "t", "1");
    for index in 0..20 {
        bench.put(VirtualHost, &format!("t/{index}"), "1");
    }
    bench.ask(RouteConfiguration, &["t"]);
    bench.ask(VirtualHost, &[]);
    assert_eq!(bench.all().len(), 2);
}

#[test]
fn what_was_beside_a_rejected_host_goes_out_again_with_its_cure() {
    let mut bench = routing();
    bench.settle();
    bench.edit(&[
        (VirtualHost, "a/b/bad.test", Some("bad"), &[]),
        (VirtualHost, "a/b/good.test", Some("1"), &[]),
        (VirtualHost, "a/b/h.test", None, &[]),
    ]);
    assert_eq!(bench.all(), ["vhds a/b/bad.test=bad a/b/good.test=1 -a/b/h.test"]);
    bench.answer(VirtualHost, Some("no"));
    assert_eq!(bench.all(), NOTHING, "a rejection is not answered by the same bytes");
    bench.put(VirtualHost, "a/b/bad.test", "cured");
    assert_eq!(bench.settle(), ["vhds a/b/bad.test=cured a/b/good.test=1 -a/b/h.test"]);
    assert_eq!(bench.acked(), bench.store.seq().0);
}
