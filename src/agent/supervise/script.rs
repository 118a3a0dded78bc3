//! The script that each supervisor runs: it starts an agent that is still there.

use std::fs;
use std::io;
use std::path::Path;

use crate::durable;
use crate::layout::Layout;
use belay_model::digest::sha256;
use belay_model::shell::quoted;

/// What the recovery needs from the environment of the login that deploys; at boot there is none.
const KEPT_VARIABLES: [&str; 5] = [
    "HOME",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "XDG_RUNTIME_DIR",
];

/// The name of everything that is installed for one application: readable, and different for every root.
#[must_use]
pub(crate) fn entry_name(root: &Path) -> String {
    let folder = root.file_name().unwrap_or_default().to_string_lossy();
    let plain: String = folder
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let hash = sha256(root.as_os_str().as_encoded_bytes());
    format!("belay-{plain}-{}", hash.get(..12).unwrap_or(&hash))
}

/// Writes the script, unless it is there as it should be.
pub(super) fn write_script(layout: &Layout) -> io::Result<()> {
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
pub(super) fn script(program: &Path, variables: &[(String, String)]) -> String {
    let mut exports = String::new();
    for (name, value) in variables {
        exports.push_str(&format!("export {name}={}\n", quoted(value)));
    }
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
