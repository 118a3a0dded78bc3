//! Which backups, releases and images go: examples, and properties that hold for any of them.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that panics has said what is wrong"
)]

use belay_model::versions::retention::*;
use proptest::prelude::*;

fn backup(seq: u64, soundness: Soundness) -> ShelvedBackup {
    ShelvedBackup {
        name: format!("backup_20241215_{seq:06}"),
        seq,
        soundness,
        hold: Hold::Free,
        release: Some(format!("{}-v1.0.{seq}", seq.saturating_sub(1))),
    }
}

fn removed(removals: &[Removal]) -> Vec<&str> {
    removals.iter().map(|r| r.name.as_str()).collect()
}

fn seqs(removals: &[Removal], backups: &[ShelvedBackup]) -> Vec<u64> {
    let mut seqs: Vec<u64> = backups
        .iter()
        .filter(|b| removals.iter().any(|r| r.name == b.name))
        .map(|b| b.seq)
        .collect();
    seqs.sort_unstable();
    seqs
}

#[test]
fn the_newest_five_of_seven_stay() {
    let backups: Vec<ShelvedBackup> = (1..=7)
        .map(|seq| backup(seq, Soundness::Verified))
        .collect();
    let removals = backups_to_remove(&backups, 5, &["6-v1.0.7"]);
    assert_eq!(seqs(&removals, &backups), [1, 2]);
}

#[test]
fn the_order_is_that_of_numbers() {
    for newest in [10, 100, 256, 65_536] {
        let pair = [
            backup(newest, Soundness::Verified),
            backup(newest - 1, Soundness::Verified),
        ];
        assert_eq!(seqs(&backups_to_remove(&pair, 1, &[]), &pair), [newest - 1]);
    }
    let mut twins = [
        backup(1, Soundness::Verified),
        backup(1, Soundness::Verified),
    ];
    twins[0].name = "backup_20241215_000001_10".to_owned();
    twins[1].name = "backup_20241215_000001_9".to_owned();
    assert_eq!(
        removed(&backups_to_remove(&twins, 1, &[])),
        ["backup_20241215_000001_9"]
    );
}

#[test]
fn an_unverified_backup_takes_no_place() {
    use Soundness::{Unverified, Verified};
    let backups = [
        backup(1, Verified),
        backup(2, Unverified),
        backup(3, Verified),
        backup(4, Unverified),
    ];
    assert_eq!(backups_to_remove(&backups, 2, &[]), []);
    assert_eq!(seqs(&backups_to_remove(&backups, 1, &[]), &backups), [1, 2]);
}

#[test]
fn the_last_verified_backup_stays_even_when_none_is_to_be_kept() {
    let backups = [
        backup(1, Soundness::Verified),
        backup(2, Soundness::Unverified),
    ];
    assert_eq!(backups_to_remove(&backups, 0, &[]), []);
}

#[test]
fn of_a_needed_release_the_newest_verified_backup_stays_however_old() {
    let mut backups: Vec<ShelvedBackup> = (1..=9)
        .map(|seq| backup(seq, Soundness::Verified))
        .collect();
    for backup in &mut backups[..3] {
        backup.release = Some("1-v1.0.0".to_owned());
    }
    backups[2].soundness = Soundness::Unverified;
    let removals = backups_to_remove(&backups, 2, &["1-v1.0.0"]);
    assert_eq!(seqs(&removals, &backups), [1, 3, 4, 5, 6, 7]);
}

fn release(seq: u64, standing: Standing) -> ReleaseFacts {
    ReleaseFacts {
        name: format!("{seq}-v1.0.{seq}"),
        seq,
        standing,
        hold: Hold::Free,
        images: vec![format!("sha256:{seq}")],
    }
}

fn image(seq: u64) -> ImageFacts {
    ImageFacts {
        reference: format!("belay/shop/web:{seq}"),
        id: format!("sha256:{seq}"),
    }
}

