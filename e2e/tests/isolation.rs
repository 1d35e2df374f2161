//! One route among a hundred is invalid: nothing changes for the others, whoever finds out, and it heals when it is mended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use portolan_e2e::rig::manifest::{http_gateway, join, route};
use portolan_e2e::rig::{Ask, Lane, Load, Status, Target, World, table};
use serde_json::Value;

const ROUTES: usize = 100;
/// The one that goes bad.
const BAD: usize = 50;

/// An expression that we accept, and that an Envoy with a smaller limit on expressions does not: only it can tell.
const ONLY_ENVOY_CAN_TELL: &str = "(abcdefghij){20}";

/// The real Envoy with a smaller limit on regular expressions than our bootstrap gives it, as if its build were another.
fn strict_envoy() -> &'static Path {
    static ENVOY: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        let real = portolan_e2e::rig::binary::envoy().display();
        let script = format!(
            "#!/bin/sh\nbefore=\nfor word in \"$@\"; do\n  if [ \"$before\" = --config-path ]; then\n    sed -i 's/\\(\"re2.max_program_size.error_level\": \\)[0-9]*/\\1100/' \"$word\" || exit\n  fi\n  before=$word\ndone\nexec '{real}' \"$@\"\n"
        );
        // Written by another process: one that is open for writing here may be so in a child of another test, and
        // cannot be run then.
        let written = Command::new("sh")
            .args(["-c", r#"printf %s "$1" >"$2" && chmod 755 "$2""#, "sh", &script])
            .arg(&path)
            .status();
        assert!(written.unwrap().success());
        (folder, path)
    });
    &ENVOY.1
}

fn name(number: usize) -> String {
    format!("r{number:03}")
}

fn host(number: usize) -> String {
    format!("r{number:03}.example")
}

fn key(number: usize) -> String {
    format!("HTTPRoute/default/r{number:03}")
}

fn rule(backend: &str) -> String {
    format!("{{backendRefs: [{{name: {backend}, port: 80}}]}}")
}

/// A route that serves its host from a backend.
fn good(number: usize, backend: &str) -> String {
    route(&name(number), &host(number), &rule(backend))
}

/// The same, and one more rule whose header match is this expression.
fn with_expression(number: usize, backend: &str, expression: &str) -> String {
    let header = format!("{{type: RegularExpression, name: x, value: '{expression}'}}");
    let second = format!("{{matches: [{{headers: [{header}]}}], backendRefs: [{{name: green, port: 80}}]}}");
    route(&name(number), &host(number), &format!("{}, {second}", rule(backend)))
}

/// A hundred routes, each in a file of its own.
async fn world() -> World {
    let plan = World::plan()
        .envoy(strict_envoy())
        .backends(&["blue", "green"])
        .manifest("web.yaml", &http_gateway("web"));
    let plan = (0..ROUTES).fold(plan, |plan, number| plan.manifest(&file(number), &good(number, "blue")));
    plan.start().await
}

fn file(number: usize) -> String {
    format!("{}.yaml", name(number))
}

/// What is said of everything but the bad route.
fn of_others(status: &Status) -> Vec<(String, Value)> {
    let keys = status.objects().into_iter().filter(|one| *one != key(BAD));
    keys.map(|key| (key.clone(), status.object(&key).unwrap().clone())).collect()
}

async fn others_serve(target: &Target) {
    let rows =
        (0..ROUTES).filter(|number| *number != BAD).map(|number| (Ask::get(&host(number), "/"), "blue"));
    table(target, rows).await;
}

fn programmed(status: &Status, number: usize) -> bool {
    status.programmed(&key(number))
}

/// Whether Envoy's rejection is told on a route, in Envoy's words.
fn rejected(status: &Status, number: usize) -> bool {
    let condition = status.condition(&key(number), "portolan.dev/Programmed");
    condition.is_some_and(|one| one.is_false("Invalid") && one.message.contains("abcdefghij"))
}

