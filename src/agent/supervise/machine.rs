//! The machine, as far as it can start something by itself: its programs, and where it keeps units.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Call;
use crate::host::HostError;

/// How long one of the machine's programs may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The names that cron daemons have.
const CRON_DAEMONS: [&str; 4] = ["cron", "crond", "fcron", "busybox-crond"];

/// Where the machine keeps what matters here. Tests have their own.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Whether this process may write units of the whole machine.
    pub is_root: bool,
    /// There while systemd runs the machine.
    pub systemd: PathBuf,
    /// Where root puts units.
    pub system_units: PathBuf,
    /// Where this user puts units of its own.
    pub user_units: PathBuf,
    /// Holds a file for each user whose units run without a login.
    pub linger: PathBuf,
    /// `/proc`, to see whether a cron daemon runs.
    pub processes: PathBuf,
    /// Laid over the environment of the programs that are called.
    pub variables: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
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

    /// Runs one of the machine's programs and returns what it printed.
    pub(super) fn run(&self, argv: &[&str]) -> Result<String, HostError> {
        let printed = self.call(argv).run()?;
        Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
    }

    /// A call of one of the machine's programs.
    pub(super) fn call(&self, argv: &[&str]) -> Call {
        Call::new(argv.iter().copied())
            .variables(&self.variables)
            .deadline(PATIENCE)
    }

    pub(super) fn user(&self) -> String {
        self.run(&["id", "-un"])
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    }

    pub(super) fn lingers(&self) -> bool {
        let user = self.user();
        !user.is_empty() && self.linger.join(user).exists()
    }

    pub(super) fn has_cron(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.processes) else {
            return false;
        };
        entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok())
            .any(|name| CRON_DAEMONS.contains(&name.trim()))
    }
}
