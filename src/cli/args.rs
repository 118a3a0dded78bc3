//! What can be typed. The first line of each item is its help; `help.rs` says in which group a command is shown.

#![expect(
    clippy::doc_markdown,
    reason = "they are help texts, which a terminal shows as they are"
)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::agent::AgentCommand;

/// Deploys a Docker Compose application to your own host from a git tag.
#[derive(Parser)]
#[command(name = "belay", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: AnyCommand,
}

/// Everything that the program answers to.
#[derive(Subcommand)]
pub(super) enum AnyCommand {
    #[command(flatten)]
    User(UserCommand),
    #[command(flatten)]
    Internal(InternalCommand),
}

/// Commands that people type, or a workflow.
#[derive(Subcommand)]
pub(super) enum UserCommand {
    #[command(flatten)]
    Host(HostCommand),
    #[command(flatten)]
    Local(LocalCommand),
}

/// Commands that no user needs: their callers are Belay itself and its release.
#[derive(Subcommand)]
pub(super) enum InternalCommand {
    /// The host's side; called by the runner
    #[command(
        hide = true,
        subcommand,
        after_help = "Examples:
  belay agent facts --root /opt/shop
  belay agent backups --root /opt/shop --verify"
    )]
    Agent(AgentCommand),
    /// Write the manual pages, for packagers
    #[command(
        hide = true,
        after_help = "Examples:
  belay man target/man"
    )]
    Man {
        /// Directory for the pages; made if it is not there
        dir: PathBuf,
    },
}

/// Commands that contact a host.
#[derive(Subcommand)]
pub(super) enum HostCommand {
    /// Deploy a tag
    #[command(after_help = "Examples:
  belay deploy v1.2.0
  belay deploy v1.2.0 --dry-run
  belay deploy v1.3.0-rc.1 --host 203.0.113.10 --ssh-key key --known-hosts known_hosts")]
    Deploy(DeployArgs),
    /// Show what deploying a tag would do, and change nothing
    #[command(after_help = "Examples:
  belay plan v1.2.0
  belay plan v1.2.0 --json")]
    Plan(PlanArgs),
    /// Roll back to the previous version, a version, or a backup's version
    #[command(after_help = "Examples:
  belay rollback
  belay rollback v1.1.0 --reason \"the cart forgets\"
  belay rollback --restore-data backup_20241215_143022 --confirm production")]
    Rollback(RollbackArgs),
    /// Restart the running version's containers, one after the other
    #[command(after_help = "Examples:
  belay restart
  belay restart web")]
    Restart(ServiceArgs),
    /// Take a backup now, and verify it
    #[command(after_help = "Examples:
  belay backup
  belay backup --environment development")]
    Backup(LookArgs),
    /// List the backups
    #[command(after_help = "Examples:
  belay backups
  belay backups --verify --json")]
    Backups {
        /// Read each backup whole, and check it
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        look: LookArgs,
    },
    /// Show the running version, its containers and the host's state
    #[command(after_help = "Examples:
  belay status
  belay status --host 203.0.113.10 --ssh-key key --known-hosts known_hosts
  belay status --json")]
    Status(LookArgs),
    /// Show the last 50 log lines of each service
    #[command(after_help = "Examples:
  belay logs
  belay logs web")]
    Logs(ServiceArgs),
    /// Check the prerequisites and suggest fixes
    #[command(after_help = "Examples:
  belay doctor --ssh-key key --known-hosts known_hosts
  belay doctor --json
  belay doctor --report")]
    Doctor {
        /// Print a report for an issue form, without anything private
        #[arg(long, conflicts_with = "json")]
        report: bool,
        #[command(flatten)]
        look: LookArgs,
    },
    /// Set damaged files of Belay's on the host aside, and rebuild them
    #[command(after_help = "Examples:
  belay repair
  belay repair --json")]
    Repair(LookArgs),
}

