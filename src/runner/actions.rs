//! What Belay writes for the Actions runner: groups, annotations, masks, outputs and the step summary. Runs on the
//! runner; everything it prints goes through one sink, so no two writers can mix inside a line.
//!
//! Promises: text that came from outside (a host, a container, a registry) can never become a workflow command, colour
//! codes and invisible characters are gone from it, and an output or a summary cannot break out of its place. Outside
//! Actions the same calls print plain text, and outputs and summary go nowhere unless their files are named.
//! Fails only with the I/O error of the sink or the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::random;
use belay_model::secret::Secret;

/// Longest line of foreign text that is shown, in characters; a minified page must not bury the log.
const MAX_LINE: usize = 2_000;
/// GitHub cuts the message of an annotation here.
const MAX_ANNOTATION: usize = 4_096;
/// GitHub shows this many annotations of a kind for a step; later ones are printed as plain lines.
const SHOWN_PER_KIND: usize = 10;
/// Above this size GitHub drops the whole summary of a step.
const MAX_SUMMARY: usize = 1024 * 1024;
/// Shorter values would be starred out all over the log.
const MIN_MASK: usize = 8;

/// Where the text goes: to the Actions runner, which reads commands in it, or to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Runner,
    Person,
}

/// How grave an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Notice,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// A message that GitHub shows at the top of the run, and beside a line of a file when one is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotation {
    pub title: String,
    pub message: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub col: Option<u32>,
}

impl Annotation {
    /// A message about the run as a whole.
    pub fn new(title: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// Puts it beside a place in a file of the repository. Both counts start at 1.
    pub fn at(mut self, file: impl Into<String>, line: u32, col: u32) -> Self {
        (self.file, self.line, self.col) = (Some(file.into()), Some(line), Some(col));
        self
    }
}

/// The writer. It is shared by reference; each call is written whole before the next.
pub struct Actions {
    sink: Mutex<Sink>,
    reader: Reader,
    output: Option<PathBuf>,
    summary: Option<PathBuf>,
}

struct Sink {
    out: Box<dyn Write + Send>,
    /// Annotations so far, by [`Level`].
    shown: [usize; 3],
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actions")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

impl Actions {
    /// Reads from the environment whether the Actions runner listens (`GITHUB_ACTIONS` is `true`) and where its files
    /// are.
    pub fn new(env: &BTreeMap<String, String>, out: impl Write + Send + 'static) -> Self {
        let file = |name: &str| {
            env.get(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let in_actions = env
            .get("GITHUB_ACTIONS")
            .is_some_and(|value| value == "true");
        Self {
            sink: Mutex::new(Sink {
                out: Box::new(out),
                shown: [0; 3],
            }),
            reader: if in_actions {
                Reader::Runner
            } else {
                Reader::Person
            },
            output: file("GITHUB_OUTPUT"),
            summary: file("GITHUB_STEP_SUMMARY"),
        }
    }

    /// Whether the Actions runner reads what is written here.
    pub fn in_actions(&self) -> bool {
        self.reader == Reader::Runner
    }

    /// Prints a text of ours. It may quote foreign words, so it is cleaned like foreign text, line by line.
    pub fn line(&self, text: &str) -> io::Result<()> {
        self.write(&format!("{}\n", sanitise(text.as_bytes())))
    }

    /// Prints foreign output: cleaned, and with the runner told not to look for commands until a word that nobody can
    /// guess. Either guard would do; the second one covers what we do not know about the runner's parser.
    pub fn remote(&self, bytes: &[u8]) -> io::Result<()> {
        let text = sanitise(bytes);
        if text.is_empty() {
            return Ok(());
        }
        match self.reader {
            Reader::Person => self.write(&format!("{text}\n")),
            Reader::Runner => {
                let word = random::hex()?;
                self.write(&format!("::stop-commands::{word}\n{text}\n::{word}::\n"))
            }
        }
    }

    /// Opens a foldable group in the log. Groups do not nest.
    pub fn group(&self, title: &str) -> io::Result<()> {
        let title = one_line(title);
        match self.reader {
            Reader::Runner => self.write(&format!("::group::{}\n", escape_data(&title))),
            Reader::Person => self.write(&format!("{title}\n")),
        }
    }

    /// Closes the group.
    pub fn end_group(&self) -> io::Result<()> {
        match self.reader {
            Reader::Runner => self.write("::endgroup::\n"),
            Reader::Person => Ok(()),
        }
    }

    /// Shows an error at the top of the run.
    pub fn error(&self, annotation: &Annotation) -> io::Result<()> {
        self.annotate(Level::Error, annotation)
    }

    /// Shows a warning at the top of the run.
    pub fn warning(&self, annotation: &Annotation) -> io::Result<()> {
        self.annotate(Level::Warning, annotation)
    }

    /// Shows a message; beyond the number that GitHub shows for a step it is an ordinary line.
    pub fn annotate(&self, level: Level, annotation: &Annotation) -> io::Result<()> {
        let mut sink = self.sink();
        let shown = &mut sink.shown[level as usize];
        *shown += 1;
        let text = if self.reader == Reader::Runner && *shown <= SHOWN_PER_KIND {
            command(level, annotation)
        } else {
            plain(level, annotation)
        };
        sink.out.write_all(text.as_bytes())?;
        sink.out.flush()
    }

    /// Tells the runner to star out a secret and the forms in which it usually leaks. To be called before anything else
    /// is printed. Prints nothing outside Actions.
    pub fn mask(&self, secret: &Secret) -> io::Result<()> {
        if self.reader == Reader::Person {
            return Ok(());
        }
        let commands: String = masks(secret.expose())
            .iter()
            .map(|form| format!("::add-mask::{}\n", escape_data(form)))
            .collect();
        self.write(&commands)
    }

    /// Sets an output of the step. Without an output file nothing happens.
    pub fn output(&self, name: &str, value: &str) -> io::Result<()> {
        let Some(path) = &self.output else {
            return Ok(());
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not the name of an output",
            ));
        }
        let mut word = random::hex()?;
        while value.contains(&word) {
            word = random::hex()?;
        }
        append(
            path,
            &format!("{name}<<belay_{word}\n{value}\nbelay_{word}\n"),
        )
    }

