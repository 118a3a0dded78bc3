//! Files of Belay's that are damaged on a real host, between real deployments: each is named and rebuilt, or there is one
//! command that leaves the state; and the script of the emergency looks before it stops anything.

use std::process::Output;

use serde_json::Value;

use crate::lab::{App, ROOT};
use crate::recovery::within;

on_every_host!(
    by turns:
    damaged_files_are_named_and_rebuilt,
    the_script_looks_before_it_stops_anything;
    one run in four:
    what_is_lost_twice_is_left_by_one_command;
);

/// The script that damages a file.
type Damage = fn(&str) -> String;

const SERVED_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

fn deployed(app: &mut App, tag: &str) {
    app.release(tag, "");
    app.push(tag).ends("deployed", tag);
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Flips the lowest bit of a file's byte in the middle.
fn flip(path: &str) -> String {
    format!(
        "size=$(stat -c %s {path}); at=$(( (size - 1) / 2 ))
         byte=$(od -An -tu1 -j $at -N 1 {path} | tr -d ' ')
         printf \"$(printf '\\\\%03o' $(( byte ^ 1 )))\" | dd of={path} bs=1 seek=$at conv=notrunc status=none"
    )
}

fn cut(path: &str) -> String {
    format!("truncate -s $(( $(stat -c %s {path}) / 2 )) {path}")
}

fn empty(path: &str) -> String {
    format!("truncate -s 0 {path}")
}

fn remove(path: &str) -> String {
    format!("rm {path}")
}

fn take_away(path: &str) -> String {
    format!("chown root: {path} && chmod 000 {path}")
}

fn close(path: &str) -> String {
    format!("chmod 000 {path}")
}

fn damaged_files_are_named_and_rebuilt(mut app: App) {
    deployed(&mut app, "v1.0.0");
    deployed(&mut app, "v1.1.0");
    let record = ".belay/releases/2-v1.1.0/release.json";
    let journal = ".belay/journal/00000002.log";
    let struck: [(&str, Damage); 14] = [
        (".belay/current", flip),
        (".belay/current", cut),
        (".belay/current", take_away),
        (".belay/seq", empty),
        (".belay/seq", take_away),
        (record, flip),
        (record, remove),
        (".belay/releases/1-v1.0.0/docker-compose.yml", flip),
        (".belay/releases/2-v1.1.0/compose.json", close),
        (journal, flip),
        ("docker-compose.yml", cut),
        ("docker-compose.yml.backup", empty),
        ("docker-compose.yml.backup", take_away),
        (".belay/rollback.sh", cut),
    ];
    let hash = |app: &App, path: &str| app.host.run(&format!("cd {ROOT} && sha256sum <{path}"));
    for (path, damage) in struck {
        let before = hash(&app, path);
        app.host.run(&format!("cd {ROOT} && {}", damage(path)));
        let status = app.belay(&["status"]);
        let told = said(&status);
        assert!(status.status.success(), "{path}: {told}");
        assert!(told.contains(path), "{path} is not named: {told}");
        assert_eq!(hash(&app, path), before, "{path}: {told}");
        assert_eq!(app.serving().as_deref(), Some("v1.1.0"), "{path}");
    }
    for path in [".belay/lock", ".belay/engine.log", ".belay/watch"] {
        app.host.run(&format!("cd {ROOT} && {}", take_away(path)));
        let status = app.belay(&["status"]);
        assert!(status.status.success(), "{path}: {}", said(&status));
    }
    let doctor = said(&app.belay(&["doctor"]));
    assert!(doctor.contains("it was written again"), "{doctor}");
    let kept = app.host.run(&format!("ls {ROOT}/.belay/damaged"));
    assert!(kept.lines().count() >= 10, "{kept}");

    backups_are_never_lost(&mut app);
    deployed(&mut app, "v1.2.0");
    let repaired = app.belay(&["repair", "--json"]);
    assert!(repaired.status.success(), "{}", said(&repaired));
    let repaired: Value = serde_json::from_slice(&repaired.stdout).expect("JSON");
    assert_eq!(repaired["serving"], "v1.2.0", "{repaired:#}");
    assert_eq!(repaired["files"], Value::Array(vec![]), "{repaired:#}");
}

/// A manifest is lost, and somebody has put an archive there.
fn backups_are_never_lost(app: &mut App) {
    let lost = app.host.run(&format!(
        "cd {ROOT}/backups && rm $(ls *.manifest.json | tail -n 1) && ls *.tar.gz | tail -n 1"
    ));
    let name = lost.trim_end_matches(".tar.gz");
    let verified = app.belay(&["backups", "--verify"]);
    assert_eq!(verified.status.code(), Some(10), "{}", said(&verified));
    assert!(
        said(&verified).contains(&format!("{name}.manifest.json is missing")),
        "{}",
        said(&verified)
    );
    let repaired = app.belay(&["repair"]);
    assert!(repaired.status.success(), "{}", said(&repaired));
    assert!(said(&repaired).contains(name), "{}", said(&repaired));
    let verified = app.belay(&["backups", "--verify"]);
    assert!(verified.status.success(), "{}", said(&verified));

    let own = "backups/backup_20200101_000000.tar.gz";
    app.host.run(&format!(
        "cd {ROOT} && cp backups/{lost} {own} && chown deploy: {own}"
    ));
    let made = app.belay(&["backup"]);
    assert!(made.status.success(), "{}", said(&made));
    app.host.run(&format!(
        "test -s {ROOT}/{own} && mv {ROOT}/{own} /tmp/own.tar.gz"
    ));
}

fn what_is_lost_twice_is_left_by_one_command(mut app: App) {
    deployed(&mut app, "v1.0.0");
    deployed(&mut app, "v1.1.0");
    // The record of what serves is made again from the journals.
    app.host.run(&format!(
        "cd {ROOT}/.belay && printf '{{' | tee current >spare/current"
    ));
    let status = app.belay(&["status"]);
    assert!(status.status.success(), "{}", said(&status));
    assert!(said(&status).contains("v1.1.0"), "{}", said(&status));

    // The release's own record is not: a person agrees that what runs counts.
    app.host.run(&format!(
        "cd {ROOT}/.belay && printf '{{' | tee releases/2-v1.1.0/release.json >spare/releases/2-v1.1.0/release.json"
    ));
    for words in [&["status"][..], &["doctor"]] {
        let refused = app.belay(words);
        assert_eq!(refused.status.code(), Some(10), "{}", said(&refused));
        assert!(
            said(&refused).contains("run `belay repair`"),
            "{}",
            said(&refused)
        );
    }
    assert_eq!(app.serving().as_deref(), Some("v1.1.0"));
    let on_the_host = app.host.run_as_user(&format!(
        "set -- {ROOT}/.belay/bin/*/belay; $1 agent repair --root {ROOT}"
    ));
    assert!(on_the_host.status.success(), "{}", said(&on_the_host));
    assert!(
        said(&on_the_host).contains("adopted"),
        "{}",
        said(&on_the_host)
    );
    assert_eq!(app.serving().as_deref(), Some("v1.1.0"));
    deployed(&mut app, "v1.2.0");
}

fn the_script_looks_before_it_stops_anything(mut app: App) {
    deployed(&mut app, "v1.0.0");
    deployed(&mut app, "v1.1.0");
    let script = format!("sh {ROOT}/.belay/rollback.sh");
    let kept = format!("cp -p {ROOT}/docker-compose.yml.backup /tmp/kept");
    app.host.run(&kept);
    let spoiled = [
        ("is empty", "truncate -s 0 docker-compose.yml.backup"),
        (
            "is not a Compose file",
            "printf 'services: [\\n' >docker-compose.yml.backup",
        ),
        (
            "is not on this host",
            "sed -i 's#^\\(    image: \\).*#\\1belay.invalid/none:1#' docker-compose.yml.backup",
        ),
    ];
    for (why, spoil) in spoiled {
        app.host.run(&format!("cd {ROOT} && {spoil}"));
        let refused = app.host.run_as_user(&script);
        assert!(!refused.status.success(), "{why}: {}", said(&refused));
        assert!(said(&refused).contains(why), "{why}: {}", said(&refused));
        assert!(
            said(&refused).contains("nothing was changed"),
            "{}",
            said(&refused)
        );
        assert!(said(&refused).contains("next: "), "{}", said(&refused));
        assert_eq!(app.serving().as_deref(), Some("v1.1.0"), "{why}");
        app.host
            .run(&format!("cp -p /tmp/kept {ROOT}/docker-compose.yml.backup"));
    }
    // The file that serves is damaged; the way back does not need it. Again, it does no harm.
    app.host
        .run(&format!("truncate -s 0 {ROOT}/docker-compose.yml"));
    for _ in 0..2 {
        let back = app.host.run_as_user(&script);
        assert!(back.status.success(), "{}", said(&back));
        within(SERVED_WITHIN, "the version before serves", || {
            app.serving().as_deref() == Some("v1.0.0")
        });
    }
    let status = app.belay(&["status"]);
    assert!(status.status.success(), "{}", said(&status));
    deployed(&mut app, "v1.2.0");
}
