//! Supervisors on a machine of shell scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::cron::{cron_line, with_entry};
use super::script::script;
use super::systemd::{Scope, unit_text};
use super::*;
use crate::command::Call;

/// A machine of shell scripts: `crontab` keeps its text in a file, `systemctl` writes down what it was asked and makes
/// the links that enabling makes, `loginctl` turns lingering on unless it is forbidden.
struct Fake {
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["bin", "system", "user", "linger", "proc"] {
            fs::create_dir_all(at(name)).expect("made");
        }
        let path = format!("{}:/usr/bin:/bin", at("bin").display());
        let variables = [
            ("PATH".to_owned(), path),
            ("MACHINE".to_owned(), dir.path().display().to_string()),
        ];
        let fake = Fake {
            machine: Machine {
                is_root: false,
                systemd: at("no systemd"),
                system_units: at("system"),
                user_units: at("user"),
                linger: at("linger"),
                processes: at("proc"),
                variables: variables.to_vec(),
            },
            dir,
        };
        fake.program("id", "echo deploy");
        fake.program(
            "crontab",
            r#"case $1 in
                 -l) cat "$MACHINE/crontab" 2>/dev/null || { echo "no crontab for deploy" >&2; exit 1; } ;;
                 *) echo "crontab $1" >> "$MACHINE/calls"; cp "$1" "$MACHINE/crontab" ;;
               esac"#,
        );
        fake.program(
            "systemctl",
            r#"scope=$1; shift 2; echo "$scope $*" >> "$MACHINE/calls"
               case $1 in
                 is-enabled) [ -e "$MACHINE/enabled$scope-$2" ] ;;
                 reenable) : > "$MACHINE/enabled$scope-$2" ;;
                 disable) rm -f "$MACHINE/enabled$scope-$2" ;;
               esac"#,
        );
        fake.program("loginctl", r#": > "$MACHINE/linger/deploy""#);
        fake
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn with_systemd(mut self) -> Self {
        self.machine.systemd = self.dir.path().join("system");
        self
    }

    fn with_cron(self) -> Self {
        fs::create_dir_all(self.dir.path().join("proc/77")).expect("made");
        fs::write(self.dir.path().join("proc/77/comm"), "cron\n").expect("written");
        self
    }

    fn layout(&self, root: &str) -> Layout {
        let layout = Layout::new(self.dir.path().join(root));
        fs::create_dir_all(layout.state()).expect("made");
        layout
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn installs(&self, layout: &Layout) -> Supervisor {
        let done = install(&self.machine, layout).expect("installed");
        assert_eq!(installed(&self.machine, layout), done);
        done
    }
}

fn crontab_of(user: &str) -> Supervisor {
    Supervisor::Crontab {
        user: user.to_owned(),
    }
}

fn unit(layout: &Layout) -> String {
    format!("{}.service", entry_name(layout.root()))
}

#[test]
fn root_gets_a_system_unit() {
    let mut fake = Fake::new().with_systemd().with_cron();
    fake.machine.is_root = true;
    let layout = fake.layout("app");
    let unit = unit(&layout);
    assert_eq!(
        fake.installs(&layout),
        Supervisor::SystemUnit { unit: unit.clone() }
    );
    let text = fake.read(&format!("system/{unit}"));
    assert!(
        text.contains("WantedBy=multi-user.target docker.service\n"),
        "{text}"
    );
    assert!(fake.read("calls").contains("--system daemon-reload"));
    assert_eq!(fake.read("crontab"), "");
}

#[test]
fn a_user_gets_a_unit_that_runs_without_a_login() {
    let fake = Fake::new().with_systemd().with_cron();
    let layout = fake.layout("app");
    let unit = unit(&layout);
    assert_eq!(fake.installs(&layout), Supervisor::UserUnit { unit });
    assert!(fake.dir.path().join("linger/deploy").exists());
    // The user's own systemd is gone as soon as nobody is logged in.
    fs::remove_file(fake.dir.path().join("linger/deploy")).expect("removed");
    assert_eq!(installed(&fake.machine, &layout), Supervisor::NextContact);
}

#[test]
fn a_user_who_may_not_linger_gets_a_line_in_the_crontab() {
    let fake = Fake::new().with_systemd().with_cron();
    for loginctl in ["echo 'Access denied' >&2; exit 1", "true"] {
        fake.program("loginctl", loginctl);
        let layout = fake.layout("app");
        assert_eq!(fake.installs(&layout), crontab_of("deploy"));
    }
}

#[test]
fn without_systemd_and_without_cron_it_is_the_next_contact() {
    let fake = Fake::new();
    assert_eq!(fake.installs(&fake.layout("app")), Supervisor::NextContact);
    let denied = Fake::new().with_systemd();
    denied.program("loginctl", "echo 'Access denied' >&2; exit 1");
    let why = install(&denied.machine, &denied.layout("app")).expect_err("nothing is there");
    assert!(why.to_string().contains("Access denied"), "{why}");
}

#[test]
fn a_crontab_keeps_every_other_line_and_has_one_of_ours() {
    let fake = Fake::new().with_cron();
    let others =
        "# mine\nMAILTO=\"\"\n@reboot /usr/bin/something # belay-app-0123456789ab\n\n0 4 * * * x%y";
    fs::write(fake.dir.path().join("crontab"), others).expect("written");
    let (one, two) = (fake.layout("app"), fake.layout("other/app"));
    for _ in 0..3 {
        fake.installs(&one);
        fake.installs(&two);
    }
    let (first, second) = (cron_line(&one), cron_line(&two));
    assert_ne!(first, second);
    assert_eq!(
        fake.read("crontab"),
        format!("{others}\n{first}\n{second}\n")
    );
    // Written once for each: an entry that is there is left alone.
    assert_eq!(fake.read("calls").lines().count(), 2);
}

#[test]
fn an_older_line_of_the_same_application_is_replaced() {
    let layout = Layout::new("/srv/app");
    let entry = entry_name(layout.root());
    let older = format!("a\n@reboot old words # {entry}\nb\n");
    let line = cron_line(&layout);
    let replaced = with_entry(&older, &entry, Some(&line));
    assert_eq!(replaced, format!("a\nb\n{line}\n"));
    assert_eq!(with_entry(&replaced, &entry, None), "a\nb\n");
}

#[test]
fn a_crontab_that_cannot_be_read_is_never_written() {
    let fake = Fake::new().with_cron();
    fs::write(fake.dir.path().join("crontab"), "0 4 * * * backup\n").expect("written");
    fake.program(
        "crontab",
        r#"case $1 in -l) echo "cannot open crontab" >&2; exit 1 ;; *) cp "$1" "$MACHINE/crontab" ;; esac"#,
    );
    assert!(install(&fake.machine, &fake.layout("app")).is_err());
    assert_eq!(fake.read("crontab"), "0 4 * * * backup\n");
}

#[test]
fn a_better_supervisor_takes_the_place_of_the_one_before() {
    let fake = Fake::new().with_cron();
    let layout = fake.layout("app");
    fs::write(fake.dir.path().join("crontab"), "0 4 * * * backup\n").expect("written");
    assert_eq!(fake.installs(&layout), crontab_of("deploy"));
    let fake = fake.with_systemd();
    assert!(matches!(
        fake.installs(&layout),
        Supervisor::UserUnit { .. }
    ));
    assert_eq!(fake.read("crontab"), "0 4 * * * backup\n");
    // And back, when lingering was forbidden since.
    fs::remove_file(fake.dir.path().join("linger/deploy")).expect("removed");
    fake.program("loginctl", "exit 1");
    assert_eq!(fake.installs(&layout), crontab_of("deploy"));
    assert_eq!(
        fs::read_dir(fake.dir.path().join("user"))
            .expect("there")
            .count(),
        0
    );
}

#[test]
fn a_path_that_is_no_line_is_refused_and_strange_ones_are_quoted() {
    let fake = Fake::new().with_cron();
    let strange = Layout::new(fake.dir.path().join("a\n* * * * * root"));
    assert!(install(&fake.machine, &strange).is_err());
    let layout = Layout::new("/srv/it's 100% \"$HOME\"");
    assert_eq!(
        cron_line(&layout)
            .split(" || ")
            .nth(1)
            .and_then(|l| l.split(" >").next()),
        Some(r#"/bin/sh '/srv/it'\''s 100\% "$HOME"/.belay/recover.sh'"#)
    );
    assert!(
        unit_text(&layout, Scope::User)
            .contains("ExecStart=/bin/sh \"/srv/it's 100%% \\\"$$HOME\\\"/.belay/recover.sh\"\n")
    );
}

#[test]
fn systemd_has_nothing_against_the_units() {
    let Ok(version) = Call::new(["systemd-analyze", "--version"]).run() else {
        // Nothing to ask on this machine; the checks of Belay's own CI have it.
        return;
    };
    assert!(!version.stdout.is_empty());
    let dir = tempfile::tempdir().expect("a directory");
    for scope in [Scope::System, Scope::User] {
        let path = dir.path().join(format!("belay-{scope:?}.service"));
        fs::write(&path, unit_text(&Layout::new("/srv/it's 100% app"), scope)).expect("written");
        let path = path.display().to_string();
        let (status, printed) = Call::new(["systemd-analyze", "verify", "--man=no", &path])
            .run_to_end()
            .expect("it runs");
        let said = String::from_utf8_lossy(&printed.stderr).into_owned();
        let about_it: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("belay-"))
            .collect();
        assert!(status.success() && about_it.is_empty(), "{said}");
    }
}

/// The script, run by a real shell: the agent that wrote it, the newest other one, or nothing at all.
#[test]
fn the_script_runs_the_agent_that_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::new(dir.path().join("it's an app"));
    let agent = |name: &str| layout.binaries().join(name).join("belay");
    let make = |name: &str| {
        fs::create_dir_all(layout.binaries().join(name)).expect("made");
        let told = format!("#!/bin/sh\necho {name} \"$@\" $DOCKER_HOST\n");
        fs::write(agent(name), told).expect("written");
        fs::set_permissions(agent(name), fs::Permissions::from_mode(0o755)).expect("set");
    };
    make("aa");
    make("bb");
    let host = [("DOCKER_HOST".to_owned(), "unix:///run/it's".to_owned())];
    fs::write(layout.recover_script(), script(&agent("aa"), &host)).expect("written");
    let run = || {
        let path = layout.recover_script().display().to_string();
        let printed = Call::new(["sh", &path]).run().expect("it ends well");
        String::from_utf8_lossy(&printed.stdout).trim().to_owned()
    };
    let words = format!("agent recover --boot --root {}", layout.root().display());
    assert_eq!(run(), format!("aa {words} unix:///run/it's"));
    fs::remove_file(agent("aa")).expect("removed");
    assert_eq!(run(), format!("bb {words} unix:///run/it's"));
    fs::remove_dir_all(layout.binaries()).expect("removed");
    assert_eq!(run(), "");
}

#[test]
fn names_differ_where_roots_do() {
    let names = ["/opt/app", "/srv/app", "/opt/app2", "/opt/ä b"].map(|r| entry_name(Path::new(r)));
    assert!(names[0].starts_with("belay-app-"), "{names:?}");
    let plain = |n: &String| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    assert!(names.iter().all(plain), "{names:?}");
    let different: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(different.len(), names.len());
}
