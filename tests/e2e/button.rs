//! What a person presses besides the rollback: a restart, the doctor, a dry run; and the webhook that hears of it all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::fake_github::world::{Environment, Ruleset};
use crate::lab::App;

on_every_host!(
    by turns:
    the_doctor_finds_what_is_wrong_and_how_to_mend_it;
    one run in four:
    a_restart_changes_no_version_and_leaves_everything_well,
    a_rollback_says_why_and_a_webhook_hears_of_it;
);

fn a_restart_changes_no_version_and_leaves_everything_well(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let containers = |app: &App| {
        let project = app.host.project;
        let filter = format!("label=com.docker.compose.project={project}");
        let started =
            "{{.Id}} {{index .Config.Labels \"com.docker.compose.service\"}} {{.State.StartedAt}}";
        let listed = app.host.run(&format!(
            "docker inspect --format '{started}' $(docker ps -q --filter {filter}) | sort"
        ));
        listed.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    let before = containers(&app);
    let run = app.press(json!({"command": "restart"}));
    assert_eq!(run.exit, 0, "{}", run.log);
    run.says("web was restarted, and is well again");
    run.says("worker was restarted, and is well again");
    let after = containers(&app);
    assert_eq!(before.len(), after.len(), "{before:?} {after:?}");
    for (old, new) in before.iter().zip(&after) {
        let is_gateway = old.contains("belay-gateway");
        assert_eq!(old == new, is_gateway, "{old} {new}");
        assert_eq!(
            old.split(' ').next(),
            new.split(' ').next(),
            "another container"
        );
    }
    assert_eq!(app.serving().as_deref(), Some("v1.0.0"));
    app.env
        .insert("BELAY_SERVICE".to_owned(), "cart".to_owned());
    let run = app.press(json!({"command": "restart"}));
    assert_eq!(run.exit, 10, "{}", run.log);
    run.says("no service cart runs here");
    assert_eq!(containers(&app), after);
    // What somebody has removed is made again.
    let typed = crate::hands::typed_in(&app.host);
    app.host.run(&format!(
        "{typed}; docker rm -f $(of worker) $(of belay-gateway)"
    ));
    assert_eq!(app.serving(), None);
    app.env.remove("BELAY_SERVICE");
    let run = app.press(json!({"command": "restart"}));
    assert_eq!(run.exit, 0, "{}", run.log);
    run.says("worker did not run; it runs again");
    assert_eq!(app.serving().as_deref(), Some("v1.0.0"));
    assert_eq!(containers(&app).len(), before.len());
}

fn the_doctor_finds_what_is_wrong_and_how_to_mend_it(mut app: App) {
    app.release("v1.0.0", "");
    let well = app.press(json!({"command": "doctor"}));
    assert_eq!(well.exit, 0, "{}", well.log);
    for words in [
        "configuration",
        "Compose file",
        "SSH",
        "engine",
        "free of",
        "0 problems",
    ] {
        well.says(words);
    }
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let well = app.press(json!({"command": "doctor"}));
    well.says("/api/status answered 200");
    well.says("sees deployment");
    well.says("may create deployments");
    well.says("whoever may push can move or delete a version tag");
    the_rules_of_the_repository_are_judged(&mut app);

    app.edit("belay.yml", |text| text.replace("/api/status", "/nowhere"));
    let run = app.press(json!({"command": "doctor"}));
    assert_eq!(run.exit, 10, "{}", run.log);
    run.says("/nowhere answered 404");
    run.says("fix: check `health` in belay.yml");

    app.env.insert(
        "BELAY_KNOWN_HOSTS".to_owned(),
        "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
    );
    let run = app.press(json!({"command": "doctor"}));
    assert_eq!(run.exit, 10, "{}", run.log);
    run.says("BAD");
    run.says("the host was not reached");
    app.edit("docker-compose.yml", |text| text + "\n  broken: [\n");
    let run = app.press(json!({"command": "doctor"}));
    assert_eq!(run.exit, 10, "{}", run.log);
    run.says("::error file=docker-compose.yml,line=");
    app.edit("belay.yml", |_| "helth: {}\n".to_owned());
    let run = app.press(json!({"command": "doctor"}));
    assert_eq!(run.exit, 10, "{}", run.log);
    run.says("helth");
    assert_eq!(app.serving().as_deref(), Some("v1.0.0"));
}

fn the_rules_of_the_repository_are_judged(app: &mut App) {
    let rules = |admitted: &[(&str, &str)]| Environment {
        policy: json!({"protected_branches": false, "custom_branch_policies": true}),
        admitted: admitted
            .iter()
            .map(|(kind, pattern)| ((*kind).to_owned(), (*pattern).to_owned()))
            .collect(),
    };
    app.github.change(|world| {
        let environment = rules(&[("branch", "v*")]);
        world
            .environments
            .insert("production".to_owned(), environment);
        world.rulesets = vec![Ruleset {
            name: "releases".to_owned(),
            enforcement: "active".to_owned(),
            include: vec!["refs/tags/v*".to_owned()],
            rules: json!([{"type": "update"}, {"type": "deletion"}]),
        }];
    });
    let run = app.press(json!({"command": "doctor"}));
    assert_eq!(run.exit, 10, "{}", run.log);
    run.says("v1.1.0 may not deploy to production: no tag rule matches it");
    run.says("fix: Settings > Environments > production");
    run.says("can be neither moved nor deleted");
    app.github.change(|world| {
        let environment = rules(&[("tag", "v*")]);
        world
            .environments
            .insert("production".to_owned(), environment);
    });
    let run = app.press(json!({"command": "doctor"}));
    assert_eq!(run.exit, 0, "{}", run.log);
    run.says("the button that rolls back runs on one");
}

/// Takes messages until the test ends, and answers the first one that it cannot just now.
fn webhook() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let (bodies, received) = channel();
    std::thread::spawn(move || {
        for (number, stream) in (0..).zip(listener.incoming().flatten()) {
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let status = match number {
                0 => "503 Not now",
                _ => "200 OK",
            };
            let _ = write!(
                reader.into_inner(),
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            if number > 0 {
                let _ = bodies.send(serde_json::from_slice(&body).unwrap_or_default());
            }
        }
    });
    (url, received)
}

fn a_rollback_says_why_and_a_webhook_hears_of_it(mut app: App) {
    let (url, messages) = webhook();
    app.env.insert("BELAY_NOTIFY_URL".to_owned(), url);
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.release("v1.1.0", "bad-after:2500");
    app.push("v1.1.0").ends("rolled-back", "v1.0.0");
    let told: Vec<Value> = messages.try_iter().collect();
    assert_eq!(told.len(), 1, "of a success nobody wants to hear: {told:?}");
    assert_eq!(
        (&told[0]["outcome"], &told[0]["serving"], &told[0]["asked"]),
        (&json!("rolled-back"), &json!("v1.0.0"), &json!("v1.1.0"))
    );
    app.release("v1.2.0", "");
    app.push("v1.2.0").ends("deployed", "v1.2.0");

    let dry = app.press(json!({"command": "rollback", "dry-run": "true"}));
    assert_eq!(dry.exit, 0, "{}", dry.log);
    assert!(
        dry.summary.contains("What can be rolled back to"),
        "{}",
        dry.summary
    );
    assert!(dry.summary.contains("`v1.0.0`"), "{}", dry.summary);
    assert!(dry.summary.contains("backup_"), "{}", dry.summary);
    assert_eq!(app.serving().as_deref(), Some("v1.2.0"));

    let asked = json!({"command": "rollback", "rollback": "", "reason": "the cart forgets"});
    let run = app.press(asked);
    run.ends("deployed", "v1.0.0");
    assert!(run.summary.contains("the cart forgets"), "{}", run.summary);
    let words = app.github.look(|world| {
        let newest = world.deployments.last().expect("a deployment");
        (
            newest.task.clone(),
            newest
                .statuses
                .last()
                .expect("a status")
                .description
                .clone(),
        )
    });
    assert_eq!(words.0, "rollback");
    assert!(words.1.ends_with(": the cart forgets"), "{words:?}");
    let told: Vec<Value> = messages.try_iter().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["reason"], "the cart forgets");
}
