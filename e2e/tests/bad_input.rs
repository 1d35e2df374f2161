//! Bad input to a running standalone: the message names object and field, and what worked before goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, http_gateway, join, route, secret, service};
use portolan_e2e::rig::status::Problem;
use portolan_e2e::rig::{Ask, DEADLINE, Shared, Status, Target, World, table};

static WORLD: Shared = Shared::new();

/// Each test breaks a file of its own.
async fn world() -> &'static World {
    WORLD
        .get(async || {
            World::plan()
                .backends(&["blue", "green"])
                .manifest("web.yaml", &http_gateway("web"))
                .manifest("steady.yaml", &to("steady", "blue"))
                .start()
                .await
        })
        .await
}

/// A route on a host of its own.
fn to(name: &str, backend: &str) -> String {
    route(name, &format!("{name}.example"), &format!("{{backendRefs: [{{name: {backend}, port: 80}}]}}"))
}

fn ask(name: &str) -> Ask {
    Ask::get(&format!("{name}.example"), "/")
}

fn key(name: &str) -> String {
    format!("HTTPRoute/default/{name}")
}

/// The problems with a file.
fn of_file(status: &Status, file: &str) -> Vec<Problem> {
    status.problems().into_iter().filter(|problem| problem.file.ends_with(&format!("/{file}"))).collect()
}

/// Waits for the one problem with a file.
async fn problem(world: &World, file: &str) -> Problem {
    let status = world.until("a problem is told", |status| !of_file(status, file).is_empty()).await;
    let mut problems = of_file(&status, file);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

/// A route that worked is broken: it goes on, and so do others.
async fn goes_on(world: &World, name: &str) {
    let target = world.http("web", 80).await;
    table(&target, [(ask(name), "blue"), (ask("steady"), "blue")]).await;
    let status = world.status().await;
    assert!(status.programmed(&key(name)), "{status}");
}

/// Breaks a working route, expects one problem with these words, and mends it.
async fn broken(name: &str, yaml: &str, line: u64, words: &[&str]) {
    let world = world().await;
    let file = format!("{name}.yaml");
    world.edit(&file, &to(name, "blue")).await;
    world.write(&file, yaml);
    let problem = problem(world, &file).await;
    for word in words {
        assert!(problem.message.contains(word), "{word:?} is not in {problem:?}");
    }
    assert_eq!((problem.severity.as_str(), problem.line), ("error", line), "{problem:?}");
    goes_on(world, name).await;
    world.edit(&file, &to(name, "green")).await;
    let target = world.http("web", 80).await;
    table(&target, [(ask(name), "green")]).await;
    let status = world.until("the problem is gone", |status| of_file(status, &file).is_empty()).await;
    assert!(status.settled());
}

#[tokio::test]
async fn broken_yaml() {
    let yaml = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: yaml\nspec: {}\n";
    // Found where the mapping of line 3 does not end.
    let world = world().await;
    world.edit("yaml.yaml", &to("yaml", "blue")).await;
    world.write("yaml.yaml", yaml);
    let problem = problem(world, "yaml.yaml").await;
    assert!(problem.severity == "error" && (3..=5).contains(&problem.line), "{problem:?}");
    goes_on(world, "yaml").await;
}

#[tokio::test]
async fn an_unknown_field() {
    let yaml =
        to("unknown", "green").trim_start().replace("  parentRefs:", "  parentRef: oops\n  parentRefs:");
    broken("unknown", &yaml, 5, &["parentRef"]).await;
}

#[tokio::test]
async fn a_value_of_the_wrong_type() {
    let yaml = to("wrong", "green").replace("port: 80", "port: eighty");
    let line = 1 + yaml.lines().position(|line| line.contains("eighty")).unwrap() as u64;
    broken("wrong", &yaml, line, &["port"]).await;
}

#[tokio::test]
async fn a_hostname_that_is_none() {
    let yaml = to("hostname", "green").replace("hostname.example", "not_a host!");
    let line = 1 + yaml.lines().position(|line| line.contains("not_a")).unwrap() as u64;
    broken("hostname", &yaml, line, &["hostnames", "not_a host!"]).await;
}

#[tokio::test]
async fn a_file_that_is_not_text() {
    let world = world().await;
    world.edit("binary.yaml", &to("binary", "blue")).await;
    let path = world.manifests().join("binary.yaml");
    std::fs::write(&path, [0xff, 0xfe, 0x00, 0x01]).unwrap();
    let problem = problem(world, "binary.yaml").await;
    assert!(problem.message.contains("UTF-8"), "{problem:?}");
    goes_on(world, "binary").await;
}

#[tokio::test]
async fn a_file_half_written() {
    let world = world().await;
    world.edit("half.yaml", &to("half", "blue")).await;
    let whole = to("half", "green");
    let (first, second) = whole.split_at(whole.find("  rules").unwrap());
    let mut file = File::create(world.manifests().join("half.yaml")).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    file.flush().unwrap();
    let target = world.http("web", 80).await;
    // The writer is still at it.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(target.ask(&ask("half")).await.short(), "blue", "half a file is in force");
    }
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    world
        .until("the whole file counts", |status| status.generation(&key("half")) == 2 && status.settled())
        .await;
    table(&target, [(ask("half"), "green")]).await;
    assert!(of_file(&world.status().await, "half.yaml").is_empty());
}

