//! Networks and volumes that two releases define otherwise under one name.
//!
//! Docker cannot change either once it is made. Compose makes such a network anew since 2.37, for which it takes every
//! container off it (docker/compose#12899), and ignored the change before; docker-compose 1.x fails. A volume it would
//! have to empty, so it asks, and keeps it when nobody answers (docker/compose#12363).

use serde_json::Value;

use super::compose::ComposeFile;

/// A network or volume that is defined otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redefined {
    /// What the Compose file calls it.
    pub key: String,
    /// What Docker calls it.
    pub name: String,
    /// What is different.
    pub fields: Vec<String>,
}

/// The part of a Compose file that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The section `networks`. Every project has the network `default`, even where the file leaves it out.
    Networks,
    /// The section `volumes`. Volumes without a name are not in it, so they are not compared.
    Volumes,
}

impl Section {
    fn key(self) -> &'static str {
        match self {
            Section::Networks => "networks",
            Section::Volumes => "volumes",
        }
    }
}

/// What of a section two normalised files of a project define otherwise. What only one of them has is made or left, and what
/// is external is not Compose's.
#[must_use]
pub fn redefined(
    project: &str,
    old: &ComposeFile,
    new: &ComposeFile,
    section: Section,
) -> Vec<Redefined> {
    let definitions = |file: &ComposeFile| {
        let section = file.document().get(section.key());
        section.cloned().unwrap_or_default()
    };
    let (old, new) = (definitions(old), definitions(new));
    let entries = new.as_object().into_iter().flatten();
    let changed = entries.filter_map(|(key, after)| {
        // Compose 1.x leaves the network out that every project has.
        let implied = key == "default" && section == Section::Networks;
        let before = old.get(key).or_else(|| implied.then_some(&Value::Null))?;
        let name = name_of(project, key, after);
        let is_same_thing = name_of(project, key, before) == name;
        let fields = differences(before, after);
        (is_same_thing && !is_external(after) && !fields.is_empty()).then(|| Redefined {
            key: key.clone(),
            name,
            fields,
        })
    });
    changed.collect()
}

fn name_of(project: &str, key: &str, definition: &Value) -> String {
    let named = definition.get("name").and_then(Value::as_str);
    named.map_or_else(|| format!("{project}_{key}"), str::to_owned)
}

fn is_external(definition: &Value) -> bool {
    definition
        .get("external")
        .is_some_and(|external| !is_nothing(external))
}

/// The fields that have another value; versions of Compose write down more or fewer of those that have none.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let field = |definition: &Value, name: &str| {
        let value = definition.get(name).cloned().unwrap_or_default();
        if is_nothing(&value) {
            Value::Null
        } else {
            value
        }
    };
    let names = [before, after].into_iter().filter_map(Value::as_object);
    let mut names: Vec<&String> = names.flat_map(|definition| definition.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != "name" && field(before, name) != field(after, name));
    names.into_iter().cloned().collect()
}

/// Whether a value says as much as none.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(before: &Value, after: &Value) -> Vec<String> {
        let file = |networks: &Value| {
            let document = json!({"services": {"web": {"image": "web"}}, "networks": networks});
            ComposeFile::new(document).expect("a Compose file")
        };
        redefined("shop", &file(before), &file(after), Section::Networks)
            .into_iter()
            .map(|r| format!("{} {} {}", r.key, r.name, r.fields.join(",")))
            .collect()
    }

    #[test]
    fn a_network_that_is_defined_otherwise_is_found_with_what_is_different() {
        let before = json!({"default": {"name": "shop_default", "ipam": {}}, "back": null});
        let after = json!({
            "default": {"driver_opts": {"mtu": "1400"}, "internal": false},
            "back": {"internal": true, "labels": {"a": "b"}},
            "new": {"driver": "bridge"},
        });
        assert_eq!(
            found(&before, &after),
            [
                "back shop_back internal,labels",
                "default shop_default driver_opts"
            ]
        );
        assert_eq!(found(&after, &after), Vec::<String>::new());
    }

    #[test]
    fn the_network_that_every_project_has_need_not_be_written_down() {
        let after = json!({"default": {"internal": true}, "back": {"internal": true}});
        assert_eq!(found(&json!({}), &after), ["default shop_default internal"]);
        assert_eq!(found(&after, &json!({})), Vec::<String>::new());
    }

    #[test]
    fn other_words_for_the_same_another_name_and_what_is_not_composes_are_no_change() {
        let same =
            json!({"default": {"name": "shop_default", "ipam": {"config": []}, "internal": false}});
        assert_eq!(
            found(&json!({"default": null}), &same),
            Vec::<String>::new()
        );
        let named = json!({"default": {"name": "other", "internal": true}});
        assert_eq!(
            found(&json!({"default": null}), &named),
            Vec::<String>::new()
        );
        let external = json!({"default": {"external": true, "name": "shop_default"}});
        assert_eq!(
            found(&json!({"default": null}), &external),
            Vec::<String>::new()
        );
    }
}
