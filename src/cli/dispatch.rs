//! From a command to the code that does its work, and to the exit code.

use std::io::{self, Write};
use std::path::Path;

use belay_model::config::{Config, render_problems};
use belay_model::transaction::outcome::{EXIT_BUG, Failure};
use belay_runner::actions::Actions;
use belay_runner::inputs::{Env, Inputs};
use belay_runner::{init, run, tag_command};

use super::args::{AnyCommand, InitArgs, InternalCommand, LocalCommand, TagArgs, UserCommand};
use super::output::{fail, print};
use super::{agent, generate, host};

/// Does what was typed and returns the exit code.
pub(super) fn run(command: AnyCommand, env: &Env) -> u8 {
    let done = match command {
        AnyCommand::User(UserCommand::Host(command)) => host::run(command, env),
        AnyCommand::User(UserCommand::Local(command)) => local(command, env),
        AnyCommand::Internal(InternalCommand::Agent(command)) => Ok(agent::run(command)),
        AnyCommand::Internal(InternalCommand::Man { dir }) => man(&dir),
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

fn local(command: LocalCommand, env: &Env) -> Result<u8, Failure> {
    let actions = || Actions::new(env, io::stdout());
    match command {
        LocalCommand::Init(args) => begin_repository(args),
        LocalCommand::Tag(args) => explain_tag(&args),
        LocalCommand::Completions { shell } => {
            let written = io::stdout().write_all(&generate::completions(shell));
            Ok(if written.is_ok() { 0 } else { EXIT_BUG })
        }
        LocalCommand::Run => Ok(run::run(env, &Inputs::from_env(env)?, &actions())),
        LocalCommand::Finalize => Ok(run::finalize(env, &Inputs::from_env(env)?, &actions())),
    }
}

fn begin_repository(args: InitArgs) -> Result<u8, Failure> {
    let InitArgs {
        app,
        host,
        user,
        action,
        force,
    } = args;
    let wishes = init::InitWishes {
        app,
        host,
        user,
        action,
        force,
    };
    print(&init::init(&wishes, Path::new("."))?);
    Ok(0)
}

fn explain_tag(args: &TagArgs) -> Result<u8, Failure> {
    // A tag can be explained without a configuration; a broken one would explain it wrongly.
    let usual = Path::new("belay.yml");
    let text = match &args.config {
        Some(path) => host::read("--config", path)?,
        None => std::fs::read_to_string(usual).unwrap_or_default(),
    };
    let name = args.config.as_deref().unwrap_or(usual).display();
    let config = Config::load(&text, &name.to_string()).map_err(|problems| {
        Failure::new(render_problems(&problems))
            .next("fix these lines; docs/configuration.md lists every setting")
    })?;
    let (text, code) = tag_command::run(&args.tag, args.output.json, Path::new("."), &config);
    print(&text);
    Ok(code)
}

fn man(dir: &Path) -> Result<u8, Failure> {
    let written = generate::man(dir);
    written.map(|()| 0).map_err(|error| {
        Failure::new(format!(
            "could not write the manual pages to {}: {error}",
            dir.display()
        ))
        .host("it was not contacted")
        .next("name a directory that can be written")
    })
}