#[tokio::test]
async fn a_broken_document_between_good_ones() {
    let world = world().await;
    world
        .edit("three.yaml", &join([to("three-a", "blue"), to("three-b", "blue"), to("three-c", "blue")]))
        .await;
    let bad = to("three-b", "green").replace("rules:", "rulez:");
    world.write("three.yaml", &join([to("three-a", "green"), bad, to("three-c", "green")]));
    let told = |status: &Status| {
        !of_file(status, "three.yaml").is_empty()
            && ["three-a", "three-c"].iter().all(|name| status.generation(&key(name)) == 2)
            && status.settled()
    };
    let status = world.until("the good ones are taken, the bad one is told", told).await;
    let problems = of_file(&status, "three.yaml");
    assert!(problems.iter().any(|one| one.message.contains("rulez")), "{problems:?}");
    assert!(problems.iter().all(|one| one.object.as_deref() == Some(&*key("three-b"))), "{problems:?}");
    let target = world.http("web", 80).await;
    table(&target, [(ask("three-a"), "green"), (ask("three-b"), "blue"), (ask("three-c"), "green")]).await;
}

#[tokio::test]
async fn one_object_in_two_files() {
    let world = world().await;
    world.edit("double-a.yaml", &to("double", "blue")).await;
    world.write("double-b.yaml", &to("double", "green"));
    let problem = problem(world, "double-b.yaml").await;
    assert!(problem.message.contains("double") && problem.message.contains("double-a.yaml"), "{problem:?}");
    goes_on(world, "double").await;
    // The other one counts once the first is gone.
    world.remove("double-a.yaml");
    let target = world.http("web", 80).await;
    let started = Instant::now();
    while target.ask(&ask("double")).await.short() != "green" {
        assert!(started.elapsed() < DEADLINE, "the second definition does not count");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_kind_that_is_not_known() {
    let world = world().await;
    world.write(
        "kind.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoot\nmetadata: {name: x}\n",
    );
    let problem = problem(world, "kind.yaml").await;
    assert!(problem.message.contains("HTTPRoot"), "{problem:?}");
    goes_on(world, "steady").await;
}

#[tokio::test]
async fn references_to_nothing() {
    let world = world().await;
    let parent = to("orphan", "blue").replace("name: web", "name: nowhere");
    world.write("orphan.yaml", &parent);
    let rules = "{backendRefs: [{name: nobody, port: 80}, {name: blue, port: 81}, {name: blue, port: 9}]}";
    world.edit("nobody.yaml", &route("nobody", "nobody.example", rules)).await;
    let status = world.status().await;
    let resolved = status.condition(&key("nobody"), "ResolvedRefs").unwrap();
    assert!(resolved.is_false("BackendNotFound"), "{resolved:?}");
    for word in ["nobody", "9", "rules[0]"] {
        assert!(resolved.message.contains(word), "{word} is not in {:?}", resolved.message);
    }
    let target = world.http("web", 80).await;
    table(&target, [(ask("orphan"), "404"), (ask("steady"), "blue")]).await;
}

#[tokio::test]
async fn a_service_loses_its_endpoints_and_gets_them_back() {
    let world = world().await;
    let address = world.backends.address("blue");
    world.write("emptied-service.yaml", &service("emptied", &[address]));
    world.edit("emptied.yaml", &to("emptied", "emptied")).await;
    let target = world.http("web", 80).await;
    table(&target, [(ask("emptied"), "blue")]).await;
    for (endpoints, expected) in [(vec![], "503"), (vec![address], "blue")] {
        world.write("emptied-service.yaml", &service("emptied", &endpoints));
        let started = Instant::now();
        while target.ask(&ask("emptied")).await.short() != expected {
            assert!(started.elapsed() < DEADLINE, "{expected} is not answered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    goes_on(world, "steady").await;
}

#[tokio::test]
async fn two_routes_claim_the_same_match() {
    let world = world().await;
    // The older one by name: neither has an age.
    world.edit("claim-a.yaml", &to("claim-a", "blue").replace("claim-a.example", "claim.example")).await;
    world.edit("claim-b.yaml", &to("claim-b", "green").replace("claim-b.example", "claim.example")).await;
    let target = world.http("web", 80).await;
    table(&target, [(ask("claim"), "blue")]).await;
    let status = world.status().await;
    for name in ["claim-a", "claim-b"] {
        assert!(status.condition(&key(name), "Accepted").unwrap().is_true(), "{status}");
    }
    world.remove("claim-a.yaml");
    let gone = |status: &Status| status.object(&key("claim-a")).is_none() && status.settled();
    world.until("the first route is gone", gone).await;
    table(&target, [(ask("claim"), "green")]).await;
}

#[tokio::test]
async fn a_huge_expression() {
    let world = world().await;
    // Small to write, large when it is compiled.
    let header = "{type: RegularExpression, name: x, value: '((a{1,100}){1,100}){1,100}'}";
    let rules = format!(
        "{{backendRefs: [{{name: blue, port: 80}}]}}, {{matches: [{{headers: [{header}]}}], backendRefs: [{{name: green, port: 80}}]}}"
    );
    world.write("huge.yaml", &route("huge", "huge.example", &rules));
    let told = |status: &Status| {
        status.condition(&key("huge"), "PartiallyInvalid").is_some_and(|one| one.is_true())
            && status.settled()
    };
    let status = world.until("the expression is refused", told).await;
    let message = status.condition(&key("huge"), "PartiallyInvalid").unwrap().message;
    assert!(message.contains("rules[1]") && message.contains("(a{1,100})"), "{message}");
    let target = world.http("web", 80).await;
    table(
        &target,
        [(ask("huge"), "blue"), (ask("huge").header("x", "aaa"), "blue"), (ask("steady"), "blue")],
    )
    .await;
}

#[tokio::test]
async fn ten_megabytes_of_manifest() {
    let world = world().await;
    let filler = format!("# {}\n", "x".repeat(1000)).repeat(10_500);
    world.edit("large.yaml", &format!("{filler}{}", to("large", "blue").trim_start())).await;
    goes_on(world, "large").await;
}

/// A world with an HTTPS listener.
async fn secure(pair: &str) -> (World, Target) {
    let listeners = "{name: http, port: 80, protocol: HTTP},
        {name: https, port: 443, protocol: HTTPS, hostname: steady.example, tls: {certificateRefs: [{name: cert}]}}";
    let world = World::plan()
        .backends(&["blue"])
        .manifest("cert.yaml", pair)
        .manifest("web.yaml", &gateway("web", listeners))
        .manifest("steady.yaml", &to("steady", "blue"))
        .start()
        .await;
    let https = Target::https(world.http("web", 443).await.address(), "steady.example");
    (world, https)
}

#[tokio::test]
async fn a_certificate_that_does_not_match_its_key() {
    let authority = Authority::new("test").unwrap();
    let made = || authority.server(&["steady.example".to_owned()]).unwrap();
    let (first, other) = (made(), made());
    let (world, https) = secure(&secret("cert", &first)).await;
    table(&https, [(ask("steady"), "blue")]).await;
    let mixed =
        portolan_e2e::echo::cert::Pair { certificate: other.certificate.clone(), key: first.key.clone() };
    world.write("cert.yaml", &secret("cert", &mixed));
    let told = |status: &Status| {
        let resolved = status.listener_condition("default/web", "https", "ResolvedRefs");
        resolved.is_some_and(|one| one.is_false("InvalidCertificateRef"))
    };
    let status = world.until("the certificate is refused", told).await;
    let message = status.listener_condition("default/web", "https", "ResolvedRefs").unwrap().message;
    assert!(message.contains("cert") && message.contains("key"), "{message}");
    // Nothing that worked is lost: the pair before goes on, and so does the clear-text listener.
    let mut open = https.connect().await.expect("the listener goes on with the pair before");
    assert!(open.shows(&first.certificate));
    assert_eq!(open.ask(&ask("steady")).await.unwrap().short(), "blue");
    table(&world.http("web", 80).await, [(ask("steady"), "blue")]).await;
    world.write("cert.yaml", &secret("cert", &other));
    let mended = |status: &Status| {
        let programmed = status.listener_condition("default/web", "https", "Programmed");
        programmed.is_some_and(|one| one.is_true()) && status.settled()
    };
    world.until("the listener is mended", mended).await;
    let mut open = https.connect().await.unwrap();
    assert!(open.shows(&other.certificate));
    assert_eq!(open.ask(&ask("steady")).await.unwrap().short(), "blue");
}

#[tokio::test]
async fn an_expired_certificate_is_served_and_told() {
    let authority = Authority::new("test").unwrap();
    let expired = authority.expired_server(&["steady.example".to_owned()]).unwrap();
    let (world, https) = secure(&secret("cert", &expired)).await;
    // Clients decide; a proxy that stopped serving would be worse. GEP-851 knows no reason for it.
    let mut open = https.connect().await.unwrap();
    assert!(open.shows(&expired.certificate));
    assert_eq!(open.ask(&ask("steady")).await.unwrap().short(), "blue");
    let status = world.status().await;
    let conditions = status.listener("default/web", "https").unwrap()["conditions"].to_string();
    let problems = format!("{:?}", status.problems());
    let told = |text: &str| text.contains("expired") && text.contains("cert");
    assert!(told(&conditions) || told(&problems), "nothing says that it expired: {conditions} {problems}");
}

#[tokio::test]
async fn a_secret_that_is_not_there_yet() {
    let authority = Authority::new("test").unwrap();
    let pair = authority.server(&["steady.example".to_owned()]).unwrap();
    let listeners = "{name: http, port: 80, protocol: HTTP},
        {name: https, port: 443, protocol: HTTPS, hostname: steady.example, tls: {certificateRefs: [{name: cert}]}}";
    let world = World::plan()
        .backends(&["blue"])
        .manifest("web.yaml", &gateway("web", listeners))
        .manifest("steady.yaml", &to("steady", "blue"))
        .prepare();
    world.run();
    let told = |status: &Status| {
        let resolved = status.listener_condition("default/web", "https", "ResolvedRefs");
        resolved.is_some_and(|one| one.is_false("InvalidCertificateRef")) && status.settled()
    };
    let status = world.until("the missing Secret is told", told).await;
    let message = status.listener_condition("default/web", "https", "ResolvedRefs").unwrap().message;
    assert!(message.contains("cert"), "{message}");
    table(&world.http("web", 80).await, [(ask("steady"), "blue")]).await;
    world.write("cert.yaml", &secret("cert", &pair));
    let mended = |status: &Status| {
        let programmed = status.listener_condition("default/web", "https", "Programmed");
        programmed.is_some_and(|one| one.is_true()) && status.settled()
    };
    world.until("the listener is mended", mended).await;
    let https = Target::https(world.http("web", 443).await.address(), "steady.example");
    table(&https, [(ask("steady"), "blue")]).await;
}

#[tokio::test]
async fn a_folder_that_is_not_there() {
    let world = World::plan().prepare();
    let output = world.portolan().args(["standalone", "/nonexistent/folder"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/nonexistent/folder"), "{said}");
}

#[tokio::test]
async fn an_envoy_that_is_not_there() {
    let world = World::plan().prepare();
    let output = world
        .portolan()
        .arg("standalone")
        .arg(world.manifests())
        .args(["--envoy", "/nonexistent/envoy"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/nonexistent/envoy"), "{said}");
}

#[tokio::test]
async fn an_empty_folder_is_served_and_filled_later() {
    let world = World::plan().backends(&["blue"]).prepare();
    world.run();
    let status = world.until("ready with nothing", |status| status.json()["ready"] == true).await;
    assert_eq!(status.gateways(), Vec::<String>::new());
    world.write("web.yaml", &http_gateway("web"));
    world.edit("steady.yaml", &to("steady", "blue")).await;
    table(&world.http("web", 80).await, [(ask("steady"), "blue")]).await;
}
