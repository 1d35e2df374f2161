//! An oracle for precedence: random listeners and routes, and which rule a request reaches, by the API's text and by Envoy.
//!
//! `PORTOLAN_PRECEDENCE_SEED` chooses the first set, `PORTOLAN_PRECEDENCE_SETS` how many are tried.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod oracle;
mod random;

use std::fmt::Write as _;

use portolan_e2e::rig::manifest::http_gateway;
use portolan_e2e::rig::{Answer, Status, World};

use random::Random;

/// Requests for each set.
const REQUESTS: usize = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// Which rule answered: each marks its requests with its route's name and its own place.
fn seen(answer: &Answer) -> Option<String> {
    if answer.status == 404 {
        return None;
    }
    answer.echoed().header("x-rule").first().map(|rule| (*rule).to_owned())
}

#[tokio::test]
async fn envoy_answers_as_the_text_of_the_api_says() {
    let world = World::plan().backend("blue").manifest("web.yaml", &http_gateway("web")).start().await;
    let (first, sets) = (setting("PORTOLAN_PRECEDENCE_SEED", 1), setting("PORTOLAN_PRECEDENCE_SETS", 30));
    let mut reached = 0;
    for seed in first..first + sets {
        let mut random = Random::new(seed);
        let set = random.set();
        let yaml = set.yaml(seed);
        let before = world.status().await.generation("Gateway/default/web");
        world.write("web.yaml", &yaml);
        let done = |status: &Status| {
            let all = set.routes.iter().all(|route| status.object(&route.key()).is_some());
            let names = status.objects().iter().filter(|key| key.starts_with("HTTPRoute/")).count();
            all && names == set.routes.len()
                && status.generation("Gateway/default/web") > before
                && status.settled()
        };
        world.until(&format!("set {seed} is in force"), done).await;

        let target = world.http("web", 80).await;
        let mut open = target.connect().await.unwrap();
        let mut wrong = String::new();
        for _ in 0..REQUESTS {
            let request = random.request();
            let expected = oracle::answer(&set, &request);
            let answer = open.ask(&request.ask()).await.unwrap();
            reached += usize::from(expected.is_some());
            if seen(&answer) != expected {
                writeln!(wrong, "{request:?}\n    expected {expected:?}, got {answer}").unwrap();
            }
        }
        assert!(wrong.is_empty(), "seed {seed}:\n{wrong}\n{yaml}");
    }
    let asked = REQUESTS * usize::try_from(sets).unwrap();
    assert!(reached * 5 > asked, "most requests reach nothing ({reached} of {asked} do): that tests little");
}
