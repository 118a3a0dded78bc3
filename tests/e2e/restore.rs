//! Rollbacks that put the data of a backup back, with real volumes, owners, modes, links and attributes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::lab::App;

on_every_host!(
    by turns:
    data_comes_back_when_a_person_asks_for_it;
    one run in four:
    data_and_version_stay_what_they_were_when_it_fails,
    data_and_version_stay_what_they_were_when_the_engine_dies_in_the_middle;
);

/// Everything about a volume's files that a restore must bring back.
const LOOK: &str = "stat -c '%a %u:%g' .
    find . -mindepth 1 -printf '%P %y %m %U:%G %n %T@ %l\\n' | sed -E 's/\\.[0-9]{10} / /' | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum";

fn volume(app: &App) -> String {
    format!("/var/lib/docker/volumes/{}_data/_data", app.host.project)
}

fn contents(app: &App) -> String {
    app.host.run(&format!("cd {} && {LOOK}", volume(app)))
}

/// Two versions; data that is worth something, in the backup between them; and what the second version made of it. Returns
/// the backup's name and what the volume looked like.
fn spoilt(app: &mut App) -> (String, String) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.http("POST", "/data", "precious").expect("an answer");
    app.host.run(&format!(
        "cd {} && mkdir -p keep/deep 'odd name' && echo one >keep/a && ln keep/a keep/b && ln -s /nowhere keep/link
         head -c 3000000 /dev/urandom >keep/deep/large && echo '#' >$(printf 'odd name/\\303\\244\\n')
         chown 1234:4321 keep/a keep/deep && chmod 4750 keep/a && chmod 1777 keep && chmod 0700 .
         find keep 'odd name' -exec touch -h -d '2024-12-15 14:30:22' {{}} +",
        volume(app)
    ));
    let before = contents(app);
    app.release("v1.1.0", "");
    let deployed = app.push("v1.1.0");
    deployed.ends("deployed", "v1.1.0");
    app.http("POST", "/data", "spoilt").expect("an answer");
    app.host.run(&format!(
        "cd {} && rm keep/a keep/deep/large && echo new >later && echo other >keep/b",
        volume(app)
    ));
    (deployed.output("backup").to_owned(), before)
}

fn note(app: &App) -> String {
    app.http("GET", "/data", "").expect("an answer").1
}

fn data_comes_back_when_a_person_asks_for_it(mut app: App) {
    let (backup, before) = spoilt(&mut app);
    let spoilt = contents(&app);
    let ask = |more: Value| {
        let mut inputs = json!({"command": "rollback", "restore-data": backup});
        for (name, value) in more.as_object().expect("inputs") {
            inputs[name] = value.clone();
        }
        inputs
    };
    // Nothing happens to data because a field was filled in.
    app.press(ask(json!({})))
        .ends("refused", "v1.1.0")
        .says("nobody has confirmed that");
    app.press(ask(json!({"confirm": "prod"})))
        .ends("refused", "v1.1.0")
        .says("the environment is production");
    let dry = app.press(ask(json!({"dry-run": "true"})));
    dry.says("put back from")
        .says(&format!("volume {}_data", app.host.project));
    app.press(json!({"command": "rollback", "restore-data": "backup_20200101_000000", "confirm": "production"}))
        .ends("refused", "v1.1.0")
        .says("there is no backup");
    assert_eq!(contents(&app), spoilt);

    let restored = app.press(ask(json!({"confirm": "production"})));
    restored.ends("deployed", "v1.0.0").says(&backup);
    assert_eq!(note(&app), "precious");
    assert_eq!(contents(&app), before);
    let gap: u64 = restored.output("longest-gap-ms").parse().expect("measured");
    assert!(gap > 0, "everything stopped, and nobody noticed");

    // What was there is in a backup of its own, and comes back into the version that serves.
    let listed = app.belay(&["backups", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let newest = listed
        .as_array()
        .and_then(|all| all.last())
        .expect("a backup");
    let safety = newest["name"].as_str().expect("a name").to_owned();
    assert!(restored.summary.contains(&safety), "{}", restored.summary);
    app.press(json!({"command": "rollback", "rollback": "v1.0.0", "restore-data": safety, "confirm": "production"}))
        .ends("deployed", "v1.0.0");
    assert_eq!(note(&app), "spoilt");
    // The version that wrote it serves no more, and its file is as it left it.
    assert_eq!(contents(&app), spoilt);
    app.release("v1.2.0", "");
    app.push("v1.2.0").ends("deployed", "v1.2.0");
}

fn data_and_version_stay_what_they_were_when_it_fails(mut app: App) {
    let (backup, _) = spoilt(&mut app);
    let spoilt = contents(&app);
    // Well on the host, and not well for users.
    app.edit("belay.yml", |text| {
        text.replace("health:\n", "health:\n  public: http://127.0.0.1:9/\n")
    });
    app.press(json!({"command": "rollback", "restore-data": backup, "confirm": "production"}))
        .ends("rolled-back", "v1.1.0");
    assert_eq!(note(&app), "spoilt");
    assert_eq!(contents(&app), spoilt);
}

fn data_and_version_stay_what_they_were_when_the_engine_dies_in_the_middle(mut app: App) {
    let (backup, _) = spoilt(&mut app);
    let spoilt = contents(&app);
    let kept = "[ -e .belay-kept-* ]";
    // Before the saved data comes, and once some of it is there.
    for moment in [kept.to_owned(), format!("{kept} && [ -e keep/deep/large ]")] {
        let mut trap = trap(&app, &moment);
        app.press(json!({"command": "rollback", "restore-data": backup, "confirm": "production"}))
            .ends("rolled-back", "v1.1.0");
        assert!(trap.wait().expect("it ends").success(), "nobody was killed");
        assert_eq!(note(&app), "spoilt", "{moment}");
        assert_eq!(contents(&app), spoilt, "{moment}");
    }
    app.press(json!({"command": "rollback", "restore-data": backup, "confirm": "production"}))
        .ends("deployed", "v1.0.0");
    assert_eq!(note(&app), "precious");
}

/// Kills the engine once a condition holds in the volume.
fn trap(app: &App, condition: &str) -> std::process::Child {
    let script = format!(
        "cd {} || exit 1
         echo set
         for i in $(seq 12000); do {condition} && break; sleep 0.005; done 2>/dev/null
         pkill -KILL -f '[a]gent engine'",
        volume(app)
    );
    let mut command = Command::new("docker");
    command.args(["exec", app.host.get("LAB_CONTAINER"), "bash", "-c", &script]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("docker runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line.trim(), "set");
    child
}
