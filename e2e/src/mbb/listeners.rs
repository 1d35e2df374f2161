//! Changes of a Gateway's listeners.
//!
//! What other listeners serve does not notice, not even by a connection that is asked to leave, also where they share the
//! port. What a changed one serves goes on: its connections may be asked to leave, for they belong to the chain of before,
//! and every request is answered. Of one that is removed, new connections are refused from then on, and what was connected
//! gets its answers, with which it is asked to leave; where others share its HTTP port, no connection is asked to leave, and its hostname
//! is not found from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::scene::{Scene, answered_by, certificate, route, to, until, web};
use super::traffic::{Connections, from};
use super::{Outcome, Size};
use crate::rig::manifest::{join, secret};
use crate::rig::{Ask, Load, Target};

/// One on the port of the steady HTTP listener, one on that of the steady HTTPS listener, and one on a port of its own.
fn more(certificate: &str) -> String {
    format!(
        "{{name: beside, port: 80, protocol: HTTP, hostname: beside.test}},
        {{name: chain, port: 443, protocol: HTTPS, hostname: chain.test, tls: {{certificateRefs: [{{name: {certificate}}}]}}}},
        {{name: own, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: {certificate}}}]}}}}"
    )
}

/// Added, changed to another certificate, and removed, in turn.
pub(super) async fn listeners(size: Size) -> Outcome {
    let route = |name: &str, section: &str| {
        let yaml = route(name, &format!("{name}.test"), &to("blue"));
        let only = format!("{{name: web, sectionName: {section}}}");
        yaml.replace("{name: web, sectionName: http}, {name: web, sectionName: https}", &only)
    };
    let scene = Scene::start(&[(
        "routes.yaml",
        &join([route("beside", "beside"), route("chain", "chain"), route("own", "own")]),
    )])
    .await;
    let pairs = ["one", "two"].map(|name| (name, certificate(&scene.authority)));
    scene.world.write("secrets.yaml", &join(pairs.iter().map(|(name, pair)| secret(name, pair))));
    let mut traffic = scene.traffic();
    for _ in 0..size.of(6, 1) {
        // Added: each serves, once it is programmed.
        scene.world.edit("web.yaml", &web(&more("one"))).await;
        traffic.changed();
        let own = Target::https(scene.tcp(8443).await, "own.test");
        let chain = Target::https(scene.place.https.address(), "chain.test");
        let [asks_own, asks_chain, asks_beside] =
            ["own", "chain", "beside"].map(|name| Ask::get(&format!("{name}.test"), "/"));
        answered_by(&scene.place.http, &asks_beside, "blue").await;
        let (going, check) = (Arc::new(AtomicBool::new(false)), from("blue"));
        let may_be_gone = Arc::clone(&going);
        let beside = Load::judged(&scene.place.http, &asks_beside, move |answer| match answer.status {
            200 => check(answer),
            404 if may_be_gone.load(Ordering::Relaxed) => Ok(()),
            status => Err(format!("status {status}")),
        });
        traffic.add("beside", Connections::Kept, beside);
        for (name, target, ask) in [("own", &own, &asks_own), ("chain", &chain, &asks_chain)] {
            answered_by(target, ask, "blue").await;
            traffic.add(name, Connections::MayDrain, Load::start(target, ask, from("blue")));
        }
        // Changed.
        for (name, pair) in [&pairs[1], &pairs[0], &pairs[1]] {
            scene.world.edit("web.yaml", &web(&more(name))).await;
            traffic.changed();
            for target in [&own, &chain] {
                if !target.connect().await.unwrap().shows(&pair.certificate) {
                    traffic.problem(&format!("{target:?} does not show certificate {name}"));
                }
            }
            traffic.more(10).await;
        }
        // Removed.
        for name in ["own", "chain"] {
            traffic.may_be_refused(name);
        }
        going.store(true, Ordering::Relaxed);
        scene.world.edit("web.yaml", &web("")).await;
        traffic.changed();
        // The port is there for others: what went is not found, over the connections of before as over new ones.
        until("beside.test is not found", async || scene.place.http.ask(&asks_beside).await.status == 404)
            .await;
        traffic.not_found("beside").await;
        for name in ["own", "chain"] {
            traffic.refused(name).await;
        }
        traffic.more(10).await;
    }
    traffic.end().await
}
