//! Control planes that end and come back: proxies serve on meanwhile, and what changed meanwhile arrives.

use rustix::process::Signal;

use super::replicas::Replicas;
use super::scene::{Scene, answered_by, route, to};
use super::traffic::from_any;
use super::{Outcome, Size};
use crate::rig::{Ask, Status};

/// `portolan standalone` is killed, a file changes, and it is started.
pub(super) async fn standalone(size: Size) -> Outcome {
    let subject = |backend: &str| route("subject", "subject.example", &to(backend));
    let scene = Scene::start(&[("subject.yaml", &subject("blue"))]).await;
    let ask = Ask::get("subject.example", "/");
    let mut traffic = scene.traffic();
    traffic.http("subject", &scene.place.http, &ask, from_any);
    traffic.http("subject over TLS", &scene.place.https, &ask, from_any);
    for round in 0..size.of(10, 2) {
        let backend = if round % 2 == 0 { "green" } else { "blue" };
        scene.world.kill();
        traffic.more(20).await;
        scene.world.write("subject.yaml", &subject(backend));
        traffic.changed();
        scene.world.run();
        answered_by(&scene.place.http, &ask, backend).await;
        scene.world.until("settled", Status::settled).await;
        traffic.more(10).await;
    }
    traffic.end_after("subject", &["blue", "green"]).await
}

/// The only operator is killed, or in every other round asked to end, a route changes, and an operator is started.
pub(super) async fn restarted(size: Size) -> Outcome {
    let (scene, mut replicas) = Replicas::start(1, 0).await;
    let mut traffic = scene.traffic();
    traffic.more(10).await;
    for round in 0..size.of(6, 2) {
        let killed = round % 2 == 0;
        let backend = if killed { "green" } else { "blue" };
        if killed {
            replicas[0].signal(Signal::KILL);
        } else {
            // Who leads has a Lease to give back, and writers to end.
            replicas[0].comes_to_lead().await;
            let code = replicas.remove(0).terminate().await;
            if code != Some(0) {
                traffic.problem(&format!("an operator that was asked to end ended with {code:?}"));
            }
        }
        traffic.more(20).await;
        scene.change_to(&mut traffic, backend).await;
        traffic.more(20).await;
        let another = scene.another(round + 1).await;
        replicas.clear();
        replicas.push(another);
        scene.lead_to(&replicas[0]);
        scene.arrives(backend).await;
        traffic.more(20).await;
    }
    traffic.end_after("subject", &["blue", "green"]).await
}

/// The leader is killed and the proxy was connected to it.
pub(super) async fn of_the_leader(size: Size) -> Outcome {
    failed_over(size, 0).await
}

/// The leader is killed and the proxy was connected to the other replica.
pub(super) async fn of_the_follower(size: Size) -> Outcome {
    failed_over(size, 1).await
}

async fn failed_over(size: Size, connected: usize) -> Outcome {
    let (scene, mut replicas) = Replicas::start(2, connected).await;
    let mut traffic = scene.traffic();
    traffic.more(10).await;
    for round in 0..size.of(3, 1) {
        let killed = replicas.remove(0);
        killed.signal(Signal::KILL);
        scene.lead_to(&replicas[0]);
        // A follower serves its proxies like a leader: nothing waits until it leads.
        scene.change_to(&mut traffic, "green").await;
        scene.arrives("green").await;
        traffic.more(10).await;
        replicas[0].comes_to_lead().await;
        scene.change_to(&mut traffic, "blue").await;
        scene.arrives("blue").await;
        traffic.more(10).await;
        if connected == 1 {
            // From now on the proxy is the leader's: that is the other case.
            break;
        }
        replicas.push(scene.another(round + 2).await);
    }
    traffic.end_after("subject", &["blue", "green"]).await
}
