//! Ways in: keys, host keys, the lock, the disk, a network that fails. What cannot be done is refused before anything
//! changes; what only costs comfort does not stop a deployment.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::faults::Wire;
use crate::lab::{App, ROOT, succeed};

on_every_host!(
    by turns:
    hosts_and_keys_that_are_not_right_are_refused;
    one run in four:
    a_disk_without_room_is_seen_before_anything_changes,
    an_api_that_cannot_be_reached_costs_a_warning,
    one_run_waits_for_another_or_says_who_it_is,
    a_cut_connection_is_made_again,
    a_public_url_that_takes_longer_than_the_host_would_wait_is_waited_for;
);

fn hosts_and_keys_that_are_not_right_are_refused(mut app: App) {
    app.release("v1.0.0", "");
    let make = |name: &str, passphrase: &str| {
        let path = app.dir.path().join(name);
        let mut command = Command::new("ssh-keygen");
        succeed(
            command
                .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
                .arg(&path),
        );
        path
    };
    let read = |path: &std::path::Path| fs::read_to_string(path).expect("a file");
    let stranger = make("stranger", "");
    let public = read(&stranger.with_extension("pub"));
    let known = format!("[127.0.0.1]:{} {public}", app.host.get("LAB_PORT"));
    let right = read(app.host.get("LAB_KEY").as_ref());
    let locked = app.dir.path().join("locked");
    fs::copy(app.host.get("LAB_KEY"), &locked).expect("copied");
    succeed(Command::new("chmod").arg("600").arg(&locked));
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-p", "-P", "", "-N", "open sesame", "-f"])
            .arg(&locked),
    );

    let mut with = |name: &str, value: &str| app.env.insert(name.to_owned(), value.to_owned());
    with("BELAY_KNOWN_HOSTS", &known);
    let paste = format!("[127.0.0.1]:{} ssh-ed25519 ", app.host.get("LAB_PORT"));
    app.push("v1.0.0").ends("refused", "").says(&paste);
    app.env.clear();
    app.env.insert("BELAY_SSH_KEY".to_owned(), read(&stranger));
    app.push("v1.0.0").ends("refused", "");
    app.env.insert("BELAY_SSH_KEY".to_owned(), read(&locked));
    app.push("v1.0.0").ends("refused", "").says("passphrase");
    assert_eq!(
        app.host.run(&format!("ls -A {ROOT}")),
        "",
        "a refusal left something"
    );

    app.env.insert(
        "BELAY_SSH_KEY_PASSPHRASE".to_owned(),
        "open sesame".to_owned(),
    );
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.env.clear();
    // As it comes from a Windows clipboard, without its last line's end.
    app.env.insert(
        "BELAY_SSH_KEY".to_owned(),
        right.trim_end().replace('\n', "\r\n"),
    );
    app.push("v1.0.0").ends("unchanged", "v1.0.0");
    app.env
        .insert("BELAY_ROOT".to_owned(), "/opt/missing".to_owned());
    app.push("v1.0.0")
        .ends("refused", "v1.0.0")
        .says("/opt/missing");
}

fn a_disk_without_room_is_seen_before_anything_changes(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let project = app.host.project;
    app.host.run(&format!(
        "dd if=/dev/urandom of=/var/lib/docker/volumes/{project}_data/_data/large bs=1M count=24 2>/dev/null
         install -d -o deploy -g deploy {ROOT}/backups
         mount -t tmpfs -o size=8m,uid=$(id -u deploy),mode=755 none {ROOT}/backups"
    ));
    let containers = app.host.run("docker ps -q --no-trunc | sort");
    app.release("v1.1.0", "");
    let run = app.push("v1.1.0");
    assert_eq!(run.serving.as_deref(), Some("v1.0.0"), "{}", run.log);
    assert_eq!(
        (run.exit, run.output("outcome")),
        (10, "refused"),
        "{}",
        run.log
    );
    run.says("disk");
    assert_eq!(
        app.host.run("docker ps -q --no-trunc | sort"),
        containers,
        "{}",
        run.log
    );
    app.host.run(&format!("umount {ROOT}/backups"));
    app.push("v1.1.0").ends("deployed", "v1.1.0");
}

fn an_api_that_cannot_be_reached_costs_a_warning(mut app: App) {
    // A port that was free a moment ago, and has nobody behind it.
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port();
    app.env.insert(
        "GITHUB_API_URL".to_owned(),
        format!("http://127.0.0.1:{port}"),
    );
    app.release("v1.0.0", "");
    let run = app.push("v1.0.0");
    run.ends("deployed", "v1.0.0");
    assert!(run.log.contains("::warning"), "{}", run.log);
}

fn one_run_waits_for_another_or_says_who_it_is(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    for tag in ["v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"] {
        app.release(tag, "");
    }
    let mut first = app.begin_push("v1.1.0");
    first.wait_for("14 backup");
    let second = app.begin_push("v1.2.0");
    let first = app.wait(first);
    assert_eq!(first.output("outcome"), "deployed", "{}", first.log);
    app.finish(second).ends("deployed", "v1.2.0");

    let mut first = app.begin_push("v1.3.0");
    first.wait_for("14 backup");
    // For as long as the second one takes, however slow the machine is.
    app.host.run("pkill -STOP -f '[a]gent engine'");
    app.env
        .insert("BELAY_LOCK_WAIT".to_owned(), "1s".to_owned());
    let second = app.begin_push("v1.4.0");
    let second = app.wait(second);
    app.host.run("pkill -CONT -f '[a]gent engine'");
    assert_eq!(
        (second.exit, second.output("outcome")),
        (10, "refused"),
        "{}",
        second.log
    );
    second
        .says("deploy v1.3.0")
        .says("since ")
        .says("/actions/runs/");
    app.finish(first).ends("deployed", "v1.3.0");
    let left: Vec<String> = app
        .images()
        .into_iter()
        .filter(|i| i.contains("v1.4.0"))
        .collect();
    assert_eq!(
        left,
        Vec::<String>::new(),
        "images that were sent for nothing"
    );
}

fn a_cut_connection_is_made_again(mut app: App) {
    let wire = Wire::of(&mut app);
    app.edit("belay.yml", |text| text.replace("bake: 1s", "bake: 3s"));
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    for (tag, steps) in [
        ("v1.1.0", vec!["bake"]),
        ("v1.2.0", vec!["backup", "cutover", "bake"]),
    ] {
        app.release(tag, "");
        let mut running = app.begin_push(tag);
        for step in steps {
            running.wait_for(&format!("14 {step}"));
            wire.cut();
        }
        app.finish(running).ends("deployed", tag);
    }
}

/// The host alone would go back ten seconds after the bake.
fn a_public_url_that_takes_longer_than_the_host_would_wait_is_waited_for(mut app: App) {
    let url = well_after(Duration::from_secs(13));
    app.edit("belay.yml", |text| {
        text.replace("deadline: 8s", &format!("deadline: 60s\n  public: {url}"))
            .replace("bake: 1s", "bake: 1s\nconfirm: 10s")
    });
    app.release("v1.0.0", "");
    let run = app.push("v1.0.0");
    run.ends("deployed", "v1.0.0")
        .says("more for the confirmation");
}

/// A URL on this machine that answers 503 for so long after it was asked for the first time, and then 200.
fn well_after(time: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        let mut first = None;
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let is_well = first.get_or_insert_with(Instant::now).elapsed() > time;
            let status = if is_well { "200 OK" } else { "503 Not Yet" };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
    });
    url
}
