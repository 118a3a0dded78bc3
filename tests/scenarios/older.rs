//! Journals and plans as Belay 0.1.0 wrote them (`tests/fixtures/journal/0.1.0`, taken from real runs of that version in
//! this suite): the code of today finishes or unwinds each, whatever record its engine died after.

use std::fs;
use std::path::{Path, PathBuf};

use belay_agent::host::Host;
use belay_agent::journal::{self, Journal};
use belay_agent::steps::{self, StepContext};
use belay_model::transaction::journal::{Entry, Event, is_committed};
use belay_model::transaction::plan::Plan;
use belay_model::versions::release::{Current, Release};

use crate::support::fake_host::Behaviour;
use crate::support::site::{Saved, Site, Version, assert_same};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    First,
    Deploy,
    /// A deployment whose version is not healthy.
    Unwinding,
    Rollback,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::First => "first",
            Kind::Deploy => "deploy",
            Kind::Unwinding => "unwinding",
            Kind::Rollback => "rollback",
        }
    }

    fn version(self) -> Version {
        let version = Version::second("v1.1.0");
        match self {
            Kind::Unwinding => version.with("web", Behaviour::Status500),
            Kind::First | Kind::Deploy | Kind::Rollback => version,
        }
    }

    /// The host just before the transaction.
    fn prepare(self) -> Site {
        let site = Site::new();
        if self != Kind::First {
            as_an_older_version_did(&site, &Version::first("v1.0.0"));
        }
        match self {
            Kind::Rollback => as_an_older_version_did(&site, &self.version()),
            Kind::First | Kind::Deploy | Kind::Unwinding => site.bring(&self.version()),
        }
        site.host.calm();
        site
    }

    fn before(self) -> Option<&'static str> {
        match self {
            Kind::First => None,
            Kind::Deploy | Kind::Unwinding => Some("v1.0.0"),
            Kind::Rollback => Some("v1.1.0"),
        }
    }

    fn after(self) -> &'static str {
        match self {
            Kind::First | Kind::Deploy | Kind::Unwinding => "v1.1.0",
            Kind::Rollback => "v1.0.0",
        }
    }
}

/// A host that no gateway has come to yet.
fn as_an_older_version_did(site: &Site, version: &Version) {
    site.bring(version);
    let mut plan = crate::support::site::deployment_of(version);
    plan.gateway = belay_model::replacement::wishes::GatewayRule::Off;
    site.engine(&plan).expect("it ends");
    site.check();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/journal/0.1.0")
        .join(name)
}

/// Whether an engine that died within a step had done its work already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Died {
    BeforeTheWork,
    AfterTheWork,
}

struct Old {
    saved: Saved,
    seq: u64,
    plan: Vec<u8>,
    journal: Vec<u8>,
    entries: Vec<Entry>,
}

impl Old {
    fn read(kind: Kind) -> Old {
        let site = kind.prepare();
        let journal = fixture(&format!("{}.log", kind.name()));
        let entries = journal::read(&journal)
            .expect("today's code reads it")
            .to_vec();
        let begin = belay_model::transaction::journal::begin(&entries).expect("it begins");
        Old {
            saved: site.save(),
            seq: begin.seq,
            plan: fs::read(fixture(&format!("{}.plan.json", kind.name()))).expect("there"),
            journal: fs::read(journal).expect("there"),
            entries,
        }
    }

    /// The first records, byte for byte.
    fn records(&self, count: usize) -> &[u8] {
        let mut ends = self
            .journal
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n');
        let (end, _) = ends.nth(count - 1).expect("so many records");
        &self.journal[..=end]
    }

    /// Brings a host to where an engine died after its record number `count`, with the files that 0.1.0 left.
    fn leave_off(&self, count: usize, died: Died) -> Site {
        let site = self.saved.restore();
        let plan: Plan = serde_json::from_slice(&self.plan).expect("today's code reads it");
        let lock = site.lock();
        let mut journal = site.begin(&lock, &plan).expect("begun");
        for (n, entry) in self.entries.iter().enumerate().take(count).skip(1) {
            let event = entry.event.clone();
            journal
                .append(site.host.now(), event.clone())
                .expect("appended");
            if n + 1 < count || died == Died::AfterTheWork {
                do_again(&site, &plan, &mut journal, &event);
            }
        }
        drop((journal, lock));
        fs::write(site.layout.journal_plan(self.seq), &self.plan).expect("written");
        fs::write(site.layout.journal(self.seq), self.records(count)).expect("written");
        site
    }
}

/// The work that an engine does after this record. What it came to says the record that follows.
fn do_again(site: &Site, plan: &Plan, journal: &mut Journal, event: &Event) {
    // Its own notes go into a copy: the journal is the older engine's.
    let mut work = StepContext::new(&site.host, &site.layout, plan, journal);
    match event {
        Event::Started { step } => drop(steps::perform(*step, &mut work)),
        Event::UndoStarted { step } => drop(steps::undo(*step, &mut work)),
        _ => {}
    }
}

fn settles(kind: Kind) {
    let old = Old::read(kind);
    let site = old.saved.restore();
    let photo = |site: &Site| match kind {
        Kind::Rollback => site.photo(),
        Kind::First | Kind::Deploy | Kind::Unwinding => {
            site.photo().before_arrival(&kind.version())
        }
    };
    let before = photo(&site);
    for count in 1..=old.entries.len() {
        for died in [Died::BeforeTheWork, Died::AfterTheWork] {
            let what = format!("{kind:?}, {died:?} of {:?}", old.entries[count - 1].event);
            let site = old.leave_off(count, died);
            site.recover().unwrap_or_else(|e| panic!("{what}: {e}"));
            site.check();
            let serving = site.serving();
            if is_committed(&old.entries[..count]) {
                assert_eq!(serving.as_deref(), Some(kind.after()), "{what}");
            } else {
                assert_eq!(serving.as_deref(), kind.before(), "{what}");
                assert_same(&photo(&site), &before, &what);
            }
        }
    }
}

#[test]
fn a_first_deployment_of_an_older_version_is_settled_after_every_record() {
    settles(Kind::First);
}

#[test]
fn a_deployment_of_an_older_version_is_settled_after_every_record() {
    settles(Kind::Deploy);
}

#[test]
fn an_unwind_of_an_older_version_is_settled_after_every_record() {
    settles(Kind::Unwinding);
}

#[test]
fn a_rollback_of_an_older_version_is_settled_after_every_record() {
    settles(Kind::Rollback);
}

#[test]
fn the_records_of_an_older_version_are_read() {
    let current: Current =
        serde_json::from_slice(&fs::read(fixture("current")).expect("there")).expect("readable");
    let release: Release =
        serde_json::from_slice(&fs::read(fixture("release.json")).expect("there"))
            .expect("readable");
    assert_eq!((current.seq, current.tag.as_str()), (1, "v1.0.0"));
    assert_eq!(release.name, current.release);
    assert_eq!(release.services.len(), 5);
}
