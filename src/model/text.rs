//! Text from outside (a host, a container, a registry, a user), made fit to be shown.
//!
//! Runs anywhere; pure. Everything that Belay prints of such a text goes through here, so that there is one answer to
//! what is kept. The promises, each for any input:
//! - [`visible`]: no terminal sequence, no control character but newline and tab, nothing that is not seen or that turns
//!   the direction of what is.
//! - [`one_line`], [`log_lines`]: the same, and no line is a command to the Actions runner.
//! - [`clip`], [`cut`]: no more than so many characters, and never half a character.

use std::iter::Peekable;
use std::str::Chars;

/// Longest line that [`log_lines`] shows, in characters: a minified page must not bury the log.
pub const LONGEST_LINE: usize = 2_000;

/// Drops terminal sequences and every character without a look of its own. Newlines and tabs stay. A lone carriage
/// return (a progress bar) ends the line, as it does for the Actions runner.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                kept.push('\n');
            }
            '\n' | '\t' => kept.push(c),
            // The Actions runner does not end a line at these, a browser or a terminal may: so they are neither kept
            // nor line breaks.
            '\u{85}' | '\u{2028}' | '\u{2029}' => kept.push(' '),
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            c if c.is_control() || is_ignorable(c) => {}
            c => kept.push(c),
        }
    }
    kept
}

/// One line for a terminal, a log, an output or a title: [`visible`], with white space of any kind as one blank, and no
/// command to the Actions runner.
#[must_use]
pub fn one_line(text: &str) -> String {
    defuse(&collapse(&visible(text)))
}

/// Another program's output, for a log: valid UTF-8, [`visible`], no line that the Actions runner would take for a
/// command, and none without an end. Lines keep their order and their indent; line breaks at the end are dropped.
#[must_use]
pub fn log_lines(bytes: &[u8]) -> String {
    let text = visible(&String::from_utf8_lossy(bytes));
    let lines: Vec<String> = text
        .trim_end_matches('\n')
        .split('\n')
        .map(|line| defuse(&cut(line, LONGEST_LINE)))
        .collect();
    lines.join("\n")
}

/// White space of any kind becomes one blank, and none at the ends.
#[must_use]
pub fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most so many characters, the mark of the cut included: for names and titles.
#[must_use]
pub fn clip(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The first so many characters, and how many more there were: for output, where it matters that something is missing.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    let Some((at, _)) = text.char_indices().nth(most) else {
        return text.to_owned();
    };
    let (kept, rest) = text.split_at(at);
    format!("{kept}… ({} more characters)", rest.chars().count())
}

/// Breaks both syntaxes of a command to the Actions runner with a blank, which no comparison of the runner skips:
/// `::name::` at the start of a line (after any white space) and `##[name]` anywhere in it.
fn defuse(line: &str) -> String {
    let body = line.trim_start();
    let (indent, _) = line.split_at(line.len() - body.len());
    let line = match body.strip_prefix("::") {
        Some(rest) => format!("{indent}: :{rest}"),
        None => line.to_owned(),
    };
    line.replace("##[", "## [")
}

type Rest<'a> = Peekable<Chars<'a>>;

fn skip_escape(chars: &mut Rest<'_>) {
    match chars.next_if(|c| !c.is_control()) {
        Some('[') => skip_control_sequence(chars),
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(chars),
        // A two- or three-character sequence, such as the choice of a character set: its intermediates, then one more.
        Some(' '..='/') => {
            while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
            chars.next_if(|c| ('0'..='~').contains(c));
        }
        Some(_) | None => {}
    }
}

/// Parameters and intermediates up to the final character.
fn skip_control_sequence(chars: &mut Rest<'_>) {
    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
    chars.next_if(|c| ('@'..='~').contains(c));
}

/// A title, a link or another string up to its terminator. One that is never closed ends with its line, so that it
/// cannot hide what follows.
fn skip_string(chars: &mut Rest<'_>) {
    while let Some(c) = chars.next_if(|c| *c != '\n' && *c != '\r') {
        match c {
            '\u{07}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// Characters that show nothing: the format controls (text direction among them), joiners, fillers, variation
/// selectors, tags and noncharacters. The Actions runner compares texts by the rules of a language, which skip them all,
/// so a `::` may be hidden among them.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{f0000}'..='\u{10ffff}')
}
/// A size: `512 B`, `12.3 MB`, `1.4 GB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // 999.95 would be printed as 1000.0.
    let fits = |(_, unit): &&(&str, u64)| bytes < unit / 1000 * 999_950;
    let largest = ("PB", 1_000_000_000_000_000);
    let (name, unit) = UNITS.iter().find(fits).unwrap_or(&largest);
    format!("{} {name}", tenths(bytes, *unit))
}

/// How many times one number is in another, with one digit after the point.
#[must_use]
pub fn tenths(number: u64, unit: u64) -> String {
    let unit = u128::from(unit);
    let tenths = (u128::from(number) * 10 + unit / 2) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}
