//! The tables of `docs/configuration.md`, made from the declared keys.
//!
//! Pure. The document has a pair of marks for each table, and in the first the keys of the top that it shows:
//! `<!-- keys: images -->` … `<!-- /keys -->`.

use std::fmt::Write as _;

use super::resolve::keys;
use super::setting::{SettingKey, Shape, Usual};

const BEGIN: &str = "<!-- keys: ";
const END: &str = "<!-- /keys -->";

/// Why a document cannot have its tables.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfillable {
    /// A first mark without its end.
    #[error("a mark `{BEGIN}…` has no `{END}`")]
    Open,
    /// A mark names a key that is not declared.
    #[error("`{0}` is no key of the top of belay.yml")]
    Unknown(String),
    /// A declared key is in no table.
    #[error("no table shows `{0}`: name it in a mark `{BEGIN}…`")]
    Missing(String),
}

/// The document with its tables as the declaration has them.
pub fn fill(document: &str) -> Result<String, Unfillable> {
    let all = keys();
    let mut unshown: Vec<&SettingKey> = all.iter().collect();
    let mut filled = String::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (names, after) = after.split_once(" -->\n").ok_or(Unfillable::Open)?;
        let (_, after) = after.split_once(END).ok_or(Unfillable::Open)?;
        let mut shown = Vec::new();
        for name in names.split(' ') {
            let found = all.iter().find(|key| key.name == name);
            shown.push(found.ok_or_else(|| Unfillable::Unknown(name.to_owned()))?);
            unshown.retain(|key| key.name != name);
        }
        let table = table(&shown);
        let _ = write!(filled, "{before}{BEGIN}{names} -->\n\n{table}\n{END}");
        rest = after;
    }
    match unshown.first() {
        Some(key) => Err(Unfillable::Missing(key.name.clone())),
        None => Ok(filled + rest),
    }
}

/// What a key means, in one sentence: for a comment beside it. The key is named as in `health.primary`.
#[must_use]
pub fn in_short(path: &str) -> Option<String> {
    let key = find(path, &keys())?;
    let sentence = key
        .about
        .split_once(". ")
        .map_or(key.about.as_str(), |(first, _)| first);
    Some(sentence.trim_end_matches('.').to_owned())
}

/// The default of a key, when it is one value.
#[must_use]
pub fn default_of(path: &str) -> Option<String> {
    match find(path, &keys())?.usual {
        Usual::Value(value) => Some(written(&value)),
        Usual::Words(_) | Usual::Unsaid => None,
    }
}

fn find(path: &str, keys: &[SettingKey]) -> Option<SettingKey> {
    let (name, below) = path
        .split_once('.')
        .map_or((path, None), |(name, below)| (name, Some(below)));
    let key = keys.iter().find(|key| key.name == name)?;
    match below {
        None => Some(key.clone()),
        Some(below) => find(below, &keys_below(&key.shape)),
    }
}

/// The keys of a map, in whatever form it may be written.
fn keys_below(shape: &Shape) -> Vec<SettingKey> {
    match shape {
        Shape::Keys { keys, .. } | Shape::OneKey(keys) => keys.clone(),
        Shape::Either(shapes) => shapes.iter().flat_map(keys_below).collect(),
        _ => Vec::new(),
    }
}

fn table(keys: &[&SettingKey]) -> String {
    let mut text = "| Key | Default | Meaning |\n|---|---|---|\n".to_owned();
    for key in keys {
        rows(&mut text, &key.name, key);
    }
    text
}

/// The row of a key, and those of the keys below it.
fn rows(text: &mut String, path: &str, key: &SettingKey) {
    let (usual, meaning) = (usual(key), meaning(key));
    let _ = writeln!(text, "| `{path}` |{usual}| {meaning} |");
    rows_below(text, path, &key.shape);
}

fn rows_below(text: &mut String, path: &str, shape: &Shape) {
    match shape {
        Shape::Text(_) | Shape::Argument | Shape::Choice(_) | Shape::Number(_) => {}
        Shape::List(each) => rows_below(text, path, each),
        Shape::Named { each, .. } => rows_below(text, &format!("{path}.NAME"), each),
        Shape::Either(shapes) => shapes
            .iter()
            .for_each(|shape| rows_below(text, path, shape)),
        Shape::Keys { keys, .. } | Shape::OneKey(keys) => {
            let (above, own): (Vec<&SettingKey>, Vec<&SettingKey>) =
                keys.iter().partition(|key| is_described_above(path, key));
            let above: Vec<String> = above.iter().map(|key| format!("`{}`", key.name)).collect();
            if let Some((last, others)) = above.split_last() {
                let others = others.join(", ");
                let _ = writeln!(
                    text,
                    "| `{path}` | | It may also have its own {others} and {last}. |"
                );
            }
            for key in own {
                rows(text, &format!("{path}.{}", key.name), key);
            }
        }
    }
}

/// Whether this is a key that an environment may have for itself, and the file for all of them.
fn is_described_above(path: &str, key: &SettingKey) -> bool {
    path == "environments.NAME" && keys().iter().any(|above| above.name == key.name)
}

fn usual(key: &SettingKey) -> String {
    match &key.usual {
        Usual::Value(value) => format!(" `{}` ", written(value)),
        Usual::Words(words) => format!(" {words} "),
        // Where there are keys below, they have the defaults.
        Usual::Unsaid if keys_below(&key.shape).is_empty() => " — ".to_owned(),
        Usual::Unsaid => " ".to_owned(),
    }
}

/// What a key means, and each of its words.
fn meaning(key: &SettingKey) -> String {
    let words = words(&key.shape);
    let words = words
        .iter()
        .map(|(word, meaning)| match meaning.strip_suffix('.') {
            Some(meaning) => format!(" `{word}`: {}.", lower(meaning)),
            None => format!(" `{word}`: {meaning}."),
        });
    words.fold(key.about.clone(), |about, word| about + &word)
}

fn words(shape: &Shape) -> Vec<(&'static str, &'static str)> {
    match shape {
        Shape::Choice(words) => words.clone(),
        Shape::List(each) => words(each),
        Shape::Either(shapes) => shapes.iter().flat_map(words).collect(),
        Shape::Text(_)
        | Shape::Argument
        | Shape::Number(_)
        | Shape::Named { .. }
        | Shape::Keys { .. }
        | Shape::OneKey(_) => Vec::new(),
    }
}

/// A sentence behind a colon. A name (`HTTP/1.1`, `Belay`) stays as it is.
fn lower(sentence: &str) -> String {
    let word = sentence.split(' ').next().unwrap_or_default();
    if word == "Belay" || word.chars().skip(1).any(char::is_uppercase) {
        return sentence.to_owned();
    }
    let mut letters = sentence.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

fn written(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
