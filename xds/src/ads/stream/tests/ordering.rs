//! What waits for what.

use super::*;

#[test]
fn an_edit_is_delivered_clusters_first_and_routes_when_these_are_acknowledged() {
    let mut bench = serving();
    bench.edit(&[
        (RouteConfiguration, "r", Some("2"), &[]),
        (Listener, "l", Some("2"), &[(Secret, "s"), (RouteConfiguration, "r")]),
        (Cluster, "c", Some("2"), &[(Endpoints, "c")]),
    ]);
    // Envoy acknowledges the cluster only when it is warm: its endpoints must not wait for that.
    assert_eq!(bench.all(), ["cds c=2", "eds c=1"]);
    bench.ack(Cluster);
    assert_eq!(bench.all(), NOTHING);
    bench.ack(Endpoints);
    assert_eq!(bench.all(), ["lds l=2", "sds s=1", "rds r=2"]);
}

#[test]
fn routes_of_an_older_edit_do_not_wait_for_clusters_of_a_newer_one() {
    let mut bench = serving();
    bench.put(RouteConfiguration, "r", "2");
    bench.put(Cluster, "new", "1");
    assert_eq!(bench.all(), ["cds new=1", "rds r=2"]);
}

#[test]
fn routes_that_changed_again_wait_for_what_the_newer_version_needs() {
    let mut bench = serving();
    bench.put(Cluster, "one", "1");
    bench.put(RouteConfiguration, "r", "2");
    assert_eq!(bench.all(), ["cds one=1"]);
    bench.edit(&[(Cluster, "two", Some("1"), &[]), (RouteConfiguration, "r", Some("3"), &[])]);
    bench.ack(Cluster);
    assert_eq!(bench.all(), ["cds two=1"]);
    bench.ack(Cluster);
    assert_eq!(bench.all(), ["rds r=3"]);
}

#[test]
fn endpoints_that_change_all_the_time_hold_up_no_routes() {
    let mut bench = serving();
    bench.put(Endpoints, "c", "2");
    assert_eq!(bench.all(), ["eds c=2"]);
    bench.put(Endpoints, "c", "3");
    bench.put(RouteConfiguration, "r", "2");
    assert_eq!(bench.all(), ["rds r=2"]);
}

#[test]
fn endpoints_do_not_wait_for_clusters_that_cannot_be_sent_yet() {
    let mut bench = serving();
    bench.put(Cluster, "x", "1");
    bench.all();
    bench.put(Cluster, "y", "1");
    bench.put(Endpoints, "x", "1");
    bench.ask(Endpoints, &["x"]);
    assert_eq!(bench.all(), ["eds x=1"]);
}

#[test]
fn a_cluster_that_never_gets_warm_holds_up_routes_for_a_bounded_time() {
    let mut bench = serving();
    bench.edit(&[(Cluster, "cold", Some("1"), &[]), (RouteConfiguration, "r", Some("2"), &[])]);
    assert_eq!(bench.all(), ["cds cold=1"]);
    let deadline = bench.stream.next_deadline(bench.now).unwrap();
    assert_eq!(deadline, bench.now + StreamConfig::default().stage_patience);
    bench.now = deadline;
    assert_eq!(bench.all(), ["rds r=2"]);
    assert_eq!(bench.stream.next_deadline(bench.now), None);
}

#[test]
fn routes_do_not_wait_for_a_rejected_cluster() {
    let mut bench = serving();
    bench.edit(&[(Cluster, "c", Some("bad"), &[]), (RouteConfiguration, "r", Some("2"), &[])]);
    bench.all();
    bench.answer(Cluster, Some("bad"));
    assert_eq!(bench.all(), ["rds r=2"]);
}

#[test]
fn a_changed_cluster_sends_its_endpoints_and_secrets_again() {
    let mut bench = serving();
    bench.edit(&[(Cluster, "c", Some("2"), &[(Endpoints, "c"), (Secret, "s")])]);
    assert_eq!(bench.settle(), ["cds c=2", "eds c=1", "sds s=1"]);
}

