//! Networks and volumes that are defined otherwise than they were made, under the same name.
//!
//! Docker cannot change either once it is made. Compose makes such a network anew since 2.31, for which it takes every
//! container off it (docker/compose#12899), and ignored the change before; docker-compose 1.x fails. A volume it would
//! have to empty, so it asks, and keeps it when nobody answers (docker/compose#12363). So a definition that says
//! something else than what is there is either not heeded, without a word, or heeded at a moment that nobody chose.
//!
//! Networks are compared as two releases define them: what is there has addresses that Docker chose, and marks of the
//! Compose that made it. Volumes are compared with what is there.

use std::collections::BTreeMap;

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

impl Redefined {
    /// Whether more is different than labels, which change nothing about what runs.
    #[must_use]
    pub fn works_otherwise(&self) -> bool {
        self.fields.iter().any(|field| field != "labels")
    }
}

/// A volume of a normalised file that is Compose's to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinedVolume {
    /// What the Compose file calls it.
    pub key: String,
    /// What Docker calls it.
    pub name: String,
    driver: String,
    options: BTreeMap<String, String>,
}

impl DefinedVolume {
    /// What is different about the volume of this name that is there: `driver`, or `driver_opts` and the option.
    #[must_use]
    pub fn differences(&self, driver: &str, options: &BTreeMap<String, String>) -> Vec<String> {
        let mut found = vec![];
        if self.driver != driver {
            found.push(format!(
                "driver: {driver} there, {} in the file",
                self.driver
            ));
        }
        let said = |value: Option<&String>| value.map_or("nothing", |value| value).to_owned();
        let keys = self.options.keys().chain(options.keys());
        let keys: std::collections::BTreeSet<&String> = keys.collect();
        for key in keys {
            let (there, wanted) = (options.get(key), self.options.get(key));
            if there != wanted {
                found.push(format!(
                    "driver_opts.{key}: {} there, {} in the file",
                    said(there),
                    said(wanted)
                ));
            }
        }
        found
    }
}

/// The volumes that a normalised file of a project defines. What is external is not Compose's.
#[must_use]
pub fn volumes(project: &str, file: &ComposeFile) -> Vec<DefinedVolume> {
    let section = file.document().get("volumes").and_then(Value::as_object);
    let defined = section.into_iter().flatten();
    let own = defined.filter(|(_, definition)| !is_external(definition));
    own.map(|(key, definition)| {
        let driver = definition.get("driver").and_then(Value::as_str);
        let options = definition.get("driver_opts").and_then(Value::as_object);
        DefinedVolume {
            key: key.clone(),
            name: name_of(project, key, definition),
            driver: driver
                .filter(|d| !d.is_empty())
                .unwrap_or("local")
                .to_owned(),
            options: options
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
        }
    })
    .collect()
}

