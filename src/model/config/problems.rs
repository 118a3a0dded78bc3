//! What is wrong with `belay.yml`: readers of single values that collect problems instead of stopping at one.
//!
//! Pure; runs on the runner. Each reader answers with what could be read, so that one wrong value hides no other.

use std::fmt;
use std::ops::RangeInclusive;

use super::document::{Entries, Field, Node, Position};
use super::values::{Choice, Text};

/// How much of a wrong value is repeated in a message: enough to find it, too little to flood a log.
const SHOWN: usize = 40;

/// Something that is wrong with a configuration file or an input.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, or `inputs` for what came as an input.
    pub file: String,
    /// The line, from 1; 0 when there is none.
    pub line: u64,
    /// The column in characters, from 1; 0 when there is none.
    pub column: u64,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    pub hint: Option<String>,
}

impl Problem {
    /// Of what came as an input: it has no place.
    pub(super) fn of_inputs(message: String, hint: String) -> Problem {
        Problem {
            file: "inputs".to_owned(),
            line: Position::NONE.line,
            column: Position::NONE.column,
            message,
            hint: Some(hint),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

/// All problems, as they are shown to people: one line each, its hint below it.
#[must_use]
pub fn render_problems(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |text, problem| {
        let hint = problem.hint.as_ref();
        let hint = hint.map(|hint| format!("  hint: {hint}\n"));
        format!("{text}{problem}\n{}", hint.unwrap_or_default())
    })
}

/// A map of settings, for the hint that a key belongs there.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// Its name, as in `images`; empty for the file itself.
    pub(super) path: String,
    pub(super) keys: Vec<String>,
}

/// The readers of single values. Remembers everything that was wrong.
pub(super) struct Problems {
    file: String,
    /// Every map of settings that there is.
    homes: Vec<Home>,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn of(file: &str, homes: Vec<Home>) -> Problems {
        Problems {
            file: file.to_owned(),
            homes,
            found: Vec::new(),
        }
    }

    /// For what is read a second time: its problems are known.
    pub(super) fn ignored() -> Problems {
        Problems::of("", Vec::new())
    }

    pub(super) fn add(
        &mut self,
        at: Position,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.found.push(Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            message: message.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        });
    }

