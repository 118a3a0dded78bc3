//! The journal file as a crash or a bad disk leaves it: cut, torn, damaged, unreadable.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;

use belay_agent::disk::{self, Op, Tape};
use belay_agent::engine::Ending;
use belay_agent::error::EngineError;
use belay_agent::journal::JournalError;
use belay_agent::state::StateError;
use belay_agent::transactions;
use belay_model::transaction::journal::{End, Event};
use belay_model::transaction::step::Step;
use belay_wire::Confirmed;

use crate::cases::{Arranged, Case, Prepared};
use crate::support::fake_host::{Behaviour, Crash, Crashed, Outage, When};
use crate::support::site::{Photo, Site, Version, assert_same, deployment_of};

/// An undisturbed run: what it leaves, and its journal's bytes.
struct Reference {
    after: Photo,
    journal: Vec<u8>,
    calls: Vec<String>,
}

fn journal_path(arranged: &Arranged<'_>) -> PathBuf {
    let layout = &arranged.site.layout;
    layout.journal(belay_agent::records::seq(layout).expect("readable"))
}

fn reference(prepared: &Prepared) -> Reference {
    let arranged = prepared.arrange();
    arranged.engine().expect("it ends");
    let calls = arranged.site.host.world().calls.clone();
    Reference {
        after: arranged.site.photo(),
        journal: fs::read(journal_path(&arranged)).expect("readable"),
        calls,
    }
}

/// A host whose engine ended right before a call.
fn cut_before<'p>(prepared: &'p Prepared, call: usize) -> Arranged<'p> {
    let arranged = prepared.arrange();
    arranged.site.host.crash_at(Crash {
        call,
        when: When::Before,
    });
    let crashed = catch_unwind(AssertUnwindSafe(|| arranged.engine()));
    assert!(crashed.is_err_and(|panic| panic.is::<Crashed>()));
    arranged.site.host.calm();
    arranged
}

/// The calls right before a record is written, with the length that the journal has by then: the last time that is
/// asked for before the journal grows.
fn writes(prepared: &Prepared, reference: &Reference) -> BTreeMap<usize, usize> {
    let mut writes = BTreeMap::new();
    for (index, name) in reference.calls.iter().enumerate() {
        if name == "now" {
            let arranged = cut_before(prepared, index + 1);
            let written = fs::read(journal_path(&arranged));
            writes.extend(written.map(|bytes| (bytes.len(), index + 1)));
        }
    }
    writes
}

/// Where a record ends in a journal's bytes, its line's end included, when it begins at `from`.
fn end_of_record(bytes: &[u8], from: usize) -> Option<usize> {
    let length = bytes[from..].iter().position(|b| *b == b'\n')?;
    Some(from + length + 1)
}

/// The engine ends while it writes a record: a part of it, all but its line's end, or all of it is on the disk.
fn torn_at_every_record(case: Case) {
    let prepared = case.prepare();
    let reference = reference(&prepared);
    for (length, call) in writes(&prepared, &reference) {
        let end = end_of_record(&reference.journal, length).expect("a record follows");
        let whole = end - length;
        for part in [0, 1, 40, whole - 1, whole] {
            let arranged = cut_before(&prepared, call);
            let what = format!("{case:?}, {part} of {whole} bytes written at call {call}");
            let path = journal_path(&arranged);
            // What came before may differ from the reference in a size or two: no two backups are the same.
            let mut torn = fs::read(&path).expect("readable");
            torn.extend_from_slice(&reference.journal[length..length + part.min(whole)]);
            fs::write(&path, torn).expect("written");
            arranged.settle(&reference.after, &what);
        }
    }
}

