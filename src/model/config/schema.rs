//! The JSON schema of `belay.yml`, for editors and for `docs/belay.schema.json`, made from the declared keys.
//!
//! Pure. It knows about shapes; what has to fit together, only the reader knows (`checks.rs`), which also gives better
//! messages than a schema could.

use serde_json::{Map, Value, json};

use super::resolve::keys;
use super::setting::{SettingKey, Shape, Usual};

/// Which keys have their defaults in the schema.
#[derive(Clone, Copy)]
enum Defaults<'a> {
    /// All of these, the keys of the top. In an environment there are none for those that stand at the top as well:
    /// what the file says for all environments holds.
    Top(&'a [SettingKey]),
    Environment(&'a [SettingKey]),
    All,
    None,
}

impl<'a> Defaults<'a> {
    fn of(self, key: &SettingKey) -> Defaults<'a> {
        match self {
            Defaults::Top(top) if key.name == "environments" => Defaults::Environment(top),
            Defaults::Environment(top) if top.iter().any(|one| one.name == key.name) => {
                Defaults::None
            }
            Defaults::Top(_) | Defaults::Environment(_) | Defaults::All => Defaults::All,
            Defaults::None => Defaults::None,
        }
    }
}

/// The schema, as it is committed.
#[must_use]
pub fn schema() -> Value {
    let keys = keys();
    let mut schema = map_of(&keys, &[], Defaults::Top(&keys));
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".to_owned(), "belay.yml".into());
    let about = "How Belay deploys this repository: belay.yml. Every setting has a default.";
    schema.insert("description".to_owned(), about.into());
    schema.into()
}

/// A map of these keys and no others. A key is left out, not null: `bake:` with nothing behind it is an unfinished line.
fn map_of(keys: &[SettingKey], required: &[&str], defaults: Defaults<'_>) -> Map<String, Value> {
    let properties = keys
        .iter()
        .map(|key| (key.name.clone(), of_key(key, defaults.of(key))));
    let properties: Map<String, Value> = properties.collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("additionalProperties".to_owned(), false.into());
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

fn of_key(key: &SettingKey, defaults: Defaults<'_>) -> Value {
    let mut schema = of_shape(&key.shape, defaults);
    let mut about = plain(&key.about);
    match &key.usual {
        _ if matches!(defaults, Defaults::None) => None,
        Usual::Value(value) => schema.insert("default".to_owned(), value.clone()),
        Usual::Words(words) => {
            about = format!("{about} Default: {}.", plain(words));
            None
        }
        Usual::Unsaid => None,
    };
    schema.insert("description".to_owned(), about.into());
    schema.into()
}

fn of_shape(shape: &Shape, defaults: Defaults<'_>) -> Map<String, Value> {
    let schema = match shape {
        Shape::Keys { keys, required } => return map_of(keys, required, defaults),
        Shape::Text(pattern) => json!({"type": "string", "pattern": pattern}),
        Shape::Argument => json!({
            "type": "string", "minLength": 1,
            "description": "One argument of a command; no shell takes part."
        }),
        Shape::Choice(words) => {
            let of_word = |(word, meaning): &(&str, &str)| json!({"const": word, "type": "string", "description": plain(meaning)});
            json!({"oneOf": words.iter().map(of_word).collect::<Vec<_>>()})
        }
        Shape::Number(range) => {
            json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
        }
        Shape::List(each) => json!({"type": "array", "items": of_shape(each, defaults)}),
        Shape::Named { pattern, each } => json!({
            "type": "object", "additionalProperties": false,
            "patternProperties": {*pattern: of_shape(each, defaults)}
        }),
        Shape::OneKey(keys) => {
            let alone =
                |key: &SettingKey| map_of(std::slice::from_ref(key), &[&key.name], defaults);
            json!({"oneOf": keys.iter().map(alone).collect::<Vec<_>>()})
        }
        Shape::Either(shapes) => {
            json!({"anyOf": shapes.iter().map(|shape| of_shape(shape, defaults)).collect::<Vec<_>>()})
        }
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// Markdown as editors show it: without marks, a link as its text.
fn plain(markdown: &str) -> String {
    let mut rest = markdown;
    let mut text = String::new();
    while let Some((before, link)) = rest.split_once('[') {
        let Some((name, target)) = link.split_once("](") else {
            break;
        };
        let Some((_, after)) = target.split_once(')') else {
            break;
        };
        text.push_str(before);
        text.push_str(name);
        rest = after;
    }
    text.push_str(rest);
    text.replace('`', "")
}
