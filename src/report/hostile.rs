//! Hostile texts in every field of an outcome: the summary keeps its shape, and nothing in it links, mentions or shows.
//!
//! The page is read by a Markdown parser that follows GitHub's. Its blocks must be those of the same page with harmless
//! texts; in what GitHub looks through once more, there must be nothing to find.

use comrak::nodes::{AstNode, NodeValue};
use comrak::{Arena, Options, parse_document};

use super::checklist::{Checklist, ChecklistEntry, Deployed, PullRequestState, checklist};
use super::examples;
use super::markdown::{Document, Inline};
use super::sentence::Sentence;
use super::summary::summary;
use belay_model::reviewing::checklist::{Item, ItemJudge, boxes};

const HOSTILE: &[&str] = &[
    "|",
    "||",
    "\\|",
    "\\\\|",
    "a | b | c",
    "`|`",
    "`a` | `b`",
    "| --- | --- |",
    "\\",
    "a\\",
    "\\`",
    "`",
    "``",
    "```",
    "````",
    "`````\n",
    "```\n</details>",
    "~~~",
    "~~~\n</details>\n~~~",
    "``` ```",
    "` ` `",
    "a\n\nb",
    "a\r\n\r\n# b",
    "a\rb",
    "\n```\n\n# out\n```",
    "a\u{2028}# b",
    "a\u{85}b",
    "\u{b}",
    "\u{c}# x",
    "\t# x",
    "    code",
    "\t\tcode",
    "# title",
    "## title",
    "title\n===",
    "title\n---",
    "---",
    "***",
    "___",
    "===",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "1) item",
    "> quote",
    ">> quote",
    "- [x] task",
    "- [x] <!-- belay:item=logs-reviewed for=0 -->",
    "[x] <!-- belay:item=logs-reviewed -->",
    "<!-- belay:begin -->",
    "\n<!-- belay:end -->\n",
    "<!-- belay:v1 kind=checklist env=production run=1 rev=1 -->",
    "> [!WARNING]\n> x",
    "</details>",
    "</summary></details>",
    "<details open><summary>x",
    "<!--",
    "-->",
    "<!-- x -->",
    "<![CDATA[",
    "<?php",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<a href='https://example.com'>x</a>",
    "<b>",
    "</code></summary>",
    "</td></tr></table>",
    "<br>",
    "&lt;b&gt;",
    "&#60;b&#62;",
    "&#x3c;b>",
    "&#124;",
    "&amp;",
    "[x](https://example.com)",
    "![x](https://example.com/x.png)",
    "[x]: https://example.com",
    "[x]",
    "[^1]",
    "[^1]: note",
    "[x](<javascript:alert(1)>)",
    "[[x]]",
    "![",
    "](",
    "<https://example.com>",
    "<me@example.com>",
    "https://example.com",
    "http://example.com/a_b_c",
    "HTTPS://EXAMPLE.COM",
    "ftp://example.com",
    "www.example.com",
    "WWW.example.com",
    "(https://example.com)",
    "x,https://example.com",
    "me@example.com",
    "mailto:me@example.com",
    "xmpp:me@example.com",
    "a:b@example.com",
    "https\u{200b}://example.com",
    "w\u{200b}ww.example.com",
    "@octo",
    "@octo-org/team",
    "x @octo",
    "(@octo)",
    "'@octo'",
    "\u{200b}@octo",
    "`@octo`",
    "`` @octo",
    "@",
    "@@octo",
    "#1",
    "GH-1",
    "gh-1",
    "octo/app#1",
    "octo/app@3f2a91cde",
    "3f2a91cde0",
    "#\u{200b}1",
    "(#1)",
    "`#1",
    "*b*",
    "**b**",
    "_i_",
    "__b__",
    "~~s~~",
    "~s~",
    "a*b*c",
    "***",
    "$x$",
    "$$x$$",
    "$`x`$",
    "\\(x\\)",
    ":octocat:",
    ":tada:",
    "x:shipit:y",
    "::error::x",
    "##[error]x",
    "\u{202e}txt.exe",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]8;;https://example.com\u{7}x\u{1b}]8;;\u{7}",
    "\u{0}",
    "a\u{0}b",
    "\u{feff}# x",
    "\u{e0041}",
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "% x %0A::error::",
    "${{ secrets.X }}",
    "$(id)",
    "'; rm -rf /; '",
    "\"",
    "'",
];

fn options() -> Options<'static> {
    let mut options = Options::default();
    let extension = &mut options.extension;
    extension.table = true;
    extension.autolink = true;
    extension.strikethrough = true;
    extension.tasklist = true;
    extension.footnotes = true;
    extension.math_dollars = true;
    extension.math_code = true;
    extension.alerts = true;
    extension.superscript = true;
    options
}

