//! Who starts the recovery when the machine starts: a system unit, a unit of the user, a line in the user's crontab, or
//! nobody.
//!
//! Runs on the host, as the deploying user and with no more rights than that. [`ensure`] comes before a transaction's first
//! change and never fails it. Everything that it writes has the application's own name ([`entry_name`]), so that two
//! applications on one host do not know of each other; the rest of a crontab stays byte for byte. What is installed runs
//! [`Layout::recover_script`], a stable path that outlives every agent, and does nothing once that is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::Call;
use super::durable;
use super::layout::Layout;
use belay_model::digest::sha256;
use belay_model::shell::quoted;
use belay_wire::Supervisor;

/// How long one of the machine's programs may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The names that cron daemons have.
const CRON_DAEMONS: [&str; 4] = ["cron", "crond", "fcron", "busybox-crond"];
/// What the recovery needs from the environment of the login that deploys; at boot there is none.
const KEPT_VARIABLES: [&str; 5] = [
    "HOME",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "XDG_RUNTIME_DIR",
];

/// Where the machine keeps what matters here. Tests have their own.
#[derive(Clone, Debug)]
pub struct Machine {
    pub is_root: bool,
    /// There while systemd runs the machine.
    pub systemd: PathBuf,
    pub system_units: PathBuf,
    pub user_units: PathBuf,
    /// Holds a file for each user whose units run without a login.
    pub linger: PathBuf,
    pub processes: PathBuf,
    /// Laid over the environment of the programs that are called.
    pub variables: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let mut variables = vec![("LC_ALL".to_owned(), "C".to_owned())];
        let runtime = format!("/run/user/{}", rustix::process::geteuid().as_raw());
        // A login over SSH may lack it; without it nobody finds the user's own systemd.
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() && Path::new(&runtime).is_dir() {
            variables.push(("XDG_RUNTIME_DIR".to_owned(), runtime));
        }
        Machine {
            is_root: rustix::process::geteuid().is_root(),
            systemd: "/run/systemd/system".into(),
            system_units: "/etc/systemd/system".into(),
            user_units: home.join(".config/systemd/user"),
            linger: "/var/lib/systemd/linger".into(),
            processes: "/proc".into(),
            variables,
        }
    }

    /// Runs one of the machine's programs; what it printed, or what it said when it failed.
    fn run(&self, argv: &[&str]) -> Result<String, String> {
        let call = Call::new(argv.iter().copied())
            .variables(&self.variables)
            .deadline(PATIENCE);
        match call.run() {
            Ok(printed) => Ok(String::from_utf8_lossy(&printed.stdout).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn user(&self) -> String {
        self.run(&["id", "-un"])
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    }

    fn lingers(&self) -> bool {
        let user = self.user();
        !user.is_empty() && self.linger.join(user).exists()
    }

    fn has_cron(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.processes) else {
            return false;
        };
        entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok())
            .any(|name| CRON_DAEMONS.contains(&name.trim()))
    }
}

/// Installs the best supervisor that this machine offers. Tells what a person should know: that there is a new one, or why
/// there is none that could have been.
pub fn ensure(layout: &Layout) -> Option<String> {
    let machine = Machine::this();
    let before = installed(&machine, layout);
    match install(&machine, layout) {
        Ok(now) if now == before => None,
        Ok(now) => Some(now.describe()),
        Err(why) => Some(format!(
            "the recovery at boot could not be installed ({why}); {}",
            Supervisor::NextContact.describe()
        )),
    }
}

/// Installs the best supervisor that there is, and takes away what another one had before.
pub fn install(machine: &Machine, layout: &Layout) -> Result<Supervisor, String> {
    let root = layout.root().to_str().unwrap_or_default();
    // Units and crontabs are lines: such a path could not be written into one.
    if root.is_empty() || root.chars().any(char::is_control) {
        return Err("the root's path cannot be written into a unit or a crontab".to_owned());
    }
    write_script(layout).map_err(|e| format!("could not write the script: {e}"))?;
    let mut why = None;
    for supervisor in offered(machine, layout) {
        match put(machine, layout, &supervisor) {
            Ok(()) => {
                remove_others(machine, layout, &supervisor);
                return Ok(supervisor);
            }
            Err(error) => why = Some(error),
        }
    }
    why.map_or(Ok(Supervisor::NextContact), Err)
}

/// What this machine offers, the best first.
fn offered(machine: &Machine, layout: &Layout) -> Vec<Supervisor> {
    let mut offered = vec![];
    let unit = format!("{}.service", entry_name(layout.root()));
    if machine.systemd.is_dir() {
        if machine.is_root {
            offered.push(Supervisor::SystemUnit { unit });
        } else {
            offered.push(Supervisor::UserUnit { unit });
        }
    }
    if machine.has_cron() {
        offered.push(Supervisor::Crontab {
            user: machine.user(),
        });
    }
    offered
}

