//! The gateway on a real host: who the client is reaches the application, every published port is served in its own way,
//! and nobody needs Belay for it: it may be restarted, and Compose may be called by hand.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::lab::{App, ROOT, Running};
use crate::load::{Load, Shape};

on_every_host!(
    one run in four:
    it_is_restarted_and_compose_is_called_by_hand,
    clients_are_known_on_every_port,
    replicas_take_over_one_after_the_other;
);

const SERVES_WITHIN: Duration = Duration::from_secs(20);

/// Three services with ports of their own: the usual one, one for another address of the host, and one whose connections
/// are passed on as they are, with the client's address in front.
fn clients_are_known_on_every_port(mut app: App) {
    app.edit("docker-compose.yml", |text| {
        let more = "
  api:
    <<: *app
    ports: [\"127.0.0.1:8081:8080\"]
  raw:
    <<: *app
    ports: [\"8082:8080\"]
  raw2:
    <<: *app
    ports: [\"8083:8080\"]

volumes:";
        text.replace("\nvolumes:\n  data:", &format!("{more}\n  data:"))
    });
    app.edit("belay.yml", |text| {
        let more = "\n  api: {strategy: start-first}\n  raw: {strategy: start-first, mode: tcp, proxy-protocol: v1}\n  raw2: {strategy: start-first, mode: tcp, proxy-protocol: v2}\n";
        text.replace("\n  web: {strategy: start-first}\n", &format!("\n  web: {{strategy: start-first}}{more}"))
    });
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let asked = asked_all_the_time(&app);
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    let answers = app
        .host
        .run(&format!("kill $(cat {asked}.pid); sort {asked} | uniq -c"));
    assert!(
        ["8081 200", "8082 200", "8083 200"]
            .iter()
            .all(|answer| answers.contains(answer)),
        "{answers}"
    );
    assert_eq!(
        answers.lines().count(),
        3,
        "another answer than 200: {answers}"
    );

    // Somebody who is no proxy of the user's cannot say who he is; what a proxy on the host says is passed on.
    let head = app.host.run("curl -s http://127.0.0.1:8080/request");
    assert!(
        field(&head, "x-forwarded-for").is_some_and(|a| a.parse::<Ipv4Addr>().is_ok()),
        "{head}"
    );
    assert_eq!(field(&head, "x-forwarded-proto"), Some("http"), "{head}");
    let head = app.host.run(
        "curl -s -H 'X-Forwarded-For: 203.0.113.9' -H 'X-Forwarded-Proto: https' http://127.0.0.1:8080/request",
    );
    assert_eq!(
        field(&head, "x-forwarded-for"),
        Some("203.0.113.9"),
        "{head}"
    );
    assert_eq!(field(&head, "x-forwarded-proto"), Some("https"), "{head}");
    let head = app.host.run("curl -s http://127.0.0.1:8082/request");
    assert!(head.starts_with("PROXY TCP4 "), "{head}");
    assert!(field(&head, "x-forwarded-for").is_none(), "{head}");
    let head = app.host.run("curl -s http://127.0.0.1:8083/request");
    assert!(head.starts_with("PROXY2 TCP4 "), "{head}");
    app.check("");
}

fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
}

/// Asks the ports that the lab does not publish, ten times a second, until it is ended. Returns where the answers are.
fn asked_all_the_time(app: &App) -> &'static str {
    let file = "/tmp/asked";
    app.host.run(&format!(
        "rm -f {file}
         (for i in $(seq 1200); do
              for port in 8081 8082 8083; do
                  echo $port $(curl -s -o /dev/null -m 5 -w '%{{http_code}}' http://127.0.0.1:$port/version) >>{file}
              done
              sleep 0.1
          done) >/dev/null 2>&1 &
         echo $! >{file}.pid"
    ));
    file
}

fn it_is_restarted_and_compose_is_called_by_hand(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let containers = "docker ps -q --no-trunc | sort";
    let before = app.host.run(containers);

    app.host
        .run("docker restart $(docker ps -q --filter name=gateway)");
    serves(&app, &["v1.0.0"]);
    let load = load(&app);
    by_hand(&app);
    std::thread::sleep(Duration::from_secs(1));
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    assert_eq!(app.host.run(containers), before, "nothing was to be done");

    // In the middle of a deployment nobody knows what comes of it, but it is one of the two versions and no rubble.
    for (number, step) in ["start", "bake"].into_iter().enumerate() {
        let old = app.serving().expect("it serves");
        let tag = format!("v1.{}.0", number + 1);
        app.release(&tag, "");
        let mut running = app.begin_push(&tag);
        until(&mut running, step);
        by_hand(&app);
        let run = app.wait(running);
        assert!(
            ["deployed", "rolled-back"].contains(&run.output("outcome")),
            "{}",
            run.log
        );
        serves(&app, &[&old, &tag]);
        app.release(&format!("v1.{}.1", number + 1), "");
        let hotfix = format!("v1.{}.1", number + 1);
        app.push(&hotfix).ends("deployed", &hotfix);
        app.check("");
    }
}

/// Three of a service, of which there are never more than four.
fn replicas_take_over_one_after_the_other(mut app: App) {
    app.edit("docker-compose.yml", |text| {
        text.replace("  web:\n", "  web:\n    scale: 3\n")
    });
    app.edit("belay.yml", |text| {
        text.replace(
            "web: {strategy: start-first}",
            "web: {strategy: start-first, roll: one-by-one}",
        )
    });
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let of_web = "docker ps -q --filter label=com.docker.compose.service=web | wc -l";
    assert_eq!(app.host.run(of_web), "3");
    app.host.run(&format!(
        "rm -f /tmp/most
         (for i in $(seq 600); do {of_web} >>/tmp/most; sleep 0.2; done) >/dev/null 2>&1 &
         echo $! >/tmp/most.pid"
    ));
    let load = load(&app);
    app.release("v1.1.0", "");
    app.push("v1.1.0")
        .ends("deployed", "v1.1.0")
        .says("3 of 3 new containers of web are well");
    app.rollback("").ends("deployed", "v1.0.0");
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    let most = app
        .host
        .run("kill $(cat /tmp/most.pid); sort -n /tmp/most | tail -n 1");
    assert_eq!(most, "4");
    assert_eq!(app.host.run(of_web), "3");
}

fn until(running: &mut Running, step: &str) {
    let number = belay_model::transaction::step::Step::ALL
        .iter()
        .position(|s| s.name() == step)
        .expect("a step")
        + 1;
    running.wait_for(&format!("::group::{number}/14 {step}"));
}

/// What people type.
fn by_hand(app: &App) {
    let done = app
        .host
        .run_as_user(&format!("cd {ROOT} && docker-compose up -d"));
    crate::lab::say(&format!(
        "by hand: {}",
        String::from_utf8_lossy(&done.stderr)
            .trim()
            .replace('\n', " / ")
    ));
}

fn serves(app: &App, versions: &[&str]) {
    let began = Instant::now();
    while !app
        .serving()
        .is_some_and(|version| versions.contains(&version.as_str()))
    {
        if began.elapsed() > SERVES_WITHIN {
            let (serving, gateway) = (app.serving(), gateways_view(app));
            panic!("{versions:?} should serve, not {serving:?}\n{gateway}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the gateway knows of its servers, and Docker of the containers.
fn gateways_view(app: &App) -> String {
    let ask =
        r"exec 3<>/dev/tcp/127.0.0.1/9999; echo 'show servers state' >&3; cat <&3 | grep -v ' - '";
    app.host.run(&format!(
        "docker exec $(docker ps -q --filter name=gateway) bash -c \"{ask}\"; docker ps -a; docker network inspect \
             $(docker network ls -q --filter name=default) -f '{{{{json .Containers}}}}'"
    ))
}

fn load(app: &App) -> Load {
    Load::start(app.addr(), Shape::stream(50, Duration::from_secs(60))).expect("it is ours")
}
