//! The command line: what the user typed, turned into inputs. The work is done elsewhere.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use belay_agent::backup::aside::{Action, Aside};
use belay_agent::channel::say;
use belay_agent::layout::Layout;
use belay_agent::{engine_process, transactions, verbs, watch};
use belay_model::config::{Config, render_problems};
use belay_model::request::intent::DryRun;
use belay_model::secret::Secret;
use belay_model::transaction::outcome::{EXIT_BUG, Failure, Word};
use belay_model::transaction::plan::Plan;
use belay_runner::actions::Actions;
use belay_runner::inputs::{Env, Inputs};
use belay_runner::{init, run, tag_command};

/// Deploys a Docker Compose application to your own host from a git tag.
#[derive(Parser)]
#[command(name = "belay", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Explain a tag: its kind and environment, or why it is refused
    Tag {
        tag: String,
        /// Answer with one JSON object
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, default_value = "belay.yml")]
        config: PathBuf,
    },
    /// Do what the workflow's event and inputs ask for (the action's own command)
    Run,
    /// Settle what a killed run left (the action's last step)
    Finalize,
    /// Deploy a tag
    Deploy {
        tag: String,
        #[command(flatten)]
        place: Place,
        /// Show the plan and stop
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what a deployment of a tag would do
    Plan {
        tag: String,
        #[command(flatten)]
        place: Place,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Roll back to the version before, to a version, or to what a backup was taken of
    Rollback {
        /// A tag, or a backup's name; on a terminal without one the choices are listed
        to: Option<String>,
        #[command(flatten)]
        place: Place,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
        /// Put the data of this backup back as well; without a version, it is the one that the backup was taken of
        #[arg(long, value_name = "BACKUP")]
        restore_data: Option<String>,
        /// For that, the environment's name, typed; on a terminal it is asked for
        #[arg(long, value_name = "ENVIRONMENT")]
        confirm: Option<String>,
        /// Show the plan and stop
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a backup now
    Backup {
        #[command(flatten)]
        place: Place,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// List the backups
    Backups {
        #[command(flatten)]
        place: Place,
        /// Read each one back whole
        #[arg(long)]
        verify: bool,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what serves, and everything around it
    Status {
        #[command(flatten)]
        place: Place,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the services' last log lines
    Logs {
        /// Only this service
        service: Option<String>,
        #[command(flatten)]
        place: Place,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at everything that a deployment needs, and say how to mend what is wrong
    Doctor {
        #[command(flatten)]
        place: Place,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Write belay.yml and the workflows for a repository that has a Compose file
    Init {
        /// The application's name; without it, the folder's
        #[arg(long)]
        app: Option<String>,
        /// The host's address; without it, GitHub's variable BELAY_HOST is to say it
        #[arg(long)]
        host: Option<String>,
        /// The user on the host
        #[arg(long)]
        user: Option<String>,
        /// The action for the workflows: OWNER/belay@COMMIT
        #[arg(long)]
        action: Option<String>,
        /// Overwrite files that are there
        #[arg(long)]
        force: bool,
    },
    /// Restart the services of what serves, one after the other
    Restart {
        /// Only this service
        service: Option<String>,
        #[command(flatten)]
        place: Place,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// The host's side; called by the runner
    #[command(hide = true, subcommand)]
    Agent(AgentCommand),
}

/// Where the host is and how it is entered. The environment variables of the action (`BELAY_…`) serve as well.
#[derive(Args, Default)]
struct Place {
    /// The configuration file [default: belay.yml]
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long)]
    environment: Option<String>,
    #[arg(long)]
    host: Option<String>,
    #[arg(long)]
    port: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// The application's directory on the host
    #[arg(long)]
    root: Option<String>,
    /// The file with the private key
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// The file with the host's public keys
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

#[derive(Args)]
struct Root {
    #[arg(long)]
    root: PathBuf,
}

#[derive(Subcommand)]
enum AgentCommand {
    Facts(Root),
    Recover {
        #[command(flatten)]
        root: Root,
        /// The host has just started: wait for Docker, and say nothing
        #[arg(long)]
        boot: bool,
    },
    /// The process that looks after an engine
    Watch(Root),
    Load {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        tx: String,
        #[arg(long)]
        reference: Vec<String>,
    },
    Begin(Root),
    Follow {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        tx: String,
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    Confirm {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        tx: String,
    },
    Extend {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        tx: String,
        /// Milliseconds from now
        #[arg(long)]
        by: u64,
    },
    Abort {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        tx: String,
        #[arg(long)]
        reason: String,
    },
    Backup(Root),
    Examine {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        port: Vec<u16>,
    },
    Restart {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        service: Option<String>,
    },
    Backups {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        verify: bool,
    },
    Logs {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        service: Option<String>,
        #[arg(long, default_value_t = 50)]
        lines: u32,
    },
    Ask {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        url: String,
        /// Milliseconds
        #[arg(long)]
        timeout: u64,
    },
    LookBack {
        #[command(flatten)]
        root: Root,
        /// From when on log lines count
        #[arg(long)]
        since: jiff::Timestamp,
    },
    /// Runs inside a helper container, beside an application's data
    Aside {
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(Action::ALL.map(Action::name)))]
        action: String,
        #[arg(long)]
        dir: PathBuf,
        /// Tells what is kept for one transaction
        #[arg(long)]
        mark: String,
        /// Only this name in the directory is meant
        #[arg(long)]
        only: Option<String>,
    },
    /// The detached process that does the work
    Engine {
        #[command(flatten)]
        root: Root,
        #[arg(long)]
        tx: Option<String>,
        /// Only settle what a dead engine left
        #[arg(long)]
        recover: bool,
    },
}

/// Runs the command line and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let env: Env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let code = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command, &env),
        Err(error) => {
            // Help and version are answers; everything else is a refusal before anything was touched.
            let _ = error.print();
            if error.use_stderr() {
                Word::Refused.exit_code()
            } else {
                0
            }
        }
    };
    ExitCode::from(code)
}

fn dispatch(command: Command, env: &Env) -> u8 {
    let inputs = match Inputs::from_env(env) {
        Ok(inputs) => inputs,
        Err(failure) => return fail(&failure),
    };
    let actions = Actions::new(env, io::stdout());
    match command {
        Command::Tag { tag, json, config } => explain_tag(&tag, json, &config),
        Command::Run => run::run(env, &inputs, &actions),
        Command::Finalize => run::finalize(env, &inputs, &actions),
        Command::Agent(verb) => agent(verb),
        Command::Init {
            app,
            host,
            user,
            action,
            force,
        } => begin_repository(&init::Wishes {
            app,
            host,
            user,
            action,
            force,
        }),
        command => match typed(command, inputs) {
            Ok(inputs) => match choose(&inputs, env, &actions) {
                Ok(inputs) => run::run(env, &inputs, &actions),
                Err(failure) => fail(&failure),
            },
            Err(failure) => fail(&failure),
        },
    }
}

/// Lays what was typed over what the environment gave.
fn typed(command: Command, mut inputs: Inputs) -> Result<Inputs, Failure> {
    let asked = &mut inputs.asked;
    let place = match command {
        Command::Deploy {
            tag,
            place,
            dry_run,
        } => {
            (asked.command, asked.tag) = (Some("deploy".to_owned()), Some(tag));
            asked.dry_run = when(dry_run);
            place
        }
        Command::Plan { tag, place, json } => {
            (asked.command, asked.tag) = (Some("deploy".to_owned()), Some(tag));
            (asked.dry_run, inputs.json) = (DryRun::Yes, json);
            place
        }
        Command::Rollback {
            to,
            place,
            reason,
            restore_data,
            confirm,
            dry_run,
        } => {
            (asked.command, asked.rollback, asked.reason) =
                (Some("rollback".to_owned()), to, reason);
            (asked.restore_data, asked.confirm) = (restore_data, confirm);
            asked.dry_run = when(dry_run);
            place
        }
        Command::Backup { place, json } => {
            asked.command = Some("backup".to_owned());
            inputs.json = json;
            place
        }
        Command::Backups {
            place,
            verify,
            json,
        } => {
            asked.command = Some("backups".to_owned());
            (inputs.verify, inputs.json) = (verify, json);
            place
        }
        Command::Status { place, json } => {
            asked.command = Some("status".to_owned());
            inputs.json = json;
            place
        }
        Command::Logs {
            service,
            place,
            json,
        } => {
            asked.command = Some("logs".to_owned());
            (inputs.service, inputs.json) = (service, json);
            place
        }
        Command::Doctor { place, json } => {
            asked.command = Some("doctor".to_owned());
            inputs.json = json;
            place
        }
        Command::Restart {
            service,
            place,
            json,
        } => {
            asked.command = Some("restart".to_owned());
            (inputs.service, inputs.json) = (service, json);
            place
        }
        Command::Tag { .. }
        | Command::Run
        | Command::Finalize
        | Command::Init { .. }
        | Command::Agent(_) => Place::default(),
    };
    lay_over(&mut inputs, place)?;
    Ok(inputs)
}

fn when(dry_run: bool) -> DryRun {
    if dry_run { DryRun::Yes } else { DryRun::No }
}

fn lay_over(inputs: &mut Inputs, place: Place) -> Result<(), Failure> {
    let over = &mut inputs.overrides;
    over.environment = place.environment.or(over.environment.take());
    over.host = place.host.or(over.host.take());
    over.port = place.port.or(over.port.take());
    over.user = place.user.or(over.user.take());
    over.root = place.root.or(over.root.take());
    inputs.config = place.config.or(inputs.config.take());
    if let Some(path) = place.ssh_key {
        inputs.ssh_key = Some(Secret::new(read(&path)?));
    }
    if let Some(path) = place.known_hosts {
        inputs.known_hosts = Some(read(&path)?);
    }
    Ok(())
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| {
        Failure::new(format!("could not read {}: {e}", path.display())).host("it was not contacted")
    })
}

/// On a terminal, a rollback without a version lists the choices and asks.
fn choose(inputs: &Inputs, env: &Env, actions: &Actions) -> Result<Inputs, Failure> {
    use std::io::IsTerminal;
    let asks = inputs.asked.command.as_deref() == Some("rollback")
        && inputs.asked.rollback.is_none()
        && inputs.asked.restore_data.is_none();
    if !asks || !io::stdin().is_terminal() || actions.in_actions() {
        return Ok(inputs.clone());
    }
    let mut chosen = inputs.clone();
    let choices = run::rollback_choices(env, inputs, actions)?;
    chosen.asked.rollback = Some(ask_choice(&choices, actions)?);
    Ok(chosen)
}

fn ask_choice(choices: &[(String, String)], actions: &Actions) -> Result<String, Failure> {
    let no_answer = || {
        Failure::new("nothing was chosen")
            .host("nothing was changed")
            .next("name a version")
    };
    let say = |text: &str| {
        actions
            .line(text)
            .map_err(|e| Failure::new(format!("could not ask: {e}")))
    };
    if choices.is_empty() {
        return Err(Failure::new("there is no version to roll back to").host("nothing was changed"));
    }
    say("Roll back to which version?")?;
    for (number, (name, about)) in choices.iter().enumerate() {
        say(&format!("  {}) {name}  {about}", number + 1))?;
    }
    say("number, version or backup (empty: none):")?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|_| no_answer())?;
    match answer.trim() {
        "" => Err(no_answer()),
        text => match text.parse::<usize>() {
            Ok(number) => choices
                .get(number.wrapping_sub(1))
                .map(|c| c.0.clone())
                .ok_or_else(no_answer),
            Err(_) => Ok(text.to_owned()),
        },
    }
}

fn begin_repository(wishes: &init::Wishes) -> u8 {
    match init::init(wishes, Path::new(".")) {
        Ok(text) => {
            print(&text);
            0
        }
        Err(failure) => fail(&failure),
    }
}

fn explain_tag(tag: &str, json: bool, config: &PathBuf) -> u8 {
    // A tag can be explained without a configuration; a broken one would explain it wrongly.
    let config = match std::fs::read_to_string(config) {
        Ok(text) => match Config::load(&text, &config.display().to_string()) {
            Ok(config) => config,
            Err(problems) => {
                return fail(
                    &Failure::new(render_problems(&problems)).next("mend the configuration"),
                );
            }
        },
        Err(_) => Config::default(),
    };
    let (text, code) = tag_command::run(tag, json, std::path::Path::new("."), &config);
    print(&text);
    code
}

fn agent(verb: AgentCommand) -> u8 {
    let out = &mut io::stdout();
    let layout = |root: &Root| Layout::new(&root.root);
    let said = match verb {
        AgentCommand::Facts(root) => say(out, &verbs::facts(&layout(&root))),
        AgentCommand::Recover { root, boot: true } => return watch::at_boot(&layout(&root)),
        AgentCommand::Recover { root, boot: false } => say(out, &verbs::recover(&layout(&root))),
        AgentCommand::Watch(root) => return watch::watch(&layout(&root)),
        AgentCommand::Load {
            root,
            tx,
            reference,
        } => say(out, &transactions::load(&layout(&root), &tx, &reference)),
        AgentCommand::Begin(root) => with_plan(out, |plan, out| {
            let answer = transactions::begin(&layout(&root), plan, out);
            say(out, &answer)
        }),
        AgentCommand::Follow { root, tx, from } => {
            transactions::follow(&layout(&root), &tx, from, out)
        }
        AgentCommand::Confirm { root, tx } => {
            let mut nonce = String::new();
            io::stdin().read_to_string(&mut nonce).and_then(|_| {
                let answer = transactions::confirm(&layout(&root), &tx, &nonce, out);
                say(out, &answer)
            })
        }
        AgentCommand::Ask { url, timeout, .. } => {
            let timeout = std::time::Duration::from_millis(timeout);
            say(out, &verbs::ask(&url, timeout))
        }
        AgentCommand::LookBack { root, since } => {
            say(out, &verbs::look_back(&layout(&root), since))
        }
        AgentCommand::Extend { root, tx, by } => {
            say(out, &transactions::extend(&layout(&root), &tx, by))
        }
        AgentCommand::Abort { root, tx, reason } => {
            say(out, &transactions::abort(&layout(&root), &tx, &reason))
        }
        AgentCommand::Backup(root) => with_plan(out, |plan, out| {
            say(out, &verbs::backup(&layout(&root), plan))
        }),
        AgentCommand::Examine { port, .. } => say(out, &verbs::examine(&port)),
        AgentCommand::Restart { root, service } => with_plan(out, |plan, out| {
            let answer = verbs::restart(&layout(&root), plan, service.as_deref());
            say(out, &answer)
        }),
        AgentCommand::Backups { root, verify } => say(out, &verbs::backups(&layout(&root), verify)),
        AgentCommand::Logs {
            root,
            service,
            lines,
        } => say(out, &verbs::logs(&layout(&root), service.as_deref(), lines)),
        AgentCommand::Aside {
            action,
            dir,
            mark,
            only,
        } => return verbs::aside(&action, &Aside::new(&dir, only.as_deref(), &mark)),
        AgentCommand::Engine {
            root,
            tx,
            recover: _,
        } => return engine_process::engine(&layout(&root), tx.as_deref()),
    };
    // The channel may be gone; what was done is in the journal.
    if said.is_ok() { 0 } else { EXIT_BUG }
}

fn with_plan(
    out: &mut dyn Write,
    f: impl FnOnce(&Plan, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = vec![];
    io::stdin().read_to_end(&mut text)?;
    match serde_json::from_slice::<Plan>(&text) {
        Ok(plan) => f(&plan, out),
        Err(error) => {
            let failure = Failure::new(format!("the plan did not arrive whole: {error}"));
            say(out, &belay_wire::Answer::<()>::Failed(failure))
        }
    }
}

fn fail(failure: &Failure) -> u8 {
    print(&belay_report::three_lines(failure, Word::Refused));
    Word::Refused.exit_code()
}

fn print(text: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    // Nobody is left to be told when standard output is gone.
    let _ = write!(io::stdout(), "{text}{newline}");
}
