//! Changes of backends: to other Services, to TLS, and of their endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::scene::{Scene, answered_by, certificate, route, to, until};
use super::traffic::from_any;
use super::{Outcome, Size};
use crate::rig::manifest::{self, echo, join};
use crate::rig::{Answer, Ask};

/// A route moves to a Service that is written in the same moment, and the one before goes with the next move.
pub(super) async fn service(size: Size) -> Outcome {
    let scene = Scene::start(&[("moved.yaml", &route("moved", "moved.example", &to("blue")))]).await;
    let ask = Ask::get("moved.example", "/");
    let mut traffic = scene.traffic();
    traffic.http("moved", &scene.place.http, &ask, from_any);
    traffic.http("moved over TLS", &scene.place.https, &ask, from_any);
    for round in 0..size.of(20, 5) {
        let (name, backend) = (format!("moved-{round}"), if round % 2 == 0 { "green" } else { "blue" });
        let new = service_of(&scene, &name, backend);
        scene.world.write("moved.yaml", &join([new, route("moved", "moved.example", &to(&name))]));
        traffic.changed();
        answered_by(&scene.place.http, &ask, backend).await;
        traffic.more(10).await;
    }
    traffic.end_after("moved", &["blue", "green"]).await
}

fn service_of(scene: &Scene, name: &str, backend: &str) -> String {
    echo(name, scene.world.backends.get(backend).addresses())
}

/// In clear text, or over TLS under that server name.
fn secured(server_name: Option<&str>, authority: &str) -> String {
    let Some(server_name) = server_name else { return route("secured", "secured.example", &to("blue")) };
    let rule = "{backendRefs: [{name: blue, port: 443}]}";
    let policy = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: secured}}
spec:
  targetRefs: [{{group: '', kind: Service, name: blue, sectionName: https}}]
  validation: {{hostname: {server_name}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: authority}}]}}
"
    );
    let authority = serde_json::to_string(authority).unwrap();
    let authority = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: authority}}\ndata: {{ca.crt: {authority}}}\n"
    );
    join([route("secured", "secured.example", rule), policy, authority])
}

/// The name by which the backend was asked over TLS; empty in clear text.
fn server_name(answer: &Answer) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    Some(body["tls"]["serverName"].as_str().unwrap_or_default().to_owned())
}

/// A backend is asked over TLS, under another name, and in clear text again; route, policy and authority come in one write.
pub(super) async fn tls(size: Size) -> Outcome {
    let scene = Scene::start(&[("secured.yaml", &secured(None, ""))]).await;
    let ask = Ask::get("secured.example", "/");
    let over_tls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&over_tls);
    let check = move |answer: &Answer| {
        counted.fetch_add(
            u64::from(server_name(answer).is_some_and(|name| !name.is_empty())),
            Ordering::Relaxed,
        );
        from_any(answer)
    };
    let mut traffic = scene.traffic();
    traffic.http("secured", &scene.place.http, &ask, check.clone());
    traffic.http("secured over TLS", &scene.place.https, &ask, check);
    for round in 0..size.of(24, 6) {
        let name = [Some("abc.example"), Some("other.example"), None][round % 3];
        scene.world.write("secured.yaml", &secured(name, scene.authority.certificate()));
        traffic.changed();
        until(&format!("the backend is asked as {name:?}"), async || {
            server_name(&scene.place.http.ask(&ask).await).as_deref() == Some(name.unwrap_or_default())
        })
        .await;
        traffic.more(10).await;
    }
    if over_tls.load(Ordering::Relaxed) == 0 {
        traffic.problem("nothing went over TLS");
    }
    traffic.end_after("secured", &["blue"]).await
}

/// A Service grows from one endpoint to ten and shrinks to one, another one. An endpoint ends once it gets nothing more, as a
/// pod does that waits before it stops.
pub(super) async fn endpoints(size: Size) -> Outcome {
    let scene = Scene::start(&[("rolled.yaml", &route("rolled", "rolled.example", &to("rolled")))]).await;
    let backends = &scene.world.backends;
    let pair = certificate(&scene.authority);
    let write = |names: &[String]| {
        let addresses: Vec<_> = names.iter().map(|name| backends.address(name)).collect();
        scene.world.write("service.yaml", &manifest::service("rolled", &addresses));
    };
    let asked = |name: &str| backends.get(name).counts().get("/").copied().unwrap_or_default();
    let mut names = vec!["rolled-0".to_owned()];
    backends.start_tls(&names[0], &pair, None);
    write(&names);
    let ask = Ask::get("rolled.example", "/");
    answered_by(&scene.place.http, &ask, &names[0]).await;
    let mut traffic = scene.traffic();
    traffic.http("rolled", &scene.place.http, &ask, from_any);
    traffic.http("rolled over TLS", &scene.place.https, &ask, from_any);
    for round in 0..size.of(5, 1) {
        for number in 1..10 {
            let name = format!("rolled-{}", round * 9 + number);
            backends.start_tls(&name, &pair, None);
            names.push(name);
            write(&names);
            traffic.changed();
            traffic.more(3).await;
        }
        let newest = names.last().unwrap().clone();
        until(&format!("{newest} is asked"), async || asked(&newest) > 0).await;
        while names.len() > 1 {
            let gone = names.remove(0);
            write(&names);
            traffic.changed();
            let mut last = asked(&gone);
            until(&format!("{gone} gets nothing more"), async || {
                traffic.more(20).await;
                std::mem::replace(&mut last, asked(&gone)) == asked(&gone)
            })
            .await;
            backends.end(&gone);
        }
    }
    traffic.more(10).await;
    traffic.end().await
}
