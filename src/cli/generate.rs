//! What is made of the command line for a shell and for `man`.

use std::fs;
use std::io;
use std::path::Path;

use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use super::args::Shell;
use super::help::command_of_users;

/// The script that makes a shell complete `belay`.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut command = command_of_users();
    let mut script = vec![];
    match shell {
        Shell::Bash => generate(Bash, &mut command, "belay", &mut script),
        Shell::Zsh => generate(Zsh, &mut command, "belay", &mut script),
        Shell::Fish => generate(Fish, &mut command, "belay", &mut script),
    }
    script
}

/// Writes `belay.1` and one page for each command.
pub(super) fn man(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command_of_users(), dir)
}
