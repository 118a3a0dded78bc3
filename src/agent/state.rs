//! Belay's records on the host: what serves, the releases, the numbers of transactions, wishes left for an engine.
//!
//! Runs on the host. How they are read and written: [`super::records`].

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use super::durable;
use super::journal::{self, Journal, JournalError};
use super::layout::Layout;
use super::lock::HostLock;
use super::records::{
    RecordError, make_dir, names, read_error, read_json, read_optional, read_spared, remove,
    remove_dir, seq, settle, write, write_error, write_json_spared,
};
use belay_model::composition::compose::ComposeFile;
use belay_model::transaction::journal::{Begin, BootTime, Entry, Event, SCHEMA};
use belay_model::transaction::phase::{Next, Records, next};
use belay_model::transaction::plan::Plan;
use belay_model::transaction::recall::past_deployment;
use belay_model::versions::history::PastDeployment;
use belay_model::versions::release::{Current, Release};

/// Journals of transactions that are over, to keep.
const KEPT_JOURNALS: usize = 30;

/// A record that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file of Belay's own.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// One of the journals.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Makes Belay's own directories, as private as they must be.
pub fn prepare(layout: &Layout) -> Result<(), RecordError> {
    for dir in [
        layout.state(),
        layout.journals(),
        layout.incoming(),
        layout.releases(),
        layout.spares().join("releases"),
        layout.trash(),
        layout.binaries(),
    ] {
        make_dir(&dir)?;
    }
    fs::set_permissions(layout.state(), fs::Permissions::from_mode(0o700))
        .map_err(write_error(&layout.state()))
}

/// What serves.
pub fn current(layout: &Layout) -> Result<Option<Current>, RecordError> {
    read_spared(layout, &layout.current())
}

/// Makes a release the one that serves, in Belay's records.
pub fn set_current(layout: &Layout, current: &Current) -> Result<(), RecordError> {
    write_json_spared(layout, &layout.current(), current)
}

/// A release's record; `None` when it is not (or no longer) there.
pub fn release(layout: &Layout, name: &str) -> Result<Option<Release>, RecordError> {
    read_spared(layout, &layout.release(name).record())
}

/// A release's normalised Compose file, before pinning.
pub fn normalised(layout: &Layout, name: &str) -> Result<Option<ComposeFile>, StateError> {
    let path = layout.release(name).normalised();
    let value: Option<serde_json::Value> = read_spared(layout, &path)?;
    Ok(value.and_then(|value| ComposeFile::new(value).ok()))
}

/// Every complete release, by its number.
pub fn releases(layout: &Layout) -> Result<Vec<Release>, StateError> {
    let mut releases = vec![];
    for name in names(&layout.releases())? {
        releases.extend(release(layout, &name)?);
    }
    releases.sort_by_key(|r| r.seq);
    Ok(releases)
}

/// Takes the next number. It is on the disk before anything is done under it.
pub fn next_seq(layout: &Layout, _lock: &HostLock) -> Result<u64, StateError> {
    // A lost number file must never lead to a number's second use: journals and releases remember theirs, too.
    let journals = journal::sequence_numbers(layout).map_err(read_error(&layout.journals()))?;
    let released = releases(layout)?.last().map_or(0, |r| r.seq);
    let last = seq(layout)?
        .max(journals.last().copied().unwrap_or(0))
        .max(released);
    let seq = last + 1;
    write(&layout.seq(), format!("{seq}\n").as_bytes(), 0o600)?;
    Ok(seq)
}

/// The number of a journal's transaction.
#[must_use]
pub fn seq_of(journal: &Journal) -> u64 {
    belay_model::transaction::journal::begin(journal.entries()).map_or(0, |begin| begin.seq)
}

/// The plan of a transaction.
pub fn plan(layout: &Layout, seq: u64) -> Result<Plan, RecordError> {
    let path = layout.journal_plan(seq);
    let missing = || read_error(&path)(io::Error::from(io::ErrorKind::NotFound));
    read_json(&path)?.ok_or_else(missing)
}

