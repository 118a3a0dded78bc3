//! Takes out of a recording what differs from run to run, and nothing else.
//!
//! Times, durations, sizes, identities of images, containers and commits, ports, and paths of the machine that
//! recorded. Each becomes one that is always the same and looks like one, so that a recording can be read and parsed as
//! what it is. `dist-scripts/record` writes with it; `tests/recorded.rs` puts what it renders through [`text`], too, so
//! that both sides have lost the same.

#![allow(dead_code, unreachable_pub)]

use serde_json::Value;

/// Every time in a recording, but for those of a journal's records, which are a second apart.
pub const TIME: &str = "2026-12-01T00:00:00Z";
const TIME_IN_WORDS: &str = "2026-12-01 00:00:00 UTC";
const CLOCK: &str = "00:00 UTC";
const DURATION: &str = "1.0 s";
const SIZE: &str = "1.0 MB";
const TICK: &str = "000000000000";
const FOR_TICK: &str = "for=000000000000";
/// Every duration in a document, in milliseconds; the same as [`DURATION`].
const MS: u64 = 1_000;
/// Every size in a document, in bytes; the same as [`SIZE`].
const BYTES: u64 = 1_000_000;
/// How many requests were asked beside a transaction: the slower the machine, the more.
const REQUESTS: u64 = 100;
/// Characters that Docker and git cut an identity to, besides its full length.
const SHORT: usize = 7;

/// What stands for what in one recording: identities are numbered as they come.
#[derive(Default)]
pub struct Names {
    words: Vec<(String, String)>,
    ids: Vec<String>,
    backups: Vec<String>,
}

impl Names {
    /// Has this text always replaced by another one.
    pub fn replace(&mut self, real: &str, instead: &str) {
        self.words.push((real.to_owned(), instead.to_owned()));
    }

