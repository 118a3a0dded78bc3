//! Somebody types `docker-compose up -d` in the middle of a transaction, at each of its calls.
//!
//! Compose takes what is published for what shall be: before the commit it takes the candidate away, after it it makes
//! another one. Whatever it does, the host ends with one whole version.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use belay_agent::host::Host;

use crate::cases::{Case, sampled};
use crate::support::fake_host::listen;

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
