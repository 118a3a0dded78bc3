//! Ways in: keys, host keys, the lock, the disk, a network that fails. What cannot be done is refused before anything
//! changes; what only costs comfort does not stop a deployment.

use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::lab::{App, ROOT, succeed};

#[test]
fn hosts_and_keys_that_are_not_right_are_refused() {
    let Some(mut app) = App::start("hosts_and_keys_that_are_not_right_are_refused") else {
        return;
    };
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

#[test]
fn a_disk_without_room_is_seen_before_anything_changes() {
    let Some(mut app) = App::start("a_disk_without_room_is_seen_before_anything_changes") else {
        return;
    };
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let project = app.host.project.clone();
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

#[test]
fn an_api_that_cannot_be_reached_costs_a_warning() {
    let Some(mut app) = App::start("an_api_that_cannot_be_reached_costs_a_warning") else {
        return;
    };
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

#[test]
fn one_run_waits_for_another_or_says_who_it_is() {
    let Some(mut app) = App::start("one_run_waits_for_another_or_says_who_it_is") else {
        return;
    };
    app.edit("belay.yml", |text| text.replace("bake: 1s", "bake: 5s"));
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
    app.env
        .insert("BELAY_LOCK_WAIT".to_owned(), "1s".to_owned());
    let second = app.begin_push("v1.4.0");
    let second = app.wait(second);
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

/// A wire between the runner and the host that a test can cut.
struct Wire {
    port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(target: &str) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (target, kept) = (target.to_owned(), Arc::clone(&connections));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                let mut ends = kept.lock().unwrap_or_else(PoisonError::into_inner);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
                        continue;
                    };
                    thread::spawn(move || {
                        // Ends with the connection, however that ends.
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                ends.push(near);
                ends.push(far);
            }
        });
        Wire { port, connections }
    }

    fn cut(&self) {
        for end in self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            // It may be closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_cut_connection_is_made_again() {
    let Some(mut app) = App::start("a_cut_connection_is_made_again") else {
        return;
    };
    let (host, port) = (
        app.host.get("LAB_HOST").to_owned(),
        app.host.get("LAB_PORT").to_owned(),
    );
    let wire = Wire::to(&format!("{host}:{port}"));
    let known = fs::read_to_string(app.host.get("LAB_KNOWN_HOSTS")).expect("the lab's file");
    let known = known.replace(&format!("]:{port} "), &format!("]:{} ", wire.port));
    app.env.insert("BELAY_KNOWN_HOSTS".to_owned(), known);
    app.env
        .insert("BELAY_PORT".to_owned(), wire.port.to_string());
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