#[test]
fn a_changed_listener_sends_its_secrets_again_and_not_its_routes() {
    let mut bench = serving();
    bench.edit(&[(Listener, "l", Some("2"), &[(Secret, "s"), (RouteConfiguration, "r")])]);
    assert_eq!(bench.settle(), ["lds l=2", "sds s=1"]);
}

#[test]
fn a_secret_that_rotates_goes_out_alone() {
    let mut bench = serving();
    bench.put(Secret, "s", "2");
    assert_eq!(bench.settle(), ["sds s=2"]);
}

#[test]
fn a_cluster_is_removed_when_its_routes_are_acknowledged_and_the_hold_is_over() {
    let mut bench = serving();
    bench.edit(&[
        (RouteConfiguration, "r", Some("2"), &[]),
        (Cluster, "c", None, &[]),
        (Endpoints, "c", None, &[]),
    ]);
    assert_eq!(bench.all(), ["rds r=2"]);
    bench.wait(60);
    assert_eq!(bench.all(), NOTHING, "the proxy may still use the old routes");
    bench.ack(RouteConfiguration);
    assert_eq!(bench.all(), NOTHING);
    let deadline = bench.stream.next_deadline(bench.now).unwrap();
    assert_eq!(deadline, bench.now + StreamConfig::default().removal_hold);
    bench.now = deadline;
    assert_eq!(bench.all(), ["cds -c"]);
    bench.drop_names(Endpoints, &["c"]);
    bench.ack(Cluster);
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn a_proxy_that_keeps_asking_for_the_endpoints_of_a_removed_cluster_is_told_that_there_are_none() {
    let mut bench = serving();
    bench.edit(&[(Cluster, "c", None, &[]), (Endpoints, "c", None, &[])]);
    assert_eq!(bench.all(), NOTHING);
    bench.wait(10);
    assert_eq!(bench.all(), ["cds -c"]);
    bench.ack(Cluster);
    assert_eq!(bench.all(), ["eds c=empty"]);
}

#[test]
fn a_cluster_stays_while_the_routes_that_replace_it_are_rejected() {
    let mut bench = serving();
    bench.edit(&[(RouteConfiguration, "r", Some("bad"), &[]), (Cluster, "c", None, &[])]);
    bench.all();
    bench.answer(RouteConfiguration, Some("bad"));
    bench.wait(60);
    assert_eq!(bench.all(), NOTHING);
    bench.put(RouteConfiguration, "r", "3");
    bench.settle();
    bench.wait(10);
    assert_eq!(bench.settle(), ["cds -c"]);
}

#[test]
fn a_cluster_that_comes_back_during_the_hold_is_neither_removed_nor_sent() {
    let mut bench = serving();
    bench.remove(Cluster, "c");
    bench.all();
    bench.edit(&[(Cluster, "c", Some("1"), &[(Endpoints, "c")])]);
    bench.wait(60);
    assert_eq!(bench.settle(), NOTHING);
}

#[test]
fn later_changes_do_not_delay_a_removal() {
    let mut bench = serving();
    bench.remove(Cluster, "c");
    bench.all();
    for body in 0..10 {
        bench.put(RouteConfiguration, "r", &format!("later {body}"));
        bench.all();
        bench.wait(1);
        bench.ack(RouteConfiguration);
    }
    assert!(bench.settle().contains(&"cds -c".to_owned()));
}

#[test]
fn a_listener_is_removed_in_its_stage() {
    let mut bench = serving();
    bench.edit(&[(Listener, "l", None, &[]), (Cluster, "x", Some("1"), &[])]);
    assert_eq!(bench.all(), ["cds x=1"]);
    bench.ack(Cluster);
    assert_eq!(bench.all(), ["lds -l"]);
}
