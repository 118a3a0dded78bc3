//! YAML as a tree that knows where everything stands, and a reader that collects problems instead of stopping at one.
//!
//! Pure; runs on the runner. This is the only file that knows which YAML library reads `belay.yml`. It promises that an
//! alias bomb or a huge file costs a bounded amount of work, and that every problem has a position.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};

use super::values::{Text, Word};

/// The largest file that is read, in bytes.
const LARGEST: usize = 256 * 1024;
/// How much of a wrong value is repeated in a message.
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

/// All problems, as they are shown to people: one line each, its hint below it.
pub fn render_problems(problems: &[Problem]) -> String {
    let hint = |problem: &Problem| {
        problem
            .hint
            .as_ref()
            .map(|hint| format!("  hint: {hint}\n"))
            .unwrap_or_default()
    };
    problems
        .iter()
        .map(|problem| format!("{problem}\n{}", hint(problem)))
        .collect()
}

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Position {
    /// For what is not in any file.
    pub(super) const NONE: Position = Position { line: 0, column: 0 };
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) at: Position,
    pub(super) node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Nothing,
    Bool,
    Whole(i128),
    Fraction,
    Text(String),
    List(Vec<Item>),
    Map(Vec<(Item, Item)>),
}

impl Node {
    /// What it is called in a message.
    fn what(&self) -> &'static str {
        match self {
            Node::Nothing => "nothing",
            Node::Bool => "true or false",
            Node::Whole(_) | Node::Fraction => "a number",
            Node::Text(_) => "text",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        // Where an alias is used, not where its anchor is: that is the line to change for this key.
        let at = Position {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
        };
        Ok(Item {
            at,
            node: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Whole(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
        Ok(Node::Whole(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
        Ok(i128::try_from(number).map_or(Node::Fraction, Node::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

/// Reads one YAML document. The error is the place and the words of the first thing that is not YAML.
pub(super) fn parse(text: &str) -> Result<Item, (Position, String)> {
    if text.len() > LARGEST {
        return Err((
            Position { line: 1, column: 1 },
            format!("the file is larger than {} KiB", LARGEST / 1024),
        ));
    }
    let options = serde_saphyr::options! {
        // Repeated keys, yes/no and .inf become problems of their own here, beside all the others.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 20_000, max_events: 60_000, max_aliases: 200 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|at| Position {
            line: at.line(),
            column: at.column(),
        });
        let text = error.to_string();
        // The position is told apart from the words.
        let words = text.split(" at line ").next().unwrap_or_default();
        (
            at.unwrap_or(Position { line: 1, column: 1 }),
            format!("not valid YAML: {}", words.escape_debug()),
        )
    })
}

/// A value that belongs to a named key.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    /// The whole name, as in `images.budget`.
    pub(super) name: String,
    pub(super) item: &'a Item,
}

/// A map whose keys were looked at.
#[derive(Debug)]
pub(super) struct Section<'a> {
    name: String,
    at: Position,
    entries: BTreeMap<&'a str, (Position, &'a Item)>,
}

impl<'a> Section<'a> {
    fn empty(field: &Field<'a>) -> Section<'a> {
        Section {
            name: field.name.clone(),
            at: field.item.at,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        self.entries.get(key).map(|(_, item)| Field {
            name: join(&self.name, key),
            item,
        })
    }

    /// Every entry, with the place of its key.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, Position, Field<'a>)> + '_ {
        self.entries.iter().map(|(key, (at, item))| {
            (
                *key,
                *at,
                Field {
                    name: join(&self.name, key),
                    item,
                },
            )
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where to point for something about this key: its value, or the section when the key is not there.
    pub(super) fn place_of(&self, key: &str) -> Position {
        self.entries.get(key).map_or(self.at, |(_, item)| item.at)
    }

    /// The whole name of one of its keys.
    pub(super) fn name_of(&self, key: &str) -> String {
        join(&self.name, key)
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

/// Reads values and remembers everything that was wrong. Each method answers with what could be read.
pub(super) struct Reader<'k> {
    file: String,
    /// Every key that is known anywhere, with the section that it belongs to; for hints.
    known: &'k [(&'k str, &'k [&'k str])],
    problems: Vec<Problem>,
}

impl<'k> Reader<'k> {
    pub(super) fn new(file: &str, known: &'k [(&'k str, &'k [&'k str])]) -> Reader<'k> {
        Reader {
            file: file.to_owned(),
            known,
            problems: Vec::new(),
        }
    }

    pub(super) fn problem(
        &mut self,
        at: Position,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            message: message.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        });
    }

    /// The value, unless something was wrong; then every problem, in the order of the file.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        Err(self.problems)
    }

    /// A map with these keys and no others.
    pub(super) fn section<'a>(&mut self, field: &Field<'a>, keys: &[&str]) -> Section<'a> {
        let mut section = self.table(field);
        let unknown: Vec<(&str, Position)> = section
            .entries
            .iter()
            .filter(|(key, _)| !keys.contains(key))
            .map(|(key, (at, _))| (*key, *at))
            .collect();
        for (key, at) in unknown {
            section.entries.remove(key);
            let name = shown(&section.name_of(key));
            if looks_secret(key) {
                let hint =
                    "remove it here and pass it as an input of the action, from a GitHub secret";
                self.problem(
                    at,
                    format!("{name} looks like a secret, and belay.yml keeps none"),
                    hint,
                );
            } else {
                let hint = self.suggestion(key, &section.name, keys);
                self.problem(at, format!("{name} is not a setting"), hint);
            }
        }
        section
    }

    /// A map whose keys are names of the user's own.
    pub(super) fn table<'a>(&mut self, field: &Field<'a>) -> Section<'a> {
        let mut section = Section::empty(field);
        let Node::Map(entries) = &field.item.node else {
            self.wrong_type(
                field,
                "a map",
                "write its keys below it, indented by two spaces",
            );
            return section;
        };
        for (key, item) in entries {
            let Node::Text(text) = &key.node else {
                let message = format!(
                    "{} has a key that is {}, not text",
                    title(&field.name),
                    key.node.what()
                );
                self.problem(
                    key.at,
                    message,
                    "put the key in quotes if it is meant as a name",
                );
                continue;
            };
            if let Some((first, _)) = section.entries.get(text.as_str()) {
                let message = format!(
                    "{} is given twice; first in line {}",
                    shown(&section.name_of(text)),
                    first.line
                );
                self.problem(key.at, message, "keep one of the two");
                continue;
            }
            section.entries.insert(text, (key.at, item));
        }
        section
    }

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
                self.problem(field.item.at, message, "remove it, or write what was meant");
                None
            }
            Node::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(field, "text", "put it in quotes");
                None
            }
        }
    }

    pub(super) fn text<T: Text>(&mut self, field: Option<Field<'_>>) -> Option<T> {
        let field = field?;
        let Node::Text(text) = &field.item.node else {
            self.wrong_type(&field, T::WHAT, T::HINT);
            return None;
        };
        let value = T::read(text);
        if value.is_none() {
            let message = format!("{}: \"{}\" is not {}", field.name, shown(text), T::WHAT);
            self.problem(field.item.at, message, T::HINT);
        }
        value
    }

    pub(super) fn word<T: Word>(&mut self, field: Option<Field<'_>>) -> Option<T> {
        let field = field?;
        let words = T::words();
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let Node::Text(text) = &field.item.node else {
            self.wrong_type(
                &field,
                "one of the known words",
                &format!("write one of {}", all.join(", ")),
            );
            return None;
        };
        let value = words
            .iter()
            .find(|(word, _)| word == text)
            .map(|(_, value)| *value);
        if value.is_none() {
            let hint = match closest(text, &all) {
                Some(word) => format!("did you mean {word}? It may be {}", all.join(", ")),
                None => format!("write one of {}", all.join(", ")),
            };
            self.problem(
                field.item.at,
                format!("{}: \"{}\" is not known", field.name, shown(text)),
                hint,
            );
        }
        value
    }

    pub(super) fn count(
        &mut self,
        field: Option<Field<'_>>,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let field = field?;
        let (low, high) = (range.start(), range.end());
        let Node::Whole(number) = field.item.node else {
            let hint = format!("write a number from {low} to {high}, without quotes or a unit");
            self.wrong_type(&field, "a whole number", &hint);
            return None;
        };
        let value = u32::try_from(number)
            .ok()
            .filter(|number| range.contains(number));
        if value.is_none() {
            let message = format!("{}: {number} is out of range", field.name);
            self.problem(
                field.item.at,
                message,
                format!("write a number from {low} to {high}"),
            );
        }
        value
    }

    pub(super) fn wrong_type(&mut self, field: &Field<'_>, wanted: &str, hint: &str) {
        let message = match field.item.node {
            Node::Nothing => format!("{} has no value", title(&field.name)),
            _ => format!(
                "{} is {}, not {wanted}",
                title(&field.name),
                field.item.node.what()
            ),
        };
        self.problem(field.item.at, message, hint);
    }

    /// What may have been meant by an unknown key.
    fn suggestion(&self, key: &str, section: &str, keys: &[&str]) -> String {
        if let Some(close) = closest(key, keys) {
            return format!("did you mean {close}?");
        }
        let home = self
            .known
            .iter()
            .find(|(home, keys)| *home != section && keys.contains(&key));
        match home {
            Some(("", _)) => format!("{key} belongs at the top of the file"),
            Some((home, _)) => format!("{key} belongs under {home}"),
            None => format!("known here: {}", keys.join(", ")),
        }
    }
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
