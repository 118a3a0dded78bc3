//! GitHub-flavoured Markdown that holds text from outside without ever giving it a meaning.
//!
//! Runs anywhere; pure. [`Inline`] can only be made by one of its constructors, each of which makes its text harmless, and
//! [`Document`] takes nothing else: a log, tag, service or error can not break out of its table, list, fence or fold, and
//! can not mention anyone, link, show a picture or add HTML. Escapes alone would not do: GitHub looks for mentions,
//! references and links once more in the rendered text, and there only code is left alone. So a word that could become one
//! of these is shown as code.

use std::fmt;

use belay_model::text::{clip, collapse, visible};

/// The longest prose from outside, in characters.
const TEXT_MAX: usize = 1000;
/// The longest name from outside, in characters.
const CODE_MAX: usize = 200;

/// Shown for a text without anything in it.
const NOTHING: &str = "–";

/// Safe Markdown within one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inline(String);

impl Inline {
    /// Markdown of Belay's own.
    #[must_use]
    pub fn own(markdown: &'static str) -> Self {
        Inline(markdown.to_owned())
    }

    /// Prose from outside. What stands between two backticks in it is shown as code.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let line = collapse(&clip(&visible(text), TEXT_MAX));
        if line.is_empty() {
            return Inline::own(NOTHING);
        }
        let parts: Vec<&str> = line.split('`').collect();
        let is_paired = parts.len() % 2 == 1
            && !parts
                .iter()
                .skip(1)
                .step_by(2)
                .any(|code| code.trim().is_empty());
        if !is_paired {
            return Inline(guard_start(&prose(&line)));
        }
        let pieces = parts.iter().enumerate().map(|(n, part)| match n % 2 {
            0 => Inline(prose(part)),
            _ => Inline(code_span(part.trim())),
        });
        Inline(guard_start(&pieces.collect::<Inline>().0))
    }

    /// A name from outside, as code.
    #[must_use]
    pub fn code(name: &str) -> Self {
        Inline(code_span(&clip(&collapse(&visible(name)), CODE_MAX)))
    }

    /// A link, when the address is a plain web address; else only the label.
    #[must_use]
    pub fn link(label: Inline, address: &str) -> Self {
        if is_plain_web_address(address) {
            Inline(format!(
                "[{}](<{}>)",
                label.0,
                address.replace('&', "&amp;")
            ))
        } else {
            label
        }
    }

    /// The same, in bold.
    #[must_use]
    pub fn strong(self) -> Self {
        Inline(format!("**{}**", self.0))
    }

    /// The same, followed by something else.
    #[must_use]
    pub fn then(mut self, next: Inline) -> Self {
        self.push(&next);
        self
    }

    /// Two pieces of code that touch would read each other's backticks.
    fn push(&mut self, next: &Inline) {
        if self.0.ends_with('`') && next.0.starts_with('`') {
            self.0.push(' ');
        }
        self.0.push_str(&next.0);
    }

    /// The same, followed by words of Belay's own.
    #[must_use]
    pub fn say(self, words: &'static str) -> Self {
        self.then(Inline::own(words))
    }

    /// Several, with words of Belay's own between them.
    #[must_use]
    pub fn joined(parts: Vec<Inline>, between: &'static str) -> Self {
        Inline(
            parts
                .into_iter()
                .map(|part| part.0)
                .collect::<Vec<_>>()
                .join(between),
        )
    }
}

impl FromIterator<Inline> for Inline {
    fn from_iter<I: IntoIterator<Item = Inline>>(parts: I) -> Self {
        parts.into_iter().fold(Inline::default(), Inline::then)
    }
}