#[tokio::test]
async fn a_route_that_we_find_invalid_changes_nothing_for_the_others() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let before = world.status().await;
    let load = Load::on(&[Lane::Kept, Lane::Http2], &target, &Ask::get(&host(BAD + 1), "/"), |_| Ok(()));
    world.write(&file(BAD), &with_expression(BAD, "blue", "a(b"));
    let condition = |status: &Status| status.condition(&key(BAD), "PartiallyInvalid");
    let told = |status: &Status| condition(status).is_some_and(|one| one.is_true()) && status.settled();
    let status = world.until("the bad rule is told", told).await;
    let message = condition(&status).unwrap().message;
    assert!(message.contains("rules[1]") && message.contains("a(b"), "{message}");
    assert_eq!(of_others(&status), of_others(&before));
    others_serve(&target).await;
    // A rule that cannot be expressed is dropped, its siblings are not.
    table(&target, [(Ask::get(&host(BAD), "/"), "blue")]).await;
    world.edit(&file(BAD), &good(BAD, "green")).await;
    table(&target, [(Ask::get(&host(BAD), "/"), "green")]).await;
    load.stop().await.assert_clean(20);
}

#[tokio::test]
async fn a_route_that_only_envoy_finds_invalid_changes_nothing_for_the_others() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let before = world.status().await;
    let load = Load::on(&[Lane::Kept, Lane::Http2], &target, &Ask::get(&host(BAD + 1), "/"), |_| Ok(()));

    world.write(&file(BAD), &with_expression(BAD, "green", ONLY_ENVOY_CAN_TELL));
    let told = |status: &Status| rejected(status, BAD) && status.settled();
    let status = world.until("Envoy's rejection is told on the route", told).await;
    assert_eq!(of_others(&status), of_others(&before), "nothing is said of the others");
    others_serve(&target).await;
    // It is served as Envoy last accepted it.
    table(&target, [(Ask::get(&host(BAD), "/"), "blue")]).await;

    // The others can still be edited, and new ones come.
    world.edit(&file(7), &good(7, "green")).await;
    table(&target, [(Ask::get(&host(7), "/"), "green")]).await;
    world.edit("new.yaml", &good(ROUTES, "green")).await;
    table(&target, [(Ask::get(&host(ROUTES), "/"), "green")]).await;
    let status = world.status().await;
    assert!(rejected(&status, BAD), "it stays rejected: {status}");

    // Mended, it heals.
    world.edit(&file(BAD), &good(BAD, "green")).await;
    table(&target, [(Ask::get(&host(BAD), "/"), "green")]).await;
    load.stop().await.assert_clean(20);
}

#[tokio::test]
async fn several_bad_routes_in_one_write_are_each_found() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let bad = [3, 4, 50, 99];
    for number in bad {
        world.write(&file(number), &with_expression(number, "green", ONLY_ENVOY_CAN_TELL));
    }
    // In the same moment others are edited rightly.
    for number in [5, 60] {
        world.write(&file(number), &good(number, "green"));
    }
    let done = |status: &Status| {
        bad.iter().all(|number| rejected(status, *number))
            && (0..ROUTES).all(|number| bad.contains(&number) || programmed(status, number))
            && [5, 60].iter().all(|number| status.generation(&key(*number)) == 2)
    };
    world.until("each bad route is told, and no other", done).await;
    let rows = (0..ROUTES).map(|number| {
        let edited = [5, 60].contains(&number);
        (Ask::get(&host(number), "/"), if edited { "green" } else { "blue" })
    });
    table(&target, rows).await;
}