/// Hears which files are synced, and which removed.
#[derive(Default)]
struct Heard(RefCell<Vec<(&'static str, PathBuf)>>);

impl Tape for Heard {
    fn before(&self, op: &Op<'_>) -> std::io::Result<()> {
        let heard = match op {
            Op::Sync(path) => ("synced", path.to_path_buf()),
            Op::Remove(path) => ("removed", path.to_path_buf()),
            _ => return Ok(()),
        };
        self.0.borrow_mut().push(heard);
        Ok(())
    }
}

/// What was heard of the disk while something was done.
fn heard<T>(work: impl FnOnce() -> T) -> (T, Vec<(&'static str, PathBuf)>) {
    let heard = Rc::new(Heard::default());
    disk::listen(Some(heard.clone()));
    let done = work();
    disk::listen(None);
    (done, heard.0.take())
}

#[test]
fn what_a_runner_is_told_no_loss_of_power_can_undo() {
    let site = Site::new();
    let version = Version::first("v1.0.0");
    site.must_deploy(&version);
    let tx = deployment_of(&version).tx;
    let (told, heard) = heard(|| transactions::decided(&site.layout, &tx));
    assert_eq!(told.expect("known"), Some(Confirmed::Committed));
    assert_eq!(heard, [("synced", site.layout.journal(1))]);
}

#[test]
fn a_plan_goes_only_when_its_journals_end_is_on_the_disk() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    // As an engine leaves it that was killed between writing the last record and syncing it.
    site.write(".belay/journal/00000001.plan.json", 0o600, "{}");
    let (settled, heard) = heard(|| site.recover());
    assert_eq!(settled.expect("it ends"), []);
    let position = |what: &str, path: PathBuf| {
        let found = heard.iter().position(|(w, p)| *w == what && *p == path);
        found.expect("it was heard")
    };
    let synced = position("synced", site.layout.journal(1));
    assert!(synced < position("removed", site.layout.journal_plan(1)));
}

#[test]
fn a_first_deployment_survives_a_torn_record_anywhere() {
    torn_at_every_record(Case::OnEmpty);
}

#[test]
fn a_deployment_survives_a_torn_record_anywhere() {
    torn_at_every_record(Case::OverPrevious);
}

#[test]
fn a_rollback_survives_a_torn_record_anywhere() {
    torn_at_every_record(Case::Rollback);
}

/// A transaction that was cut off in its middle, with its records' bytes.
fn interrupted() -> Site {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let version = Version::second("v1.1.0");
    site.bring(&version);
    let plan = crate::support::site::deployment_of(&version);
    let calls = {
        let again = Site::new();
        again.must_deploy(&Version::first("v1.0.0"));
        again.bring(&version);
        again.host.calm();
        again.engine(&plan).expect("it ends");
        let calls = again.host.world().calls.clone();
        calls
            .iter()
            .rposition(|c| c == "up worker")
            .expect("replaced")
            + 1
    };
    site.host.crash_at(Crash {
        call: calls,
        when: When::After,
    });
    let crashed = catch_unwind(AssertUnwindSafe(|| site.engine(&plan)));
    assert!(crashed.is_err());
    site.host.calm();
    site
}

#[test]
fn a_damaged_middle_is_refused_and_nothing_is_touched() {
    let site = interrupted();
    let path = site.layout.journal(2);
    let good = fs::read(&path).expect("readable");
    let lines = good.iter().filter(|b| **b == b'\n').count();
    let mut from = 0;
    for record in 0..lines {
        let end = end_of_record(&good, from).expect("a record");
        let mut damaged = good.clone();
        damaged[(from + end) / 2] ^= 1;
        fs::write(&path, &damaged).expect("written");
        let before = site.photo();
        let refused = site.recover();
        assert!(
            matches!(&refused, Err(EngineError::State(StateError::Journal(
                JournalError::Damaged { record: found, .. }))) if *found == record),
            "record {record}: {refused:?}"
        );
        assert_eq!(fs::read(&path).expect("readable"), damaged);
        assert_same(&site.photo(), &before, "refused");
        from = end;
    }
    fs::write(&path, &good).expect("written");
    site.recover()
        .expect("it heals when the file is whole again");
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_engine_at_once_and_the_next_one_goes_on() {
    let site = interrupted();
    let path = site.layout.journal(2);
    let kept = fs::read(&path).expect("readable");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    site.host.calm();
    assert!(site.recover().is_err());
    let touched = site.host.world().calls.clone();
    assert!(touched.is_empty(), "{touched:?}");
    fs::remove_dir(&path).expect("removed");
    fs::write(&path, kept).expect("written");
    site.recover().expect("it goes on");
    site.check();
}

#[test]
fn an_undo_that_fails_is_stuck_says_why_and_heals_at_the_next_contact() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let before = site.photo();
    let version = Version::second("v1.1.0").with("web", Behaviour::Status500);
    site.bring(&version);
    // Every call from the failed bake on.
    let mut first = 1;
    let ending = loop {
        let outage = Outage {
            first,
            calls: usize::MAX,
            when: When::Before,
        };
        site.host.fail_at(outage);
        let mut plan = crate::support::site::deployment_of(&version);
        plan.tx = format!("try {first}");
        let ending = site.engine(&plan).expect("it ends");
        if matches!(ending, Ending::Stuck(_)) {
            break ending;
        }
        site.host.calm();
        site.bring(&version);
        first += 1;
    };
    let Ending::Stuck(step) = ending else {
        panic!("it is stuck");
    };
    assert!(site.entries().iter().any(|e| matches!(&e.event,
        Event::UndoFailed { step: failed, failure } if *failed == step && failure.error.contains("does not answer"))));
    // A new deployment does not begin while it is so.
    let refused = site.engine(&crate::support::site::deployment_of(&Version::first(
        "v1.2.0",
    )));
    assert_eq!(refused.expect("it ends"), Ending::Stuck(step));
    // The engine is well again.
    site.host.calm();
    let endings = site.recover().expect("it ends");
    assert_eq!(endings, [Ending::Ended(End::Unwound)]);
    assert_same(&site.photo(), &before, "healed");
    site.check();
}

#[test]
fn a_publish_that_fails_is_tried_again_and_finished_at_the_next_contact() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    // A directory in the file's place: nothing can be renamed over it.
    let obstacle = site.layout.compose_backup();
    fs::create_dir_all(obstacle.join("x")).expect("made");
    let ending = site.deploy(&Version::second("v1.1.0"));
    assert_eq!(ending, Ending::Stuck(Step::Publish));
    let tries = site
        .entries()
        .iter()
        .filter(|e| {
            matches!(
                e.event,
                Event::Failed {
                    step: Step::Publish,
                    ..
                }
            )
        })
        .count();
    assert_eq!(tries, 3);
    assert_eq!(
        site.answered().as_deref(),
        Some("v1.1.0"),
        "committed is committed"
    );
    fs::remove_dir_all(obstacle).expect("removed");
    let endings = site.recover().expect("it ends");
    assert_eq!(endings, [Ending::Ended(End::Committed)]);
    site.check();
}

#[test]
fn a_lost_number_is_never_given_twice() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    // Releases remember the numbers of those that served, journals those of all.
    site.deploy(&Version::first("v1.1.0").with("web", Behaviour::Status500));
    fs::remove_file(site.layout.seq()).expect("removed");
    site.must_deploy(&Version::first("v1.2.0"));
    assert_eq!(site.current().map(|c| c.seq), Some(3));
    fs::remove_file(site.layout.seq()).expect("removed");
    fs::remove_file(site.layout.journal(3)).expect("removed");
    site.must_deploy(&Version::first("v1.3.0"));
    assert_eq!(site.current().map(|c| c.seq), Some(4));
}

