//! What the agent could not do: typed, with its cause, until somebody has to be told.
//!
//! Runs on the host. Steps and verbs pass an [`AgentError`] on; it becomes the three lines of a [`Failure`] in one place,
//! [`AgentError::into_failure`], when the engine writes its journal or a verb answers.

use std::fmt;
use std::io;

use super::backup::aside::CheckError;
use super::backup::{BackupError, NotABackupName, ReadError, VerifyError};
use super::fence::Overtaken;
use super::host::HostError;
use super::journal::JournalError;
use super::records::{RecordError, WAY_ON};
use super::state::StateError;
use super::trouble::Trouble;
use belay_model::composition::compose::ComposeProblem;
use belay_model::transaction::outcome::{Failure, with_causes};

/// Why the agent could not do something, and what is known by then of the other two lines of a [`Failure`].
#[derive(Debug)]
pub struct AgentError {
    cause: Box<AgentCause>,
    host: Option<String>,
    next: Option<String>,
}

/// What is behind an [`AgentError`].
#[derive(Debug, thiserror::Error)]
pub enum AgentCause {
    /// Belay itself found that it cannot, or must not, go on.
    #[error("{0}")]
    Refused(String),
    /// What was being done when something else failed.
    #[error("{what}")]
    Doing {
        /// In words: "could not start web of v1.2.0".
        what: String,
        /// What failed.
        #[source]
        source: Box<AgentCause>,
    },
    /// Docker, or another program of the host.
    #[error(transparent)]
    Host(HostError),
    /// A file of Belay's own.
    #[error(transparent)]
    Record(RecordError),
    /// Belay's records, journals among them.
    #[error(transparent)]
    State(StateError),
    /// A transaction's journal.
    #[error(transparent)]
    Journal(JournalError),
    /// The engine, outside its steps.
    #[error(transparent)]
    Engine(EngineError),
    /// Another engine has taken this one's place.
    #[error(transparent)]
    Overtaken(Overtaken),
    /// Making or removing a backup.
    #[error(transparent)]
    Backup(BackupError),
    /// Reading a backup.
    #[error(transparent)]
    Saved(VerifyError),
    /// A backup's name.
    #[error(transparent)]
    BackupName(NotABackupName),
    /// The application's data, where it is used.
    #[error(transparent)]
    Data(ReadError),
    /// Data that was put back, compared with its backup.
    #[error(transparent)]
    Check(CheckError),
    /// The user's Compose file.
    #[error(transparent)]
    Compose(ComposeProblem),
    /// A file, a lock or a process of the agent's.
    #[error(transparent)]
    Io(io::Error),
    /// A file that came with a plan.
    #[error(transparent)]
    Base64(base64::DecodeError),
    /// A plan, or a note of another agent's.
    #[error(transparent)]
    Json(serde_json::Error),
}

impl AgentCause {
    /// What Docker stumbled over, if this comes from Docker.
    fn trouble(&self) -> Trouble {
        match self {
            AgentCause::Doing { source, .. } => source.trouble(),
            AgentCause::Host(error) => error.trouble(),
            AgentCause::Data(error)
            | AgentCause::Backup(BackupError::Source { source: error, .. }) => error.trouble(),
            AgentCause::Refused(_)
            | AgentCause::Record(_)
            | AgentCause::State(_)
            | AgentCause::Journal(_)
            | AgentCause::Engine(_)
            | AgentCause::Overtaken(_)
            | AgentCause::Backup(_)
            | AgentCause::Saved(_)
            | AgentCause::BackupName(_)
            | AgentCause::Check(_)
            | AgentCause::Compose(_)
            | AgentCause::Io(_)
            | AgentCause::Base64(_)
            | AgentCause::Json(_) => Trouble::Other,
        }
    }
}

impl AgentCause {
    /// Whether it is a file of Belay's that is not as it was written: there is one way on from all of them.
    fn is_of_a_damaged_file(&self) -> bool {
        match self {
            AgentCause::Doing { source, .. } => source.is_of_a_damaged_file(),
            AgentCause::Record(error)
            | AgentCause::State(StateError::Record(error))
            | AgentCause::Engine(
                EngineError::Record(error) | EngineError::State(StateError::Record(error)),
            ) => error.is_damage(),
            AgentCause::Journal(error)
            | AgentCause::State(StateError::Journal(error))
            | AgentCause::Engine(
                EngineError::Journal(error) | EngineError::State(StateError::Journal(error)),
            ) => error.is_damage(),
            AgentCause::Refused(_)
            | AgentCause::Host(_)
            | AgentCause::Engine(EngineError::Overtaken(_))
            | AgentCause::Overtaken(_)
            | AgentCause::Backup(_)
            | AgentCause::Saved(_)
            | AgentCause::BackupName(_)
            | AgentCause::Data(_)
            | AgentCause::Check(_)
            | AgentCause::Compose(_)
            | AgentCause::Io(_)
            | AgentCause::Base64(_)
            | AgentCause::Json(_) => false,
        }
    }
}

