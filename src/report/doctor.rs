//! What `belay doctor` found: one line for each thing that it looked at, with what to do about it.
//!
//! Runs anywhere; pure.

use serde::{Deserialize, Serialize};

use super::words::{self, columns};

use belay_model::text::one_line;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Nothing to do.
    Good,
    /// It works, and something about it should be known.
    Careful,
    /// A deployment would fail.
    Bad,
    /// It could not be looked at.
    Unknown,
}

impl Grade {
    fn sign(self) -> &'static str {
        match self {
            Grade::Good => "ok",
            Grade::Careful => "careful",
            Grade::Bad => "BAD",
            Grade::Unknown => "-",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A short label for the first column, as in `Docker` or `clock`.
    pub what: String,
    /// A single [`Grade::Bad`] makes `belay doctor` fail.
    pub grade: Grade,
    /// What was seen. Reduced to one line when printed as text, not in JSON.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    fn new(what: &str, grade: Grade, text: impl Into<String>) -> Self {
        Finding {
            what: what.to_owned(),
            grade,
            text: text.into(),
            fix: None,
        }
    }

    /// A check that passed. It has no fix.
    pub fn good(what: &str, text: impl Into<String>) -> Self {
        Finding::new(what, Grade::Good, text)
    }

    /// A check that passed, with something to know and the fix for it.
    pub fn careful(what: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding {
            fix: Some(fix.into()),
            ..Finding::new(what, Grade::Careful, text)
        }
    }

    /// A check for which a deployment would fail, with the fix.
    pub fn bad(what: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding {
            fix: Some(fix.into()),
            ..Finding::new(what, Grade::Bad, text)
        }
    }

    /// A check that could not be made; `text` says why. Does not count as a problem.
    pub fn unknown(what: &str, text: impl Into<String>) -> Self {
        Finding::new(what, Grade::Unknown, text)
    }
}

/// Whether a deployment would fail for one of them.
#[must_use]
pub fn is_bad(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.grade == Grade::Bad)
}

/// The findings on a console, and how many there are of each.
#[must_use]
pub fn doctor_text(findings: &[Finding]) -> String {
    let mut rows = vec![];
    for finding in findings {
        let cell = |text: &str| one_line(text);
        rows.push(vec![
            finding.grade.sign().to_owned(),
            cell(&finding.what),
            cell(&finding.text),
        ]);
        if let Some(fix) = &finding.fix {
            rows.push(vec![
                String::new(),
                String::new(),
                format!("fix: {}", cell(fix)),
            ]);
        }
    }
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    let bad = words::count(count(Grade::Bad), "problem", "problems");
    let careful = words::count(count(Grade::Careful), "thing", "things");
    format!("{}\n{bad}, {careful} to know\n", columns(&rows, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_its_fix_the_next() {
        let findings = [
            Finding::good("Compose", "2.26.1"),
            Finding::careful("disk", "12 % free", "make room"),
            Finding::bad("SSH", "refused\n\u{1b}[31m", "give the key"),
            Finding::unknown("endpoints", "the host was not reached"),
        ];
        insta::assert_snapshot!(doctor_text(&findings));
        assert!(is_bad(&findings) && !is_bad(&findings[..2]));
    }
}