impl fmt::Display for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Words of prose; the blanks around them stay.
fn prose(text: &str) -> String {
    text.split(' ')
        .map(prose_word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// One word of prose. The punctuation around it stays outside of the code that it may have to become.
fn prose_word(word: &str) -> String {
    // GitHub makes a task of `[x]` at an item's start even when the brackets were escaped.
    if word.starts_with('[') {
        return code_span(word);
    }
    if !could_become_a_link(word) {
        return entities(word);
    }
    let rest = word.trim_start_matches(['(', '"', '\'']);
    let core = rest.trim_end_matches([')', ']', '"', '\'', ',', ';', '.', ':']);
    if core.is_empty() || !could_become_a_link(core) {
        return code_span(word);
    }
    let (before, _) = word.split_at(word.len() - rest.len());
    let (_, after) = rest.split_at(core.len());
    format!("{}{}{}", entities(before), code_span(core), entities(after))
}

/// Whether GitHub could see an address, a mention, a reference, a commit or an emoji in the word.
fn could_become_a_link(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    lower.contains(['@', '#'])
        || ["://", "www.", "gh-", "mailto:", "xmpp:"]
            .iter()
            .any(|sign| lower.contains(sign))
        || has_emoji_name(&lower)
        || has_commit_like_run(&lower)
}

/// `:octocat:` is a picture; `03:14:00` is a time.
fn has_emoji_name(word: &str) -> bool {
    let mut parts = word.split(':');
    parts.next();
    // What follows the last colon is not between two.
    parts.next_back();
    parts.any(|name| name.contains(|c: char| c.is_ascii_alphabetic() || c == '+' || c == '-'))
}

/// Seven or more hexadecimal digits in a row.
fn has_commit_like_run(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_hexdigit())
        .any(|run| run.len() >= 7)
}

/// Every character that Markdown or HTML could take for its own, as an entity. An entity is never syntax, and unlike a
/// backslash it cannot be undone by what stands before it.
fn entities(word: &str) -> String {
    let mut safe = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' | '^' => {
                safe.push_str(&format!("&#{};", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// A line that begins like a list or an underline must not become one.
fn guard_start(line: &str) -> String {
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    let (number, rest) = line.split_at(digits);
    let mut chars = rest.chars();
    let mark = match (chars.next(), chars.next()) {
        (Some('-'), Some('-')) if digits == 0 => '-',
        (Some('='), Some('=')) if digits == 0 => '=',
        (Some(c @ ('-' | '+' | '=')), None | Some(' ')) if digits == 0 => c,
        (Some(c @ ('.' | ')')), None | Some(' ')) if digits > 0 => c,
        _ => return line.to_owned(),
    };
    let after = rest.strip_prefix(mark).unwrap_or_default();
    format!("{number}&#{};{after}", u32::from(mark))
}

/// Code of one line. A table splits its cells before it looks for code, so a bar is shown as a broken one.
fn code_span(text: &str) -> String {
    let text = text.replace('|', "¦");
    if text.is_empty() {
        return NOTHING.to_owned();
    }
    let fence = "`".repeat(longest_run(&text, '`') + 1);
    if text.starts_with('`') || text.ends_with('`') {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

fn longest_run(text: &str, wanted: char) -> usize {
    text.split(|c| c != wanted).map(str::len).max().unwrap_or(0)
}

/// `http` or `https`, and no character that would need an escape anywhere.
fn is_plain_web_address(address: &str) -> bool {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._~:/?#[]&=%+,;".contains(c))
            && !rest.contains(['[', ']'])
    })
}

/// For the inside of an HTML element, on one line.
fn html(text: &str) -> String {
    clip(&collapse(&visible(text)), CODE_MAX)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// A box that can be ticked, with words of Belay's own that are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Whether the box has a cross when the page is written; a reader may change it later.
    pub is_ticked: bool,
    /// An HTML comment by which the next run finds the line. Written raw: the caller makes it safe.
    pub mark: String,
    /// What is shown next to the box.
    pub words: Inline,
}

/// A document, block by block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document(String);

impl Document {
    /// An empty one; renders to an empty string.
    #[must_use]
    pub fn new() -> Self {
        Document::default()
    }

    fn block(&mut self, block: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(block.trim_end_matches('\n'));
        self.0.push('\n');
    }

    /// `level` is the number of `#`: Belay's pages begin at 2.
    pub fn heading(&mut self, level: usize, text: &Inline) {
        self.block(&format!("{} {text}", "#".repeat(level)));
    }

    /// Nothing at all for an empty text.
    pub fn paragraph(&mut self, text: &Inline) {
        if !text.0.is_empty() {
            self.block(&text.0);
        }
    }

    /// Nothing at all when there are no rows. A row that is too short is filled up.
    pub fn table(&mut self, headers: &[&'static str], rows: &[Vec<Inline>]) {
        if rows.is_empty() {
            return;
        }
        let mut lines = vec![row(headers.iter().map(|h| (*h).to_owned()))];
        lines.push(row(headers.iter().map(|_| "---".to_owned())));
        for cells in rows {
            lines.push(row((0..headers.len()).map(|column| {
                cells
                    .get(column)
                    .map(|cell| cell.0.clone())
                    .unwrap_or_default()
            })));
        }
        self.block(&lines.join("\n"));
    }

    /// With bullets. Nothing at all when there are no items.
    pub fn list(&mut self, items: &[Inline]) {
        let lines: Vec<String> = items.iter().map(|item| format!("- {item}")).collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    /// A task list as GitHub shows it, with boxes to click. Nothing at all when there are no tasks.
    pub fn tasks(&mut self, tasks: &[Task]) {
        let line = |task: &Task| {
            let sign = if task.is_ticked { 'x' } else { ' ' };
            format!("- [{sign}] {} {}", task.mark, task.words)
        };
        let lines: Vec<String> = tasks.iter().map(line).collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    /// Numbered from 1. Nothing at all when there are no items.
    pub fn numbered(&mut self, items: &[Inline]) {
        let lines = items.iter().enumerate();
        let lines: Vec<String> = lines
            .map(|(n, item)| format!("{}. {item}", n + 1))
            .collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    /// Lines from outside as they are, in a fence longer than any run of backticks in them.
    pub fn fence(&mut self, language: &'static str, text: &str) {
        let text = visible(text);
        let fence = "`".repeat((longest_run(&text, '`') + 1).max(3));
        self.block(&format!(
            "{fence}{language}\n{}\n{fence}",
            text.trim_end_matches('\n')
        ));
    }

    /// A part that opens on a click. The blank lines around the body make it Markdown again.
    pub fn folded(&mut self, title: &'static str, name: &str, body: &Document) {
        let name = html(name);
        let name = if name.is_empty() {
            name
        } else {
            format!(" <code>{name}</code>")
        };
        self.block(&format!(
            "<details>\n<summary>{title}{name}</summary>\n\n{}\n</details>",
            body.0
        ));
    }

    /// The Markdown, with a blank line between blocks and a line break at the end.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        Inline::text(text).to_string()
    }

    fn code(name: &str) -> String {
        Inline::code(name).to_string()
    }

    #[test]
    fn prose_stays_readable() {
        assert_eq!(
            text("it broke, and (oddly) twice."),
            "it broke, and (oddly) twice."
        );
        assert_eq!(
            text("(see http://127.0.0.1:8080/api/status, it answered 500)"),
            "(see `http://127.0.0.1:8080/api/status`, it answered 500)"
        );
    }

    #[test]
    fn code_in_prose_stays_code_when_its_backticks_pair() {
        assert_eq!(
            text("run `belay status` (`a|b`)."),
            "run `belay status` (`a¦b`)."
        );
        assert_eq!(text("`a`@b `c`"), "`a` `@b` `c`");
        assert_eq!(text("one ` only"), "one &#96; only");
        assert_eq!(text("``x``"), "&#96;&#96;x&#96;&#96;");
        assert_eq!(text("a `` ` @x"), "a &#96;&#96; &#96; `@x`");
    }

    #[test]
    fn what_github_would_link_is_shown_as_code() {
        assert_eq!(text("ask @octo-org/team"), "ask `@octo-org/team`");
        assert_eq!(text("fixes #12 and GH-3"), "fixes `#12` and `GH-3`");
        assert_eq!(text("at 3f2a91cde now"), "at `3f2a91cde` now");
        assert_eq!(text(":octocat: hi"), "`:octocat:` hi");
        assert_eq!(text(":+1: at 03:14:00"), "`:+1:` at 03:14:00");
        assert_eq!(text("www.example.com"), "`www.example.com`");
    }

    #[test]
    fn syntax_becomes_entities() {
        assert_eq!(
            text("a|b <b> *c* \\"),
            "a&#124;b &lt;b&gt; &#42;c&#42; &#92;"
        );
        assert_eq!(text("[x](y)"), "`[x](y)`");
        assert_eq!(text("a[x](y)"), "a&#91;x&#93;(y)");
    }

    #[test]
    fn a_line_cannot_begin_a_block() {
        assert_eq!(text("- item"), "&#45; item");
        assert_eq!(text("+5 B"), "+5 B");
        assert_eq!(text("---"), "&#45;--");
        assert_eq!(text("12. item"), "12&#46; item");
        assert_eq!(text("# title"), "`#` title");
        assert_eq!(text("    indented"), "indented");
    }

    #[test]
    fn code_is_fenced_by_more_than_it_holds() {
        assert_eq!(code("v1.2.0"), "`v1.2.0`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a|b"), "`a¦b`");
        assert_eq!(code(" \n "), "–");
    }

    #[test]
    fn pieces_of_code_do_not_touch() {
        let both: Inline = [Inline::code("a"), Inline::text("@b")]
            .into_iter()
            .collect();
        assert_eq!(both.to_string(), "`a` `@b`");
    }

    #[test]
    fn only_plain_web_addresses_are_linked() {
        let link = |address| Inline::link(Inline::own("here"), address).to_string();
        assert_eq!(
            link("https://example.com/a?b=1&c=2"),
            "[here](<https://example.com/a?b=1&amp;c=2>)"
        );
        for address in [
            "javascript:alert(1)",
            "https://",
            "https://example.com/)x",
            "https://example.com/> <b>",
            "https://example.com/\n",
            "https://user@example.com",
            "//example.com",
        ] {
            assert_eq!(link(address), "here", "{address:?}");
        }
    }

    #[test]
    fn prose_and_names_are_bounded() {
        assert!(text(&"<".repeat(100_000)).len() <= TEXT_MAX * 6);
        assert!(code(&"`".repeat(100_000)).len() <= CODE_MAX * 4);
    }

    #[test]
    fn a_fence_is_longer_than_any_in_it() {
        let mut document = Document::new();
        document.fence("text", "a\n````\n</details>\n");
        assert_eq!(
            document.into_string(),
            "`````text\na\n````\n</details>\n`````\n"
        );
    }
}
