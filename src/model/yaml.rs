//! The one place that reads and writes YAML of other programs (`docker-compose config`), so that the library behind it
//! can be exchanged.

use serde_json::Value;

/// A YAML document that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("this is no YAML document that Belay can read: {0}")]
pub struct YamlError(#[from] serde_yaml::Error);

impl YamlError {
    /// The line and the column of the problem, from 1 on, where there is one place.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        let place = self.0.location()?;
        Some((place.line(), place.column()))
    }
}

/// Reads a document. Merge keys (`<<: *anchor`), which Compose files use, are carried out.
pub fn read(bytes: &[u8]) -> Result<Value, YamlError> {
    let mut document: serde_yaml::Value = serde_yaml::from_slice(bytes)?;
    document.apply_merge()?;
    Ok(serde_yaml::from_value(document)?)
}

/// Writes a document in block style with every text quoted.
///
/// Compose 1.x reads YAML 1.1, where a bare `yes`, `08:30` or `0777` is not the text that it looks like. JSON's quoted
/// form of a text is the same text in both versions of YAML.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => write_block(value, 0, &mut out),
        scalar => {
            out.push_str(&scalar.to_string());
            out.push('\n');
        }
    }
    out
}

fn write_block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                indent(depth, out);
                out.push_str(&plain_or_quoted(key));
                out.push(':');
                write_after(value, depth, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                indent(depth, out);
                out.push('-');
                write_after(value, depth, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn write_after(value: &Value, depth: usize, out: &mut String) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if is_block {
        out.push('\n');
        write_block(value, depth + 1, out);
    } else {
        out.push(' ');
        out.push_str(&value.to_string());
        out.push('\n');
    }
}

fn indent(depth: usize, out: &mut String) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// Keys that are plain words stay bare, for people; all others are quoted.
fn plain_or_quoted(key: &str) -> String {
    let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let is_special = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"]
        .contains(&key.to_ascii_lowercase().as_str());
    if is_word && !is_special {
        key.to_owned()
    } else {
        Value::String(key.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_keys_are_carried_out() {
        let text = "x-app: &app\n  build: .\nservices:\n  web:\n    <<: *app\n    image: a\n";
        let document = read(text.as_bytes()).expect("readable");
        assert_eq!(
            document["services"]["web"],
            json!({"build": ".", "image": "a"})
        );
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let document = json!({
            "services": {"web": {
                "environment": {"A": "yes", "B": "08:30", "C": "0777", "D": "", "E": "a: b # c", "F": "line\nline", "on": "1"},
                "ports": [{"target": 80, "published": "8080"}], "command": ["a", "-b", "$$HOME"], "empty": {}, "none": null,
                "nested": [[1, 2], {"x": [true]}], "ünïcode": "\u{1F600} \"quoted\" \\ back"
            }},
            "volumes": {"data": null}
        });
        assert_eq!(
            read(write(&document).as_bytes()).expect("readable"),
            document
        );
    }
}