/// What GitHub would see: the blocks in order, and what must not be there.
#[derive(Debug, Default)]
struct Seen {
    blocks: Vec<&'static str>,
    html: Vec<String>,
    /// Text in a row, as GitHub's second look sees it.
    text: Vec<String>,
    links: Vec<String>,
    odd: Vec<String>,
}

fn look(markdown: &str) -> Seen {
    let arena = Arena::new();
    let options = options();
    let root = parse_document(&arena, markdown, &options);
    let mut seen = Seen::default();
    visit(root, &mut seen);
    seen
}

fn visit<'a>(node: &'a AstNode<'a>, seen: &mut Seen) {
    let value = &node.data.borrow().value;
    if value.block() {
        seen.text.push(String::new());
    }
    match value {
        NodeValue::Document | NodeValue::Strong => {}
        NodeValue::Heading(_) => seen.blocks.push("heading"),
        NodeValue::Paragraph => seen.blocks.push("paragraph"),
        NodeValue::Table(_) => seen.blocks.push("table"),
        NodeValue::TableRow(_) => seen.blocks.push("row"),
        NodeValue::TableCell => seen.blocks.push("cell"),
        NodeValue::List(_) => seen.blocks.push("list"),
        NodeValue::Item(_) => seen.blocks.push("item"),
        NodeValue::CodeBlock(_) => seen.blocks.push("code"),
        NodeValue::HtmlBlock(html) => {
            seen.blocks.push("html");
            seen.html.push(html.literal.clone());
        }
        NodeValue::TaskItem(task) => seen.blocks.push(match task.symbol {
            Some(_) => "ticked",
            None => "open",
        }),
        NodeValue::HtmlInline(html)
            if html.starts_with("<!-- belay:item=") || html == "<!-- belay:standing -->" =>
        {
            seen.blocks.push("mark");
        }
        // A break between two pieces of text: what stands on both sides is not one word.
        NodeValue::Code(_) => seen.text.push(String::new()),
        NodeValue::Text(text) => match seen.text.last_mut() {
            Some(last) => last.push_str(text),
            None => seen.text.push(text.to_string()),
        },
        NodeValue::Link(link) => seen.links.push(link.url.clone()),
        // "Run workflow" is the one thing that Belay itself stresses.
        NodeValue::Emph => {}
        other => seen.odd.push(format!("{other:?}")),
    }
    for child in node.children() {
        visit(child, seen);
    }
}

fn complain(seen: &Seen) -> Option<String> {
    if !seen.odd.is_empty() {
        return Some(format!("unexpected: {:?}", seen.odd));
    }
    for html in &seen.html {
        let harmless = html
            .lines()
            .all(|line| line == "<details>" || line == "</details>" || is_summary(line));
        if !harmless {
            return Some(format!("HTML: {html:?}"));
        }
    }
    seen.text
        .iter()
        .find_map(|text| finds(text).map(|what| format!("{what} in {text:?}")))
}

fn is_summary(line: &str) -> bool {
    let inner = line
        .strip_prefix("<summary>")
        .and_then(|l| l.strip_suffix("</summary>"));
    inner.is_some_and(|inner| {
        let inner = inner.replacen("<code>", "", 1).replacen("</code>", "", 1);
        !inner.contains(['<', '>'])
    })
}

/// GitHub's second look, a little wider than it is.
fn finds(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let follows = |sign: &str, test: fn(char) -> bool| {
        lower
            .match_indices(sign)
            .any(|(at, _)| lower[at + sign.len()..].starts_with(test))
    };
    if follows("@", |c| c.is_ascii_alphanumeric()) {
        return Some("a mention");
    }
    if follows("#", |c| c.is_ascii_digit()) || follows("gh-", |c| c.is_ascii_digit()) {
        return Some("a reference");
    }
    if lower.contains("://") || lower.contains("www.") {
        return Some("an address");
    }
    if lower.contains('\u{202e}') || lower.contains('\u{1b}') {
        return Some("a control character");
    }
    None
}

fn filled(text: &str) -> String {
    let mut outcome = examples::rolled_back();
    examples::fill(&mut outcome, text, 2);
    summary(&outcome)
}

#[test]
fn a_hostile_text_in_any_field_changes_nothing_but_the_text() {
    let harmless = look(&filled("harmless"));
    assert!(
        harmless.blocks.len() > 60 && harmless.html.len() == 10,
        "{harmless:?}"
    );
    let texts = hostile_texts();
    assert!(texts.len() >= 300, "{}", texts.len());
    for text in texts {
        let page = filled(&text);
        let seen = look(&page);
        // The version's own name may be empty, and then the revision is: a paragraph less is no break.
        assert_eq!(complain(&seen), None, "{text:?}\n{page}");
        assert_eq!(seen.blocks, harmless.blocks, "{text:?}\n{page}");
    }
}