/// Releases 1 to 7, of which 7 serves.
fn seven() -> Vec<ReleaseFacts> {
    let standing = |seq| match seq {
        7 => Standing::Serving,
        6 => Standing::Previous,
        _ => Standing::Confirmed,
    };
    (1..=7).map(|seq| release(seq, standing(seq))).collect()
}

#[test]
fn three_versions_of_seven_stay() {
    let releases = seven();
    assert_eq!(
        removed(&releases_to_prune(&releases, 3)),
        ["4-v1.0.4", "3-v1.0.3", "2-v1.0.2", "1-v1.0.1"]
    );
    let images: Vec<ImageFacts> = (1..=7).map(image).collect();
    let removals = images_to_remove(&images, "shop", &releases, 3, &[]);
    assert_eq!(
        removed(&removals),
        [
            "belay/shop/web:1",
            "belay/shop/web:2",
            "belay/shop/web:3",
            "belay/shop/web:4"
        ]
    );
}

#[test]
fn an_image_that_a_container_has_stays_and_so_does_one_that_two_versions_share() {
    let mut releases = seven();
    releases[6].images.push("sha256:1".to_owned());
    let images: Vec<ImageFacts> = (1..=7).map(image).collect();
    let removals = images_to_remove(&images, "shop", &releases, 3, &["sha256:2".to_owned()]);
    assert_eq!(removed(&removals), ["belay/shop/web:3", "belay/shop/web:4"]);
}

#[test]
fn names_of_others_are_never_removed() {
    let foreign = |reference: &str| ImageFacts {
        reference: reference.to_owned(),
        id: "sha256:foreign".to_owned(),
    };
    let images = [
        foreign("postgres:16"),
        foreign("example.com/belay/shop/web:1"),
        foreign("belay/shopping/web:1"),
        // Another project's, whose name begins like ours.
        foreign("belay/shop-admin/web:1"),
    ];
    assert_eq!(images_to_remove(&images, "shop", &seven(), 3, &[]), []);
}

#[test]
fn only_the_newest_failure_stays_and_only_while_nothing_newer_is_good() {
    let mut releases = seven();
    releases[6].standing = Standing::Failed;
    releases[5].standing = Standing::Serving;
    releases[4].standing = Standing::Failed;
    assert_eq!(removed(&releases_to_prune(&releases, 9)), ["5-v1.0.5"]);
    releases.push(release(8, Standing::Serving));
    assert_eq!(
        removed(&releases_to_prune(&releases, 9)),
        ["7-v1.0.7", "5-v1.0.5"]
    );
}

// The model: a host on which things happen in random order, and after each of which is pruned.

#[derive(Clone, Debug)]
enum Event {
    Deploy,
    DeployFails,
    /// To the n-th of the good releases that are left.
    RollBack(usize),
    Backup,
    /// The n-th backup is found to be damaged.
    Damage(usize),
    PinBackup(usize),
    PinRelease(usize),
    /// A container of the n-th release's image is left somewhere.
    Container(usize),
    Prune {
        backups: usize,
        versions: usize,
    },
    /// A transaction holds the newest of everything while there is pruning.
    PruneInFlight {
        backups: usize,
        versions: usize,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let keep = || (0usize..7, 0usize..5);
    let event = prop_oneof![
        4 => Just(Event::Deploy),
        2 => Just(Event::DeployFails),
        2 => (0usize..8).prop_map(Event::RollBack),
        3 => Just(Event::Backup),
        2 => (0usize..8).prop_map(Event::Damage),
        1 => (0usize..8).prop_map(Event::PinBackup),
        1 => (0usize..8).prop_map(Event::PinRelease),
        1 => (0usize..8).prop_map(Event::Container),
        5 => keep().prop_map(|(backups, versions)| Event::Prune { backups, versions }),
        2 => keep().prop_map(|(backups, versions)| Event::PruneInFlight { backups, versions }),
    ];
    prop::collection::vec(event, 1..40)
}

#[derive(Default)]
struct Model {
    seq: u64,
    backups: Vec<ShelvedBackup>,
    releases: Vec<ReleaseFacts>,
    images: Vec<ImageFacts>,
    in_use: Vec<String>,
}

impl Model {
    fn serving(&self) -> Option<String> {
        self.releases
            .iter()
            .find(|r| r.standing == Standing::Serving)
            .map(|r| r.name.clone())
    }