/// The networks that two normalised files of a project define otherwise. What only one of them has is made or left, and
/// what is external is not Compose's.
#[must_use]
pub fn redefined_networks(project: &str, old: &ComposeFile, new: &ComposeFile) -> Vec<Redefined> {
    let definitions = |file: &ComposeFile| {
        let section = file.document().get("networks");
        section.cloned().unwrap_or_default()
    };
    let (old, new) = (definitions(old), definitions(new));
    let entries = new.as_object().into_iter().flatten();
    let changed = entries.filter_map(|(key, after)| {
        // Compose 1.x leaves the network out that every project has.
        let implied = key == "default";
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
    let field = |definition: &Value, name: &str| match definition.get(name) {
        Some(value) if !is_usual(name, value) => plain(value),
        Some(_) | None => Value::Null,
    };
    let names = [before, after].into_iter().filter_map(Value::as_object);
    let mut names: Vec<&String> = names.flat_map(|definition| definition.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != "name" && field(before, name) != field(after, name));
    names.into_iter().cloned().collect()
}

/// Whether a network's field says what holds without it.
fn is_usual(field: &str, value: &Value) -> bool {
    field == "driver" && matches!(value.as_str(), Some("bridge" | "default"))
}

/// A value as one Compose writes it and another one does not: numbers as text, without what says nothing, and without the
/// usual driver of addresses.
fn plain(value: &Value) -> Value {
    match value {
        _ if is_nothing(value) => Value::Null,
        Value::Object(fields) => {
            let said = fields
                .iter()
                .map(|(key, value)| (key.clone(), plain(value)));
            let said = said.filter(|(key, value)| !value.is_null() && !is_usual(key, value));
            let said: serde_json::Map<String, Value> = said.collect();
            match said.is_empty() {
                true => Value::Null,
                false => Value::Object(said),
            }
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        scalar => Value::String(text(scalar)),
    }
}

/// A scalar as Docker takes it.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
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
        redefined_networks("shop", &file(before), &file(after))
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
    fn every_field_that_a_network_works_by_counts_and_its_labels_do_not() {
        let works_otherwise = |before: &Value, after: &Value| {
            let file = |network: &Value| {
                let document = json!({"services": {"web": {}}, "networks": {"back": network}});
                ComposeFile::new(document).expect("a Compose file")
            };
            redefined_networks("shop", &file(before), &file(after))
                .iter()
                .any(Redefined::works_otherwise)
        };
        let plain = json!({"driver": "bridge", "ipam": {"driver": "default"}});
        for change in [
            json!({"driver": "macvlan"}),
            json!({"driver_opts": {"com.docker.network.driver.mtu": 1400}}),
            json!({"internal": true}),
            json!({"attachable": true}),
            json!({"enable_ipv6": true}),
            json!({"ipam": {"config": [{"subnet": "10.9.0.0/24"}]}}),
            json!({"ipam": {"options": {"a": "b"}}}),
            json!({"ipam": {"driver": "mine"}}),
        ] {
            assert!(works_otherwise(&Value::Null, &change), "{change}");
            assert!(works_otherwise(&change, &plain), "{change}");
            assert!(!works_otherwise(&change, &change), "{change}");
        }
        for same in [
            json!({}),
            json!({"labels": {"a": "b"}}),
            json!({"driver_opts": {}, "ipam": {"config": []}}),
        ] {
            assert!(!works_otherwise(&plain, &same), "{same}");
        }
        let number = json!({"driver_opts": {"mtu": 1400}});
        let word = json!({"driver_opts": {"mtu": "1400"}});
        assert!(!works_otherwise(&number, &word));
    }

    #[test]
    fn a_volume_is_compared_with_the_one_that_is_there() {
        let document = json!({"services": {"web": {}}, "volumes": {
            "plain": null,
            "share": {"driver_opts": {"type": "nfs", "o": "addr=10.0.0.2", "device": ":/data", "n": 1}},
            "other": {"driver": "plugin", "name": "mine", "labels": {"a": "b"}},
            "not_ours": {"external": true, "driver": "x"},
        }});
        let file = ComposeFile::new(document).expect("a Compose file");
        let defined = volumes("shop", &file);
        let names: Vec<&str> = defined.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["mine", "shop_plain", "shop_share"]);
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect()
        };
        let share = [
            ("type", "nfs"),
            ("o", "addr=10.0.0.2"),
            ("device", ":/data"),
            ("n", "1"),
        ];
        let none = Vec::<String>::new();
        assert_eq!(defined[0].differences("plugin", &options(&[])), none);
        assert_eq!(defined[1].differences("local", &options(&[])), none);
        assert_eq!(defined[2].differences("local", &options(&share)), none);
        assert_eq!(
            defined[1].differences("plugin", &options(&[("size", "1g")])),
            [
                "driver: plugin there, local in the file",
                "driver_opts.size: 1g there, nothing in the file"
            ]
        );
        let elsewhere = [
            ("type", "nfs"),
            ("o", "addr=10.0.0.1"),
            ("device", ":/data"),
            ("n", "1"),
        ];
        assert_eq!(
            defined[2].differences("local", &options(&elsewhere)),
            ["driver_opts.o: addr=10.0.0.1 there, addr=10.0.0.2 in the file"]
        );
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
