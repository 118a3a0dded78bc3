//! What stays on the host: backups, versions of images, and the way back by hand.

use serde_json::Value;

use crate::lab::{App, Flavour, ROOT};

on_every_host!(
    by turns:
    the_way_back_by_hand_needs_nothing_of_belay;
    one run in four:
    seven_deployments_leave_five_backups_and_three_versions,
    what_ran_before_belay_came_is_adopted;
);

fn seven_deployments_leave_five_backups_and_three_versions(mut app: App) {
    app.host.run(&format!("printf 'COLOUR=blue\\n' >>{ROOT}/.env && chown deploy: {ROOT}/.env && chmod 0640 {ROOT}/.env"));
    for number in 0..7 {
        let tag = format!("v1.{number}.0");
        app.release(&tag, "");
        app.push(&tag).ends("deployed", &tag);
        app.http("POST", "/data", &format!("written by {tag}"))
            .expect("the application answers");
    }
    let listed = app.belay(&["backups", "--verify", "--json"]);
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{said}");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let backups = listed
        .as_array()
        .or_else(|| listed["backups"].as_array())
        .expect("a list");
    assert_eq!(backups.len(), 5, "{listed:#}");
    for backup in backups {
        assert_eq!(backup["verified"], true, "{backup:#}");
    }
    let versions = |service: &str| {
        let prefix = format!("belay/{}/{service}:v", app.host.project);
        app.images()
            .into_iter()
            .filter(|image| image.starts_with(&prefix))
            .collect::<Vec<_>>()
    };
    assert_eq!(versions("web").len(), 3, "{:?}", app.images());
    assert_eq!(versions("worker").len(), 3, "{:?}", app.images());
    let files = app.host.run(&format!("ls {ROOT}/backups"));
    assert_eq!(files.lines().count(), 15, "{files}");

    // Nothing but tar is needed to look into one.
    let inside = app.host.run(&format!(
        "rm -rf /tmp/opened; mkdir /tmp/opened && cd /tmp/opened
         tar xzf $(ls {ROOT}/backups/*.tar.gz | tail -n 1)
         find . -type f -printf '%m %P\\n' | sort -k 2
         echo '--'; cat $(find . -name note)"
    ));
    let (files, note) = inside.split_once("--\n").expect("both parts");
    assert_eq!(note.trim(), "written by v1.5.0", "{inside}");
    assert!(files.contains("config/docker-compose.yml"), "{inside}");
    assert!(files.contains("640 config/.env"), "{inside}");
    assert!(
        files
            .lines()
            .any(|line| line.contains("logs/") && line.contains("web")),
        "{inside}"
    );
    assert!(
        !files.contains("backups/"),
        "a backup contains backups:\n{inside}"
    );
}

fn the_way_back_by_hand_needs_nothing_of_belay(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.http("POST", "/data", "precious")
        .expect("the application answers");
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    app.host.run(&format!("rm -rf {ROOT}/.belay"));
    let typed = "cd /opt/ntplatform; docker-compose down; cp docker-compose.yml.backup docker-compose.yml; \
                 docker-compose up -d";
    let by_hand = app.host.run_as_user(typed);
    let said = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert!(by_hand.status.success(), "{said}");
    served_soon(&app, "v1.0.0");
    let (_, note) = app
        .http("GET", "/data", "")
        .expect("the application answers");
    assert_eq!(note, "precious");

    // A host without Belay's records is adopted again, and has its script again.
    for tag in ["v1.2.0", "v1.3.0"] {
        app.release(tag, "");
        app.push(tag).ends("deployed", tag);
    }
    let by_script = app.host.run_as_user(&format!("{ROOT}/.belay/rollback.sh"));
    let said = String::from_utf8_lossy(&by_script.stderr).into_owned();
    assert!(by_script.status.success(), "{said}");
    served_soon(&app, "v1.2.0");
}

/// Waits until this version serves.
fn served_soon(app: &App, version: &str) {
    let began = std::time::Instant::now();
    loop {
        match app.serving() {
            Some(serving) if serving == version => return,
            other if began.elapsed().as_secs() > 15 => {
                panic!("{version} should serve, not {other:?}")
            }
            _ => std::thread::sleep(std::time::Duration::from_millis(200)),
        }
    }
}

fn what_ran_before_belay_came_is_adopted(mut app: App) {
    let project = app.host.project;
    app.host
        .run("tar -C /opt/foreign -c app | docker import - hand/app:v1 >/dev/null");
    // Compose 1.x refuses a file with a name; there the folder has it.
    let name = match app.host.flavour {
        Flavour::Debian12 => String::new(),
        _ => format!("name: {project}\n"),
    };
    let compose = format!(
        "{name}services:\n  web:\n    image: hand/app:v1\n    command: [\"/app\"]\n    \
         stop_signal: SIGKILL\n    environment: {{APP_VERSION: v0.9.0}}\n    ports: [\"8080:8080\"]\n"
    );
    app.host.run(&format!(
        "printf '%s' '{compose}' >{ROOT}/docker-compose.yml && chown deploy: {ROOT}/docker-compose.yml"
    ));
    let started = app
        .host
        .run_as_user(&format!("cd {ROOT} && docker-compose up -d"));
    assert!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    served_soon(&app, "v0.9.0");

    app.release("v1.0.0", "exit");
    app.push("v1.0.0").ends("rolled-back", "v0.9.0");
    assert_eq!(
        app.host.run(&format!("cat {ROOT}/docker-compose.yml")),
        compose.trim()
    );
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    let back = app.rollback("");
    back.ends("deployed", "v0.9.0");
    assert_eq!(back.output("version"), "adopted");
}