    /// The value, unless something was wrong; then every problem, in the order of the file.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Vec<Problem>> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found
            .sort_by_key(|problem| (problem.line, problem.column));
        Err(self.found)
    }

    /// A map with these keys and no others.
    pub(super) fn section<'a>(&mut self, field: &Field<'a>, keys: &[String]) -> Entries<'a> {
        let mut section = self.table(field);
        for (key, at) in section.take_others(keys) {
            let name = shown(&section.name_of(key));
            if looks_secret(key) {
                let hint =
                    "remove it here and pass it as an input of the action, from a GitHub secret";
                self.add(
                    at,
                    format!("{name} looks like a secret, and belay.yml keeps none"),
                    hint,
                );
            } else {
                let hint = self.suggestion(key, &section.name, keys);
                self.add(at, format!("{name} is not a setting"), hint);
            }
        }
        section
    }

    /// A map whose keys are names of the user's own.
    pub(super) fn table<'a>(&mut self, field: &Field<'a>) -> Entries<'a> {
        let mut entries = Entries::none(field);
        let Node::Map(written) = &field.item.node else {
            let hint = "write its keys below it, indented by two spaces";
            self.wrong_type(field, "a map", hint);
            return entries;
        };
        for (key, item) in written {
            let Node::Text(text) = &key.node else {
                let (name, what) = (title(&field.name), key.node.what());
                let message = format!("{name} has a key that is {what}, not text");
                let hint = "put the key in quotes if it is meant as a name";
                self.add(key.at, message, hint);
                continue;
            };
            if let Err(first) = entries.add(text, key.at, item) {
                let name = shown(&entries.name_of(text));
                let message = format!("{name} is given twice; first in line {}", first.line);
                self.add(key.at, message, "keep one of the two");
            }
        }
        entries
    }

    /// The items of a list, each under the list's name.
    pub(super) fn list<'a>(&mut self, field: &Field<'a>) -> Vec<Field<'a>> {
        let Node::List(items) = &field.item.node else {
            self.wrong_type(
                field,
                "a list",
                "write it as [a, b] or as lines that begin with a hyphen",
            );
            return Vec::new();
        };
        items
            .iter()
            .map(|item| Field {
                name: field.name.clone(),
                item,
            })
            .collect()
    }

    /// Any text at all, as long as it is not empty.
    pub(super) fn any_text(&mut self, field: &Field<'_>) -> Option<String> {
        match &field.item.node {
            Node::Text(text) if text.is_empty() || text.contains('\0') => {
                let message = format!("{} has an empty text or a zero byte", field.name);
                self.add(field.item.at, message, "remove it, or write what was meant");
                None
            }
            Node::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(field, "text", "put it in quotes");
                None
            }
        }
    }

    /// A value that is written as text.
    pub(super) fn text<T: Text>(&mut self, field: &Field<'_>) -> Option<T> {
        let Node::Text(text) = &field.item.node else {
            self.wrong_type(field, T::WHAT, T::HINT);
            return None;
        };
        let value = T::read(text);
        if value.is_none() {
            let message = format!("{}: \"{}\" is not {}", field.name, shown(text), T::WHAT);
            self.add(field.item.at, message, T::HINT);
        }
        value
    }

    /// One of a few words.
    pub(super) fn choice<T: Choice>(&mut self, field: &Field<'_>) -> Option<T> {
        let words = T::words();
        let all: Vec<&str> = words.iter().map(|word| word.word).collect();
        let Node::Text(text) = &field.item.node else {
            let hint = format!("write one of {}", all.join(", "));
            self.wrong_type(field, "one of the known words", &hint);
            return None;
        };
        let found = words.iter().find(|word| word.word == text);
        if found.is_none() {
            let hint = match closest(text, &all) {
                Some(word) => format!("did you mean {word}? It may be {}", all.join(", ")),
                None => format!("write one of {}", all.join(", ")),
            };
            let message = format!("{}: \"{}\" is not known", field.name, shown(text));
            self.add(field.item.at, message, hint);
        }
        found.map(|word| word.value)
    }

    /// A whole number in this range.
    pub(super) fn count(&mut self, field: &Field<'_>, range: &RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (range.start(), range.end());
        let Node::Whole(number) = field.item.node else {
            let hint = format!("write a number from {low} to {high}, without quotes or a unit");
            self.wrong_type(field, "a whole number", &hint);
            return None;
        };
        let value = u32::try_from(number).ok();
        let value = value.filter(|number| range.contains(number));
        if value.is_none() {
            let message = format!("{}: {number} is out of range", field.name);
            let hint = format!("write a number from {low} to {high}");
            self.add(field.item.at, message, hint);
        }
        value
    }

    /// Says that something of another kind stands where `wanted` should.
    pub(super) fn wrong_type(&mut self, field: &Field<'_>, wanted: &str, hint: &str) {
        let message = match field.item.node {
            Node::Nothing => format!("{} has no value", title(&field.name)),
            _ => format!(
                "{} is {}, not {wanted}",
                title(&field.name),
                field.item.node.what()
            ),
        };
        self.add(field.item.at, message, hint);
    }

    /// What may have been meant by an unknown key.
    fn suggestion(&self, key: &str, section: &str, keys: &[String]) -> String {
        let known: Vec<&str> = keys.iter().map(String::as_str).collect();
        if let Some(close) = closest(key, &known) {
            return format!("did you mean {close}?");
        }
        let has_it = |home: &&Home| home.path != section && home.keys.iter().any(|k| k == key);
        match self.homes.iter().find(has_it) {
            Some(home) if home.path.is_empty() => format!("{key} belongs at the top of the file"),
            Some(home) => format!("{key} belongs under {}", home.path),
            None => format!("known here: {}", known.join(", ")),
        }
    }
}

/// A map that was read before: its problems are known. Of what is not a map, there are no entries.
pub(super) fn entries<'a>(field: &Field<'a>) -> Entries<'a> {
    Problems::ignored().table(field)
}

/// The word that is most probably meant, if any is close enough.
pub(super) fn closest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    let text = text.to_lowercase().replace('_', "-");
    let distance = |word: &str| strsim::damerau_levenshtein(&text, word);
    let near = words
        .iter()
        .filter(|word| distance(word) <= (word.len() / 3).max(1));
    near.min_by_key(|word| distance(word)).copied()
}

fn looks_secret(key: &str) -> bool {
    const SECRETS: [&str; 9] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "ssh-key",
        "private-key",
        "api-key",
        "credential",
    ];
    let key = key.to_lowercase().replace('_', "-");
    key == "key" || SECRETS.iter().any(|secret| key.contains(secret))
}

/// The file itself has no name.
fn title(name: &str) -> &str {
    if name.is_empty() { "the file" } else { name }
}

/// A text of the user's, harmless and short.
pub(super) fn shown(text: &str) -> String {
    let escaped: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > SHOWN {
        format!("{escaped}...")
    } else {
        escaped
    }
}