    fn back_up(&mut self) {
        let name = format!("backup_{:04}_{}", 9999 - self.seq, self.backups.len());
        let release = self.serving();
        let (seq, soundness, hold) = (self.seq, Soundness::Verified, Hold::Free);
        self.backups.push(ShelvedBackup {
            name,
            seq,
            soundness,
            hold,
            release,
        });
    }

    fn deploy(&mut self, standing: Standing) {
        self.seq += 1;
        self.back_up();
        self.releases.push(release(self.seq, standing));
        self.images.push(image(self.seq));
        if standing == Standing::Serving {
            self.serve(self.releases.len() - 1);
        }
    }

    fn serve(&mut self, index: usize) {
        let before = self
            .releases
            .iter()
            .position(|r| r.standing == Standing::Serving && r.seq != self.releases[index].seq);
        for release in &mut self.releases {
            if release.standing != Standing::Failed {
                release.standing = Standing::Confirmed;
            }
        }
        if let Some(before) = before {
            self.releases[before].standing = Standing::Previous;
        }
        self.releases[index].standing = Standing::Serving;
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        fn pick<T>(list: &mut [T], n: usize) -> Option<&mut T> {
            let length = list.len().max(1);
            list.get_mut(n % length)
        }
        match *event {
            Event::Deploy => self.deploy(Standing::Serving),
            Event::DeployFails => self.deploy(Standing::Failed),
            Event::RollBack(n) => {
                let good: Vec<usize> = (0..self.releases.len())
                    .filter(|i| self.releases[*i].standing.is_good())
                    .collect();
                if !good.is_empty() {
                    self.seq += 1;
                    self.back_up();
                    self.serve(good[n % good.len()]);
                }
            }
            Event::Backup => {
                self.seq += 1;
                self.back_up();
            }
            Event::Damage(n) => {
                if let Some(backup) = pick(&mut self.backups, n) {
                    backup.soundness = Soundness::Unverified;
                }
            }
            Event::PinBackup(n) => {
                if let Some(backup) = pick(&mut self.backups, n) {
                    backup.hold = Hold::Pinned;
                }
            }
            Event::PinRelease(n) => {
                if let Some(release) = pick(&mut self.releases, n) {
                    release.hold = Hold::Pinned;
                }
            }
            Event::Container(n) => {
                if let Some(image) = pick(&mut self.images, n) {
                    self.in_use.push(image.id.clone());
                }
            }
            Event::Prune { backups, versions } => self.prune(backups, versions)?,
            Event::PruneInFlight { backups, versions } => {
                self.hold_newest(Hold::Free, Hold::InFlight);
                self.prune(backups, versions)?;
                self.hold_newest(Hold::InFlight, Hold::Free);
            }
        }
        Ok(())
    }

    fn hold_newest(&mut self, from: Hold, to: Hold) {
        let backup = self
            .backups
            .iter_mut()
            .max_by_key(|b| b.seq)
            .map(|b| &mut b.hold);
        let release = self
            .releases
            .iter_mut()
            .max_by_key(|r| r.seq)
            .map(|r| &mut r.hold);
        for hold in [backup, release].into_iter().flatten() {
            if *hold == from {
                *hold = to;
            }
        }
    }

