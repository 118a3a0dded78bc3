//! What is different about the services of two releases, by names alone: the values may be secrets.
//!
//! Runs anywhere; pure. It compares normalised Compose files, so another way to write the same is no change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compose::ComposeFile;

/// A service that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// Its name in the Compose files.
    pub service: String,
    /// What happened to it from the old release to the new one.
    pub kind: ChangeKind,
}

/// How a service differs between two releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Only the new release has it.
    Added,
    /// Only the old release has it.
    Removed,
    /// Both have it, and its definition or its image differs.
    Changed {
        /// The keys that have another value, `image` among them when another image serves.
        keys: Vec<String>,
        /// Variables, each with `+`, `-` or `~` before its name.
        environment: Vec<String>,
    },
}

/// One of the two releases, as far as it is compared.
#[derive(Clone, Debug)]
pub struct ReleaseContent {
    /// Its normalised Compose file.
    pub file: ComposeFile,
    /// The image of each service, by its ID.
    pub images: BTreeMap<String, String>,
}

/// The services that differ, by name.
#[must_use]
pub fn service_changes(old: &ReleaseContent, new: &ReleaseContent) -> Vec<ServiceChange> {
    let (before, after) = (old.file.service_names(), new.file.service_names());
    let all: BTreeSet<String> = before.into_iter().chain(after).collect();
    let change = |service: String| {
        let kind = match (old.file.service(&service), new.file.service(&service)) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (Some(before), Some(after)) => {
                let same_image = old.images.get(&service) == new.images.get(&service);
                changed(before, after, same_image)?
            }
        };
        Some(ServiceChange { service, kind })
    };
    all.into_iter().filter_map(change).collect()
}

fn changed(before: &Value, after: &Value, same_image: bool) -> Option<ChangeKind> {
    let differs = |key: &&String| before.get(key.as_str()) != after.get(key.as_str());
    // An image's name changes with every version; what counts is whether it is another one.
    let is_plain = |key: &&String| !matches!(key.as_str(), "image" | "environment" | "build");
    let mut keys: BTreeSet<String> = names(before).union(&names(after)).cloned().collect();
    keys = keys
        .iter()
        .filter(is_plain)
        .filter(differs)
        .cloned()
        .collect();
    if !same_image {
        keys.insert("image".to_owned());
    }
    let environment = variables(
        &variables_of(before.get("environment")),
        &variables_of(after.get("environment")),
    );
    let is_same = keys.is_empty() && environment.is_empty();
    (!is_same).then(|| ChangeKind::Changed {
        keys: keys.into_iter().collect(),
        environment,
    })
}

fn names(service: &Value) -> BTreeSet<String> {
    service
        .as_object()
        .map(|object| object.keys().cloned().collect())
        .unwrap_or_default()
}

/// As a mapping or as a list of `NAME=value`; which one it is depends on the Compose that wrote it.
fn variables_of(environment: Option<&Value>) -> BTreeMap<String, String> {
    match environment {
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(Value::as_str)
            .map(|line| line.split_once('=').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn variables(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let sign = |name: &String| match (before.get(name), after.get(name)) {
        (None, Some(_)) => Some('+'),
        (Some(_), None) => Some('-'),
        (before, after) if before != after => Some('~'),
        _ => None,
    };
    all.into_iter()
        .filter_map(|name| sign(name).map(|sign| format!("{sign}{name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(old: Value, new: Value, old_image: &str, new_image: &str) -> Vec<ServiceChange> {
        let side = |services: Value, image: &str| ReleaseContent {
            file: ComposeFile::new(json!({"services": services})).expect("good"),
            images: BTreeMap::from([("web".to_owned(), image.to_owned())]),
        };
        service_changes(&side(old, old_image), &side(new, new_image))
    }

    fn web(kind: ChangeKind) -> Vec<ServiceChange> {
        vec![ServiceChange {
            service: "web".to_owned(),
            kind,
        }]
    }

    #[test]
    fn services_come_and_go() {
        let (with, without) = (
            json!({"web": {"image": "a"}, "db": {"image": "b"}}),
            json!({"db": {"image": "b"}}),
        );
        assert_eq!(
            changes(without.clone(), with.clone(), "1", "1"),
            web(ChangeKind::Added)
        );
        assert_eq!(changes(with, without, "1", "1"), web(ChangeKind::Removed));
    }

    #[test]
    fn keys_and_variables_are_named_and_values_are_not() {
        let old = json!({"web": {
            "image": "a:1", "restart": "always", "ports": ["80:80"],
            "environment": {"PASSWORD": "old secret", "GONE": "1", "SAME": 1},
        }});
        let new = json!({"web": {
            "image": "a:2", "restart": "always", "ports": ["81:80"], "user": "me",
            "environment": {"PASSWORD": "new secret", "NEW": "2", "SAME": "1"},
        }});
        let changes = changes(old, new, "1", "2");
        assert_eq!(
            changes,
            web(ChangeKind::Changed {
                keys: vec!["image".to_owned(), "ports".to_owned(), "user".to_owned()],
                environment: vec![
                    "-GONE".to_owned(),
                    "+NEW".to_owned(),
                    "~PASSWORD".to_owned()
                ],
            })
        );
        assert!(!format!("{changes:?}").contains("secret"));
    }

    #[test]
    fn another_name_of_the_same_image_is_no_change() {
        let service = |image: &str, environment: Value| json!({"web": {"image": image, "environment": environment}});
        let (old, new) = (
            service("a:1", json!({"A": "b"})),
            service("a:2", json!(["A=b"])),
        );
        assert_eq!(changes(old, new, "1", "1"), vec![]);
    }
}
