//! Who starts the recovery when the machine starts: a system unit, a unit of the user, a line in the user's crontab, or
//! nobody.
//!
//! Runs on the host, as the deploying user and with no more rights than that. [`ensure`] comes before a transaction's first
//! change and never fails it. Everything that it writes has the application's own name ([`entry_name`]), so that two
//! applications on one host do not know of each other; the rest of a crontab stays byte for byte. What is installed runs
//! [`Layout::recover_script`], a stable path that outlives every agent, and does nothing once that is gone.

mod cron;
mod error;
mod machine;
mod script;
mod systemd;
#[cfg(test)]
mod tests;

use self::cron::{change_crontab, cron_line, crontab, is_entry};
use self::script::write_script;
use self::systemd::{Scope, put_unit};
use super::durable;
use super::layout::Layout;
use belay_wire::Supervisor;

pub(crate) use self::error::SuperviseError;
pub(crate) use self::machine::Machine;
pub(crate) use self::script::entry_name;

/// Installs the best supervisor that this machine offers. Tells what a person should know: that there is a new one, or why
/// there is none that could have been.
#[must_use]
pub(crate) fn ensure(layout: &Layout) -> Option<String> {
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
pub(crate) fn install(machine: &Machine, layout: &Layout) -> Result<Supervisor, SuperviseError> {
    let root = layout.root().to_str().unwrap_or_default();
    // Units and crontabs are lines: such a path could not be written into one.
    if root.is_empty() || root.chars().any(char::is_control) {
        return Err(SuperviseError::Root);
    }
    write_script(layout).map_err(SuperviseError::Script)?;
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

fn put(machine: &Machine, layout: &Layout, supervisor: &Supervisor) -> Result<(), SuperviseError> {
    match supervisor {
        Supervisor::SystemUnit { unit } => put_unit(machine, layout, unit, Scope::System),
        Supervisor::UserUnit { unit } => {
            if !machine.lingers() {
                // Allowed for oneself on some machines and not on others; without it the unit waits for a login.
                machine.run(&["loginctl", "--no-ask-password", "enable-linger"])?;
                if !machine.lingers() {
                    return Err(SuperviseError::NoLinger);
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
#[must_use]
pub(crate) fn installed(machine: &Machine, layout: &Layout) -> Supervisor {
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