/// Transactions that are not over, oldest first.
pub fn open_transactions(layout: &Layout) -> Result<Vec<u64>, StateError> {
    let numbers = journal::sequence_numbers(layout).map_err(read_error(&layout.journals()))?;
    let mut open = vec![];
    for seq in numbers {
        if read_kept(layout, seq)?.is_some_and(|entries| !is_over(&entries)) {
            open.push(seq);
        }
    }
    Ok(open)
}

/// A journal that was there when somebody listed them. Without the lock it may be gone by now: an engine removes the oldest
/// ones, which are over.
fn read_kept(layout: &Layout, seq: u64) -> Result<Option<Records>, StateError> {
    match journal::read(&layout.journal(seq)) {
        Err(JournalError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        read => Ok(Some(read?)),
    }
}

/// Whether an engine still works, or was killed before it had put everything away.
pub fn has_plans(layout: &Layout) -> Result<bool, StateError> {
    let numbers = journal::sequence_numbers(layout).map_err(read_error(&layout.journals()))?;
    Ok(numbers.iter().any(|seq| layout.journal_plan(*seq).exists()))
}

fn is_over(entries: &Records) -> bool {
    matches!(next(entries), Next::Closed(_))
}

/// The number and the records of the transaction that a runner knows by its name.
pub fn find(layout: &Layout, tx: &str) -> Result<Option<(u64, Records)>, StateError> {
    let numbers = journal::sequence_numbers(layout).map_err(read_error(&layout.journals()))?;
    let is_it = |entries: &Records| {
        belay_model::transaction::journal::begin(entries).is_some_and(|begin| begin.tx == tx)
    };
    // One that cannot be read matters only where no other is the one that is looked for.
    let mut unreadable = None;
    for seq in numbers.into_iter().rev() {
        match read_kept(layout, seq) {
            Ok(entries) => {
                if let Some(entries) = entries.filter(is_it) {
                    return Ok(Some((seq, entries)));
                }
            }
            Err(error) => unreadable = Some(error),
        }
    }
    unreadable.map_or(Ok(None), Err)
}

/// The deployments that went live, oldest first, as far as their journals are kept. One that is damaged is left out: this is
/// for comparison only.
pub fn deployments(layout: &Layout) -> Result<Vec<PastDeployment>, StateError> {
    let numbers = journal::sequence_numbers(layout).map_err(read_error(&layout.journals()))?;
    let entries = numbers
        .into_iter()
        .filter_map(|seq| journal::read(&layout.journal(seq)).ok());
    Ok(entries
        .filter_map(|entries| past_deployment(&entries))
        .collect())
}

/// Whether somebody asked for the transaction to stop, and why.
pub fn abort_wish(layout: &Layout, seq: u64) -> Result<Option<String>, StateError> {
    let bytes = read_optional(&layout.abort(seq))?;
    Ok(bytes.map(|b| {
        String::from_utf8_lossy(&b)
            .trim()
            .chars()
            .take(200)
            .collect()
    }))
}

/// Whether somebody wished for more time to confirm, in milliseconds from now. The wish is gone when this returns.
pub fn take_extension(layout: &Layout, seq: u64) -> Result<Option<u64>, StateError> {
    let path = layout.extension(seq);
    let Some(bytes) = read_optional(&path)? else {
        return Ok(None);
    };
    remove(&path)?;
    Ok(String::from_utf8_lossy(&bytes).trim().parse().ok())
}

/// Removes what only an open transaction needs.
pub fn close(layout: &Layout, journal: &Journal) -> Result<(), RecordError> {
    clear(layout, seq_of(journal), journal.entries())
}

fn clear(layout: &Layout, seq: u64, entries: &[Entry]) -> Result<(), RecordError> {
    remove(&layout.abort(seq))?;
    remove(&layout.confirmation(seq))?;
    remove(&layout.extension(seq))?;
    remove(&layout.filling(seq))?;
    if let Some(begin) = belay_model::transaction::journal::begin(entries) {
        remove(&layout.incoming_plan(&begin.tx))?;
        remove(&layout.staged(&begin.tx))?;
    }
    remove_dir(&layout.displaced(seq))?;
    // The plan holds the shipped files, which the release now has; the journal stays as the record of what happened. It
    // goes last: a plan that is still there tells that this was not finished.
    remove(&layout.journal_plan(seq))
}

/// A transaction's first record.
#[must_use]
pub fn beginning(plan: &Plan, seq: u64, current: Option<&Current>, deadline: BootTime) -> Event {
    Event::Begin(Box::new(Begin {
        schema: SCHEMA,
        tx: plan.tx.clone(),
        seq,
        what: plan.work.describe(),
        holder: plan.holder.clone(),
        environment: Some(plan.environment.clone()),
        previous: current.map(|c| c.release.clone()),
        previous_tag: current.map(|c| c.tag.clone()),
        deadline,
    }))
}

/// Removes a release. Its spares go first, so that no crash leaves a spare of what was to go; then all of it leaves its
/// place at once, so that what is in that place is never half a release.
pub fn remove_release(layout: &Layout, name: &str) -> Result<(), RecordError> {
    let dir = layout.release(name).dir().to_owned();
    if let Some(spare) = layout.spare(&dir) {
        remove_dir(&spare)?;
    }
    let trash = layout.trash().join(name);
    remove_dir(&trash)?;
    if dir.is_dir() {
        make_dir(&layout.trash())?;
        durable::relocate(&dir, &trash).map_err(write_error(&dir))?;
    } else {
        settle(&layout.releases())?;
    }
    remove_dir(&trash)
}

/// Finishes the removals of releases that a crash has cut off.
pub fn empty_trash(layout: &Layout) -> Result<(), RecordError> {
    for name in names(&layout.trash())? {
        remove_dir(&layout.trash().join(name))?;
    }
    Ok(())
}

/// Removes a journal without a single whole record.
pub fn discard_journal(layout: &Layout, seq: u64) -> Result<(), RecordError> {
    remove(&layout.journal(seq))?;
    remove(&layout.journal_plan(seq))
}

/// Removes leftovers that no transaction can need any more: what an engine that ended after its last record did not come
/// to remove, files that a crash left half-written, plans without a journal, and the oldest journals.
pub fn sweep(layout: &Layout) -> Result<(), StateError> {
    let numbers = journal::sequence_numbers(layout).map_err(read_error(&layout.journals()))?;
    for seq in &numbers {
        if layout.journal_plan(*seq).exists() {
            let entries = journal::read(&layout.journal(*seq))?;
            if is_over(&entries) {
                // Its engine may have been killed before the last record was on the disk; without it, the plan is needed.
                journal::make_durable(&layout.journal(*seq))?;
                clear(layout, *seq, &entries)?;
            }
        }
    }
    for seq in numbers.iter().rev().skip(KEPT_JOURNALS) {
        if is_over(&journal::read(&layout.journal(*seq))?) {
            discard_journal(layout, *seq)?;
            remove_dir(&layout.failed_logs(*seq))?;
        }
    }
    for name in names(&layout.journals())? {
        let seq = name
            .strip_suffix(".plan.json")
            .and_then(|n| n.parse::<u64>().ok());
        if seq.is_some_and(|seq| !numbers.contains(&seq)) {
            remove(&layout.journals().join(name))?;
        }
    }
    let mut dirs = vec![
        layout.root().to_owned(),
        layout.state(),
        layout.spares(),
        layout.journals(),
        layout.incoming(),
    ];
    dirs.extend(numbers.iter().map(|seq| layout.failed_logs(*seq)));
    for dir in dirs {
        durable::sweep(&dir).map_err(write_error(&dir))?;
    }
    Ok(())
}

/// Checks that the state directory can be written, without leaving anything.
pub fn check_writable(layout: &Layout) -> Result<(), RecordError> {
    durable::try_out(&layout.state()).map_err(write_error(&layout.state()))
}
