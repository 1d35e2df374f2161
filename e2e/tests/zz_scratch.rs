#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
use portolan_e2e::rig::manifest::*;
use portolan_e2e::rig::{World, socket};
use portolan_e2e::echo::cert::Authority;

#[tokio::test]
async fn scratch() {
            let authority = Authority::new("test").unwrap();
            let pair = authority.server(&["*.example".to_owned()]).unwrap();
            let listeners = "
                {name: http, port: 80, protocol: HTTP},
                {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
    let world = World::plan()
        .backends(&["blue", "green"])
                .manifest("web.yaml", &join([gateway("web", listeners), secret("cert", &pair)]))
        .manifest("hello.yaml", &route("hello", "hello.example", "{backendRefs: [{name: blue, port: 80}]}"))
        .prepare();
    world.run();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    println!("{}", world.json("/debug/streams").await);
    let admin = std::fs::read_dir(world.paths().api_socket().parent().unwrap()).unwrap().filter_map(|e| Some(e.ok()?.path())).find(|p| p.to_string_lossy().contains("-admin")).unwrap();
    for page in ["/init_dump", "/ready", "/listeners?format=json", "/stats?filter=(sds|rds|lds|listener_manager|ssl_context)", "/config_dump?resource=dynamic_route_configs&mask=route_config.name"] {
        println!("== {page}\n{}", socket::get(&admin, page).await.unwrap().1);
    }
    println!("{}", serde_json::to_string_pretty(&world.json("/debug/xds").await["default/web"]).unwrap());
}
