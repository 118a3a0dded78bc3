//! An engine that was suspended and overtaken: at whatever call it wakes, it changes nothing more, and ends.
//!
//! The newer engine comes in through the only doors there are: a lock file that was removed and made again, or a lock that
//! a file system forgot. What it does happens inside a call of the older one, which then goes on as a woken process does.

use std::fs;
use std::sync::mpsc;

use belay_agent::engine::{self, Ending};
use belay_agent::error::EngineError;
use belay_agent::fence::Overtaken;
use belay_agent::host::Host;
use belay_agent::records;
use belay_model::transaction::journal::End;
use belay_wire::Staged;

use crate::cases::{Case, Prepared};
use crate::support::fake_host::World;
use crate::support::site::{Site, Version, deployment_of};

/// What a woken engine could still change.
struct Seen {
    world: World,
    files: Vec<(String, Vec<u8>)>,
}

fn look(site: &Site) -> Seen {
    let mut files = vec![];
    let mut left = vec![site.root().to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("an entry").path();
            // The place where a release is read has links to all of the machine.
            match path.is_dir() && !path.is_symlink() {
                true => left.push(path),
                false if path.is_symlink() => {
                    let target = fs::read_link(&path).expect("a link");
                    let target = target.into_os_string().into_encoded_bytes();
                    files.push((path.display().to_string(), target));
                }
                // An unfinished backup is the woken engine's own, under a name of its own: it takes it away.
                false if path.extension().is_some_and(|e| e == "part") => {}
                false => files.push((
                    path.display().to_string(),
                    fs::read(&path).unwrap_or_default(),
                )),
            }
        }
    }
    files.sort();
    Seen {
        world: site.host.world().clone(),
        files,
    }
}

/// Runs a transaction that is suspended at its call number `call`; meanwhile `newer` happens. Tells what was seen right
/// after `newer`, unless the transaction has fewer calls.
fn overtaken_at(
    prepared: &Prepared,
    call: usize,
    newer: fn(&Site),
) -> Option<(Site, Result<Ending, EngineError>, Seen)> {
    let arranged = prepared.arrange();
    let site = arranged.site.clone();
    let lock = site.lock();
    let mut journal = site.begin(&lock, arranged.plan()).expect("begun");
    site.host.calm();
    let (send, seen) = mpsc::channel();
    let other = site.clone();
    // Runs on this very thread, in the middle of the call.
    site.host.interrupt_at(call, move || {
        newer(&other);
        send.send(look(&other)).expect("it is waited for");
    });
    let result = engine::run(
        &site.host,
        &site.layout,
        &lock,
        &mut journal,
        arranged.plan(),
    );
    site.host.calm();
    let seen = seen.try_recv().ok()?;
    Some((site, result, seen))
}

#[track_caller]
fn changed_nothing(site: &Site, before: &Seen, what: &str) {
    let after = look(site);
    let names = |seen: &Seen| seen.files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(before), "{what}: files came or went");
    for (now, then) in after.files.iter().zip(&before.files) {
        assert!(now.1 == then.1, "{what}: {} was changed", now.0);
    }
    let lasting = |host: &World| {
        let containers: Vec<_> = host.containers.iter().map(|c| format!("{c:?}")).collect();
        let (names, networks, volumes) = (&host.names, &host.networks, &host.volumes);
        format!(
            "{containers:#?} {names:#?} {networks:#?} {volumes:#?} {:?}",
            host.one_shots
        )
    };
    assert_eq!(lasting(&after.world), lasting(&before.world), "{what}");
}

/// Somebody removes the lock file, and another deployment goes through.
fn a_newer_deployment(site: &Site) {
    fs::remove_file(site.layout.lock()).expect("the lock was there");
    let version = Version::first("v1.3.0");
    site.bring(&version);
    let plan = deployment_of(&version);
    // As `load` does: the unwinding of another transaction must not take what has just arrived.
    let staged = Staged {
        references: version.built.keys().map(|s| version.reference(s)).collect(),
        since: site.host.now(),
    };
    records::write_json(&site.layout.staged(&plan.tx), &staged).expect("written");
    let ending = site.engine(&plan).expect("it ends");
    assert_eq!(
        ending,
        Ending::Ended(End::Committed),
        "{:?}",
        site.failures()
    );
}

/// Somebody removes the lock file, and a recovery settles what looks abandoned.
fn a_recovery(site: &Site) {
    fs::remove_file(site.layout.lock()).expect("the lock was there");
    site.recover().expect("it ends");
}

fn sweep(case: Case, newer: fn(&Site), needs_a_change: bool) {
    let prepared = case.prepare();
    let mut woken = 0;
    for call in 1.. {
        let Some((site, result, seen)) = overtaken_at(&prepared, call, newer) else {
            break;
        };
        woken += 1;
        let what = format!("{case:?}, woken in call {call}");
        assert!(
            matches!(result, Err(EngineError::Overtaken(_))),
            "{what}: it came to {result:?}"
        );
        changed_nothing(&site, &seen, &what);
        site.check();
        if needs_a_change {
            assert_eq!(site.serving().as_deref(), Some("v1.3.0"), "{what}");
        }
    }
    assert!(woken > 100, "{case:?} has only {woken} calls");
}

#[test]
fn a_deployment_that_a_newer_one_has_overtaken_changes_nothing_at_whatever_call_it_wakes() {
    sweep(Case::OverPrevious, a_newer_deployment, true);
}

#[test]
fn a_first_deployment_that_a_newer_one_has_overtaken_changes_nothing() {
    sweep(Case::OnEmpty, a_newer_deployment, true);
}

#[test]
fn a_rollback_that_a_newer_deployment_has_overtaken_changes_nothing() {
    sweep(Case::Rollback, a_newer_deployment, true);
}

/// The number of the transaction is still the newest one; only the lock tells.
#[test]
fn a_deployment_that_a_recovery_has_settled_meanwhile_changes_nothing() {
    sweep(Case::OverPrevious, a_recovery, false);
}

#[test]
fn an_engine_whose_lock_file_was_removed_ends_before_anybody_else_comes() {
    let prepared = Case::OverPrevious.prepare();
    let remove = |site: &Site| fs::remove_file(site.layout.lock()).expect("it was there");
    for call in 1.. {
        let Some((site, result, seen)) = overtaken_at(&prepared, call, remove) else {
            assert!(call > 100, "there are only {call} calls");
            break;
        };
        assert!(
            matches!(
                result,
                Err(EngineError::Overtaken(Overtaken::LockLost { .. }))
            ),
            "{result:?}"
        );
        changed_nothing(&site, &seen, &format!("without a lock file in call {call}"));
        // Nobody has to help: the next contact settles it.
        site.recover().expect("it ends");
        site.check();
    }
}

/// A lock that a network file system forgot: the file is the same, but somebody else has taken it since.
#[test]
fn a_lock_that_was_forgotten_is_noticed_by_who_took_it_last() {
    let prepared = Case::OverPrevious.prepare();
    let taken = |site: &Site| fs::write(site.layout.holder(), "{}").expect("written");
    let (site, result, seen) = overtaken_at(&prepared, 30, taken).expect("so many calls");
    assert!(matches!(
        result,
        Err(EngineError::Overtaken(Overtaken::LockLost { .. }))
    ));
    changed_nothing(&site, &seen, "forgotten");
}
