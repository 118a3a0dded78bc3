//! Copies one volume or bind mount into the archive, and says what came of it.
//!
//! Runs on the host. A copy that breaks off is made again, up to three times; one that never comes whole is an error, because
//! a backup that lacks what was there is none.

use std::io;
use std::path::Path;

use super::archive::ArchiveWriter;
use super::manifest::{Consistency, LeftOut, SourceState};
use super::steady::ATTEMPTS;
use super::stream::{Noticed, copy_stream};
use super::{BackupError, DataKind, DataReader, ReadError};

/// Where on the host data is; a volume has no place of its own there.
pub(super) fn bind_path(kind: &DataKind) -> Option<&Path> {
    match kind {
        DataKind::Bind { path } => Some(path),
        DataKind::Volume { .. } => None,
    }
}

/// Copies one volume or bind mount, trying again when the copy breaks off.
pub(super) fn copy_data(
    archive: &mut ArchiveWriter,
    kind: &DataKind,
    place: &str,
    consistency: Consistency,
    reader: &dyn DataReader,
    left_out: &mut Vec<LeftOut>,
) -> Result<SourceState, BackupError> {
    let start = archive.place()?;
    let mut attempt = 1;
    loop {
        let outcome = copy_once(archive, kind, place, consistency, reader)?;
        let trouble = match outcome {
            Copied::Absent => return Ok(SourceState::Absent),
            Copied::Whole(noticed) => return Ok(judged(noticed, consistency, left_out)),
            Copied::Torn(why) if attempt == ATTEMPTS => {
                return Err(BackupError::Torn {
                    source_name: kind.to_string(),
                    why,
                });
            }
            Copied::Failed(source) if attempt == ATTEMPTS || !may_pass(&source) => {
                return Err(BackupError::Source {
                    source_name: kind.to_string(),
                    source,
                });
            }
            Copied::Torn(_) | Copied::Failed(_) => archive.back_to(&start),
        };
        trouble?;
        attempt += 1;
    }
}

/// What one attempt came to.
enum Copied {
    Whole(Noticed),
    /// It lacks something, and what.
    Torn(String),
    Absent,
    Failed(ReadError),
}

/// Whether trying again may help.
fn may_pass(error: &ReadError) -> bool {
    match error {
        ReadError::Docker { .. } | ReadError::Sink(_) => true,
        ReadError::Absent
        | ReadError::Program(_)
        | ReadError::TooLong { .. }
        | ReadError::Start(_)
        | ReadError::Overtaken(_) => false,
    }
}

fn copy_once(
    archive: &mut ArchiveWriter,
    kind: &DataKind,
    place: &str,
    consistency: Consistency,
    reader: &dyn DataReader,
) -> Result<Copied, BackupError> {
    let mut copied: Option<Result<Noticed, BackupError>> = None;
    let read = reader.read(kind, &mut |stream| {
        let result = copy_stream(archive, stream, place);
        let failed = result.is_err();
        copied = Some(result);
        // The reader need not know what went wrong: that is told below.
        if failed {
            Err(io::Error::other("the copy was given up"))
        } else {
            Ok(())
        }
    });
    match (copied.transpose()?, read) {
        (Some(noticed), Ok(())) => Ok(match lacking(&noticed, consistency) {
            None => Copied::Whole(noticed),
            Some(why) => Copied::Torn(why),
        }),
        (None, Ok(())) | (_, Err(ReadError::Absent)) => Ok(Copied::Absent),
        (_, Err(error)) => Ok(Copied::Failed(error)),
    }
}

/// What a copy lacks that it should have. An application that runs may remove its files; what nobody writes to stays.
fn lacking(noticed: &Noticed, consistency: Consistency) -> Option<String> {
    let is_written_to = consistency == Consistency::Live;
    let gone = || {
        let first = noticed.left_out.first();
        let first = first.map_or("a file", |left| left.path.as_str());
        format!("{first} went away, and nobody writes there")
    };
    let torn = noticed.torn.clone();
    torn.or_else(|| (noticed.gone > 0 && !is_written_to).then(gone))
}

/// What the record of a source says, from what was noticed.
pub(super) fn judged(
    noticed: Noticed,
    consistency: Consistency,
    left_out: &mut Vec<LeftOut>,
) -> SourceState {
    left_out.extend(noticed.left_out);
    let mut reasons = vec![];
    match consistency {
        // A dump may be a database's file; one that nobody writes to may be copied.
        Consistency::Paused | Consistency::Stopped | Consistency::Dumped => {}
        Consistency::Live if noticed.databases.is_empty() => {}
        Consistency::Live => {
            reasons.push(format!(
                "copied while its services ran, and {}",
                noticed.databases.join(", ")
            ));
        }
    }
    if noticed.changed > 0 {
        let examples = noticed.changed_examples.join(", ");
        reasons.push(format!(
            "{} files changed during the copy: {examples}",
            noticed.changed
        ));
    }
    if noticed.gone > 0 {
        reasons.push(format!("{} files went away during the copy", noticed.gone));
    }
    match reasons.is_empty() {
        true => SourceState::Saved,
        false => SourceState::Inconsistent { reasons },
    }
}
