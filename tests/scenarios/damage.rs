//! Every file that Belay keeps on a host, damaged in every way, one at a time: it is found and named, there is a way on,
//! and nothing that was whole is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use belay_agent::engine_process::engine_on;
use belay_agent::error::AgentError;
use belay_agent::{backup, facts, records, repair, state};
use belay_model::transaction::outcome::with_causes;
use belay_model::transaction::plan::Plan;
use belay_model::versions::release::RollbackTo;
use belay_wire::FileFinding;

use crate::support::fake_host::{Crash, Crashed, When};
use crate::support::site::{NO_GUARDS, Site, Version, deployment_of, rollback_to};

/// What may happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Flipped,
    Cut,
    Emptied,
    Removed,
    Unreadable,
}

const OF_CONTENT: [Damage; 4] = [
    Damage::Flipped,
    Damage::Cut,
    Damage::Emptied,
    Damage::Removed,
];

/// Files whose content nothing depends on, by the beginning of their paths: they are written anew when they are needed, or
/// are for people only.
const WITHOUT_A_RECORD: [&str; 7] = [
    ".belay/lock",
    ".belay/lock.json",
    ".belay/watch",
    ".belay/engine.log",
    ".belay/repaired.json",
    ".belay/failed",
    ".belay/journal/00000099.none",
];

impl Damage {
    /// Does it, and says what the file holds then; nothing when it would change nothing.
    fn strike(self, path: &Path) -> Option<Vec<u8>> {
        let whole = fs::read(path).expect("readable");
        let damaged = match self {
            Damage::Removed => {
                fs::remove_file(path).expect("removed");
                return Some(vec![]);
            }
            Damage::Unreadable => {
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("set");
                return Some(whole);
            }
            Damage::Emptied => vec![],
            Damage::Cut => whole[..whole.len() / 2].to_vec(),
            Damage::Flipped => {
                let mut bytes = whole.clone();
                let at = bytes.len().saturating_sub(1) / 2;
                *bytes.get_mut(at)? ^= 0x01;
                bytes
            }
        };
        // The end of a line is no part of a number.
        if damaged.trim_ascii() == whole.trim_ascii() {
            return None;
        }
        fs::write(path, &damaged).expect("written");
        Some(damaged)
    }
}

/// Every file under the root, with what it holds.
fn files(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![site.root().to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                left.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let below = path.strip_prefix(site.root()).expect("below").to_owned();
                found.insert(below, bytes);
            }
        }
    }
    found
}

/// What is Belay's among them.
fn kept(site: &Site) -> Vec<PathBuf> {
    let is_kept = |path: &Path| {
        path.starts_with(".belay") || path.starts_with("backups") || {
            let name = path.to_string_lossy();
            name == "docker-compose.yml" || name == "docker-compose.yml.backup"
        }
    };
    files(site).into_keys().filter(|p| is_kept(p)).collect()
}

fn has_no_record(path: &Path) -> bool {
    WITHOUT_A_RECORD.iter().any(|known| path.starts_with(known))
}

/// What a contact does before it answers.
fn contact(site: &Site) -> Result<Vec<FileFinding>, AgentError> {
    repair::make_usable(&site.layout);
    if repair::look(&site.layout, jiff::Timestamp::now())
        .iter()
        .any(FileFinding::is_mendable)
    {
        engine_on(&site.host, &site.layout, None, &NO_GUARDS)?;
    }
    facts::gather(&site.host, &site.layout).map(|facts| facts.files)
}

/// What a repair does.
fn mend(site: &Site) -> Vec<FileFinding> {
    let lock = site.lock();
    let found = repair::whole(&site.layout, &lock, jiff::Timestamp::now());
    drop(lock);
    let settled = engine_on(&site.host, &site.layout, None, &NO_GUARDS);
    settled.unwrap_or_else(|error| panic!("{}", with_causes(&error)));
    found
}

fn carry_out(site: &Site, mut plan: Plan, tx: &str) -> Result<u8, AgentError> {
    plan.tx = tx.to_owned();
    records::write_json(&site.layout.incoming_plan(&plan.tx), &plan).expect("written");
    engine_on(&site.host, &site.layout, Some(tx), &NO_GUARDS)
}