    /// Takes note of all identities and backups in a text. The texts have to come in the story's order.
    pub fn learn(&mut self, text: &str) {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is_backup = word.strip_prefix("backup_").is_some_and(is_stamp);
            if is_backup && !self.backups.iter().any(|known| known == word) {
                self.backups.push(word.to_owned());
            }
            if is_identity(word) && self.id(word).is_none() {
                self.ids.push(word.to_owned());
            }
        }
    }

    /// The number of an identity, whole or cut.
    fn id(&self, word: &str) -> Option<usize> {
        let is_it = |known: &String| known.starts_with(word);
        self.ids.iter().position(is_it)
    }

    /// A text of this recording without what differs.
    pub fn text(&self, real: &str) -> String {
        let mut replaced = real.to_owned();
        for (real, instead) in &self.words {
            replaced = replaced.replace(real, instead);
        }
        text(&words(&replaced, |word| self.word(word)))
    }

    fn word(&self, word: &str) -> Option<String> {
        if let Some(n) = self.backups.iter().position(|known| known == word) {
            return Some(format!("backup_20261201_{n:06}"));
        }
        let is_hex = word.len() >= SHORT && word.chars().all(|c| c.is_ascii_hexdigit());
        let n = self.id(word).filter(|_| is_hex)?;
        Some(
            format!("{:02x}", n + 1)
                .repeat(32)
                .chars()
                .take(word.len())
                .collect(),
        )
    }

    /// A document of this recording without what differs.
    pub fn document(&self, value: &mut Value) {
        self.value("", value);
    }

    /// A journal's records, a second apart from each other.
    pub fn journal(&self, records: &mut [Value]) {
        for (n, record) in records.iter_mut().enumerate() {
            self.document(record);
            record["at"] = format!("2026-12-01T00:{:02}:{:02}Z", n / 60, n % 60).into();
        }
    }

    fn value(&self, key: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(key, v)| self.value(key, v)),
            Value::Array(items) => {
                items.iter_mut().for_each(|item| self.value(key, item));
                // Docker orders names by their identities.
                if items
                    .iter()
                    .all(|item| item.as_str().is_some_and(|s| s.starts_with("belay/")))
                {
                    items.sort_by_key(Value::to_string);
                }
            }
            Value::String(text) if key == "boot_id" => "boot".clone_into(text),
            Value::String(text) => *text = self.text(text),
            Value::Number(number) => {
                if let Some(n) = number.as_u64() {
                    *number = usual(key, n).into();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
}

/// Puts what Docker lists in the order in which it was made, which two services at once decide, into that of the names.
pub fn by_service(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (key, field) in fields {
                *field = by_service(field.take());
                let Value::Array(items) = &mut *field else {
                    continue;
                };
                match key.as_str() {
                    "running" => items.sort_by_key(Value::to_string),
                    // Names alone are the release's, in its own order: the sort leaves them.
                    "before" | "services" | "errors" => {
                        items.sort_by_key(|item| item.get("service").map(Value::to_string));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = by_service(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

/// A journal's records without the second and any later of the same three in a row: the watch beside an engine tries
/// again until somebody helps, and how often that is depends on when they come.
pub fn without_repeats(records: Vec<Value>) -> Vec<Value> {
    const TRY: usize = 3;
    let event = |record: &Value| {
        let mut event = record.clone();
        (event["n"], event["at"]) = (Value::Null, Value::Null);
        event
    };
    let mut kept: Vec<Value> = vec![];
    for record in records {
        kept.push(record);
        let newest = kept.len().saturating_sub(TRY);
        let before = newest.saturating_sub(TRY);
        let is_again = |(one, other): (&Value, &Value)| event(one) == event(other);
        if newest - before == TRY
            && kept[before..newest]
                .iter()
                .zip(&kept[newest..])
                .all(is_again)
        {
            kept.truncate(newest);
        }
    }
    for (n, record) in kept.iter_mut().enumerate() {
        record["n"] = n.into();
    }
    kept
}

/// What is always put for a number, by the name of its field.
fn usual(key: &str, number: u64) -> u64 {
    match key {
        "pid" => 1,
        "samples" => 3,
        "total" => REQUESTS,
        "failed" => number.min(1),
        // Of an outcome whose run is not over it is 0.
        "total_ms" => number.min(MS),
        "ms" => MS,
        _ if key.ends_with("_ms") => MS,
        "bytes" | "size" | "previous_size" => BYTES,
        _ if key.ends_with("_bytes") => BYTES,
        _ => number,
    }
}

/// An output of the action: those that are measured become 1.
pub fn output(name: &str, value: &str) -> String {
    let is_measured = [
        "duration-ms",
        "longest-gap-ms",
        "failed-requests",
        "image-size",
    ]
    .contains(&name);
    match value {
        "" | "0" => value.to_owned(),
        _ if is_measured => "1".to_owned(),
        _ => value.to_owned(),
    }
}

/// A table for a terminal with its columns two blanks apart: how wide they were depends on what stood in them.
pub fn columns(text: &str) -> String {
    let squeezed = |line: &str| {
        let cells = line.trim_start();
        let indent = &line[..line.len() - cells.len()];
        let cells = cells
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        format!("{indent}{}\n", cells.collect::<Vec<_>>().join("  "))
    };
    text.lines().map(squeezed).collect()
}

/// What `belay status` says, with its services in the order of their names, as [`by_service`] has them.
pub fn status(text: &str) -> String {
    let text = columns(text);
    let Some((before, rest)) = text.split_once("\nServices\n") else {
        return text;
    };
    let (rows, after) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    format!("{before}\nServices\n{}\n\n{after}", rows.join("\n"))
}

/// `20261201_031400`.
fn is_stamp(text: &str) -> bool {
    text.len() == 15 && text.chars().all(|c| c.is_ascii_digit() || c == '_')
}

/// A hash, whole or as Docker cuts it. A large number is none.
fn is_identity(word: &str) -> bool {
    let is_hex = word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let has_letter = word.chars().any(|c| c.is_ascii_lowercase());
    is_hex && has_letter && matches!(word.len(), 12 | 32 | 40 | 64)
}

/// The text with every word replaced for which there is something else.
fn words(text: &str, instead: impl Fn(&str) -> Option<String>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        replaced.push_str(&instead(word).unwrap_or_else(|| word.to_owned()));
        let gap = after.find(is_of_word).unwrap_or(after.len());
        replaced.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    replaced
}

/// A text in Belay's words without the times, durations, sizes and counts that differ.
pub fn text(real: &str) -> String {
    let lines = real.split_inclusive('\n').map(line);
    lines.collect()
}

fn line(line: &str) -> String {
    // The application of the lab counts its seconds.
    if line
        .trim_end()
        .rsplit_once(" round ")
        .is_some_and(|(_, n)| number(n).is_some())
    {
        return String::new();
    }
    // Which steps are worth a word depends on how long they took.
    if line.starts_with("steps: ") {
        return "steps: (those that took their time)\n".to_owned();
    }
    if let Some(chart) = chart_line(line) {
        return chart;
    }
    let mut replaced = String::with_capacity(line.len());
    let mut rest = line;
    let mut is_boundary = true;
    while let Some(next) = rest.chars().next() {
        if let Some((length, instead)) = pattern(rest).filter(|_| is_boundary) {
            replaced.push_str(instead);
            rest = &rest[length..];
        } else {
            replaced.push(next);
            rest = &rest[next.len_utf8()..];
        }
        is_boundary = !(next.is_ascii_alphanumeric() || matches!(next, '.' | '_' | '-' | ':'));
    }
    replaced
}

/// The lines of a picture that are made of numbers.
fn chart_line(line: &str) -> Option<String> {
    let trimmed = line.trim_start();
    if trimmed.starts_with("tickInterval ") {
        return Some("    tickInterval 1second\n".to_owned());
    }
    for name in ["bar [", "line ["] {
        if let Some(numbers) = trimmed.strip_prefix(name) {
            let ones = vec!["1.0"; numbers.split(',').count()].join(", ");
            return Some(format!("    {name}{ones}]\n"));
        }
    }
    if trimmed.starts_with("y-axis ") {
        return Some("    y-axis \"MB\" 0 --> 1.0\n".to_owned());
    }
    let signs = [" :done, ", " :crit, ", " :active, "];
    let sign = signs.into_iter().find(|sign| line.contains(sign))?;
    let (name, _) = line.split_once(sign)?;
    Some(format!("{name}{sign}0, 1000\n"))
}

/// How long the thing that differs is at the beginning of a text, and what is put instead.
fn pattern(text: &str) -> Option<(usize, &'static str)> {
    if let Some(rest) = text.strip_prefix("just now") {
        return Some((text.len() - rest.len(), "just now"));
    }
    // What a tick in a comment is for: a hash of it.
    if let Some(hash) = text.strip_prefix("for=")
        && hash.chars().take_while(char::is_ascii_hexdigit).count() == TICK.len()
    {
        return Some(("for=".len() + TICK.len(), FOR_TICK));
    }
    if let Some(rest) = text.strip_prefix("**much more than usual**") {
        return Some((text.len() - rest.len(), "normal"));
    }
    let shapes = [
        ("9999-99-99T99:99:99", TIME),
        ("9999-99-99 99:99:99 UTC", TIME_IN_WORDS),
        ("99:99 UTC", CLOCK),
    ];
    for (shape, instead) in shapes {
        if has_shape(text, shape) {
            let rest = &text[shape.len()..];
            let fraction = rest
                .find('Z')
                .filter(|_| instead == TIME)
                .map_or(0, |z| z + 1);
            return Some((shape.len() + fraction, instead));
        }
    }
    let (number, rest) = number(text)?;
    let of = |unit: &str| number + unit.len();
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
    for unit in [" ms", " s"] {
        if rest.strip_prefix(unit).is_some_and(ends) {
            return Some((of(unit), DURATION));
        }
    }
    for (large, small) in [(" m ", " s"), (" h ", " m")] {
        let second = rest.strip_prefix(large).and_then(|rest| {
            let (length, rest) = self::number(rest)?;
            rest.strip_prefix(small)
                .filter(|rest| ends(rest))
                .map(|_| length)
        });
        if let Some(length) = second {
            return Some((of(large) + length + small.len(), DURATION));
        }
    }
    for unit in [" B", " kB", " MB", " GB", " TB"] {
        if rest.strip_prefix(unit).is_some_and(ends) {
            return Some((of(unit), SIZE));
        }
    }
    for unit in [" minute ago", " minutes ago"] {
        if rest.starts_with(unit) {
            return Some((of(unit), "just now"));
        }
    }
    if let Some((all, _)) = rest.strip_prefix(" of ").and_then(self::number)
        && rest[" of ".len() + all..].starts_with(" requests")
    {
        let length = number + " of ".len() + all;
        let is_none = text.starts_with("0 ");
        return Some((length, if is_none { "0 of 100" } else { "1 of 100" }));
    }
    if rest.strip_prefix(" requests").is_some_and(ends) {
        return Some((number, "100"));
    }
    None
}

/// Whether a text begins like this, where a 9 stands for any digit.
fn has_shape(text: &str, shape: &str) -> bool {
    let mut chars = text.chars();
    shape.chars().all(|wanted| match (wanted, chars.next()) {
        ('9', Some(c)) => c.is_ascii_digit(),
        (wanted, c) => c == Some(wanted),
    })
}

/// The length of a number at the beginning of a text, and what follows it.
fn number(text: &str) -> Option<(usize, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (whole, rest) = text.split_at(end);
    if whole.is_empty() {
        return None;
    }
    let fraction = rest.strip_prefix('.').map_or(0, |after| {
        let digits = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        if digits == 0 { 0 } else { digits + 1 }
    });
    Some((end + fraction, &text[end + fraction..]))
}
