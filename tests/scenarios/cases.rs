//! The six transactions that every sweep runs over.

use std::io::Write as _;

use belay_agent::engine::Ending;
use belay_agent::error::EngineError;
use belay_agent::state;
use belay_model::digest::sha256;
use belay_model::transaction::journal;
use belay_model::transaction::plan::{ConfirmRule, Plan};
use belay_model::versions::release::RollbackTo;

use crate::support::sample::{all_is_wanted, sample};
use crate::support::site::{
    Photo, Saved, Site, Version, assert_same, copying_deployment_of, deployment_of, restore_of,
    rollback_to,
};

/// The calls of a sweep that this run plays: all of them with `BELAY_FULL=1`, else one in `in_a_run`, so that as many runs
/// play them all. Which ones is told, and `BELAY_SAMPLE` brings them again.
pub(crate) fn sampled(
    what: &str,
    calls: usize,
    in_a_run: usize,
) -> impl Iterator<Item = usize> + use<> {
    let stride = if all_is_wanted() { 1 } else { in_a_run };
    let sample = sample() % stride;
    let first = sample + 1;
    let told = format!(
        "{what}: of {calls} calls one in {stride} from number {first} on (BELAY_SAMPLE={sample})"
    );
    // Past the test harness, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "{told}");
    (1 + sample..=calls).step_by(stride)
}

/// What a runner confirms with.
pub(crate) const NONCE: &str = "5f3a90c1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// The first deployment on an empty host.
    OnEmpty,
    /// A deployment that drops a service, adds one with a network and a volume, and places another file.
    OverPrevious,
    /// The first deployment over an application that ran before Belay came.
    OverAdopted,
    /// Back to the version before.
    Rollback,
    /// The same, with the data that it had then.
    Restore,
    /// A deployment that takes the database's data along to another volume.
    Copied,
}

impl Case {
    pub(crate) const ALL: [Case; 6] = [
        Case::OnEmpty,
        Case::OverPrevious,
        Case::OverAdopted,
        Case::Rollback,
        Case::Restore,
        Case::Copied,
    ];

    /// Prepares a host for the transaction, once for a whole sweep.
    pub(crate) fn prepare(self) -> Prepared {
        let site = Site::new();
        let (old, new) = (Version::first("v1.0.0"), Version::second("v1.1.0"));
        match self {
            Case::OnEmpty => {}
            Case::OverAdopted => {
                site.handmade();
                // What was there is adopted by any deployment, also by one that is refused at once.
                site.host.world().free_bytes = 0;
                site.deploy(&new);
                site.host.world().free_bytes = 1 << 40;
            }
            Case::OverPrevious => site.must_deploy(&old),
            Case::Copied => {
                site.must_deploy(&old);
                site.hold("as v1.0.0 left it");
            }
            Case::Rollback => {
                site.must_deploy(&old);
                site.must_deploy(&new);
            }
            Case::Restore => {
                site.must_deploy(&old);
                site.hold("as v1.0.0 left it");
                site.must_deploy(&new);
                site.hold("as v1.1.0 spoilt it");
            }
        }
        let mut plan = match self {
            Case::Rollback => rollback_to(RollbackTo::Previous),
            Case::Restore => {
                let backup = site.backups().last().expect("a backup").name.clone();
                restore_of(RollbackTo::Previous, &backup)
            }
            Case::Copied => {
                let moved = Version::with_moved_data("v1.1.0");
                site.bring(&moved);
                copying_deployment_of(&moved)
            }
            Case::OnEmpty | Case::OverPrevious | Case::OverAdopted => {
                site.bring(&new);
                deployment_of(&new)
            }
        };
        plan.tx = "the transaction of the sweep".to_owned();
        site.host.calm();
        Prepared {
            before: self.photo(&site),
            saved: site.save(),
            plan,
            case: self,
        }
    }

    /// The same, for a transaction that waits for the confirmation [`NONCE`].
    pub(crate) fn prepare_confirmed_by_a_runner(self) -> Prepared {
        let mut prepared = self.prepare();
        prepared.plan.confirm = ConfirmRule::Runner {
            nonce_sha256: sha256(NONCE.as_bytes()),
            within_ms: 60_000,
        };
        prepared
    }

    /// The world as far as an unwound transaction answers for it: images that the runner had sent lie there until a
    /// transaction that came as far as Fetch takes them, or a later prune does.
    fn photo(self, site: &Site) -> Photo {
        match self {
            Case::Rollback | Case::Restore => site.photo(),
            Case::OnEmpty | Case::OverPrevious | Case::OverAdopted | Case::Copied => {
                site.photo().before_arrival(&Version::second("v1.1.0"))
            }
        }
    }
}

/// A host that can be brought to the moment before the transaction again and again.
pub(crate) struct Prepared {
    case: Case,
    saved: Saved,
    plan: Plan,
    /// What an unwound transaction must leave.
    before: Photo,
}

impl Prepared {
    pub(crate) fn arrange(&self) -> Arranged<'_> {
        Arranged {
            site: self.saved.restore(),
            prepared: self,
        }
    }
}

/// A host just before the transaction.
pub(crate) struct Arranged<'a> {
    pub(crate) site: Site,
    prepared: &'a Prepared,
}

impl Arranged<'_> {
    pub(crate) fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    pub(crate) fn photo(&self) -> Photo {
        self.prepared.case.photo(&self.site)
    }

    /// The transaction as an engine's process does it.
    pub(crate) fn engine(&self) -> Result<Ending, EngineError> {
        self.site.engine(self.plan())
    }

    /// Lets another engine settle what a crash left: the new version when the commit was on the disk, else the old one.
    #[track_caller]
    pub(crate) fn settle(&self, after: &Photo, what: &str) {
        let found = state::find(&self.site.layout, &self.plan().tx).expect("readable");
        let committed = found.is_some_and(|(_, entries)| journal::is_committed(&entries));
        let recovered = self.site.recover();
        recovered.unwrap_or_else(|e| panic!("{what}: {e}"));
        if committed {
            assert_same(&self.site.photo(), after, what);
            self.site.check();
        } else {
            self.assert_unwound(what);
        }
    }

    /// Asserts that everything is as it was before the transaction.
    #[track_caller]
    pub(crate) fn assert_unwound(&self, what: &str) {
        assert_same(&self.photo(), &self.prepared.before, what);
        self.site.check();
    }
}