/// Commands that find out by themselves what there is to contact, if anything.
#[derive(Subcommand)]
pub(super) enum LocalCommand {
    /// Write belay.yml and the workflows for a repository with a Compose file
    #[command(after_help = "Examples:
  belay init
  belay init --app shop --host 203.0.113.10 --user deploy")]
    Init(InitArgs),
    /// Explain a tag: its kind and environment, or why it is refused
    #[command(after_help = "Examples:
  belay tag v1.2.0
  belay tag dev-20241215 --json")]
    Tag(TagArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  belay completions bash > ~/.local/share/bash-completion/completions/belay
  belay completions zsh > ~/.zfunc/_belay
  belay completions fish > ~/.config/fish/completions/belay.fish")]
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
    /// Do what the workflow's event and inputs ask for (the action's own command)
    #[command(
        after_help = "Takes the action's inputs as variables: BELAY_COMMAND, BELAY_TAG and so on.

Examples:
  belay run"
    )]
    Run,
    /// Finish or clean up an interrupted run (the action's last step)
    #[command(after_help = "Examples:
  belay finalize")]
    Finalize,
}

/// What is deployed.
#[derive(Args)]
pub(super) struct DeployArgs {
    /// Tag to deploy; it has to be on GitHub and in this checkout
    pub(super) tag: String,
    /// Show the plan, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// What is planned.
#[derive(Args)]
pub(super) struct PlanArgs {
    /// Tag to plan for; it has to be on GitHub and in this checkout
    pub(super) tag: String,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Where to go back to, and what with it.
#[derive(Args)]
pub(super) struct RollbackArgs {
    /// Tag or backup [default: the previous version; a terminal asks]
    pub(super) to: Option<String>,
    /// Reason, for the record
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Also restore this backup's data; its version, unless TO names one
    #[arg(long, value_name = "BACKUP")]
    pub(super) restore_data: Option<String>,
    /// Environment name, to confirm --restore-data; a terminal asks
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(super) confirm: Option<String>,
    /// Show the plan, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Which service, and how it is looked at.
#[derive(Args)]
pub(super) struct ServiceArgs {
    /// Only this service [default: all of them]
    pub(super) service: Option<String>,
    #[command(flatten)]
    pub(super) look: LookArgs,
}

/// What every command has that looks at a host.
#[derive(Args)]
pub(super) struct LookArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// What `init` is told instead of asking for it.
#[derive(Args)]
pub(super) struct InitArgs {
    /// Application's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    pub(super) app: Option<String>,
    /// Host's address [default: GitHub's variable BELAY_HOST]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) host: Option<String>,
    /// User on the host [default: deploy]
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Action for the workflows [default: a placeholder]
    #[arg(long, value_name = "OWNER/belay@COMMIT")]
    pub(super) action: Option<String>,
    /// Overwrite existing files
    #[arg(long)]
    pub(super) force: bool,
}

/// A text, and by whose rules it is judged as a tag.
#[derive(Args)]
pub(super) struct TagArgs {
    /// Text to judge; it need not exist as a tag
    pub(super) tag: String,
    /// Configuration file [default: belay.yml, if it is there]
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which host, and how it is entered. What is not given, the action's variables may say.
#[derive(Args, Default)]
pub(super) struct TargetArgs {
    /// Configuration file [env: BELAY_CONFIG] [default: belay.yml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Target")]
    pub(super) config: Option<PathBuf>,
    /// Environment [env: BELAY_ENVIRONMENT] [default: the tag's, or releases']
    #[arg(long, value_name = "NAME", help_heading = "Target")]
    pub(super) environment: Option<String>,
    /// Host's address [env: BELAY_HOST] [default: from belay.yml]
    #[arg(long, value_name = "ADDRESS", help_heading = "Target")]
    pub(super) host: Option<String>,
    /// App's directory on the host [env: BELAY_ROOT] [default: /opt/APP]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::Other, help_heading = "Target")]
    pub(super) root: Option<String>,
    /// SSH port [env: BELAY_PORT] [default: 22]
    #[arg(long, value_name = "NUMBER", help_heading = "SSH")]
    pub(super) port: Option<String>,
    /// User on the host [env: BELAY_USER] [default: deploy]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Username, help_heading = "SSH")]
    pub(super) user: Option<String>,
    /// File with the private key [default: the key in BELAY_SSH_KEY]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "SSH")]
    pub(super) ssh_key: Option<PathBuf>,
    /// File with the host's keys [default: those in BELAY_KNOWN_HOSTS]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "SSH")]
    pub(super) known_hosts: Option<PathBuf>,
}

/// How the answer is written.
#[derive(Args)]
pub(super) struct OutputArgs {
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
}

/// A shell that can be told how to complete.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}
