//! A unit of systemd's, of the machine or of the deploying user.

use std::fs;
use std::path::Path;

use super::error::SuperviseError;
use super::machine::Machine;
use crate::durable;
use crate::layout::Layout;

/// Whose systemd it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The machine's own.
    System,
    /// The deploying user's.
    User,
}

impl Scope {
    /// Where its units are.
    pub(super) fn directory(self, machine: &Machine) -> &Path {
        match self {
            Scope::System => &machine.system_units,
            Scope::User => &machine.user_units,
        }
    }

    /// A call of `systemctl` for this systemd.
    pub(super) fn systemctl<'a>(self, words: &[&'a str]) -> Vec<&'a str> {
        let scope = match self {
            Scope::System => "--system",
            Scope::User => "--user",
        };
        let mut argv = vec!["systemctl", scope, "--quiet"];
        argv.extend_from_slice(words);
        argv
    }
}

/// Writes the unit and enables it, unless it is so already.
pub(super) fn put_unit(
    machine: &Machine,
    layout: &Layout,
    unit: &str,
    scope: Scope,
) -> Result<(), SuperviseError> {
    let directory = scope.directory(machine);
    let path = directory.join(unit);
    let text = unit_text(layout, scope);
    if fs::read_to_string(&path).is_ok_and(|old| old == text)
        && machine.run(&scope.systemctl(&["is-enabled", unit])).is_ok()
    {
        return Ok(());
    }
    fs::create_dir_all(directory)
        .and_then(|()| durable::replace(&path, text.as_bytes(), 0o644))
        .map_err(|source| SuperviseError::Unit {
            path: path.clone(),
            source,
        })?;
    machine.run(&scope.systemctl(&["daemon-reload"]))?;
    machine.run(&scope.systemctl(&["reenable", unit]))?;
    Ok(())
}

/// The unit. It is no `oneshot`, because it may wait minutes for Docker and the machine's start must not wait with it. It
/// takes its children with it only when they have ended: an engine in the middle of an unwind is not to die with it.
pub(super) fn unit_text(layout: &Layout, scope: Scope) -> String {
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
