//! A plan that is taken back before its transaction has begun: by a run that was cancelled while it waited.

use belay_agent::layout::Layout;
use belay_agent::{durable, engine_process, journal, records, state, transactions};
use belay_model::transaction::journal::{End, Event};
use belay_model::transaction::plan::Plan;
use belay_wire::Confirmed;

use crate::support::site::{NO_GUARDS, Site, Version, deployment_of};

const WITHDRAWN: Confirmed = Confirmed::Unwound {
    end: Some(End::Unwound),
};

/// A host that serves v1.0.0 and was handed the plan for v1.1.0.
fn handed_over() -> (Site, Plan) {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let version = Version::second("v1.1.0");
    site.bring(&version);
    let plan = deployment_of(&version);
    let text = serde_json::to_vec(&plan).expect("a plan is JSON");
    durable::replace(&site.layout.incoming_plan(&plan.tx), &text, 0o600).expect("written");
    (site, plan)
}

fn journals(site: &Site) -> usize {
    let numbers = journal::sequence_numbers(&site.layout).expect("readable");
    numbers.len()
}

#[test]
fn what_is_taken_back_before_an_engine_comes_never_begins() {
    let (site, plan) = handed_over();
    let told = transactions::try_abort(&site.host, &site.layout, &plan.tx, "cancelled");
    assert_eq!(told.map_err(|e| e.to_string()), Ok(WITHDRAWN));
    let ended = engine_process::engine_on(&site.host, &site.layout, Some(&plan.tx), &NO_GUARDS);
    assert_eq!(ended.map_err(|e| e.to_string()), Ok(0));
    assert_eq!(journals(&site), 1);
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
    site.check();
}

/// Takes back every plan that waits, as a run does that is cancelled in this very moment.
fn take_back(layout: &Layout) -> std::io::Result<()> {
    for name in records::names(&layout.incoming()).expect("readable") {
        std::fs::remove_file(layout.incoming().join(name))?;
    }
    Ok(())
}

#[test]
fn what_is_taken_back_while_an_engine_begins_is_undone_before_its_first_step() {
    let (site, plan) = handed_over();
    let guards = engine_process::Guards {
        watch: take_back,
        ..NO_GUARDS
    };
    let ended = engine_process::engine_on(&site.host, &site.layout, Some(&plan.tx), &guards);
    assert_eq!(ended.map_err(|e| e.to_string()), Ok(0));
    let (_, entries) = state::find(&site.layout, &plan.tx)
        .expect("readable")
        .expect("it began");
    assert!(matches!(
        entries.last().map(|e| &e.event),
        Some(Event::End {
            end: End::Unwound,
            ..
        })
    ));
    let done =
        |e: &&belay_model::transaction::journal::Entry| matches!(e.event, Event::Done { .. });
    assert_eq!(entries.iter().filter(done).count(), 0, "{entries:#?}");
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
    site.check();
}
