//! A line in the deploying user's crontab.

use super::error::SuperviseError;
use super::machine::Machine;
use super::script::entry_name;
use crate::command::Printed;
use crate::durable;
use crate::host::HostError;
use crate::layout::Layout;
use belay_model::shell::quoted;

/// The line of one application. Its end names it, as a comment to the shell that runs it.
pub(super) fn cron_line(layout: &Layout) -> String {
    let script = quoted(&layout.recover_script().display().to_string());
    // To cron a bare percent sign is the end of the command.
    let script = script.replace('%', r"\%");
    format!(
        "@reboot [ ! -e {script} ] || /bin/sh {script} >/dev/null 2>&1 # {}",
        entry_name(layout.root())
    )
}

/// Whether a line is the one of this application.
pub(super) fn is_entry(line: &str, entry: &str) -> bool {
    line.starts_with("@reboot ") && line.ends_with(&format!(" # {entry}"))
}

/// The user's crontab. A crontab that cannot be read is an error: it must never be taken for an empty one.
pub(super) fn crontab(machine: &Machine) -> Result<String, HostError> {
    let call = machine.call(&["crontab", "-l"]);
    let (status, printed) = call.run_to_end()?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&printed.stdout).into_owned()),
        false if has_none(&printed) => Ok(String::new()),
        false => Err(call.failed(status, &printed)),
    }
}

/// Whether `crontab` failed because the user has no crontab yet: Vixie's cron (Debian's) and cronie (Red Hat's) both say
/// "no crontab for USER", and end as after any other failure.
fn has_none(printed: &Printed) -> bool {
    String::from_utf8_lossy(&printed.stderr).contains("no crontab")
}

/// The crontab with this application's line replaced, added or taken away; every other line as it is.
pub(super) fn with_entry(crontab: &str, entry: &str, line: Option<&str>) -> String {
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

/// Writes the crontab with this application's line, or without one when `line` is missing.
pub(super) fn change_crontab(
    machine: &Machine,
    layout: &Layout,
    line: Option<&str>,
) -> Result<(), SuperviseError> {
    let before = crontab(machine)?;
    let after = with_entry(&before, &entry_name(layout.root()), line);
    let is_there = |line: &str| before.lines().any(|found| found == line);
    if after == before || line.is_some_and(is_there) {
        return Ok(());
    }
    let file = layout.state().join("crontab.new");
    durable::replace(&file, after.as_bytes(), 0o600).map_err(SuperviseError::Crontab)?;
    let installed = machine.run(&["crontab", &file.display().to_string()]);
    // The text is in cron's hands, or of no use.
    let _ = durable::remove(&file);
    installed?;
    Ok(())
}
