//! Commands that contact a host: each is an intent, laid with its options over what the environment gave.

use std::io;
use std::path::Path;

use belay_model::request::intent::{DryRun, Intent, IntentError, Operation, Request, What};
use belay_model::secret::Secret;
use belay_model::transaction::outcome::Failure;
use belay_runner::actions::Actions;
use belay_runner::inputs::{Env, Inputs};
use belay_runner::run;

use super::args::{HostCommand, LookArgs, RollbackArgs, ServiceArgs, TargetArgs};
use super::choice;

/// Does it and returns the exit code.
pub(super) fn run(command: HostCommand, env: &Env) -> Result<u8, Failure> {
    let actions = Actions::new(env, io::stdout());
    let choose = |inputs: &Inputs| choice::choose(env, inputs, &actions);
    let inputs = typed(command, Inputs::from_env(env)?, choose)?;
    Ok(run::run(env, &inputs, &actions))
}

/// What a command asks for. `choose` names the version of a rollback that was told none.
fn typed(
    command: HostCommand,
    inputs: Inputs,
    choose: impl FnOnce(&Inputs) -> Result<Option<String>, Failure>,
) -> Result<Inputs, Failure> {
    match command {
        HostCommand::Deploy(args) => Ok(Inputs {
            asked: request(Intent::deploy(&args.tag), args.dry_run.into())?,
            ..over(inputs, args.target)?
        }),
        HostCommand::Plan(args) => Ok(Inputs {
            asked: request(Intent::deploy(&args.tag), DryRun::Yes)?,
            json: args.output.json,
            ..over(inputs, args.target)?
        }),
        HostCommand::Rollback(args) => rollback(args, inputs, choose),
        HostCommand::Restart(args) => of_service(Operation::Restart, args, inputs),
        HostCommand::Logs(args) => of_service(Operation::Logs, args, inputs),
        HostCommand::Backups { verify, look } => Ok(Inputs {
            verify,
            ..operation(Operation::Backups, look, inputs)?
        }),
        HostCommand::Backup(look) => operation(Operation::Backup, look, inputs),
        HostCommand::Status(look) => operation(Operation::Status, look, inputs),
        HostCommand::Repair(look) => operation(Operation::Repair, look, inputs),
        HostCommand::Doctor { report, look } => Ok(Inputs {
            report,
            ..operation(Operation::Doctor, look, inputs)?
        }),
    }
}

fn rollback(
    args: RollbackArgs,
    inputs: Inputs,
    choose: impl FnOnce(&Inputs) -> Result<Option<String>, Failure>,
) -> Result<Inputs, Failure> {
    let inputs = over(inputs, args.target)?;
    let restore_data = args.restore_data.as_deref();
    let to = match (args.to, restore_data) {
        (None, None) => choose(&inputs)?,
        (to, _) => to,
    };
    let intent = Intent::rollback(to.as_deref(), args.reason, restore_data);
    let request = request(intent, args.dry_run.into())?;
    Ok(Inputs {
        asked: Request {
            confirm: args.confirm,
            ..request
        },
        ..inputs
    })
}

fn of_service(what: Operation, args: ServiceArgs, inputs: Inputs) -> Result<Inputs, Failure> {
    Ok(Inputs {
        service: args.service,
        ..operation(what, args.look, inputs)?
    })
}

fn operation(what: Operation, look: LookArgs, inputs: Inputs) -> Result<Inputs, Failure> {
    let dry_run = inputs.asked.dry_run;
    Ok(Inputs {
        asked: request(Ok(Intent::Operation(what)), dry_run)?,
        json: look.output.json,
        ..over(inputs, look.target)?
    })
}

fn request(intent: Result<Intent, IntentError>, dry_run: DryRun) -> Result<Request, Failure> {
    Ok(Request {
        what: What::Typed(intent.map_err(|error| error.failure())?),
        confirm: None,
        dry_run,
    })
}

/// Lays the options of a command over what the environment gave.
fn over(mut inputs: Inputs, target: TargetArgs) -> Result<Inputs, Failure> {
    let overrides = &mut inputs.overrides;
    overrides.environment = target.environment.or(overrides.environment.take());
    overrides.host = target.host.or(overrides.host.take());
    overrides.port = target.port.or(overrides.port.take());
    overrides.user = target.user.or(overrides.user.take());
    overrides.root = target.root.or(overrides.root.take());
    inputs.config = target.config.or(inputs.config.take());
    if let Some(path) = target.ssh_key {
        inputs.ssh_key = Some(Secret::new(read("--ssh-key", &path)?));
    }
    if let Some(path) = target.known_hosts {
        inputs.known_hosts = Some(read("--known-hosts", &path)?);
    }
    Ok(inputs)
}