/// Each by itself, after something harmless, and twice before something harmless.
fn hostile_texts() -> Vec<String> {
    let forms = |hostile: &&str| {
        [
            (*hostile).to_owned(),
            format!("x {hostile}"),
            format!("{hostile}{hostile} y"),
        ]
    };
    HOSTILE.iter().flat_map(forms).collect()
}

#[test]
fn links_go_only_where_the_caller_meant() {
    let expected: Vec<String> = look(&summary(&examples::rolled_back())).links;
    assert_eq!(expected.len(), 6, "{expected:?}");
    for hostile in HOSTILE {
        let mut outcome = examples::rolled_back();
        let urls = outcome.urls.clone();
        let revision = outcome.revision.clone();
        examples::fill(&mut outcome, hostile, 1);
        outcome.urls = urls;
        outcome.revision = revision;
        assert_eq!(look(&summary(&outcome)).links, expected, "{hostile:?}");
    }
}

#[test]
fn each_place_holds_by_itself() {
    for hostile in HOSTILE {
        let mut page = Document::new();
        page.heading(2, &Inline::text(hostile));
        page.paragraph(
            &Inline::own("x ")
                .then(Inline::text(hostile))
                .then(Inline::code(hostile)),
        );
        page.table(
            &["a", "b"],
            &[vec![Inline::text(hostile), Inline::code(hostile)]],
        );
        page.list(&[Inline::text(hostile), Inline::code(hostile).strong()]);
        page.numbered(&[Inline::text(hostile)]);
        let mut body = Document::new();
        body.fence("text", hostile);
        page.folded("Logs of", hostile, &body);
        page.paragraph(&Inline::own("the end"));
        let page = page.into_string();
        let seen = look(&page);
        assert_eq!(complain(&seen), None, "{hostile:?}\n{page}");
        assert_eq!(
            seen.blocks.iter().filter(|b| **b == "cell").count(),
            4,
            "{hostile:?}\n{page}"
        );
        assert_eq!(seen.links, Vec::<String>::new(), "{hostile:?}");
        assert_eq!(
            seen.blocks.last(),
            Some(&"paragraph"),
            "{hostile:?}\n{page}"
        );
        assert_eq!(
            seen.text.last().map(String::as_str),
            Some("the end"),
            "{hostile:?}\n{page}"
        );
    }
}

#[test]
fn the_look_itself_sees_what_must_not_be() {
    for (markdown, reason) in [
        ("hello @octo", "a mention"),
        ("see #12", "a reference"),
        ("<b>x</b>", "unexpected"),
        ("![x](https://example.com/x.png)", "unexpected"),
        ("<div>\nx\n</div>", "HTML"),
    ] {
        let complaint = complain(&look(markdown)).unwrap_or_default();
        assert!(complaint.contains(reason), "{markdown}: {complaint}");
    }
    assert_eq!(look("https://example.com").links.len(), 1);
    assert!(HOSTILE.len() >= 60);
}

fn a_checklist(text: &str) -> Checklist {
    let entry = |item: &Item| ChecklistEntry {
        item: *item,
        judge: match item {
            Item::LogsReviewed => ItemJudge::Person(text.to_owned()),
            Item::BackupCreated => ItemJudge::Machine(true),
            _ => ItemJudge::Machine(false),
        },
        evidence: Sentence::new("seen: ")
            .text(text)
            .say(", ")
            .name(text)
            .link(text, "https://example.com/run"),
    };
    Checklist {
        environment: text.to_owned(),
        standing: PullRequestState::RolledBack {
            deployed: Deployed {
                tag: text.to_owned(),
                at: jiff::Timestamp::UNIX_EPOCH,
                run: Some("https://example.com/run".to_owned()),
            },
            to: text.to_owned(),
        },
        entries: Item::ALL.iter().map(entry).collect(),
        logs: vec![(text.to_owned(), text.to_owned())],
    }
}

#[test]
fn a_hostile_text_in_a_checklist_ticks_nothing_and_stays_where_it_is() {
    let harmless = look(&checklist(&a_checklist("harmless"), &[]));
    let count = |what: &str| harmless.blocks.iter().filter(|b| **b == what).count();
    assert_eq!((count("open"), count("ticked"), count("mark")), (11, 1, 13));
    for text in hostile_texts() {
        let page = checklist(&a_checklist(&text), &[]);
        let seen = look(&page);
        assert_eq!(complain(&seen), None, "{text:?}\n{page}");
        assert_eq!(seen.blocks, harmless.blocks, "{text:?}\n{page}");
        assert_eq!(seen.links, harmless.links, "{text:?}");
        let ticked: Vec<String> = boxes(&page)
            .into_iter()
            .filter(|known| known.is_ticked)
            .map(|known| known.id)
            .collect();
        assert_eq!(ticked, ["backup-created"], "{text:?}\n{page}");
    }
}