#[test]
fn what_an_ended_transaction_left_is_swept_up_by_the_next_contact() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    // As if the engine had ended between its last record and its cleaning up.
    for leftover in [
        site.layout.abort(1),
        site.layout.confirmation(1),
        site.layout.journal_plan(1),
    ] {
        fs::write(leftover, "{}").expect("written");
    }
    fs::create_dir_all(site.layout.displaced(1).join("conf")).expect("made");
    site.recover().expect("it ends");
    let left = belay_agent::records::names(&site.layout.journals()).expect("readable");
    assert_eq!(left, ["00000001.log"]);
    assert!(!site.layout.displaced(1).exists());
}

#[test]
fn a_reboot_in_the_middle_unwinds_to_the_version_before() {
    let site = interrupted();
    site.host.reboot();
    site.recover().expect("it ends");
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
}

/// Verbs list the journals without the lock while an engine removes the oldest ones. A link that leads nowhere is such a
/// journal for ever: it is listed, and when it is read it is not there.
#[test]
fn a_journal_that_is_removed_while_somebody_looks_is_nobody_s_business() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let gone = site.layout.journal(0);
    std::os::unix::fs::symlink("/nowhere", gone).expect("made");
    let unknown = belay_agent::state::find(&site.layout, "no such transaction");
    assert_eq!(unknown.expect("readable"), None);
    let open = belay_agent::state::open_transactions(&site.layout);
    assert_eq!(open.expect("readable"), Vec::<u64>::new());
}
