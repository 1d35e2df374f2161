//! Changes of HTTPRoutes.

use std::time::Duration;

use super::scene::{Scene, answered_by, route, to};
use super::traffic::{from, from_any};
use super::{Outcome, Size};
use crate::rig::{Answer, Ask};

/// How often the bench of other implementations flips a route; the control plane is not waited for.
const FLIP: Duration = Duration::from_millis(200);

/// Odd: green and `x-version: odd`; even: blue and `x-version: even`.
fn two_faced(number: u32) -> String {
    let (backend, version) = if number.is_multiple_of(2) { ("blue", "even") } else { ("green", "odd") };
    let set = format!("set: [{{name: X-Version, value: {version}}}]");
    let filter = format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{{set}}}}}");
    let rule = format!("{{filters: [{filter}], backendRefs: [{{name: {backend}, port: 80}}]}}");
    route("flipped", "flipped.example", &rule)
}

/// Backend and filter of one configuration, never of two.
fn of_one_piece(answer: &Answer) -> Result<(), String> {
    let echoed = answer.echoed();
    match (echoed.instance.as_str(), echoed.header("x-version").as_slice()) {
        ("blue", ["even"]) | ("green", ["odd"]) => Ok(()),
        (instance, version) => Err(format!("backend {instance} with version {version:?}")),
    }
}

/// A route's backend and filter change together, as fast as an impatient script does it.
pub(super) async fn flips(size: Size) -> Outcome {
    let scene = Scene::start(&[("flipped.yaml", &two_faced(0))]).await;
    let ask = Ask::get("flipped.example", "/");
    let mut traffic = scene.traffic();
    traffic.http("flipped", &scene.place.http, &ask, of_one_piece);
    traffic.http("flipped over TLS", &scene.place.https, &ask, of_one_piece);
    traffic.more(10).await;
    let mut turns = tokio::time::interval(FLIP);
    let last = size.of(200, 30);
    for number in 1..=last {
        turns.tick().await;
        scene.world.write("flipped.yaml", &two_faced(number));
        traffic.changed();
    }
    let backend = if last.is_multiple_of(2) { "blue" } else { "green" };
    answered_by(&scene.place.http, &ask, backend).await;
    traffic.more(10).await;
    traffic.end_after("flipped", &["blue", "green"]).await
}

const PATHS: [&str; 5] = ["/a", "/a/b", "/a/b/c", "/d", "/"];

/// The same five rules in another order: what is longer is more specific, wherever it stands.
fn reordered(turn: usize) -> String {
    let rule = |(index, path): (usize, &&str)| {
        let backend = if index % 2 == 0 { "blue" } else { "green" };
        format!("{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: {backend}, port: 80}}]}}")
    };
    let mut rules: Vec<String> = PATHS.iter().enumerate().map(rule).collect();
    rules.rotate_left(turn % PATHS.len());
    route("reordered", "reordered.example", &rules.join(", "))
}

/// The rules of a route change places.
pub(super) async fn reorder(size: Size) -> Outcome {
    let scene = Scene::start(&[("reordered.yaml", &reordered(0))]).await;
    let mut traffic = scene.traffic();
    for (path, backend) in [("/a/x", "blue"), ("/a/b/x", "green"), ("/a/b/c/x", "blue"), ("/d", "green")] {
        traffic.http(path, &scene.place.http, &Ask::get("reordered.example", path), from(backend));
    }
    for turn in 1..=size.of(40, 10) {
        scene.world.edit("reordered.yaml", &reordered(turn)).await;
        traffic.changed();
        traffic.more(10).await;
    }
    traffic.end().await
}

fn weighted(green: u32) -> String {
    let backends = format!(
        "{{name: blue, port: 80, weight: {}}}, {{name: green, port: 80, weight: {green}}}",
        100 - green
    );
    route("weighted", "weighted.example", &format!("{{backendRefs: [{backends}]}}"))
}

/// A canary takes over.
pub(super) async fn weights(_: Size) -> Outcome {
    let scene = Scene::start(&[("weighted.yaml", &weighted(0))]).await;
    let ask = Ask::get("weighted.example", "/");
    let mut traffic = scene.traffic();
    traffic.http("weighted", &scene.place.http, &ask, from_any);
    traffic.more(10).await;
    for green in (5..=100).step_by(5) {
        scene.world.edit("weighted.yaml", &weighted(green)).await;
        traffic.changed();
        traffic.more(15).await;
    }
    traffic.http("all green", &scene.place.http, &ask, from("green"));
    traffic.more(10).await;
    traffic.end_after("weighted", &["blue", "green"]).await
}

/// Who has the hostname that moves.
#[derive(Clone, Copy)]
enum Owner {
    One,
    Other,
    Both,
}

fn owned(owner: Owner) -> [String; 2] {
    let of = |name: &str, owns: bool| {
        let own = format!("own-{name}.example");
        let backend = if name == "one" { "blue" } else { "green" };
        let both = format!("hostnames: ['{own}', moving.example]");
        let yaml = route(name, &own, &to(backend));
        if owns { yaml.replace(&format!("hostnames: ['{own}']"), &both) } else { yaml }
    };
    [
        of("one", matches!(owner, Owner::One | Owner::Both)),
        of("other", matches!(owner, Owner::Other | Owner::Both)),
    ]
}

/// A hostname goes from one route to another: added there before it is taken away here.
pub(super) async fn hostname(size: Size) -> Outcome {
    let [one, other] = owned(Owner::One);
    let scene = Scene::start(&[("one.yaml", &one), ("other.yaml", &other)]).await;
    let ask = Ask::get("moving.example", "/");
    let mut traffic = scene.traffic();
    traffic.http("moving", &scene.place.http, &ask, from_any);
    traffic.http("moving over TLS", &scene.place.https, &ask, from_any);
    for (name, backend) in [("one", "blue"), ("other", "green")] {
        let ask = Ask::get(&format!("own-{name}.example"), "/");
        traffic.http(name, &scene.place.http, &ask, from(backend));
    }
    for round in 0..size.of(20, 5) {
        let (to, backend) = if round % 2 == 0 { (Owner::Other, "green") } else { (Owner::One, "blue") };
        let (gains, loses) = if round % 2 == 0 { (1, 0) } else { (0, 1) };
        let files = ["one.yaml", "other.yaml"];
        // Files are read as they are, not as they were: two that change within a millisecond have no order (unlike objects of an
        // API server). So the second step follows when the first is in force.
        scene.world.edit(files[gains], &owned(Owner::Both)[gains]).await;
        traffic.changed();
        scene.world.write(files[loses], &owned(to)[loses]);
        traffic.changed();
        answered_by(&scene.place.http, &ask, backend).await;
        traffic.more(10).await;
    }
    traffic.end_after("moving", &["blue", "green"]).await
}
