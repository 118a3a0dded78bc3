//! Somebody types `docker-compose up -d` in the middle of a transaction, at each of its calls.
//!
//! Compose takes what is published for what shall be: before the commit it takes the candidate away, after it it makes
//! another one. Whatever it does, the host ends with one whole version.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use belay_agent::host::Host;
use belay_model::transaction::journal::Event;

use crate::cases::{Case, sampled};
use crate::support::fake_host::listen;
use crate::support::site::{PROJECT, Site, Version, deployment_of};

#[test]
fn compose_at_any_moment_leaves_one_whole_version() {
    let prepared = Case::OverPrevious.prepare();
    let arranged = prepared.arrange();
    arranged.engine().expect("it ends");
    let calls = arranged.site.host.counted().0;
    for moment in sampled("by hand", calls, 3).map(|call| call - 1) {
        let arranged = prepared.arrange();
        let (host, composition) = (arranged.site.host.clone(), arranged.site.composition());
        let left = Rc::new(Cell::new(Some(moment)));
        listen(Some(Rc::new(move |_| match left.get() {
            Some(0) => {
                left.set(None);
                for service in ["db", "web", "worker"] {
                    // What cannot be done now is told to whoever typed it.
                    let _ = host.up(&composition, service);
                }
            }
            Some(more) => left.set(Some(more - 1)),
            None => {}
        })));
        let ending = arranged.engine();
        listen(None);
        ending.unwrap_or_else(|e| panic!("call {moment}: {e}"));
        // What was made a moment ago gets one to listen.
        arranged.site.host.sleep(Duration::from_secs(5));
        arranged.site.check();
    }
}

/// The emergency path takes everything away, and what a transaction brings back meanwhile is in the way of its last line.
#[test]
fn an_emergency_path_that_got_stuck_half_way_is_completed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::second("v1.1.0"));
    let new = Version::first("v1.2.0");
    site.bring(&new);
    let saved = site.save();
    let site = saved.restore();
    let before = site.host.counted().0;
    site.engine(&deployment_of(&new)).expect("it ends");
    let calls = site.host.counted().0 - before;
    for moment in sampled("emergency path", calls, 3).map(|call| call - 1) {
        let site = saved.restore();
        let (host, layout) = (site.host.clone(), site.layout.clone());
        let left = Rc::new(Cell::new(Some(moment)));
        listen(Some(Rc::new(move |_| match left.get() {
            Some(0) => {
                left.set(None);
                for container in host.containers(PROJECT).expect("listed") {
                    host.remove_container(&container.id).expect("removed");
                }
                fs::copy(layout.compose_backup(), layout.compose()).expect("copied");
            }
            Some(more) => left.set(Some(more - 1)),
            None => {}
        })));
        let ending = site.engine(&deployment_of(&new));
        listen(None);
        ending.unwrap_or_else(|e| panic!("call {moment}: {e}"));
        site.host.sleep(Duration::from_secs(5));
        if matches!(site.entries().last().map(|e| &e.event), Some(Event::End { down, .. }) if !down.is_empty())
        {
            // It came after the last look, as it may to any host at rest, and was told.
            continue;
        }
        let serving = site.serving().expect("something does");
        assert_eq!(site.answered(), Some(serving.clone()), "call {moment}");
        site.check_running();
    }
}