    /// Adds Markdown to the step summary, cut at a section when it would grow too large to be kept. Without a summary
    /// file nothing happens.
    pub fn summary(&self, markdown: &str) -> io::Result<()> {
        let Some(path) = &self.summary else {
            return Ok(());
        };
        let used = std::fs::metadata(path)
            .map_or(0, |data| usize::try_from(data.len()).unwrap_or(usize::MAX));
        let text = markdown.trim_end();
        append(
            path,
            &format!(
                "{}\n",
                cut_summary(text, MAX_SUMMARY.saturating_sub(used + 1))
            ),
        )
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut sink = self.sink();
        sink.out.write_all(text.as_bytes())?;
        sink.out.flush()
    }

    /// A writer that panicked left whole lines behind or none, so its lock is as good as ever.
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn command(level: Level, annotation: &Annotation) -> String {
    let place = [
        annotation
            .file
            .as_ref()
            .map(|file| format!("file={}", escape_property(&one_line(file)))),
        annotation.line.map(|line| format!("line={line}")),
        annotation.col.map(|col| format!("col={col}")),
        Some(format!(
            "title={}",
            escape_property(&one_line(&annotation.title))
        )),
    ];
    let properties: Vec<String> = place.into_iter().flatten().collect();
    let message = cut(&sanitise(annotation.message.as_bytes()), MAX_ANNOTATION);
    format!(
        "::{} {}::{}\n",
        level.word(),
        properties.join(","),
        escape_data(&message)
    )
}

fn plain(level: Level, annotation: &Annotation) -> String {
    let place = match (&annotation.file, annotation.line, annotation.col) {
        (Some(file), Some(line), Some(col)) => format!(" ({}:{line}:{col})", one_line(file)),
        (Some(file), Some(line), None) => format!(" ({}:{line})", one_line(file)),
        (Some(file), None, _) => format!(" ({})", one_line(file)),
        (None, _, _) => String::new(),
    };
    let message = sanitise(annotation.message.as_bytes());
    format!(
        "{}: {}: {message}{place}\n",
        level.word(),
        one_line(&annotation.title)
    )
}

/// Escapes the data part of a command, as the runner unescapes it.
fn escape_data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a property of a command, where colon and comma separate too.
fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

fn one_line(text: &str) -> String {
    sanitise(text.as_bytes()).replace('\n', " ")
}

/// Makes foreign bytes fit to be shown: valid UTF-8, no control, colour or invisible characters, no text that the
/// runner would take for a command, and no endless lines. Lines keep their order; the final line break is dropped.
pub fn sanitise(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let visible = visible(&text);
    let lines: Vec<String> = visible
        .trim_end_matches('\n')
        .split('\n')
        .map(|line| defuse(&cut(line, MAX_LINE)))
        .collect();
    lines.join("\n")
}

/// Drops terminal sequences and every character without a look of its own. A lone carriage return (a progress bar) ends
/// the line, as it does for the runner.
fn visible(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                kept.push('\n');
            }
            '\n' | '\t' => kept.push(c),
            // The runner does not end a line at these two, a browser does: so they are neither kept nor line breaks.
            '\u{2028}' | '\u{2029}' => kept.push(' '),
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            c if c.is_control() || is_ignorable(c) => {}
            c => kept.push(c),
        }
    }
    kept
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

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
/// selectors, tags and noncharacters. The runner compares texts by the rules of a language, which skip them all, so a
/// `::` may be hidden among them.
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

/// Breaks both command syntaxes with a space, which no comparison of the runner skips: `::name::` at the start of a
/// line (after any white space) and `##[name]` anywhere in it.
fn defuse(line: &str) -> String {
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    let line = match body.strip_prefix("::") {
        Some(rest) => format!("{indent}: :{rest}"),
        None => line.to_owned(),
    };
    line.replace("##[", "## [")
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!(
            "{}… ({} more characters)",
            &text[..at],
            text[at..].chars().count()
        ),
    }
}

