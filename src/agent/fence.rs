//! The fence between an engine that was overtaken and the host: a suspended engine that wakes after another one has taken
//! the lock may not change anything any more.
//!
//! Runs on the host. The journal looks before each record, steps before each file, and `fenced.rs` before each call of
//! the host. The look and the deed are two system calls, so an engine that is suspended exactly between them still does that
//! one thing. What the look compares is on the disk: the number of the last transaction, which lock file there is, and who
//! took it last.

use std::io;

use super::layout::Layout;
use super::lock::{HostLock, LockMark};
use super::records::{self, RecordError};

/// Why an engine must end at once, without another word in its journal.
#[derive(Debug, thiserror::Error)]
pub enum Overtaken {
    /// Another transaction has begun.
    #[error("transaction {mine} may not act any more: {newest} has begun")]
    Newer {
        /// The number of this engine's.
        mine: u64,
        /// The number of the other one.
        newest: u64,
    },
    /// The lock file is another one, or another process has taken it.
    #[error("transaction {mine} may not act any more: its lock is not the host's lock any more")]
    LockLost {
        /// The number of this engine's transaction.
        mine: u64,
    },
    /// The lock could not be looked at; then it does not count as held.
    #[error("could not find out whether transaction {mine} may still act")]
    Unknown {
        /// The number of this engine's transaction.
        mine: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The number of the last transaction could not be read.
    #[error("could not find out whether transaction {mine} may still act")]
    NoNumber {
        /// The number of this engine's transaction.
        mine: u64,
        /// What stood in the way.
        #[source]
        source: Box<RecordError>,
    },
}

/// What an engine compares before it acts.
#[derive(Clone, Debug)]
pub struct Fence {
    layout: Layout,
    mark: LockMark,
    seq: u64,
}

impl Fence {
    /// The fence of the engine that works on transaction `seq` under this lock.
    #[must_use]
    pub fn new(layout: &Layout, lock: &HostLock, seq: u64) -> Self {
        Fence {
            layout: layout.clone(),
            mark: lock.mark().clone(),
            seq,
        }
    }

    /// Whether nobody has taken this engine's place.
    pub fn check(&self) -> Result<(), Overtaken> {
        let mine = self.seq;
        let newest = records::seq(&self.layout).map_err(|source| Overtaken::NoNumber {
            mine,
            source: Box::new(source),
        })?;
        if newest > mine {
            return Err(Overtaken::Newer { mine, newest });
        }
        match self.mark.is_current() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Overtaken::LockLost { mine }),
            Err(source) => Err(Overtaken::Unknown { mine, source }),
        }
    }
}
