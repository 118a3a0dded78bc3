//! Which version has to serve at each moment of a transaction, so that what somebody else takes away can be brought back.
//!
//! Pure; asked on the host. A transaction stops and starts containers itself: at those moments what it works on is nobody
//! else's, and is left out here.

use super::phase::Phase;
use super::step::Step;
use crate::replacement::gateway::Traffic;

/// Who has to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing serves yet, or the transaction has stopped it.
    Nobody,
    /// The version before, with all its services.
    Before,
    /// The version before, but for the services that are being replaced in place.
    BeforeBesideReplaced,
    /// The new version; the one before is still there to take the requests back.
    After,
    /// The new version, for good.
    Committed,
}

impl Duty {
    /// At a moment of a transaction. Putting data back stops every service from the migration on.
    #[must_use]
    pub fn at(phase: Phase, restores: bool) -> Duty {
        match last_touched(phase) {
            None => Duty::Nobody,
            Some((_, step)) if restores && (Step::Migrate..=Step::Confirm).contains(&step) => {
                Duty::Nobody
            }
            Some((way, step)) => on(way, step),
        }
    }

    /// How the gateway has to treat the two versions, for one that was started again and has forgotten it; `None` where the
    /// transaction tells it anyway, or need not.
    #[must_use]
    pub fn traffic(phase: Phase) -> Option<Traffic> {
        let (way, step) = last_touched(phase)?;
        match (way, step) {
            (Way::Forward, Step::Start | Step::Probe) => Some(Traffic::HELD),
            (Way::Forward, Step::Bake | Step::Confirm | Step::Publish | Step::Drain) => {
                Some(Traffic::MOVED)
            }
            (Way::Back, Step::Start | Step::Probe | Step::Cutover | Step::Bake | Step::Confirm) => {
                Some(Traffic::RETURNED)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

/// The step that was begun last, or that is undone next.
fn last_touched(phase: Phase) -> Option<(Way, Step)> {
    match phase {
        Phase::Empty | Phase::Undone | Phase::Closed(_) => None,
        Phase::Ready { step, .. } => Some((Way::Forward, step.preceding()?)),
        Phase::Performing { step, .. } | Phase::Exhausted(step) => Some((Way::Forward, step)),
        Phase::Performed => Some((Way::Forward, Step::Prune)),
        Phase::Unwinding(step) | Phase::Undoing(step) | Phase::UndoFailed(step) => {
            Some((Way::Back, step))
        }
    }
}

fn on(way: Way, step: Step) -> Duty {
    match step {
        // What ran before is known only after it.
        Step::Preflight if way == Way::Forward => Duty::Nobody,
        Step::Preflight
        | Step::Unpack
        | Step::Fetch
        | Step::Backup
        | Step::Migrate
        | Step::Start
        | Step::Probe => Duty::Before,
        Step::Cutover => Duty::BeforeBesideReplaced,
        Step::Bake | Step::Confirm if way == Way::Back => Duty::BeforeBesideReplaced,
        Step::Bake | Step::Confirm => Duty::After,
        Step::Publish | Step::Drain | Step::Retire | Step::Prune => Duty::Committed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::journal::End;

    fn performing(step: Step) -> Phase {
        Phase::Performing { step, failures: 0 }
    }

    #[test]
    fn at_every_step_somebody_serves_once_it_is_known_who_did() {
        for step in Step::ALL {
            let forward = Duty::at(performing(step), false);
            assert_eq!(forward == Duty::Nobody, step == Step::Preflight, "{step}");
            if !step.is_after_commit() {
                let back = Duty::at(Phase::Undoing(step), false);
                let expected = match step < Step::Cutover {
                    true => Duty::Before,
                    false => Duty::BeforeBesideReplaced,
                };
                assert_eq!(back, expected, "{step}");
            }
        }
    }

    #[test]
    fn a_step_that_has_not_begun_has_stopped_nothing() {
        let ready = |step| Duty::at(Phase::Ready { step, failures: 0 }, false);
        assert_eq!(ready(Step::Preflight), Duty::Nobody);
        assert_eq!(ready(Step::Cutover), Duty::Before);
        assert_eq!(ready(Step::Bake), Duty::BeforeBesideReplaced);
        assert_eq!(ready(Step::Publish), Duty::After);
        assert_eq!(Duty::at(Phase::Performed, false), Duty::Committed);
        assert_eq!(Duty::at(Phase::Closed(End::Committed), false), Duty::Nobody);
    }

    #[test]
    fn while_data_is_put_back_nobody_is_started() {
        for step in [Step::Migrate, Step::Start, Step::Cutover, Step::Confirm] {
            assert_eq!(Duty::at(performing(step), true), Duty::Nobody, "{step}");
            assert_eq!(Duty::at(Phase::Undoing(step), true), Duty::Nobody, "{step}");
        }
        assert_eq!(Duty::at(performing(Step::Backup), true), Duty::Before);
        assert_eq!(Duty::at(performing(Step::Publish), true), Duty::Committed);
    }

    #[test]
    fn a_gateway_that_forgot_treats_both_versions_as_it_did() {
        let forward = |step| Duty::traffic(performing(step));
        assert_eq!(forward(Step::Probe), Some(Traffic::HELD));
        assert_eq!(forward(Step::Backup), None);
        assert_eq!(forward(Step::Bake), Some(Traffic::MOVED));
        let back = Duty::traffic(Phase::Undoing(Step::Cutover));
        assert_eq!(back, Some(Traffic::RETURNED));
    }
}