fn put(machine: &Machine, layout: &Layout, supervisor: &Supervisor) -> Result<(), String> {
    match supervisor {
        Supervisor::SystemUnit { unit } => put_unit(machine, layout, unit, Scope::System),
        Supervisor::UserUnit { unit } => {
            if !machine.lingers() {
                // Allowed for oneself on some machines and not on others; without it the unit waits for a login.
                machine.run(&["loginctl", "--no-ask-password", "enable-linger"])?;
                if !machine.lingers() {
                    return Err("the user's units only run while the user is logged in".to_owned());
                }
            }
            put_unit(machine, layout, unit, Scope::User)
        }
        Supervisor::Crontab { .. } => {
            let line = cron_line(layout);
            change_crontab(machine, layout, Some(&line))
        }
        Supervisor::NextContact => Ok(()),
    }
}

fn remove_others(machine: &Machine, layout: &Layout, chosen: &Supervisor) {
    // Best effort: an entry that stays runs the same recovery a second time, which finds nothing to do.
    if !matches!(chosen, Supervisor::Crontab { .. }) {
        let _ = change_crontab(machine, layout, None);
    }
    let unit = format!("{}.service", entry_name(layout.root()));
    for scope in [Scope::System, Scope::User] {
        let path = scope.directory(machine).join(&unit);
        let is_chosen = match chosen {
            Supervisor::SystemUnit { .. } => scope == Scope::System,
            Supervisor::UserUnit { .. } => scope == Scope::User,
            Supervisor::Crontab { .. } | Supervisor::NextContact => false,
        };
        if !is_chosen && path.exists() {
            let _ = machine.run(&scope.systemctl(&["disable", &unit]));
            let _ = durable::remove(&path);
        }
    }
}

/// Which supervisor is there now, whoever installed it.
pub fn installed(machine: &Machine, layout: &Layout) -> Supervisor {
    let entry = entry_name(layout.root());
    let unit = format!("{entry}.service");
    let has_unit = |scope: Scope| {
        machine.systemd.is_dir()
            && scope.directory(machine).join(&unit).exists()
            && machine
                .run(&scope.systemctl(&["is-enabled", &unit]))
                .is_ok()
    };
    if !layout.recover_script().exists() {
        Supervisor::NextContact
    } else if has_unit(Scope::System) {
        Supervisor::SystemUnit { unit }
    } else if has_unit(Scope::User) && machine.lingers() {
        Supervisor::UserUnit { unit }
    } else if machine.has_cron()
        && crontab(machine).is_ok_and(|text| text.lines().any(|line| is_entry(line, &entry)))
    {
        Supervisor::Crontab {
            user: machine.user(),
        }
    } else {
        Supervisor::NextContact
    }
}

/// The name of everything that is installed for one application: readable, and different for every root.
pub fn entry_name(root: &Path) -> String {
    let folder = root.file_name().unwrap_or_default().to_string_lossy();
    let plain: String = folder
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let hash = sha256(root.as_os_str().as_encoded_bytes());
    format!("belay-{plain}-{}", &hash[..12])
}

// --- the script ------------------------------------------------------------------------------------------------------

fn write_script(layout: &Layout) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let variables: Vec<(String, String)> = KEPT_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let text = script(&program, &variables);
    if fs::read_to_string(layout.recover_script()).is_ok_and(|old| old == text) {
        return Ok(());
    }
    durable::replace(&layout.recover_script(), text.as_bytes(), 0o700)
}