fn deploy(site: &Site, version: &Version, tx: &str) -> Result<u8, AgentError> {
    site.bring(version);
    carry_out(site, deployment_of(version), tx)
}

#[track_caller]
fn serves(site: &Site, tag: &str, what: &str) {
    assert_eq!(
        site.serving().as_deref(),
        Some(tag),
        "{what}: {:?}",
        site.failures()
    );
    assert_eq!(site.answered().as_deref(), Some(tag), "{what}");
}

/// An error is of use when it names a file and the way on.
#[track_caller]
fn leads_on(error: AgentError, what: &str) {
    let failure = error.into_failure();
    let next = failure.next.clone().unwrap_or_default();
    assert!(next.contains("belay repair"), "{what}: {failure:?}");
    assert!(failure.error.contains('/'), "{what}: {failure:?}");
}

/// Plays every damage of every file, and tells of all that went wrong. Returns how many were played.
#[track_caller]
fn every(paths: &[PathBuf], damages: &[Damage], play: impl Fn(&Path, Damage)) -> usize {
    let (mut played, mut wrong) = (0, vec![]);
    for path in paths {
        for damage in damages {
            let run = std::panic::AssertUnwindSafe(|| play(path, *damage));
            if std::panic::catch_unwind(run).is_err() {
                wrong.push(format!("{} {damage:?}", path.display()));
            }
            played += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {played}: {wrong:#?}", wrong.len());
    played
}

fn three_versions() -> Site {
    let site = Site::new();
    for tag in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        site.must_deploy(&Version::first(tag));
    }
    // The script, as each contact leaves it.
    contact(&site).expect("all is well");
    assert_eq!(
        kept(&site).len(),
        files(&site).len() - 3,
        "the user's three are not Belay's"
    );
    site
}

/// A host at rest.
fn at_rest(site: &Site, path: &Path, damage: Damage) {
    let what = format!("{} {damage:?}", path.display());
    let before = files(site);
    let Some(damaged) = damage.strike(&site.root().join(path)) else {
        return;
    };
    let found = match contact(site) {
        Ok(found) => found,
        Err(error) => {
            leads_on(error, &what);
            vec![]
        }
    };
    let more = mend(site);
    let is_named = |finding: &FileFinding| {
        path.starts_with(&finding.path)
            || path
                .to_string_lossy()
                .starts_with(&format!("{}.", finding.path))
    };
    let named = found.iter().chain(&more).any(is_named);
    // A spare that is gone, and an archive that looks whole from outside, are no matter until they are needed.
    let is_spare = path.starts_with(".belay/spare") && damage == Damage::Removed;
    let is_archive = path.extension().is_some_and(|e| e == "gz") && damage == Damage::Flipped;
    let is_list = path.to_string_lossy().ends_with(".images.txt") && damage == Damage::Flipped;
    let is_whole = damage == Damage::Unreadable;
    if !is_spare && !is_archive && !is_list && !has_no_record(path) {
        assert!(
            named || is_tail(path, damage),
            "{what}: not named in {found:#?} {more:#?}"
        );
    }
    if is_archive || is_list {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let verified = backup::verify(site.root(), name.split('.').next().expect("a name"));
        assert!(verified.is_err(), "{what}: verified");
    }
    nothing_is_gone(site, &before, path, &damaged, is_whole, &what);

    let next = Version::first("v1.3.0");
    let began = deploy(site, &next, "0123456789abcdef0123456789abcdef");
    began.unwrap_or_else(|error| panic!("{what}: {}", with_causes(&error)));
    serves(site, "v1.3.0", &what);
    let back = carry_out(
        site,
        rollback_to(RollbackTo::Previous),
        "00112233445566778899aabbccddeeff",
    );
    back.unwrap_or_else(|error| panic!("{what}: {}", with_causes(&error)));
    serves(site, "v1.2.0", &what);
}

/// The last record of a journal that is over may be cut off: what is left says less, and nothing depends on it.
fn is_tail(path: &Path, damage: Damage) -> bool {
    path.starts_with(".belay/journal") && damage == Damage::Removed
}

/// Whatever was whole is where it was, and what was damaged is there or aside.
#[track_caller]
fn nothing_is_gone(
    site: &Site,
    before: &BTreeMap<PathBuf, Vec<u8>>,
    struck: &Path,
    damaged: &[u8],
    is_whole: bool,
    what: &str,
) {
    let after = files(site);
    for (path, bytes) in before {
        if path != struck && !has_no_record(path) {
            assert_eq!(
                after.get(path),
                Some(bytes),
                "{what}: {} is gone",
                path.display()
            );
        }
    }
    let is_kept = after.iter().any(|(path, bytes)| {
        bytes == damaged && (path == struck || path.starts_with(".belay/damaged"))
    });
    let is_kept_for_nothing = damaged.is_empty() || has_no_record(struck) || is_whole;
    assert!(
        is_kept || is_kept_for_nothing,
        "{what}: the damaged file is gone"
    );
}

#[test]
fn any_file_damaged_at_rest_is_named_and_no_state_is_without_a_way_out() {
    let site = three_versions();
    let saved = site.save();
    let played = every(&kept(&site), &OF_CONTENT, |path, damage| {
        at_rest(&saved.restore(), path, damage);
    });
    assert!(played > 200, "{played}");
}

const AS_NOBODY: &str = "BELAY_TEST_AS_NOBODY";

/// Runs this test again as a user for whom a file can be unreadable.
#[test]
fn any_file_that_cannot_be_read_is_opened_again() {
    if rustix::process::geteuid().is_root() {
        let mut again = Command::new(std::env::current_exe().expect("this test"));
        again.args([
            "--exact",
            "damage::any_file_that_cannot_be_read_is_opened_again",
        ]);
        let status = again.uid(65534).gid(65534).env(AS_NOBODY, "1").status();
        assert!(status.expect("it starts").success());
        return;
    }
    let site = three_versions();
    let saved = site.save();
    every(&kept(&site), &[Damage::Unreadable], |path, damage| {
        at_rest(&saved.restore(), path, damage);
    });
}

/// A deployment that was killed, with everything that it needs to be settled still there.
fn killed_at(call: usize) -> Site {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let version = Version::second("v1.1.0");
    site.bring(&version);
    site.host.crash_at(Crash {
        call,
        when: When::Before,
    });
    let plan = deployment_of(&version);
    records::write_json(&site.layout.incoming_plan(&plan.tx), &plan).expect("written");
    let tx = plan.tx.clone();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine_on(&site.host, &site.layout, Some(&tx), &NO_GUARDS)
    }));
    assert!(killed.is_err_and(|e| e.is::<Crashed>()), "call {call}");
    site.host.calm();
    site
}