    fn prune(&mut self, keep_backups: usize, keep_versions: usize) -> Result<(), TestCaseError> {
        let needed: Vec<String> = self
            .releases
            .iter()
            .filter(|r| matches!(r.standing, Standing::Serving | Standing::Previous))
            .map(|r| r.name.clone())
            .collect();
        let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
        let backups = backups_to_remove(&self.backups, keep_backups, &needed);
        self.check_backups(&backups, keep_backups, &needed)?;
        let images = images_to_remove(
            &self.images,
            "shop",
            &self.releases,
            keep_versions,
            &self.in_use,
        );
        let releases = releases_to_prune(&self.releases, keep_versions);
        self.check_releases(&releases, &images, keep_versions)?;
        let gone = |removals: &[Removal], name: &str| removals.iter().any(|r| r.name == name);
        self.backups.retain(|b| !gone(&backups, &b.name));
        self.releases.retain(|r| !gone(&releases, &r.name));
        self.images.retain(|i| !gone(&images, &i.reference));
        // Nothing is left to do a second time.
        prop_assert_eq!(
            backups_to_remove(&self.backups, keep_backups, &needed),
            vec![]
        );
        prop_assert_eq!(releases_to_prune(&self.releases, keep_versions), vec![]);
        Ok(())
    }

    fn check_backups(
        &self,
        removals: &[Removal],
        keep: usize,
        needed: &[&str],
    ) -> Result<(), TestCaseError> {
        let gone = |b: &&ShelvedBackup| removals.iter().any(|r| r.name == b.name);
        let verified: Vec<&ShelvedBackup> = self
            .backups
            .iter()
            .filter(|b| b.soundness == Soundness::Verified)
            .collect();
        let left = verified.iter().filter(|b| !gone(b)).count();
        prop_assert!(
            left >= keep.max(1).min(verified.len()),
            "too few verified backups are left"
        );
        let newest = verified.iter().max_by_key(|b| b.seq);
        prop_assert!(
            newest.is_none_or(|b| !gone(b)),
            "the newest verified backup is gone"
        );
        for backup in self.backups.iter().filter(gone) {
            prop_assert_eq!(backup.hold, Hold::Free);
            let newer = verified
                .iter()
                .filter(|b| b.seq > backup.seq && !gone(b))
                .count();
            prop_assert!(newer >= keep.max(1), "{} went before its time", backup.name);
        }
        for release in needed {
            let of_it = || {
                verified
                    .iter()
                    .filter(|b| b.release.as_deref() == Some(*release))
            };
            let newest = of_it().max_by_key(|b| b.seq);
            prop_assert!(
                newest.is_none_or(|b| !gone(b)),
                "{release} cannot be brought back"
            );
        }
        let unheld = verified
            .iter()
            .filter(|b| !gone(b) && b.hold == Hold::Free)
            .count();
        prop_assert!(
            unheld <= keep.max(1) + needed.len(),
            "more stay than should"
        );
        Ok(())
    }

    fn check_releases(
        &self,
        releases: &[Removal],
        images: &[Removal],
        keep: usize,
    ) -> Result<(), TestCaseError> {
        let gone = |name: &str| releases.iter().any(|r| r.name == name);
        let image_gone = |id: &str| {
            self.images
                .iter()
                .any(|i| i.id == id && images.iter().any(|r| r.name == i.reference))
        };
        for release in &self.releases {
            let must_stay = matches!(release.standing, Standing::Serving | Standing::Previous)
                || release.hold != Hold::Free;
            prop_assert!(
                !(must_stay && gone(&release.name)),
                "{} is gone",
                release.name
            );
            // What is kept can be run; a failed one is kept only to be looked at.
            let runs = must_stay || (release.standing.is_good() && !gone(&release.name));
            let lost = release.images.iter().any(|id| image_gone(id));
            prop_assert!(!(runs && lost), "{} has lost an image", release.name);
        }
        prop_assert!(
            self.in_use.iter().all(|id| !image_gone(id)),
            "an image in use is gone"
        );
        let good = |left: bool| {
            self.releases
                .iter()
                .filter(|r| r.standing.is_good() && (!left || !gone(&r.name)))
                .count()
        };
        prop_assert!(
            good(true) >= keep.min(good(false)),
            "too few versions are left"
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12_000) })]

    #[test]
    fn whatever_happens_the_way_back_stays(events in events()) {
        let mut model = Model::default();
        for event in &events {
            model.happen(event)?;
        }
    }
}