/// The text of a file that an option names.
pub(super) fn read(option: &str, path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("could not read {}: {error}", path.display()))
            .host("it was not contacted")
            .next(format!("name a file that can be read: {option} FILE"))
    })
}

#[cfg(test)]
mod tests {
    use belay_model::request::intent::RollbackWish;
    use belay_model::versions::release::RollbackTo;

    use super::super::args::{AnyCommand, UserCommand};
    use super::super::help;
    use super::*;

    /// What a command line comes to, where a question would be answered with `v1.0.0`.
    fn inputs(line: &str) -> Result<Inputs, Failure> {
        let words = line.split_whitespace().map(Into::into);
        let Ok(AnyCommand::User(UserCommand::Host(command))) = help::parse(words) else {
            panic!("{line}");
        };
        let env = [("BELAY_HOST", "203.0.113.11"), ("BELAY_TAG", "v9.9.9")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given = Inputs::from_env(&Env::from(env)).expect("readable");
        typed(command, given, |_| Ok(Some("v1.0.0".to_owned())))
    }

    fn intent(line: &str) -> Intent {
        match inputs(line).expect("typed").asked.what {
            What::Typed(intent) => intent,
            What::Inputs(inputs) => panic!("{inputs:?}"),
        }
    }

    fn back_to(to: RollbackTo, restore: Option<&str>) -> Intent {
        Intent::Rollback(RollbackWish {
            to,
            reason: None,
            restore: restore.map(str::to_owned),
        })
    }

    #[test]
    fn what_is_typed_wins_over_the_environment() {
        let kept = inputs("belay status").expect("typed");
        assert_eq!(kept.overrides.host.as_deref(), Some("203.0.113.11"));
        let typed = inputs("belay status --host 203.0.113.10").expect("typed");
        assert_eq!(typed.overrides.host.as_deref(), Some("203.0.113.10"));
        assert_eq!(
            intent("belay deploy v1.2.0"),
            Intent::deploy("v1.2.0").expect("a tag")
        );
    }

    #[test]
    fn each_operation_is_a_command_of_its_name() {
        for operation in Operation::ALL {
            let line = format!("belay {}", operation.name());
            assert_eq!(intent(&line), Intent::Operation(operation));
        }
    }

    #[test]
    fn a_rollback_without_a_version_asks_unless_a_backup_names_it() {
        let chosen = back_to(RollbackTo::Tag("v1.0.0".to_owned()), None);
        assert_eq!(intent("belay rollback"), chosen);
        assert_eq!(
            intent("belay rollback previous"),
            back_to(RollbackTo::Previous, None)
        );
        let backup = "backup_20241215_143022";
        assert_eq!(
            intent(&format!("belay rollback --restore-data {backup}")),
            back_to(RollbackTo::Backup(backup.to_owned()), Some(backup))
        );
    }

    #[test]
    fn a_plan_is_a_dry_run_and_a_deployment_is_not() {
        let dry_run = |line| inputs(line).expect("typed").asked.dry_run;
        assert_eq!(dry_run("belay plan v1.2.0"), DryRun::Yes);
        assert_eq!(dry_run("belay deploy v1.2.0 --dry-run"), DryRun::Yes);
        assert_eq!(dry_run("belay deploy v1.2.0"), DryRun::No);
    }

    #[test]
    fn a_file_that_is_not_there_is_refused_with_its_option() {
        for option in ["--ssh-key", "--known-hosts"] {
            let failure = inputs(&format!("belay status {option} /nothing/here"));
            let next = failure.expect_err("refused").next;
            assert!(next.is_some_and(|next| next.contains(option)), "{option}");
        }
    }

    #[test]
    fn a_tag_that_is_none_is_refused_with_the_nearest_one() {
        let failure = inputs("belay deploy v1.0").expect_err("refused");
        assert_eq!(failure.next.as_deref(), Some("push v1.0.0 instead"));
    }
}