/// Whatever is damaged of a transaction that is not over: a contact settles it or names what keeps it from that, and after
/// a repair the next deployment goes through.
fn in_the_middle(saved: &crate::support::site::Saved, path: &Path, damage: Damage) {
    let site = saved.restore();
    let what = format!("{} {damage:?}", path.display());
    if damage.strike(&site.root().join(path)).is_none() {
        return;
    }
    if let Err(error) = contact(&site) {
        leads_on(error, &what);
    }
    mend(&site);
    let open = state::open_transactions(&site.layout).expect("readable");
    assert!(open.is_empty(), "{what}: {open:?}");
    let next = Version::first("v1.2.0");
    let began = deploy(&site, &next, "0123456789abcdef0123456789abcdef");
    began.unwrap_or_else(|error| panic!("{what}: {}", with_causes(&error)));
    serves(&site, "v1.2.0", &what);
}

#[test]
fn any_file_damaged_in_the_middle_of_a_deployment_has_a_way_out() {
    let calls = {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let version = Version::second("v1.1.0");
        site.bring(&version);
        site.host.calm();
        let plan = deployment_of(&version);
        records::write_json(&site.layout.incoming_plan(&plan.tx), &plan).expect("written");
        engine_on(&site.host, &site.layout, Some(&plan.tx), &NO_GUARDS).expect("deployed");
        site.host.counted().0
    };
    // Before the application is touched, in the middle of the cutover, while it publishes.
    let mut steps = BTreeSet::new();
    for call in [calls / 4, calls / 2, calls * 3 / 4, calls - calls / 16] {
        let site = killed_at(call);
        let saved = site.save();
        steps.insert(format!(
            "{:?}",
            site.entries().last().expect("a record").event
        ));
        every(&kept(&site), &OF_CONTENT, |path, damage| {
            in_the_middle(&saved, path, damage);
        });
    }
    assert!(steps.len() > 1, "{steps:?}");
}

