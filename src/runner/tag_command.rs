//! `belay tag <TAG>`: explains any text as a tag. Runs on the runner or a laptop; reads the repository, changes
//! nothing.
//!
//! Answers in three short lines, or as one JSON object. Both are plain ASCII whatever the text contained, so that a
//! hostile name can neither draw on a terminal nor begin a workflow command.

use std::path::Path;

use crate::git::{GitError, repository_facts};
use belay_model::config::Config;
use belay_model::request::tag_ancestry::RepositoryFacts;
use belay_model::request::tag_explanation::{Explanation, explain};

/// Exit codes of this command, as everywhere in Belay.
const ACCEPTED: u8 = 0;
const REFUSED: u8 = 10;
/// How much of a refused text is shown to people.
const SHOWN: usize = 60;

/// Explains `text` by the rules of the repository around `dir` and the environments of `config`, and returns what to
/// print and the exit code: 0 accepted, 10 refused.
#[must_use]
pub fn run(text: &str, json: bool, dir: &Path, config: &Config) -> (String, u8) {
    let facts = repository_facts(dir, text);
    let environment_of = |kind| config.environment_of(kind).map(str::to_owned);
    let explanation = explain(text, facts.as_ref().ok(), environment_of);
    let exit = if explanation.accepted {
        ACCEPTED
    } else {
        REFUSED
    };
    let output = if json {
        as_json(&explanation)
    } else {
        as_lines(&explanation, &facts)
    };
    (output, exit)
}

/// One object on one line. Characters outside ASCII are written as `\u` escapes, which means the same to a JSON reader.
fn as_json(explanation: &Explanation) -> String {
    // Strings and a boolean always serialise; an empty object would be visible at once.
    let object = serde_json::to_string(explanation).unwrap_or_else(|_| "{}".into());
    let mut output = String::with_capacity(object.len() + 1);
    for c in object.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            output.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units)
                .iter()
                .for_each(|unit| output.push_str(&format!("\\u{unit:04x}")));
        }
    }
    output.push('\n');
    output
}

fn as_lines(explanation: &Explanation, facts: &Result<RepositoryFacts, GitError>) -> String {
    let reason = explanation.reason.as_deref();
    match (
        explanation.accepted,
        explanation.kind,
        &explanation.environment,
    ) {
        (true, Some(kind), Some(environment)) => {
            let judged = reason.map_or_else(|| judged(facts), str::to_owned);
            format!(
                "accepted: {} is a {kind} tag\ngoes to: {environment}\nchecked: {judged}\n",
                explanation.tag
            )
        }
        _ => format!(
            "refused: \"{}\"\nreason: {}\nnearest: {}\n",
            shown(&explanation.tag),
            reason.unwrap_or("unknown"),
            explanation.nearest.as_deref().unwrap_or("none"),
        ),
    }
}

fn judged(facts: &Result<RepositoryFacts, GitError>) -> String {
    match facts {
        Ok(_) => "its name, and its place among this repository's tags".into(),
        Err(problem) => format!("its name only; {problem}"),
    }
}

/// The text with everything unprintable escaped, and cut.
fn shown(text: &str) -> String {
    let escaped: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().count() > SHOWN {
        format!("{escaped}...")
    } else {
        escaped
    }
}