/// The texts to star out for one secret. The runner compares line by line, so a key is masked by its lines; the fixed
/// first and last line of a key are no secret, and starring them out would spoil every help text that shows them.
fn masks(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    if secret.len() < MIN_MASK {
        return Vec::new();
    }
    let lines: Vec<&str> = secret
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut forms: Vec<String> = Vec::new();
    // The runner masks each line of a mask too, short ones included.
    if lines
        .iter()
        .all(|line| line.len() >= MIN_MASK && !line.starts_with("-----"))
    {
        forms.push(secret.to_owned());
    }
    forms.extend(
        lines
            .iter()
            .filter(|line| !line.starts_with("-----"))
            .map(|line| (*line).to_owned()),
    );
    // The last group of base64 depends on what follows the secret, so it is left out of the mask.
    let whole = &secret.as_bytes()[..secret.len() - secret.len() % 3];
    forms.push(STANDARD_NO_PAD.encode(whole));
    forms.push(URL_SAFE_NO_PAD.encode(whole));
    forms.push(STANDARD_NO_PAD.encode(secret));
    forms.push(URL_SAFE_NO_PAD.encode(secret));
    forms.push(percent_encode(secret, b"-_.~"));
    forms.push(percent_encode(secret, b"-_.!~*'()"));
    forms.push(
        serde_json::Value::from(secret)
            .to_string()
            .trim_matches('"')
            .to_owned(),
    );
    forms.retain(|form| form.len() >= MIN_MASK);
    forms.sort();
    forms.dedup();
    // The longest first, so that no form is starred out in parts.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

pub(super) fn percent_encode(text: &str, unreserved: &[u8]) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || unreserved.contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}

/// Keeps as many whole sections as fit, and says that there was more.
fn cut_summary(text: &str, room: usize) -> String {
    const NOTE: &str = "\n\n_The rest of this summary was left out: GitHub keeps at most 1 MiB. It is in the log._";
    if text.len() <= room {
        return text.to_owned();
    }
    let Some(room) = room.checked_sub(NOTE.len()) else {
        return String::new();
    };
    format!("{}{NOTE}", text[..summary_boundary(text, room)].trim_end())
}

