//! What everybody does without Belay, under the same load: `docker-compose up -d` of a new version.
//!
//! This is the row beside Belay's in every comparison, so it is measured, not claimed; and it shows that the load notices
//! on a real host, through real ports, what a change of versions costs.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{App, ROOT, succeed};
use crate::load::{Kind, Load, Report, Shape};
use crate::zero_downtime::write_down;

on_every_host!(
    one run in four:
    plain_compose_costs_requests_and_cuts_what_lasts;
);

/// Until the load is running evenly, and again after the change.
const EVENLY: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

fn plain_compose_costs_requests_and_cuts_what_lasts(app: App) {
    build(&app, "v1.0.0");
    build(&app, "v1.1.0");
    up(&app, "v1.0.0");

    let stream = under_load(&app, "v1.1.0", Shape::stream(300, PATIENCE));
    write_down(
        &app,
        "one `docker-compose up -d`, short requests only",
        &stream,
    );
    assert!(
        stream.failed > 0 && stream.longest_gap_ms > 50.0,
        "{stream:#?}"
    );

    // An application that lets its long requests end takes no new ones meanwhile: the gap is as long as they last.
    let all = under_load(&app, "v1.0.0", Shape::usual(PATIENCE));
    write_down(&app, "one `docker-compose up -d`", &all);
    assert!(all.longest_gap_ms > 5_000.0, "{all:#?}");
    for kind in [Kind::Download, Kind::WebSocket] {
        assert!(all.lasting[&kind].cut > 0, "{all:#?}");
    }
}

/// The change to this version while requests come, with its report from just before it until all is even again.
fn under_load(app: &App, tag: &str, shape: Shape) -> Report {
    let load = Load::start(app.addr(), shape).expect("it is ours");
    thread::sleep(EVENLY);
    up(app, tag);
    thread::sleep(EVENLY);
    load.stop()
}

fn build(app: &App, tag: &str) {
    app.release(tag, "");
    let from = format!("{}/.", app.repository().display());
    let to = format!("{}:{ROOT}", app.host.get("LAB_CONTAINER"));
    succeed(Command::new("docker").args(["cp", &from, &to]));
    app.host.run(&format!(
        "cd {ROOT} && DOCKER_BUILDKIT=0 docker build -q -t ntplatform/app:{tag} ."
    ));
}

/// The file names the version, and Compose does the rest.
fn up(app: &App, tag: &str) {
    app.host.run(&format!(
        "cd {ROOT} && sed -i 's|^  build: .*||; s|^  image: .*|  image: ntplatform/app:{tag}|' docker-compose.yml &&
         docker-compose up -d"
    ));
    let began = Instant::now();
    while app.serving().as_deref() != Some(tag) {
        assert!(began.elapsed() < PATIENCE, "{tag} does not serve");
        thread::sleep(Duration::from_millis(20));
    }
}