impl AgentError {
    /// Belay itself found that it cannot, or must not, go on.
    pub fn new(text: impl Into<String>) -> Self {
        AgentError::from(AgentCause::Refused(text.into()))
    }

    /// Something failed while this was being done.
    pub fn doing(what: impl Into<String>, error: impl Into<AgentError>) -> Self {
        let error = error.into();
        let (what, source) = (what.into(), error.cause);
        AgentError {
            cause: Box::new(AgentCause::Doing { what, source }),
            ..error
        }
    }

    /// What the host is like now.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// What to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What is behind it.
    #[must_use]
    pub fn cause(&self) -> &AgentCause {
        &self.cause
    }

    /// What Docker stumbled over, if this comes from Docker.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        self.cause.trouble()
    }

    /// The error in three lines, for people: for the journal, and for a verb's answer.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let is_damage = self.cause.is_of_a_damaged_file();
        Failure {
            error: with_causes(&self),
            host: self.host,
            next: self.next.or(is_damage.then(|| WAY_ON.to_owned())),
        }
    }
}

/// Why an engine stopped before its transaction was over. The journal stays open; the next engine goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(JournalError),
    /// A file of Belay's own cannot be.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Belay's records cannot be.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another engine has taken this one's place; all that is left to do is to end.
    #[error(transparent)]
    Overtaken(#[from] Overtaken),
}

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Overtaken(overtaken) => EngineError::Overtaken(overtaken),
            other => EngineError::Journal(other),
        }
    }
}

/// In words: a cause stands for itself.
impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

impl From<AgentCause> for AgentError {
    fn from(cause: AgentCause) -> Self {
        AgentError {
            cause: Box::new(cause),
            host: None,
            next: None,
        }
    }
}

/// What somebody else has put into words already.
impl From<Failure> for AgentError {
    fn from(failure: Failure) -> Self {
        AgentError {
            host: failure.host,
            next: failure.next,
            ..AgentError::new(failure.error)
        }
    }
}

/// What stands for itself, as a cause.
macro_rules! causes {
    ($($kind:ident($error:ty);)*) => {
        $(impl From<$error> for AgentError {
            fn from(error: $error) -> Self {
                AgentError::from(AgentCause::$kind(error))
            }
        })*
    };
}

causes! {
    Host(HostError);
    Record(RecordError);
    State(StateError);
    Journal(JournalError);
    Engine(EngineError);
    Overtaken(Overtaken);
    Backup(BackupError);
    Saved(VerifyError);
    BackupName(NotABackupName);
    Data(ReadError);
    Check(CheckError);
    Compose(ComposeProblem);
    Io(io::Error);
    Base64(base64::DecodeError);
    Json(serde_json::Error);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_taken() -> HostError {
        HostError::said("docker compose up", "port is already allocated")
    }

    #[test]
    fn an_error_becomes_three_lines_with_all_its_causes() {
        let error = AgentError::doing("could not start web of v1.0.0", port_taken());
        let failure = error
            .host("it is as before")
            .next("free the port")
            .into_failure();
        assert_eq!(
            failure.error,
            "could not start web of v1.0.0: docker compose up failed: port is already allocated"
        );
        assert_eq!(failure.host.as_deref(), Some("it is as before"));
        assert_eq!(failure.next.as_deref(), Some("free the port"));
    }

    #[test]
    fn the_kind_is_known_however_deep_it_lies() {
        let data = BackupError::Source {
            source_name: "volume data".to_owned(),
            source: ReadError::said("docker cp", "unexpected EOF"),
        };
        assert_eq!(AgentError::from(data).trouble(), Trouble::EngineAway);
        let away = HostError::NoEngine("no socket".to_owned());
        assert_eq!(AgentError::from(away).trouble(), Trouble::EngineAway);
        let port = AgentError::doing("a", AgentError::doing("b", port_taken()));
        assert_eq!(port.trouble(), Trouble::PortTaken);
        // Belay's own words have no kind, whatever they are.
        assert_eq!(AgentError::new("unexpected EOF").trouble(), Trouble::Other);
    }
}
