//! `belay --help`: the commands in groups, by what one wants to do.

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches, Subcommand};

use super::args::{AnyCommand, Cli, UserCommand};

/// Every command that is not hidden, once. Clap has no groups of commands; a test holds this against them.
pub(super) const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Deploy and go back",
        &["deploy", "plan", "rollback", "restart", "backup"],
    ),
    ("Look", &["status", "logs", "backups"]),
    (
        "Set up and repair",
        &["init", "doctor", "repair", "tag", "completions"],
    ),
    ("For GitHub Actions", &["run", "finalize"]),
];

const EXAMPLES: &str = "Examples:
  belay init --host 203.0.113.10
  belay deploy v1.2.0
  belay rollback

`belay COMMAND --help` explains one of them.
Exit codes: 0 done, 10 refused (nothing changed), 20 rolled back, 30 stuck, 40 unknown, 70 a defect";

/// Reads what was typed, the program's name first.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<AnyCommand, clap::Error> {
    let matches = command().try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command)
}

/// The whole command line.
pub(super) fn command() -> Command {
    grouped(Cli::command())
}

/// The command line without what is hidden, for completion scripts and manual pages.
pub(super) fn command_of_users() -> Command {
    let about = Cli::command().get_about().cloned().unwrap_or_default();
    let bare = Command::new("belay").version(env!("CARGO_PKG_VERSION"));
    // The enum's own documentation would be the program's else.
    grouped(UserCommand::augment_subcommands(bare).about(about))
}

fn grouped(command: Command) -> Command {
    let header = *command.get_styles().get_header();
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(&format!("{header}{heading}:{header:#}\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {name:<12} {about}\n"));
        }
        text.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n\
         {text}{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    command.help_template(template).after_help(EXAMPLES)
}
