//! `belay agent`: the verbs of the host's side, and the processes that it starts of itself.
//!
//! Runs on the host. Each verb writes its answer to standard output; what was done is in the journal.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use belay_agent::backup::aside::{Action, Aside};
use belay_agent::channel::say;
use belay_agent::layout::Layout;
use belay_agent::{engine_process, transactions, verbs, watch};
use belay_model::transaction::outcome::{EXIT_BUG, Failure};
use belay_model::transaction::plan::Plan;

#[derive(Args)]
pub(super) struct RootArg {
    /// Application's directory on this host
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

#[derive(Args)]
pub(super) struct TransactionArg {
    /// Transaction's identifier, as the plan has it
    #[arg(long, value_name = "ID")]
    tx: String,
}

/// Everything that the agent answers to.
#[derive(Subcommand)]
pub(super) enum AgentCommand {
    #[command(flatten)]
    Host(HostVerb),
    #[command(flatten)]
    Transaction(TransactionVerb),
    #[command(flatten)]
    Process(AgentProcess),
}

/// Verbs about the host.
#[derive(Subcommand)]
pub(super) enum HostVerb {
    /// Tell what the host is like, and what is on it
    Facts(RootArg),
    /// Take a backup; the plan comes over standard input
    Backup(RootArg),
    /// List the backups
    Backups {
        #[command(flatten)]
        root: RootArg,
        /// Read each backup whole, and check it
        #[arg(long)]
        verify: bool,
    },
    /// Tell the last log lines of each service
    Logs {
        #[command(flatten)]
        root: RootArg,
        /// Service to tell of [default: all]
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Lines of each service
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        lines: u32,
    },
    /// Restart services; the plan comes over standard input
    Restart {
        #[command(flatten)]
        root: RootArg,
        /// Service to restart [default: all]
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Set damaged files aside, rebuild them, and look at what runs
    Repair(RootArg),
    /// Tell what `belay doctor` wants to know
    Examine {
        #[command(flatten)]
        root: RootArg,
        /// Port to look for a listener on; may be repeated
        #[arg(long, value_name = "NUMBER")]
        port: Vec<u16>,
    },
    /// Tell what a plan would mean for the data; the plan comes over standard input
    Outlook(RootArg),
    /// Ask a URL once
    Ask {
        #[command(flatten)]
        root: RootArg,
        /// URL to ask, as this host reaches it
        #[arg(long)]
        url: String,
        /// Longest wait for the answer, in milliseconds
        #[arg(long, value_name = "MS")]
        timeout: u64,
    },
    /// Tell what has become of the running version since
    LookBack {
        #[command(flatten)]
        root: RootArg,
        /// From when on log lines count, as in 2024-12-15T14:30:22Z
        #[arg(long, value_name = "TIME")]
        since: jiff::Timestamp,
    },
}

/// Verbs about one transaction.
#[derive(Subcommand)]
pub(super) enum TransactionVerb {
    /// Load images, which come over standard input
    Load {
        #[command(flatten)]
        root: RootArg,
        #[command(flatten)]
        transaction: TransactionArg,
        /// Image to keep until the transaction begins; may be repeated
        #[arg(long, value_name = "IMAGE")]
        reference: Vec<String>,
    },
    /// Begin the plan that comes over standard input
    Begin(RootArg),
    /// Tell the journal's records as they are written
    Follow {
        #[command(flatten)]
        root: RootArg,
        #[command(flatten)]
        transaction: TransactionArg,
        /// First record to tell, counted from 0
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        from: u64,
    },
    /// Confirm; the nonce comes over standard input
    Confirm {
        #[command(flatten)]
        root: RootArg,
        #[command(flatten)]
        transaction: TransactionArg,
    },
    /// Give the confirmation more time
    Extend {
        #[command(flatten)]
        root: RootArg,
        #[command(flatten)]
        transaction: TransactionArg,
        /// Milliseconds from now
        #[arg(long, value_name = "MS")]
        by: u64,
    },
    /// Stop, and undo what was done
    Abort {
        #[command(flatten)]
        root: RootArg,
        #[command(flatten)]
        transaction: TransactionArg,
        /// Reason, for the journal
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// What runs without a channel, or answers in its own way.
#[derive(Subcommand)]
pub(super) enum AgentProcess {
    /// Settle what a dead engine left
    Recover {
        #[command(flatten)]
        root: RootArg,
        /// The host has just started: wait for Docker, and say nothing
        #[arg(long)]
        boot: bool,
    },
    /// Look after an engine, and settle what it leaves
    Watch(RootArg),
    /// Do the work of a transaction, detached
    Engine {
        #[command(flatten)]
        root: RootArg,
        /// Transaction to begin [default: none, only settle]
        #[arg(long, value_name = "ID")]
        tx: Option<String>,
        /// Only settle what a dead engine left
        #[arg(long)]
        recover: bool,
    },
    /// Move an application's data, from within a helper container
    Aside {
        /// What to do with the data
        #[arg(value_parser = PossibleValuesParser::new(Action::ALL.map(Action::name)))]
        action: String,
        /// Directory that is mounted
        #[arg(long)]
        dir: PathBuf,
        /// Name that tells what is kept for one transaction
        #[arg(long, value_name = "NAME")]
        mark: String,
        /// The one name in the directory that is meant [default: all]
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// Write an application's data as a tar, from within a helper container
    Pack {
        /// Directory or file that is mounted
        #[arg(long)]
        dir: PathBuf,
    },
}

impl RootArg {
    fn layout(&self) -> Layout {
        Layout::new(&self.root)
    }
}

/// Does it and returns the exit code.
pub(super) fn run(command: AgentCommand) -> u8 {
    let out = &mut io::stdout();
    let told = match command {
        AgentCommand::Host(verb) => about_host(verb, out),
        AgentCommand::Transaction(verb) => about_transaction(verb, out),
        AgentCommand::Process(process) => return run_process(process, out),
    };
    exit_code(&told)
}

/// The channel may be gone; what was done is in the journal.
fn exit_code(told: &io::Result<()>) -> u8 {
    if told.is_ok() { 0 } else { EXIT_BUG }
}

fn about_host(verb: HostVerb, out: &mut dyn Write) -> io::Result<()> {
    match verb {
        HostVerb::Facts(root) => say(out, &verbs::facts(&root.layout())),
        HostVerb::Backup(root) => with_plan(out, |plan, out| {
            say(out, &verbs::backup(&root.layout(), plan))
        }),
        HostVerb::Backups { root, verify } => say(out, &verbs::backups(&root.layout(), verify)),
        HostVerb::Logs {
            root,
            service,
            lines,
        } => say(out, &verbs::logs(&root.layout(), service.as_deref(), lines)),
        HostVerb::Restart { root, service } => with_plan(out, |plan, out| {
            let done = verbs::restart(&root.layout(), plan, service.as_deref());
            say(out, &done)
        }),
        HostVerb::Outlook(root) => with_plan(out, |plan, out| {
            say(out, &verbs::outlook(&root.layout(), plan))
        }),
        HostVerb::Repair(root) => say(out, &verbs::repair(&root.layout())),
        HostVerb::Examine { port, .. } => say(out, &verbs::examine(&port)),
        HostVerb::Ask { url, timeout, .. } => {
            say(out, &verbs::ask(&url, Duration::from_millis(timeout)))
        }
        HostVerb::LookBack { root, since } => say(out, &verbs::look_back(&root.layout(), since)),
    }
}

fn about_transaction(verb: TransactionVerb, out: &mut dyn Write) -> io::Result<()> {
    match verb {
        TransactionVerb::Load {
            root,
            transaction,
            reference,
        } => {
            let loaded = transactions::load(&root.layout(), &transaction.tx, &reference);
            say(out, &loaded)
        }
        TransactionVerb::Begin(root) => with_plan(out, |plan, out| {
            let begun = transactions::begin(&root.layout(), plan, out);
            say(out, &begun)
        }),
        TransactionVerb::Follow {
            root,
            transaction,
            from,
        } => transactions::follow(&root.layout(), &transaction.tx, from, out),
        TransactionVerb::Confirm { root, transaction } => {
            let mut nonce = String::new();
            io::stdin().read_to_string(&mut nonce)?;
            let confirmed = transactions::confirm(&root.layout(), &transaction.tx, &nonce, out);
            say(out, &confirmed)
        }
        TransactionVerb::Extend {
            root,
            transaction,
            by,
        } => {
            let extended = transactions::extend(&root.layout(), &transaction.tx, by);
            say(out, &extended)
        }
        TransactionVerb::Abort {
            root,
            transaction,
            reason,
        } => {
            let aborted = transactions::abort(&root.layout(), &transaction.tx, &reason);
            say(out, &aborted)
        }
    }
}

fn run_process(process: AgentProcess, out: &mut dyn Write) -> u8 {
    match process {
        AgentProcess::Recover { root, boot: true } => watch::at_boot(&root.layout()),
        AgentProcess::Recover { root, boot: false } => {
            exit_code(&say(out, &verbs::recover(&root.layout())))
        }
        AgentProcess::Watch(root) => watch::watch(&root.layout()),
        // Without a transaction there is nothing but to recover, so the flag only says so to whoever reads `ps`.
        AgentProcess::Engine {
            root,
            tx,
            recover: _,
        } => engine_process::engine(&root.layout(), tx.as_deref()),
        AgentProcess::Aside {
            action,
            dir,
            mark,
            only,
        } => verbs::aside(&action, &Aside::new(&dir, only.as_deref(), &mark)),
        AgentProcess::Pack { dir } => verbs::pack(&dir),
    }
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
