//! Changes of TCPRoutes and UDPRoutes.

use std::time::Duration;

use super::scene::{Scene, stream, until};
use super::traffic::Connections;
use super::{Outcome, Size};
use crate::rig::stream::whom;
use crate::rig::{Load, Session};

/// A datagram over loopback is answered at once, or never.
const ANSWER: Duration = Duration::from_secs(1);

fn subject(protocol: &str, backend: &str) -> String {
    stream(protocol, "subject", &format!("{{name: {backend}, port: 90}}"))
}

/// New connections go to the new backend; those that are open stay where they are.
pub(super) async fn tcp(size: Size) -> Outcome {
    let scene = Scene::start_with(
        &[],
        "{name: subject, port: 9001, protocol: TCP}",
        &[("subject.yaml", &subject("TCP", "blue"))],
    )
    .await;
    let address = scene.tcp(9001).await;
    let mut traffic = scene.traffic();
    traffic.add("subject", Connections::Kept, Load::tcp(address, |name| name == "blue" || name == "green"));
    traffic.more(5).await;
    for round in 0..size.of(60, 10) {
        let backend = if round % 2 == 0 { "green" } else { "blue" };
        scene.world.write("subject.yaml", &subject("TCP", backend));
        traffic.changed();
        until(&format!("connections reach {backend}"), async || whom(address).await == backend).await;
        traffic.more(5).await;
    }
    traffic.end_after("subject", &["blue", "green"]).await
}

/// New sessions go to the new backend; one that is open goes on, with it or with the one before.
pub(super) async fn udp(size: Size) -> Outcome {
    let scene = Scene::start_with(
        &[],
        "{name: subject, port: 9001, protocol: UDP}",
        &[("subject.yaml", &subject("UDP", "blue"))],
    )
    .await;
    let address = scene.world.bound("web", "9001/udp").await;
    let mut traffic = scene.traffic();
    traffic.add("subject", Connections::Kept, Load::udp(address, |name| name == "blue" || name == "green"));
    traffic.more(5).await;
    for round in 0..size.of(60, 10) {
        let backend = if round % 2 == 0 { "green" } else { "blue" };
        scene.world.write("subject.yaml", &subject("UDP", backend));
        traffic.changed();
        let mut silent = 0;
        until(&format!("sessions reach {backend}"), async || {
            let answer = Session::open(address).await.try_ask("whom", ANSWER).await;
            silent += u32::from(answer.is_none());
            answer.as_deref() == Some(backend)
        })
        .await;
        if silent > 0 {
            traffic
                .problem(&format!("{silent} datagrams were not answered while sessions moved to {backend}"));
        }
        traffic.more(5).await;
    }
    traffic.end_after("subject", &["blue", "green"]).await
}
