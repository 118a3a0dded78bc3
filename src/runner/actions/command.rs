//! The grammar of a command to the Actions runner: `::name key=value,key=value::data`. Runs on the runner; pure.

/// One command, as a whole line. Properties and data may be any text.
pub(super) fn command(name: &str, properties: &[(&str, String)], data: &str) -> String {
    let properties: Vec<String> = properties
        .iter()
        .map(|(key, value)| format!("{key}={}", escape_property(value)))
        .collect();
    let blank = if properties.is_empty() { "" } else { " " };
    format!(
        "::{name}{blank}{}::{}\n",
        properties.join(","),
        escape_data(data)
    )
}

/// Escapes the data part of a command, as the Actions runner unescapes it.
fn escape_data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a property of a command, where colon and comma separate too.
fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}