/// Starts the agent that wrote it, or the newest one that is still there.
fn script(program: &Path, variables: &[(String, String)]) -> String {
    let exports: String = variables
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
        .collect();
    let program = quoted(&program.display().to_string());
    format!(
        r#"#!/bin/sh
# Written by Belay, and run when the machine starts: settles what a power cut left in the middle.
{exports}root=$(cd "$(dirname "$0")/.." && pwd) || exit 0
cd "$root/.belay" 2>/dev/null || exit 0
[ ! -x {program} ] || exec {program} agent recover --boot --root "$root"
for agent in $(ls -t bin/*/belay 2>/dev/null); do
    [ ! -x "$agent" ] || exec "$agent" agent recover --boot --root "$root"
done
"#
    )
}

// --- systemd ---------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    System,
    User,
}

impl Scope {
    fn directory(self, machine: &Machine) -> &Path {
        match self {
            Scope::System => &machine.system_units,
            Scope::User => &machine.user_units,
        }
    }

    fn systemctl<'a>(self, words: &[&'a str]) -> Vec<&'a str> {
        let scope = match self {
            Scope::System => "--system",
            Scope::User => "--user",
        };
        let mut argv = vec!["systemctl", scope, "--quiet"];
        argv.extend_from_slice(words);
        argv
    }
}

fn put_unit(machine: &Machine, layout: &Layout, unit: &str, scope: Scope) -> Result<(), String> {
    let directory = scope.directory(machine);
    let path = directory.join(unit);
    let text = unit_text(layout, scope);
    if fs::read_to_string(&path).is_ok_and(|old| old == text)
        && machine.run(&scope.systemctl(&["is-enabled", unit])).is_ok()
    {
        return Ok(());
    }
    let failed = |e: io::Error| format!("could not write {}: {e}", path.display());
    fs::create_dir_all(directory).map_err(failed)?;
    durable::replace(&path, text.as_bytes(), 0o644).map_err(failed)?;
    machine.run(&scope.systemctl(&["daemon-reload"]))?;
    machine.run(&scope.systemctl(&["reenable", unit])).map(drop)
}

/// The unit. It is no `oneshot`, because it may wait minutes for Docker and the machine's start must not wait with it. It
/// takes its children with it only when they have ended: an engine in the middle of an unwind is not to die with it.
fn unit_text(layout: &Layout, scope: Scope) -> String {
    let root = layout.root().display().to_string();
    let script = layout.recover_script().display().to_string();
    // A user's systemd does not know the machine's units. The machine's own also starts this whenever it starts Docker.
    let (after, wanted_by) = match scope {
        Scope::System => ("After=docker.service\n", "multi-user.target docker.service"),
        Scope::User => ("", "default.target"),
    };
    format!(
        "# Written by Belay. Does nothing once {root}/.belay is gone.\n\
         [Unit]\n\
         Description=Belay settles {} after a start\n\
         {after}ConditionPathExists={}\n\
         StartLimitIntervalSec=1h\n\
         StartLimitBurst=10\n\
         \n\
         [Service]\n\
         Type=simple\n\
         ExecStart=/bin/sh {}\n\
         Restart=on-failure\n\
         RestartSec=30s\n\
         KillMode=process\n\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n",
        root.replace('%', "%%"),
        script.replace('%', "%%"),
        unit_word(&script),
    )
}

/// One word of a unit's command line.
fn unit_word(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            '$' => word.push_str("$$"),
            other => word.push(other),
        }
    }
    word.push('"');
    word
}

// --- cron ------------------------------------------------------------------------------------------------------------

/// The line of one application. Its end names it, as a comment to the shell that runs it.
fn cron_line(layout: &Layout) -> String {
    let script = quoted(&layout.recover_script().display().to_string());
    // To cron a bare percent sign is the end of the command.
    let script = script.replace('%', r"\%");
    format!(
        "@reboot [ ! -e {script} ] || /bin/sh {script} >/dev/null 2>&1 # {}",
        entry_name(layout.root())
    )
}

fn is_entry(line: &str, entry: &str) -> bool {
    line.starts_with("@reboot ") && line.ends_with(&format!(" # {entry}"))
}

/// The user's crontab. A crontab that cannot be read is an error: it must never be taken for an empty one.
fn crontab(machine: &Machine) -> Result<String, String> {
    match machine.run(&["crontab", "-l"]) {
        Err(said) if said.contains("no crontab") => Ok(String::new()),
        other => other,
    }
}

/// The crontab with this application's line replaced, added or taken away; every other line as it is.
fn with_entry(crontab: &str, entry: &str, line: Option<&str>) -> String {
    let mut text: String = crontab
        .split_inclusive('\n')
        .filter(|found| !is_entry(found.trim_end_matches('\n'), entry))
        .collect();
    if let Some(line) = line {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn change_crontab(machine: &Machine, layout: &Layout, line: Option<&str>) -> Result<(), String> {
    let before = crontab(machine)?;
    let after = with_entry(&before, &entry_name(layout.root()), line);
    let is_there = |line: &str| before.lines().any(|found| found == line);
    if after == before || line.is_some_and(is_there) {
        return Ok(());
    }
    let file = layout.state().join("crontab.new");
    durable::replace(&file, after.as_bytes(), 0o600).map_err(|e| e.to_string())?;
    let installed = machine.run(&["crontab", &file.display().to_string()]);
    // The text is in cron's hands, or of no use.
    let _ = durable::remove(&file);
    installed.map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
        assert!(why.contains("Access denied"), "{why}");
    }

    #[test]
    fn a_crontab_keeps_every_other_line_and_has_one_of_ours() {
        let fake = Fake::new().with_cron();
        let others = "# mine\nMAILTO=\"\"\n@reboot /usr/bin/something # belay-app-0123456789ab\n\n0 4 * * * x%y";
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
            unit_text(&layout, Scope::User).contains(
                "ExecStart=/bin/sh \"/srv/it's 100%% \\\"$$HOME\\\"/.belay/recover.sh\"\n"
            )
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
            fs::write(&path, unit_text(&Layout::new("/srv/it's 100% app"), scope))
                .expect("written");
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
        let names =
            ["/opt/app", "/srv/app", "/opt/app2", "/opt/ä b"].map(|r| entry_name(Path::new(r)));
        assert!(names[0].starts_with("belay-app-"), "{names:?}");
        let plain = |n: &String| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        assert!(names.iter().all(plain), "{names:?}");
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }
}
