//! The Dockers that users have: the main path with images in either store, on the host and on the runner.
//!
//! A run of the suite plays the main path from each runner of the lab to one host, and other tests here deploy from this
//! machine; `BELAY_FULL=1` plays it from each of the three to each kind of host. What was played is kept in
//! target/engines.md, for docs/engines.md.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{App, Flavour, Often, ROOT, Runner, checkout, run_from};
use crate::load::{Load, Shape};
use crate::sample::all_is_wanted;

macro_rules! main_path {
    ($($name:ident: $runner:ident, $flavour:ident, $played:expr;)*) => {
        $(#[test]
        fn $name() {
            if $played || all_is_wanted() {
                let often = Often::OneRunInFour;
                run_from(Runner::$runner, Flavour::$flavour, often, stringify!($name), main_path);
            }
        })*
    };
}

main_path!(
    from_here_to_debian12: Here, Debian12, false;
    from_here_to_debian13: Here, Debian13, false;
    from_here_to_sid: Here, Sid, false;
    from_here_to_sid_containerd: Here, SidContainerd, false;
    from_sid_to_debian12: Sid, Debian12, false;
    from_sid_to_debian13: Sid, Debian13, false;
    from_sid_to_sid: Sid, Sid, false;
    from_sid_to_sid_containerd: Sid, SidContainerd, true;
    from_sid_containerd_to_debian12: SidContainerd, Debian12, true;
    from_sid_containerd_to_debian13: SidContainerd, Debian13, false;
    from_sid_containerd_to_sid: SidContainerd, Sid, false;
    from_sid_containerd_to_sid_containerd: SidContainerd, SidContainerd, false;
);

#[test]
fn a_switched_store() {
    run_from(
        Runner::Here,
        Flavour::Sid,
        Often::OneRunInFour,
        "a_switched_store",
        switched,
    );
}

#[test]
fn a_full_disk_in_the_containerd_store() {
    let name = "a_full_disk_in_the_containerd_store";
    run_from(
        Runner::Here,
        Flavour::SidContainerd,
        Often::OneRunInFour,
        name,
        full_disk,
    );
}

#[test]
fn images_of_every_make() {
    let (runner, host) = (Runner::SidContainerd, Flavour::SidContainerd);
    run_from(
        runner,
        host,
        Often::Always,
        "images_of_every_make",
        every_make,
    );
}

/// What a deployment relies on was read about and played for these major versions. Another one asks for both again.
#[test]
fn the_labs_versions_are_those_that_were_read_about() {
    for (flavour, docker, compose) in [
        (Flavour::Debian12, "20", "1"),
        (Flavour::Debian13, "26", "2"),
        (Flavour::Sid, "28", "2"),
        (Flavour::SidContainerd, "28", "2"),
    ] {
        run_with(flavour, docker, compose);
    }
}

fn run_with(flavour: Flavour, docker: &'static str, compose: &'static str) {
    let name = "the_labs_versions_are_those_that_were_read_about";
    run_from(
        Runner::Here,
        flavour,
        Often::Always,
        name,
        move |app: App| {
            let about =
                "docker version --format '{{.Server.Version}}'; docker-compose version --short";
            let found = app.host.run(about);
            let majors: Vec<&str> = found.lines().filter_map(|v| v.split('.').next()).collect();
            assert_eq!(
                majors,
                [docker, compose],
                "{} has another major version now ({found}): read its release notes for what docs/engines.md lists, \
             add them there, let `dist-scripts/test --full` play everything on it, then change this test and \
             src/model/docker_versions.rs",
                app.host.name
            );
        },
    );
}

#[test]
fn a_network_that_is_defined_otherwise() {
    let name = "a_network_that_is_defined_otherwise";
    run_from(
        Runner::Here,
        Flavour::Sid,
        Often::OneRunInFour,
        name,
        other_network,
    );
}

/// Compose makes such a network anew since 2.37, and takes every container off it for that: nobody may notice, and both
/// ways out lead on.
fn other_network(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let plain = std::fs::read_to_string(app.repository().join("docker-compose.yml"));
    let plain = plain.expect("it is there");
    let options = "driver_opts: {com.docker.network.driver.mtu: \"1400\"}";
    let changed = format!("{plain}\nnetworks:\n  default:\n    {options}\n");
    app.write("docker-compose.yml", &changed);
    let load = Load::start(app.addr(), Shape::stream(100, Duration::from_secs(120)));
    let load = load.expect("it is ours");
    app.release("v1.1.0", "");
    app.push("v1.1.0")
        .ends("refused", "v1.0.0")
        .says("the network default is defined otherwise than in v1.0.0 (driver_opts)");
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    // Under another name.
    let renamed = plain.replace("  <<: *app\n", "  <<: *app\n    networks: [wide]\n");
    app.write(
        "docker-compose.yml",
        &format!("{renamed}\nnetworks:\n  wide:\n    {options}\n"),
    );
    app.release("v1.1.1", "");
    app.push("v1.1.1").ends("deployed", "v1.1.1");
    app.rollback("").ends("deployed", "v1.0.0");
    // With a gap.
    app.host.run(&format!("cd {ROOT} && docker-compose down"));
    app.write("docker-compose.yml", &changed);
    app.release("v1.2.0", "");
    app.push("v1.2.0").ends("deployed", "v1.2.0");
}