/// The last heading that starts within `room`, else the last line break, both outside code and folded parts, which
/// would swallow the note; else nothing at all.
fn summary_boundary(text: &str, room: usize) -> usize {
    let (mut at, mut section, mut paragraph) = (0, 0, 0);
    let (mut fenced, mut folded) = (false, 0_usize);
    for line in text.split_inclusive('\n') {
        if at > room {
            break;
        }
        if !fenced && folded == 0 {
            paragraph = at;
            if line.starts_with("# ") || line.starts_with("## ") || line.starts_with("### ") {
                section = at;
            }
        }
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            folded = (folded + line.matches("<details").count())
                .saturating_sub(line.matches("</details>").count());
        }
        at += line.len();
    }
    if section > 0 { section } else { paragraph }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A sink whose text can be read while the writer lives.
    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<u8>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shown {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone())
                .expect("only text is written")
        }
    }

    fn actions(env: &[(&str, &str)]) -> (Actions, Shown) {
        let shown = Shown::default();
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        (Actions::new(&env, shown.clone()), shown)
    }

    fn in_actions() -> (Actions, Shown) {
        actions(&[("GITHUB_ACTIONS", "true")])
    }

    /// The two parsing rules of the Actions runner, written again from its source: which command a line would run.
    mod parser {
        const COMMANDS: [&str; 20] = [
            "add-mask",
            "add-matcher",
            "add-path",
            "debug",
            "echo",
            "endgroup",
            "error",
            "group",
            "internal-set-repo-path",
            "notice",
            "remove-matcher",
            "save-state",
            "set-env",
            "set-output",
            "stop-commands",
            "warning",
            "command",
            "section",
            "task.complete",
            "0",
        ];

        /// The runner's language rules skip these when it looks for its keywords, so the test skips them as well.
        fn skipped(c: char) -> bool {
            c != '\t'
                && (c.is_control()
                    || ('\u{200b}'..='\u{200f}').contains(&c)
                    || ('\u{202a}'..='\u{202e}').contains(&c)
                    || ('\u{2060}'..='\u{206f}').contains(&c)
                    || c == '\u{ad}'
                    || c == '\u{feff}'
                    || ('\u{fe00}'..='\u{fe0f}').contains(&c))
        }

        fn known(info: &str) -> Option<String> {
            let name = info.split(' ').next().unwrap_or_default();
            COMMANDS
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name))
                .map(|known| (*known).to_owned())
        }

        fn double_colon(line: &str) -> Option<String> {
            let rest = line.trim_start().strip_prefix("::")?;
            known(&rest[..rest.find("::")?])
        }

        fn double_hash(line: &str) -> Option<String> {
            let rest = &line[line.find("##[")? + 3..];
            known(&rest[..rest.find(']')?])
        }

        pub(super) fn command_of(line: &str) -> Option<String> {
            let bare: String = line.chars().filter(|c| !skipped(*c)).collect();
            [line, &bare]
                .into_iter()
                .find_map(|line| double_colon(line).or_else(|| double_hash(line)))
        }

        /// The runner reads lines as .NET does: `\n`, `\r` and both together end one.
        pub(super) fn commands_of(text: &str) -> Vec<String> {
            text.split(['\n', '\r']).filter_map(command_of).collect()
        }
    }

    /// Every way to lead in, crossed with every command, whole and hidden among other characters.
    fn hostile() -> Vec<String> {
        let leads = [
            "",
            " ",
            "\t",
            "\u{a0}",
            "\u{3000}",
            "\u{2028}",
            "\u{85}",
            "\u{b}",
            "\u{c}",
            "\r",
            "x\r",
            "x\n",
            "x\r\n",
            "\u{1b}[2K",
            "\u{1b}]0;title\u{7}",
            "\u{1b}]8;;http://example.com\u{1b}\\",
            "\u{9b}1m",
            "\u{feff}",
            "\u{200b}",
            "\u{202e}",
            "\u{0}",
            "\u{8}\u{8}",
            "\u{1b}",
            "\u{1b}(B",
            "\u{ad}",
            "\u{2066}",
            "\u{1b}Pq",
            "\u{1b}]52;c;aGk=\u{7}",
            "\u{9d}0;title\u{9c}",
            "\u{1b}^x\u{1b}\\",
            "\u{e0001}\u{e0020}",
            "\u{1d}",
            "\u{2029}",
        ];
        let commands = [
            "::error::stolen",
            "::set-output name=outcome::deployed",
            "::add-mask::a",
            "::stop-commands::x",
            "::ERROR title=x::y",
            "##[error]stolen",
            "##[command]x",
            "::group::x",
            ":\u{200b}:error::x",
            "#\u{feff}#[error]x",
            ":\u{0}:error::x",
            "::error:\u{200d}:x",
            "##\u{1b}[1m[error]x",
            ":\u{1b}[0m:warning::x",
            "#\u{ad}#\u{200b}[error]",
        ];
        let mut payloads: Vec<String> = leads
            .iter()
            .flat_map(|lead| {
                commands
                    .iter()
                    .map(move |command| format!("{lead}{command}"))
            })
            .collect();
        payloads.extend(
            commands
                .iter()
                .map(|command| format!("{}{command}", "a".repeat(MAX_LINE - 1))),
        );
        payloads.extend(
            commands
                .iter()
                .map(|command| format!("###[{command}]##[##[")),
        );
        payloads
    }

    #[test]
    fn no_hostile_text_becomes_a_command() {
        let payloads = hostile();
        assert!(payloads.len() >= 500, "{}", payloads.len());
        let dangerous = payloads
            .iter()
            .filter(|text| !parser::commands_of(text).is_empty())
            .count();
        assert!(
            dangerous > payloads.len() / 2,
            "the parser of this test sees too little: {dangerous}"
        );
        for payload in &payloads {
            let clean = sanitise(payload.as_bytes());
            assert_eq!(
                parser::commands_of(&clean),
                Vec::<String>::new(),
                "{payload:?} became {clean:?}"
            );
        }
    }

    #[test]
    fn hostile_output_is_shown_between_words_that_stop_commands() {
        for payload in hostile() {
            let (actions, shown) = in_actions();
            actions.remote(payload.as_bytes()).expect("written");
            let text = shown.text();
            if sanitise(payload.as_bytes()).is_empty() {
                assert_eq!(text, "");
                continue;
            }
            assert_eq!(parser::commands_of(&text), ["stop-commands"], "{text:?}");
            let word = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("::stop-commands::"))
                .expect("a word");
            assert_eq!(word.len(), 32);
            assert_eq!(text.lines().last(), Some(format!("::{word}::").as_str()));
        }
    }

    #[test]
    fn hostile_words_in_our_own_lines_and_annotations_run_nothing() {
        for payload in hostile() {
            let (actions, shown) = in_actions();
            actions.line(&payload).expect("written");
            assert!(parser::commands_of(&shown.text()).is_empty());
            let (actions, shown) = in_actions();
            actions
                .error(&Annotation::new(&payload, &payload).at(&payload, 1, 2))
                .expect("written");
            assert_eq!(
                parser::commands_of(&shown.text()),
                ["error"],
                "{:?}",
                shown.text()
            );
            let (actions, shown) = in_actions();
            actions.group(&payload).expect("written");
            assert_eq!(
                parser::commands_of(&shown.text()),
                ["group"],
                "{:?}",
                shown.text()
            );
        }
    }

    #[test]
    fn each_stretch_of_foreign_text_has_its_own_word() {
        let (actions, shown) = in_actions();
        actions.remote(b"a").expect("written");
        actions.remote(b"b").expect("written");
        let text = shown.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_ne!(lines[0], lines[3]);
    }

    #[test]
    fn colours_titles_and_links_vanish_whole() {
        let text = "\u{1b}[1;31mred\u{1b}[0m \u{1b}]8;;https://example.com\u{1b}\\link\u{1b}]8;;\u{7} \
                    \u{9b}32mgreen \u{1b}(Bplain";
        assert_eq!(sanitise(text.as_bytes()), "red link green plain");
    }

    #[test]
    fn an_unclosed_title_hides_only_its_own_line() {
        assert_eq!(sanitise(b"a\x1b]0;never closed\nb"), "a\nb");
    }

    #[test]
    fn text_without_malice_is_left_alone() {
        let text = "\tcafé ✓ 部署\n  at std::vec::Vec (a::b)\n# heading\n#[derive] ## [x]";
        assert_eq!(sanitise(text.as_bytes()), text);
    }

    #[test]
    fn broken_bytes_carriage_returns_and_direction_marks_are_made_harmless() {
        assert_eq!(sanitise(b"a\xffb\x00c"), "a\u{fffd}bc");
        assert_eq!(sanitise(b"10%\r50%\r100%\r\nok\n\n"), "10%\n50%\n100%\nok");
        assert_eq!(
            sanitise("user\u{202e}gpj.exe\u{2066}".as_bytes()),
            "usergpj.exe"
        );
        assert_eq!(sanitise("a\u{e0041}b\u{2028}c".as_bytes()), "ab c");
    }

    #[test]
    fn an_endless_line_is_cut_and_says_so() {
        let shown = sanitise("é".repeat(MAX_LINE + 5).as_bytes());
        assert!(
            shown.ends_with("é… (5 more characters)"),
            "{}",
            &shown[shown.len() - 40..]
        );
    }

    #[test]
    fn an_annotation_escapes_what_separates() {
        let (actions, shown) = in_actions();
        let error = Annotation::new("a: b, 100%", "one\ntwo: 50%").at("dir/a,b.yml", 3, 7);
        actions.error(&error).expect("written");
        assert_eq!(
            shown.text(),
            "::error file=dir/a%2Cb.yml,line=3,col=7,title=a%3A b%2C 100%25::one%0Atwo: 50%25\n"
        );
    }

    #[test]
    fn the_eleventh_annotation_of_a_kind_is_an_ordinary_line() {
        let (actions, shown) = in_actions();
        for _ in 0..11 {
            actions
                .warning(&Annotation::new("t", "m"))
                .expect("written");
        }
        actions.error(&Annotation::new("t", "m")).expect("written");
        let text = shown.text();
        assert_eq!(text.matches("::warning").count(), 10);
        assert!(text.contains("\nwarning: t: m\n::error"), "{text}");
    }

    #[test]
    fn a_long_message_is_cut() {
        let (actions, shown) = in_actions();
        let message = "line\n".repeat(2_000);
        actions
            .error(&Annotation::new("t", message))
            .expect("written");
        assert!(shown.text().chars().count() < MAX_ANNOTATION * 2);
        assert!(shown.text().contains("more characters)"));
    }

    #[test]
    fn outside_actions_everything_is_plain_text() {
        let (actions, shown) = actions(&[]);
        actions.group("Backup").expect("written");
        actions.remote(b"::error::x").expect("written");
        actions.end_group().expect("written");
        actions
            .mask(&Secret::new("hunter2-hunter2"))
            .expect("written");
        actions
            .error(&Annotation::new("t", "m").at("belay.yml", 3, 7))
            .expect("written");
        actions.output("outcome", "deployed").expect("written");
        actions.summary("# x").expect("written");
        assert_eq!(
            shown.text(),
            "Backup\n: :error::x\nerror: t: m (belay.yml:3:7)\n"
        );
    }

    #[test]
    fn a_key_is_masked_line_by_line_without_its_short_and_fixed_lines() {
        let (actions, shown) = in_actions();
        let key = "-----BEGIN KEY-----\r\nMIIEvQIBADANBgkq\r\nhkiG9w0BAQEFAASC\r\n==\r\n-----END KEY-----\r\n";
        actions.mask(&Secret::new(key)).expect("written");
        let text = shown.text();
        assert!(text.contains("::add-mask::MIIEvQIBADANBgkq\n"));
        assert!(text.contains("::add-mask::hkiG9w0BAQEFAASC\n"));
        for mask in text.lines() {
            assert!(
                mask.len() > "::add-mask::==".len() && !mask.ends_with("::-----BEGIN KEY-----"),
                "{mask}"
            );
        }
    }

    #[test]
    fn a_value_of_several_lines_is_masked_whole_too() {
        assert!(
            masks("first line here\nsecond line here")
                .contains(&"first line here\nsecond line here".to_owned())
        );
        let (actions, shown) = in_actions();
        actions
            .mask(&Secret::new("first line here\nsecond line here"))
            .expect("written");
        assert!(
            shown
                .text()
                .contains("::add-mask::first line here%0Asecond line here\n")
        );
    }

    #[test]
    fn encoded_forms_of_a_secret_are_masked() {
        let secret = "pass phrase/100%?\"~";
        let forms = masks(secret);
        for form in [
            "cGFzcyBwaHJhc2UvMTAwJT8i",
            "pass%20phrase%2F100%25%3F%22~",
            "pass phrase/100%?\\\"~",
            secret,
        ] {
            assert!(
                forms.iter().any(|known| known == form),
                "{form} is not in {forms:?}"
            );
        }
        let with_newline = STANDARD_NO_PAD.encode(format!("{secret}\n"));
        assert!(
            forms
                .iter()
                .any(|form| with_newline.contains(form.as_str()) && form.starts_with("cGFz"))
        );
    }

    #[test]
    fn a_short_secret_is_not_masked() {
        assert!(masks("=").is_empty());
        assert!(masks("").is_empty());
        assert!(masks("1234567").is_empty());
    }

    fn file(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        (dir, path)
    }

    #[test]
    fn an_output_cannot_end_itself_early() {
        let (_dir, path) = file("output");
        let (actions, _) = actions(&[("GITHUB_OUTPUT", path.to_str().expect("UTF-8"))]);
        actions
            .output("backup", "one\nEOF\noutcome=stolen")
            .expect("written");
        actions.output("outcome", "deployed").expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        let word = lines[0].strip_prefix("backup<<").expect("a delimiter");
        assert!(word.len() > 32);
        assert_eq!(lines[1..5], ["one", "EOF", "outcome=stolen", word]);
        assert!(lines[5].starts_with("outcome<<") && lines[6] == "deployed");
        assert_ne!(lines[5], format!("outcome<<{word}"));
    }

    #[test]
    fn an_output_with_a_strange_name_is_refused() {
        let (_dir, path) = file("output");
        let (actions, _) = actions(&[("GITHUB_OUTPUT", path.to_str().expect("UTF-8"))]);
        for name in ["", "a b", "a\nb", "a=b", "a<<b"] {
            assert!(actions.output(name, "x").is_err());
        }
        assert!(!path.exists());
    }

    #[test]
    fn summaries_add_up_and_stay_under_the_limit() {
        let (_dir, path) = file("summary");
        let (actions, _) = actions(&[("GITHUB_STEP_SUMMARY", path.to_str().expect("UTF-8"))]);
        actions.summary("# First\n").expect("written");
        let section = format!("## Section\n{}\n", "text ".repeat(20_000));
        actions.summary(&section.repeat(20)).expect("written");
        actions.summary("# No room").expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.len() <= MAX_SUMMARY, "{}", text.len());
        assert!(text.starts_with("# First\n## Section\n"));
        assert_eq!(text.matches("was left out").count(), 1);
        let kept = text.split("\n\n_The rest").next().expect("a part");
        assert!(kept.ends_with("text"), "the cut is at a section");
    }

    #[test]
    fn a_summary_is_not_cut_inside_code_or_a_folded_part() {
        let text = "intro\n\n<details>\n```\n## not a heading\nmore\n```\n\n## folded heading\nx\n</details>\n";
        for room in 8..text.len() - 1 {
            assert_eq!(
                &text[..summary_boundary(text, room)],
                "intro\n\n",
                "room {room}"
            );
        }
        assert_eq!(summary_boundary("one long line", 5), 0);
    }
}
