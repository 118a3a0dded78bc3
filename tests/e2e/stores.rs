//! The Dockers that users have: the main path with images in either store, on the host and on the runner.
//!
//! A run of the suite plays the main path on each new kind of host from this machine, and from each runner of the lab to
//! one host; `BELAY_FULL=1` plays it from each runner to each kind of host. What was played is kept in target/engines.md,
//! for docs/engines.md.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{App, Flavour, ROOT, Runner, all_is_wanted, checkout, run_from};
use crate::load::{Load, Shape};

macro_rules! main_path {
    ($($name:ident: $runner:ident, $flavour:ident, $always:expr;)*) => {
        $(#[test]
        fn $name() {
            if $always || all_is_wanted() {
                run_from(Runner::$runner, Flavour::$flavour, true, stringify!($name), main_path);
            }
        })*
    };
}

main_path!(
    from_here_to_debian12: Here, Debian12, false;
    from_here_to_debian13: Here, Debian13, false;
    from_here_to_sid: Here, Sid, true;
    from_here_to_sid_containerd: Here, SidContainerd, true;
    from_sid_to_debian12: Sid, Debian12, false;
    from_sid_to_debian13: Sid, Debian13, false;
    from_sid_to_sid: Sid, Sid, false;
    from_sid_to_sid_containerd: Sid, SidContainerd, true;
    from_sid_containerd_to_debian12: SidContainerd, Debian12, true;
    from_sid_containerd_to_debian13: SidContainerd, Debian13, false;
    from_sid_containerd_to_sid: SidContainerd, Sid, false;
    from_sid_containerd_to_sid_containerd: SidContainerd, SidContainerd, false;
);

/// Deploys under load, goes back from a broken version, by the button and by hand, saves and restores, and tidies up.
fn main_path(mut app: App) {
    let began = Instant::now();
    with_a_service_that_never_changes(&app);
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let keeper = container(&app, "keeper");
    let load = Load::start(app.addr(), Shape::stream(100, Duration::from_secs(180)));
    let load = load.expect("it is ours");
    app.release("v1.1.0", "");
    let deployed = app.push("v1.1.0");
    deployed.ends("deployed", "v1.1.0");
    app.release("v1.1.1", "all500");
    app.push("v1.1.1").ends("rolled-back", "v1.1.0");
    app.rollback("").ends("deployed", "v1.0.0");
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    assert_eq!(
        container(&app, "keeper"),
        keeper,
        "it was replaced for nothing"
    );

    app.http("POST", "/data", "precious").expect("an answer");
    app.release("v1.2.0", "");
    let deployed = app.push("v1.2.0");
    deployed.ends("deployed", "v1.2.0");
    app.http("POST", "/data", "spoilt").expect("an answer");
    let backup = deployed.output("backup").to_owned();
    app.press(json!({"command": "rollback", "restore-data": backup, "confirm": "production"}))
        .ends("deployed", "v1.0.0");
    let note = app.http("GET", "/data", "").expect("an answer").1;
    assert_eq!(note, "precious");

    by_hand(&app, "v1.2.0");
    for tag in ["v1.3.0", "v1.4.0"] {
        app.release(tag, "");
        app.push(tag).ends("deployed", tag);
    }
    app.rollback("v1.2.0").ends("deployed", "v1.2.0");
    let versions = app.images();
    let of_web = format!("belay/{}/web:v", app.host.project);
    let of_web = versions.iter().filter(|image| image.starts_with(&of_web));
    assert_eq!(of_web.count(), 3, "{versions:?}");
    every_backup_is_whole(&app);
    write_down(&app, report.total, began.elapsed());
}

/// Its image is one that the host has already.
fn with_a_service_that_never_changes(app: &App) {
    app.host
        .run("tar -C /opt/foreign -c app | docker import - hand/app:v1 >/dev/null");
    app.edit("docker-compose.yml", |text| {
        let keeper =
            "services:\n  keeper:\n    image: hand/app:v1\n    command: [\"/app\", \"--worker\"]\n";
        text.replacen("services:\n", keeper, 1)
    });
}

fn container(app: &App, service: &str) -> String {
    let project = app.host.project;
    app.host.run(&format!(
        "docker ps -q --no-trunc --filter label=com.docker.compose.project={project} \
         --filter label=com.docker.compose.service={service}"
    ))
}

/// The strategy document's emergency lines, as the user who deploys types them.
fn by_hand(app: &App, version: &str) {
    let typed = format!(
        "cd {ROOT}; docker-compose down; cp docker-compose.yml.backup docker-compose.yml; docker-compose up -d"
    );
    let typed = app.host.run_as_user(&typed);
    let said = String::from_utf8_lossy(&typed.stderr).into_owned();
    assert!(typed.status.success(), "{said}");
    let began = Instant::now();
    while app.serving().as_deref() != Some(version) {
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{version} should serve:\n{said}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn every_backup_is_whole(app: &App) {
    let listed = app.belay(&["backups", "--verify", "--json"]);
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{said}");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let backups = listed.as_array().or_else(|| listed["backups"].as_array());
    for backup in backups.expect("a list") {
        assert_eq!(backup["verified"], true, "{backup:#}");
    }
}

/// A row of the table of what was played.
fn write_down(app: &App, requests: u64, took: Duration) {
    let about = "docker version --format '{{.Server.Version}}'; docker info --format '{{.Driver}}'";
    let host = app
        .host
        .run(&format!("{about}; docker-compose version --short"));
    let builder =
        "docker buildx version 2>/dev/null | cut -d' ' -f2 | grep . || echo 'before BuildKit'";
    let runner = app.runner.run(&format!("{about}; {builder}"));
    let cells = |text: &str| text.lines().collect::<Vec<_>>().join(" | ");
    let row = format!(
        "| {} | {} | passed: {requests} requests, 0 failed, {:.0} s |",
        cells(&runner),
        cells(&host),
        took.as_secs_f64()
    );
    let path = checkout().join("target/engines.md");
    let file = OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.expect("the table"), "{row}").expect("written");
}
