//! The runner's line to one host: brings the agent there, asks its verbs, follows a transaction across lost connections.
//!
//! Runs on the runner. Success is only ever an answer of the agent, never an exit status. A lost connection loses the
//! view, not the transaction: everything that the agent is asked can be asked again.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::random;
use super::ssh::{
    Class, CommandError, ConnectLimits, ExecLimits, Exit, HostKeys, Interrupt, Key, RemoteCommand,
    SshConnection, SshError, SshTarget, connect_with_backoff,
};
use belay_model::digest::sha256;
use belay_model::transaction::journal::Entry;
use belay_model::transaction::outcome::Failure;
use belay_wire::{Answer, Line, Verb};

const CONNECT_ATTEMPTS: u32 = 5;
const CONNECT_DEADLINE: Duration = Duration::from_mins(1);
/// The longest silence of an agent that is at work: it says "still here" every 2 s where it waits.
const SILENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_mins(2);
const LONG: Duration = Duration::from_hours(1);

/// Where a host is and how it is entered.
pub(crate) struct HostAccess {
    pub(crate) target: SshTarget,
    pub(crate) host_keys: HostKeys,
    pub(crate) key: Key,
    /// The application's root on the host.
    pub(crate) root: String,
    pub(crate) interrupt: Interrupt,
}