#[tokio::test]
async fn a_route_that_was_bad_from_the_start_does_not_stop_the_start() {
    let documents = [with_expression(BAD, "blue", ONLY_ENVOY_CAN_TELL), good(1, "blue"), good(2, "green")];
    let world = World::plan()
        .envoy(strict_envoy())
        .backends(&["blue", "green"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("routes.yaml", &join(documents))
        .start()
        .await;
    let status = world.until("the rejection is told", |status| rejected(status, BAD)).await;
    assert!(
        status.programmed("Gateway/default/web") && programmed(&status, 1) && programmed(&status, 2),
        "{status}"
    );
    let target = world.http("web", 80).await;
    table(&target, [(Ask::get(&host(1), "/"), "blue"), (Ask::get(&host(2), "/"), "green")]).await;
    world.edit("routes.yaml", &join([good(BAD, "green"), good(1, "green"), good(2, "blue")])).await;
    table(&target, [(Ask::get(&host(BAD), "/"), "green"), (Ask::get(&host(1), "/"), "green")]).await;
}

#[tokio::test]
async fn a_restart_remembers_what_envoy_rejected() {
    let world = world().await;
    let target = world.http("web", 80).await;
    world.write(&file(BAD), &with_expression(BAD, "green", ONLY_ENVOY_CAN_TELL));
    world.until("the rejection is told", |status| rejected(status, BAD)).await;
    let load = Load::on(&[Lane::Kept, Lane::Http2], &target, &Ask::get(&host(BAD), "/"), |answer| {
        if answer.short() == "blue" { Ok(()) } else { Err(format!("answered by {}", answer.short())) }
    });
    world.kill();
    world.run();
    let told = |status: &Status| {
        rejected(status, BAD) && (0..ROUTES).all(|number| number == BAD || programmed(status, number))
    };
    world.until("the rejection is told again, on that route alone", told).await;
    others_serve(&target).await;
    load.more(20).await;
    load.stop().await.assert_clean(20);
    world.edit(&file(BAD), &good(BAD, "green")).await;
    table(&target, [(Ask::get(&host(BAD), "/"), "green")]).await;
}

#[tokio::test]
async fn envoys_words_do_not_show_what_others_have() {
    // A path that Envoy's own constraints refuse: then its message is the whole resource as text, which is everybody's.
    let world = world().await;
    let path = "path: {type: ReplaceFullPath, replaceFullPath: \"/a\\nb\"}";
    let filter = format!("{{type: URLRewrite, urlRewrite: {{{path}}}}}");
    let rule = format!("{{filters: [{filter}], backendRefs: [{{name: green, port: 80}}]}}");
    world.write(&file(BAD), &route(&name(BAD), &host(BAD), &rule));
    // Whoever finds out, and in whatever condition it is told, or as a problem with the file.
    let told = |status: &Status| {
        let conditions =
            ["Accepted", "portolan.dev/Programmed"].map(|type_| status.condition(&key(BAD), type_));
        let refused = conditions.iter().flatten().any(|one| one.status == "False");
        (refused || !status.problems().is_empty()) && status.settled()
    };
    let status = world.until("the bad path is told", told).await;
    let said = status.object(&key(BAD)).unwrap().to_string();
    let others: Vec<usize> =
        (0..ROUTES).filter(|number| *number != BAD && said.contains(&host(*number))).collect();
    assert!(
        others.is_empty(),
        "hosts of {} other routes are shown: {}…",
        others.len(),
        said.chars().take(500).collect::<String>()
    );
    // A message in a status may have 32768 letters (metav1.Condition); a person reads one line.
    assert!(said.len() < 4096, "the conditions have {} letters", said.len());
    others_serve(&world.http("web", 80).await).await;
}

#[tokio::test]
async fn an_endpoint_that_is_no_address_harms_no_other_service() {
    let world = World::plan()
        .backends(&["blue", "green"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("steady.yaml", &good(1, "blue"))
        .start()
        .await;
    let documents = [
        "
apiVersion: v1
kind: Service
metadata: {name: odd}
spec: {ports: [{port: 80}]}
"
        .to_owned(),
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: odd-1, labels: {kubernetes.io/service-name: odd}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [not-an-address]}]
"
        .to_owned(),
        good(2, "odd"),
    ];
    world.write("odd.yaml", &join(documents));
    let told = |status: &Status| {
        let said = format!("{:?}", status.problems());
        said.contains("odd-1") && said.contains("not-an-address") && status.settled()
    };
    world.until("the bad address is told", told).await;
    let target = world.http("web", 80).await;
    table(&target, [(Ask::get(&host(1), "/"), "blue")]).await;
    world.edit("steady.yaml", &good(1, "green")).await;
    table(&target, [(Ask::get(&host(1), "/"), "green")]).await;
}
