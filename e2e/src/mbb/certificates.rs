//! Certificates that are renewed while clients shake hands.

use super::scene::{Scene, certificate, until};
use super::{Outcome, Size};
use crate::rig::manifest::secret;
use crate::rig::{Ask, Lane, Load};

/// The Secret of a listener gets another certificate, again and again; each is shown before the next one comes.
pub(super) async fn rotated(size: Size) -> Outcome {
    let scene = Scene::start(&[]).await;
    let https = &scene.place.https;
    let mut traffic = scene.traffic();
    let ask = Ask::get("steady.example", "/");
    for hands in ["handshakes", "more handshakes"] {
        let load = Load::on(&[Lane::Fresh], https, &ask, super::traffic::from("steady"));
        traffic.add(hands, super::traffic::Connections::Kept, load);
    }
    for round in 1..=size.of(100, 15) {
        let pair = certificate(&scene.authority);
        scene.world.write("secret.yaml", &secret("steady", &pair));
        traffic.changed();
        until(&format!("certificate {round} is shown"), async || {
            https.connect().await.unwrap().shows(&pair.certificate)
        })
        .await;
        traffic.more(2).await;
    }
    traffic.more(10).await;
    traffic.end().await
}