#[test]
fn an_archive_that_somebody_put_there_is_listed_and_never_removed() {
    let site = three_versions();
    let newest = site.backups().pop().expect("a backup").name;
    let from = site.layout.backups().join(format!("{newest}.tar.gz"));
    let own = site.layout.backups().join("backup_20200101_000000.tar.gz");
    fs::copy(&from, &own).expect("copied");
    for minor in 3..9 {
        let version = Version::first(&format!("v1.{minor}.0"));
        assert!(deploy(&site, &version, &format!("{minor:032x}")).is_ok());
    }
    assert!(own.exists());
    let listed = facts::backup_facts(&site.layout);
    let listed: Vec<_> = listed.iter().filter(|b| b.problem.is_some()).collect();
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert_eq!(listed[0].name, "backup_20200101_000000");
    mend(&site);
    assert!(own.exists(), "of another name: it is left alone");
}

#[test]
fn a_lost_manifest_is_made_again_from_its_archive() {
    let site = three_versions();
    let name = site.backups().pop().expect("a backup").name;
    let manifest = site.layout.backups().join(format!("{name}.manifest.json"));
    let whole = fs::read(&manifest).expect("readable");
    fs::remove_file(&manifest).expect("removed");
    let listed = facts::backup_facts(&site.layout);
    assert!(listed.iter().any(|b| b.name == name && b.problem.is_some()));
    mend(&site);
    assert_eq!(fs::read(&manifest).expect("it is there again"), whole);
    backup::verify(site.root(), &name).expect("whole");
}

#[test]
fn both_copies_of_what_serves_can_be_lost() {
    let site = three_versions();
    let before = site.current().expect("something serves");
    for path in [site.layout.current(), site.layout.spares().join("current")] {
        fs::write(path, "{").expect("written");
    }
    contact(&site).expect("it is made again");
    let after = site.current().expect("something serves");
    assert_eq!(
        (after.release, after.previous),
        (before.release, before.previous)
    );
    assert_eq!(after.environment, before.environment);
}

#[test]
fn both_copies_of_the_serving_releases_record_can_be_lost() {
    let site = three_versions();
    let record = ".belay/releases/3-v1.2.0/release.json";
    let spare = ".belay/spare/releases/3-v1.2.0/release.json";
    for path in [record, spare] {
        fs::write(site.root().join(path), "{").expect("written");
    }
    leads_on(contact(&site).expect_err("refused"), "both records");
    mend(&site);
    let next = Version::first("v1.3.0");
    assert!(deploy(&site, &next, "0123456789abcdef0123456789abcdef").is_ok());
    serves(&site, "v1.3.0", "both records");
}

#[test]
fn a_compose_file_that_a_person_changed_is_named_and_left() {
    let site = three_versions();
    let mut text = site.read("docker-compose.yml").expect("there");
    text.push_str("# ours\n");
    site.write("docker-compose.yml", 0o600, &text);
    let found = contact(&site).expect("all is well");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].found.contains("was changed since v1.2.0"),
        "{found:?}"
    );
    mend(&site);
    assert_eq!(
        site.read("docker-compose.yml").as_deref(),
        Some(text.as_str())
    );
}

#[test]
fn a_release_without_a_record_is_set_aside() {
    let site = three_versions();
    site.write(".belay/releases/1-v0.9.0/docker-compose.yml", 0o600, "half");
    let found = contact(&site).expect("all is well");
    assert_eq!(found.len(), 1, "{found:#?}");
    let kept = found[0].kept.as_ref().expect("it is kept");
    let text = site.read(&format!("{kept}/docker-compose.yml"));
    assert_eq!(text.as_deref(), Some("half"));
}