/// The images of before seem gone: that is said, they are sent again, and data stays. Switched back, what the engine had
/// then is there again.
fn switched(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.http("POST", "/data", "precious").expect("an answer");
    app.host.switch_store(true);
    app.strangers = app.host.strangers();
    let looked = app.belay(&["doctor"]);
    let said = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(said.contains("the containerd image store"), "{said}");
    assert!(
        said.contains("no images of the version that was deployed last"),
        "{said}"
    );
    app.release("v1.1.0", "");
    app.push("v1.1.0")
        .ends("deployed", "v1.1.0")
        .says("Docker keeps its images in the containerd image store now");
    let note = || app.http("GET", "/data", "").expect("an answer").1;
    assert_eq!(note(), "precious");
    app.rollback("").ends("refused", "v1.1.0").says("are gone");
    // Switched back, Docker could not start again what ran then. The tag that was deployed last brings its version back
    // when nothing of it is there any more.
    app.host.switch_store(false);
    app.strangers = app.host.strangers();
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    let note = app.http("GET", "/data", "").expect("an answer").1;
    assert_eq!(note, "precious");
    app.rollback("v1.0.0").ends("deployed", "v1.0.0");
}

/// Nothing of what did not fit is left, and the version before serves on.
fn full_disk(mut app: App) {
    let store = "/var/lib/containerd";
    app.host
        .while_docker_is_down(&format!("mount -t tmpfs -o size=400m none {store}"));
    app.strangers = app.host.strangers();
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let images = app.images();
    app.host.run(&format!(
        "dd if=/dev/zero of={store}/filler bs=1M count=$(( $(df -m --output=avail {store} | tail -n 1) - 20 )) status=none"
    ));
    let large = Command::new("head")
        .args(["-c", "60000000", "/dev/urandom"])
        .output();
    std::fs::write(
        app.repository().join("large"),
        large.expect("it runs").stdout,
    )
    .expect("written");
    app.write(".dockerignore", "");
    app.edit("Dockerfile", |text| {
        text.replace("COPY app /app", "COPY app large /")
    });
    app.release("v1.1.0", "");
    app.push("v1.1.0")
        .ends("refused", "v1.0.0")
        .says("no space left on device");
    assert_eq!(app.images(), images, "something of it was left");
    // With room again, the same version is deployed.
    app.host.run(&format!("rm {store}/filler"));
    app.push("v1.1.0").ends("deployed", "v1.1.0");
}

/// An image with attestations, an index of several platforms, a name with a digest, a builder that keeps what
/// it builds to itself, and the builder before BuildKit.
fn every_make(mut app: App) {
    let platforms =
        "docker buildx build -q --platform linux/amd64,linux/arm64 --provenance=true --sbom=false";
    let place = app.repository();
    app.runner.run(&format!(
        "cd {} && {platforms} -t given/worker:v1 . && docker tag given/worker:v1 given/worker:other",
        place.display()
    ));
    app.edit("belay.yml", |text| {
        text.replace(
            "images:\n",
            "images:\n  given: {worker: \"given/worker:v1\"}\n",
        )
    });
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let arrived = app.host.run(
        "for image in $(docker images --format '{{.Repository}}:{{.Tag}}' | grep '^belay/.*:v'); do
             curl -s --unix-socket /var/run/docker.sock \"http://docker/images/$image/json?manifests=1\" |
                 grep -o '\"Kind\":\"[a-z]*\"' | tr '\\n' ' '
         done",
    );
    let kinds: Vec<&str> = arrived.split_whitespace().collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|k| *k == "\"Kind\":\"image\""),
        "{arrived}"
    );
    assert_eq!(
        kinds.len(),
        3,
        "web, worker and the gateway, each for one platform: {arrived}"
    );

    // Built again it is in another index, and the same image, by whatever name: its container stays.
    let worker = container(&app, "worker");
    let index = app.runner.run(&format!(
        "cd {} && git checkout -q v1.0.0 && {platforms} --provenance=mode=max -t given/worker:v1 .",
        place.display()
    ));
    app.git(&["checkout", "--quiet", "main"]);
    app.edit("belay.yml", |text| {
        text.replace("given/worker:v1", &format!("given/worker@{index}"))
    });
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    assert_eq!(
        container(&app, "worker"),
        worker,
        "it was replaced for nothing"
    );

    app.runner.run(
        "docker buildx inspect apart >/dev/null 2>&1 || {
             setsid socat UNIX-LISTEN:/run/buildkit.sock,fork EXEC:'docker buildx dial-stdio' >/dev/null 2>&1 &
             docker buildx create --name apart --driver remote unix:///run/buildkit.sock
         }",
    );
    app.env
        .insert("BUILDX_BUILDER".to_owned(), "apart".to_owned());
    app.release("v1.2.0", "");
    app.push("v1.2.0").ends("deployed", "v1.2.0");
    app.env
        .insert("BUILDX_BUILDER".to_owned(), "gone".to_owned());
    app.release("v1.2.1", "");
    app.push("v1.2.1")
        .ends("refused", "v1.2.0")
        .says("with the builder gone");
    app.env.clear();
    app.env.insert("DOCKER_BUILDKIT".to_owned(), "0".to_owned());
    app.release("v1.3.0", "");
    app.push("v1.3.0").ends("deployed", "v1.3.0");
}

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
    let about = r"docker version --format 'Docker {{.Server.Version}}'
        docker info --format '{{.Driver}} {{.DriverStatus}}' |
            sed 's/\([^ ]*\) .*snapshotter.*/containerd (\1)/; s/ \[.*//'";
    let host = app
        .host
        .run(&format!("{about}; docker-compose version --short"));
    let builder = "docker buildx version 2>/dev/null | sed 's/.*buildx \\([^ ]*\\).*/buildx \\1/' | grep . || echo 'before BuildKit'";
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