/// Why the host could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    RemoteCommand(#[from] CommandError),
    #[error("could not read Belay's own program")]
    OwnProgram(#[source] io::Error),
    #[error("this Belay runs on {ours}, but the host is {theirs}")]
    Architecture { ours: String, theirs: String },
    #[error("could not {what} on the host: {said}")]
    Remote { what: &'static str, said: String },
    /// The same, in the folder that Belay was given there.
    #[error("could not {what} on the host: {said}")]
    Root {
        what: &'static str,
        said: String,
        /// The application's root.
        root: String,
        /// Who it has to belong to.
        user: String,
    },
    #[error("the agent on the host gave no answer to {verb}: {said}")]
    NoAnswer { verb: &'static str, said: String },
    /// The agent's own refusal.
    #[error("{}", .0.error)]
    Failed(Failure),
}

/// Nothing was begun on the host when one of these ends a run.
impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Failure {
        let lines = Failure::of(&error);
        match error {
            LinkError::Failed(failure) => failure,
            LinkError::Ssh(error) => lines.next(error.hint()),
            LinkError::Architecture { .. } => {
                lines.next("run the workflow on a runner of the host's architecture")
            }
            LinkError::Root { root, user, .. } => lines.host("nothing was changed").next(format!(
                "make sure that {root} exists and belongs to {user}: sudo install -d -o {user} {root}"
            )),
            LinkError::RemoteCommand(_)
            | LinkError::OwnProgram(_)
            | LinkError::Remote { .. }
            | LinkError::NoAnswer { .. } => lines,
        }
    }
}

impl LinkError {
    /// Whether contact was lost, so that asking again may help.
    pub(crate) fn is_lost_contact(&self) -> bool {
        matches!(self, LinkError::Ssh(error) if matches!(error.class(), Class::Transient | Class::LinkLost))
    }
}

/// An open line to a host with an agent on it.
pub(crate) struct Link {
    access: HostAccess,
    connection: SshConnection,
    agent: String,
}

impl Link {
    /// Connects, and makes sure that exactly this program is there as the agent.
    pub(crate) fn open(access: HostAccess) -> Result<Self, LinkError> {
        let connection = connect(&access)?;
        let program = OwnProgram::read()?;
        let agent = format!("{}/.belay/bin/{}/belay", access.root, program.sha256);
        let link = Link {
            access,
            connection,
            agent,
        };
        link.check_architecture()?;
        if link.hash_of(&link.agent)?.as_deref() != Some(program.sha256.as_str()) {
            link.upload(&program)?;
        }
        Ok(link)
    }

    /// The host, for people.
    pub(crate) fn describe(&self) -> String {
        format!("{}@{}", self.access.target.user, self.access.target)
    }

    /// Whether somebody asked the run to stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.access.interrupt.is_raised()
    }

    /// The switch that stops it.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.access.interrupt
    }

    /// Lets the line be used once more after an interruption, for so long: for telling the host about it.
    pub(crate) fn use_once_more(&mut self, time: Duration) {
        self.access.interrupt = Interrupt::after(time);
    }

    /// Gives up the connection and makes a new one.
    pub(crate) fn reconnect(&mut self) -> Result<(), LinkError> {
        self.connection = connect(&self.access)?;
        Ok(())
    }

    /// Asks a verb, with a value on its standard input.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        verb: Verb,
        words: &[&str],
        input: Option<&impl Serialize>,
    ) -> Result<T, LinkError> {
        let bytes = match input {
            Some(value) => serde_json::to_vec(value)
                .map_err(io::Error::other)
                .map_err(LinkError::OwnProgram)?,
            None => vec![],
        };
        self.ask_with_stream(verb, words, &mut bytes.as_slice())
    }

    /// Asks a verb, with a stream on its standard input.
    pub(crate) fn ask_with_stream<T: DeserializeOwned>(
        &self,
        verb: Verb,
        words: &[&str],
        input: &mut dyn Read,
    ) -> Result<T, LinkError> {
        let mut printed = vec![];
        let exit = self.connection.exec(
            &self.agent_command(verb, words)?,
            input,
            &mut |bytes| {
                printed.extend_from_slice(bytes);
                ControlFlow::Continue(())
            },
            self.limits(&timeouts_of(verb)),
        )?;
        let answer = printed
            .split(|b| *b == b'\n')
            .rev()
            .find(|line| !line.is_empty());
        match answer.and_then(|line| serde_json::from_slice(line).ok()) {
            Some(Answer::Ok(value)) => Ok(value),
            Some(Answer::Failed(failure)) => Err(LinkError::Failed(failure)),
            None => Err(LinkError::NoAnswer {
                verb: verb.name(),
                said: last_words(&exit),
            }),
        }
    }

    /// Tells the records of a transaction from number `from` on, as they come, until it is over, contact is lost, or
    /// `on_entry` breaks; after a break the connection is of no more use.
    pub(crate) fn follow(
        &self,
        tx: &str,
        from: u64,
        on_entry: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<Option<Failure>, LinkError> {
        let from = from.to_string();
        let mut lines = Lines::default();
        let mut stopped = None;
        self.connection.exec(
            &self.agent_command(Verb::Follow, &["--tx", tx, "--from", &from])?,
            &mut io::empty(),
            &mut |bytes| {
                for line in lines.take(bytes) {
                    match serde_json::from_slice(&line) {
                        Ok(Line::Entry(entry)) => {
                            if on_entry(*entry).is_break() {
                                return ControlFlow::Break(());
                            }
                        }
                        Ok(Line::Stopped(failure)) => stopped = Some(failure),
                        Ok(Line::Alive) | Err(_) => {}
                    }
                }
                ControlFlow::Continue(())
            },
            self.limits(&Timeouts {
                deadline: LONG,
                idle: SILENCE,
            }),
        )?;
        Ok(stopped)
    }

    fn agent_command(&self, verb: Verb, words: &[&str]) -> Result<RemoteCommand, LinkError> {
        let mut argv = vec![
            self.agent.as_str(),
            "agent",
            verb.name(),
            "--root",
            self.access.root.as_str(),
        ];
        argv.extend_from_slice(words);
        Ok(RemoteCommand::new(&argv)?)
    }

    fn limits(&self, timeouts: &Timeouts) -> ExecLimits {
        ExecLimits {
            deadline: timeouts.deadline,
            idle: timeouts.idle,
            interrupt: self.access.interrupt.clone(),
        }
    }

    fn check_architecture(&self) -> Result<(), LinkError> {
        let (exit, printed) = self.run(&["uname", "-sm"])?;
        let theirs = printed.trim().to_owned();
        let ours = format!("Linux {}", std::env::consts::ARCH);
        if !exit.success() || theirs.is_empty() {
            return Err(LinkError::Remote {
                what: "ask for the architecture",
                said: last_words(&exit),
            });
        }
        // 32-bit names of the same machine (`armv7l` on a 64-bit kernel) are other architectures to a program.
        if theirs == ours {
            Ok(())
        } else {
            Err(LinkError::Architecture { ours, theirs })
        }
    }

    fn hash_of(&self, path: &str) -> Result<Option<String>, LinkError> {
        let (exit, printed) = self.run(&["sha256sum", "--", path])?;
        Ok(exit.success().then(|| {
            printed
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        }))
    }

    /// Puts the program on the host under a name of its own, checks what arrived, and only then gives it its name.
    fn upload(&self, program: &OwnProgram) -> Result<(), LinkError> {
        let dir = format!("{}/.belay/bin/{}", self.access.root, program.sha256);
        let part = format!("{dir}/belay.{:016x}.part", random::number());
        self.must(
            &["mkdir", "-p", "-m", "0700", "--", &dir],
            "make the agent's directory",
        )?;
        let output = format!("of={part}");
        let command = RemoteCommand::new(&["dd", output.as_str(), "bs=1M", "conv=fsync"])?;
        let limits = self.limits(&Timeouts {
            deadline: LONG,
            idle: SHORT,
        });
        let exit = self.connection.exec(
            &command,
            &mut program.bytes.as_slice(),
            &mut |_| ControlFlow::Continue(()),
            limits,
        )?;
        if !exit.success() {
            return Err(LinkError::Remote {
                what: "store the agent",
                said: last_words(&exit),
            });
        }
        if self.hash_of(&part)?.as_deref() != Some(program.sha256.as_str()) {
            self.must(&["rm", "-f", "--", &part], "remove a truncated agent")?;
            return Err(LinkError::Remote {
                what: "store the agent",
                said: "what arrived is not what was sent".to_owned(),
            });
        }
        self.must(&["chmod", "0500", "--", &part], "make the agent executable")?;
        self.must(
            &["mv", "-f", "--", &part, &self.agent],
            "put the agent into place",
        )
    }

    fn must(&self, argv: &[&str], what: &'static str) -> Result<(), LinkError> {
        let (exit, _) = self.run(argv)?;
        if exit.success() {
            return Ok(());
        }
        Err(LinkError::Root {
            what,
            said: last_words(&exit),
            root: self.access.root.clone(),
            user: self.access.target.user.clone(),
        })
    }

    fn run(&self, argv: &[&str]) -> Result<(Exit, String), LinkError> {
        let mut printed = vec![];
        let exit = self.connection.exec(
            &RemoteCommand::new(argv)?,
            &mut io::empty(),
            &mut |bytes| {
                printed.extend_from_slice(bytes);
                ControlFlow::Continue(())
            },
            self.limits(&Timeouts {
                deadline: SHORT,
                idle: SHORT,
            }),
        )?;
        Ok((exit, String::from_utf8_lossy(&printed).into_owned()))
    }
}

