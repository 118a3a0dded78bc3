//! Whether a pull request was reviewed and tested, from its reviews and the checks of its newest commit.
//!
//! Runs anywhere; pure.

use super::checklist::ItemJudge;

/// What a reviewer said once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The reviewer's login.
    pub author: String,
    /// What came of it.
    pub opinion: Opinion,
}

/// What a review came to, as GitHub knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It may go in.
    Approved,
    /// It may not go in like this.
    ChangesRequested,
    /// An opinion that somebody has taken back.
    Dismissed,
    /// Words alone; they leave an earlier opinion as it is.
    Commented,
}

/// A check of a commit, by whatever program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// As the program calls it; foreign text.
    pub name: String,
    /// What came of it.
    pub state: CheckState,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It is well, or was left out on purpose.
    Passed,
    /// It is not well.
    Failed,
    /// It has not ended yet.
    Running,
}

/// Who thinks what of a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// The logins of those whose last opinion is yes.
    pub approved_by: Vec<String>,
    /// The logins of those whose last opinion is no.
    pub refused_by: Vec<String>,
    /// How many checks passed.
    pub passed: usize,
    /// The names of those that failed.
    pub failed: Vec<String>,
    /// The names of those that have not ended.
    pub running: Vec<String>,
}

impl Reviewed {
    /// Reviews come in the order in which they were given; each person's last opinion counts.
    #[must_use]
    pub fn of(reviews: &[Review], checks: &[Check]) -> Reviewed {
        let mut seen = Reviewed::default();
        for (at, review) in reviews.iter().enumerate() {
            let mut later = reviews.iter().skip(at + 1);
            let has_another = later
                .any(|later| later.author == review.author && later.opinion != Opinion::Commented);
            match review.opinion {
                Opinion::Approved if !has_another => seen.approved_by.push(review.author.clone()),
                Opinion::ChangesRequested if !has_another => {
                    seen.refused_by.push(review.author.clone());
                }
                _ => {}
            }
        }
        for check in checks {
            match check.state {
                CheckState::Passed => seen.passed += 1,
                CheckState::Failed => seen.failed.push(check.name.clone()),
                CheckState::Running => seen.running.push(check.name.clone()),
            }
        }
        seen
    }

    /// The machine says so where there are checks. Where there are none, a person has to have tested this commit.
    #[must_use]
    pub fn judge(&self, commit: &str) -> ItemJudge {
        let is_reviewed = !self.approved_by.is_empty() && self.refused_by.is_empty();
        let is_tested = self.failed.is_empty() && self.running.is_empty();
        match self.passed {
            0 if is_reviewed && is_tested => ItemJudge::Person(commit.to_owned()),
            passed => ItemJudge::Machine(is_reviewed && is_tested && passed > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews(said: &[(&str, Opinion)]) -> Vec<Review> {
        let review = |(author, opinion): &(&str, Opinion)| Review {
            author: (*author).to_owned(),
            opinion: *opinion,
        };
        said.iter().map(review).collect()
    }

    fn checks(states: &[CheckState]) -> Vec<Check> {
        let check = |state: &CheckState| Check {
            name: format!("{state:?}"),
            state: *state,
        };
        states.iter().map(check).collect()
    }

    #[test]
    fn each_persons_last_opinion_counts() {
        use Opinion::{Approved, ChangesRequested, Commented, Dismissed};
        let seen = Reviewed::of(
            &reviews(&[
                ("ann", ChangesRequested),
                ("bob", Approved),
                ("ann", Approved),
                ("bob", Commented),
                ("eve", Approved),
                ("eve", Dismissed),
                ("joe", ChangesRequested),
                ("joe", Commented),
            ]),
            &[],
        );
        assert_eq!(seen.approved_by, ["bob", "ann"]);
        assert_eq!(seen.refused_by, ["joe"]);
    }

    #[test]
    fn it_takes_an_approval_and_checks_that_passed() {
        use CheckState::{Failed, Passed, Running};
        let approved = reviews(&[("ann", Opinion::Approved)]);
        let judge = |reviews: &[Review], states: &[CheckState]| {
            Reviewed::of(reviews, &checks(states)).judge("abc")
        };
        assert_eq!(judge(&approved, &[Passed]), ItemJudge::Machine(true));
        assert_eq!(judge(&[], &[Passed]), ItemJudge::Machine(false));
        assert_eq!(
            judge(&approved, &[Passed, Failed]),
            ItemJudge::Machine(false)
        );
        assert_eq!(
            judge(&approved, &[Passed, Running]),
            ItemJudge::Machine(false)
        );
        assert_eq!(judge(&approved, &[Failed]), ItemJudge::Machine(false));
        assert_eq!(judge(&approved, &[]), ItemJudge::Person("abc".into()));
        assert_eq!(judge(&[], &[]), ItemJudge::Machine(false));
        let mut refused = approved;
        refused.extend(reviews(&[("bob", Opinion::ChangesRequested)]));
        assert_eq!(judge(&refused, &[Passed]), ItemJudge::Machine(false));
        assert_eq!(judge(&refused, &[]), ItemJudge::Machine(false));
    }
}