fn connect(access: &HostAccess) -> Result<SshConnection, LinkError> {
    let limits = ConnectLimits {
        interrupt: access.interrupt.clone(),
        ..ConnectLimits::default()
    };
    Ok(connect_with_backoff(
        &access.target,
        &access.host_keys,
        &access.key,
        &limits,
        CONNECT_ATTEMPTS,
        CONNECT_DEADLINE,
        &|pause| access.interrupt.sleep(pause),
    )?)
}

struct Timeouts {
    deadline: Duration,
    idle: Duration,
}

/// How long each verb may take and be silent. A backup works without a word until it is done.
fn timeouts_of(verb: Verb) -> Timeouts {
    match verb {
        Verb::Confirm | Verb::Extend | Verb::Abort | Verb::Ask | Verb::Examine => Timeouts {
            deadline: SHORT,
            idle: SILENCE,
        },
        Verb::Follow | Verb::Begin => Timeouts {
            deadline: LONG,
            idle: SILENCE,
        },
        Verb::Facts
        | Verb::Recover
        | Verb::Load
        | Verb::Backup
        | Verb::Backups
        | Verb::Logs
        | Verb::LookBack
        | Verb::Outlook
        | Verb::Restart
        | Verb::Repair => Timeouts {
            deadline: LONG,
            idle: LONG,
        },
    }
}

/// Keeps asking across lost connections until an answer comes, or contact stays lost for longer than the patience.
///
/// `attempt` gets the link and is called again after each reconnection.
pub(crate) fn persistently<T>(
    link: &mut Link,
    patience: Duration,
    mut attempt: impl FnMut(&mut Link) -> Result<T, LinkError>,
) -> Result<T, LinkError> {
    loop {
        let lost = match attempt(link) {
            Err(error) if error.is_lost_contact() => error,
            settled => return settled,
        };
        // Counted from the loss: contact may have held for hours before.
        let began = Instant::now();
        loop {
            if began.elapsed() >= patience {
                return Err(lost);
            }
            match link.reconnect() {
                Ok(()) => break,
                Err(error) if error.is_lost_contact() => {
                    link.interrupt().sleep(Duration::from_secs(1));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// This very program, which is also the agent.
struct OwnProgram {
    bytes: Vec<u8>,
    sha256: String,
}

impl OwnProgram {
    fn read() -> Result<Self, LinkError> {
        let path: PathBuf = std::env::current_exe().map_err(LinkError::OwnProgram)?;
        let bytes = std::fs::read(path).map_err(LinkError::OwnProgram)?;
        let sha256 = sha256(&bytes);
        Ok(OwnProgram { bytes, sha256 })
    }
}

fn last_words(exit: &Exit) -> String {
    let said = exit.stderr.trim();
    match (said.is_empty(), exit.status) {
        (false, _) => said
            .lines()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("; "),
        (true, Some(status)) => format!("exit status {status}"),
        (true, None) => "it ended without a word".to_owned(),
    }
}

/// Puts chunks together to lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else {
            return vec![];
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        whole
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_chunks() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"ab"), Vec::<Vec<u8>>::new());
        assert_eq!(
            lines.take(b"c\n\nde\nf"),
            vec![b"abc".to_vec(), b"de".to_vec()]
        );
        assert_eq!(lines.take(b"\n"), vec![b"f".to_vec()]);
    }
}
