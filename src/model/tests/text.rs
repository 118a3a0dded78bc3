//! What each function of `text.rs` promises, against texts that try to break it.

#![allow(
    clippy::string_slice,
    reason = "a test that panics has said what is wrong"
)]

mod support {
    pub(crate) mod workflow_commands;
}

use belay_model::text::{LONGEST_LINE, clip, collapse, cut, log_lines, one_line, visible};
use support::workflow_commands::{commands_of, hostile};

#[test]
fn no_hostile_text_becomes_a_command() {
    let payloads = hostile();
    assert!(payloads.len() >= 500, "{}", payloads.len());
    let dangerous = payloads
        .iter()
        .filter(|text| !commands_of(text).is_empty())
        .count();
    assert!(
        dangerous > payloads.len() / 2,
        "the parser of this test sees too little: {dangerous}"
    );
    for payload in &payloads {
        let clean = log_lines(payload.as_bytes());
        assert_eq!(
            commands_of(&clean),
            Vec::<String>::new(),
            "{payload:?} became {clean:?}"
        );
    }
}

#[test]
fn colours_titles_and_links_vanish_whole() {
    let text = "\u{1b}[1;31mred\u{1b}[0m \u{1b}]8;;https://example.com\u{1b}\\link\u{1b}]8;;\u{7} \
                \u{9b}32mgreen \u{1b}(Bplain";
    assert_eq!(log_lines(text.as_bytes()), "red link green plain");
}

#[test]
fn an_unclosed_title_hides_only_its_own_line() {
    assert_eq!(log_lines(b"a\x1b]0;never closed\nb"), "a\nb");
}

#[test]
fn text_without_malice_is_left_alone() {
    let text = "\tcafé ✓ 部署\n  at std::vec::Vec (a::b)\n# heading\n#[derive] ## [x]";
    assert_eq!(log_lines(text.as_bytes()), text);
}

#[test]
fn broken_bytes_carriage_returns_and_direction_marks_are_made_harmless() {
    assert_eq!(log_lines(b"a\xffb\x00c"), "a\u{fffd}bc");
    assert_eq!(log_lines(b"10%\r50%\r100%\r\nok\n\n"), "10%\n50%\n100%\nok");
    assert_eq!(
        log_lines("user\u{202e}gpj.exe\u{2066}".as_bytes()),
        "usergpj.exe"
    );
    assert_eq!(log_lines("a\u{e0041}b\u{2028}c".as_bytes()), "ab c");
}

#[test]
fn an_endless_line_is_cut_and_says_so() {
    let shown = log_lines("é".repeat(LONGEST_LINE + 5).as_bytes());
    assert!(shown.ends_with("é… (5 more characters)"), "{}", shown);
}

#[test]
fn one_line_is_one_line_without_control() {
    assert_eq!(one_line("a\r\nb\tc\u{0}\u{2028}d"), "a b c d");
    assert_eq!(
        one_line("\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://x\u{7}link"),
        "red link"
    );
    assert_eq!(one_line("\u{1b}]0;never ended\nnext"), "next");
    assert_eq!(one_line("abc\u{202e}cba\u{200b}"), "abccba");
}

#[test]
fn one_line_is_never_a_command() {
    for payload in hostile() {
        let line = one_line(&payload);
        assert_eq!(commands_of(&line), Vec::<String>::new(), "{payload:?}");
        assert!(!line.contains('\n'), "{payload:?}");
    }
    assert_eq!(one_line("  ::error::boo"), ": :error::boo");
    assert_eq!(one_line("x ##[add-path]/tmp"), "x ## [add-path]/tmp");
    assert_eq!(
        one_line("\u{200b}::stop-commands::x"),
        ": :stop-commands::x"
    );
}

#[test]
fn only_newline_and_tab_are_left_of_the_control_characters() {
    let all: String = (0..=0x9f).filter_map(char::from_u32).collect();
    for c in visible(&all).chars() {
        assert!(c == '\n' || c == '\t' || !c.is_control(), "{c:?}");
    }
    for hidden in [
        "\u{ad}",
        "\u{200b}",
        "\u{202e}",
        "\u{2067}",
        "\u{feff}",
        "\u{fe0f}",
        "\u{e0041}",
    ] {
        assert_eq!(visible(&format!("a{hidden}b")), "ab", "{hidden:?}");
    }
}

#[test]
fn line_ends_that_only_some_readers_know_are_blanks() {
    assert_eq!(visible("a\u{85}b\u{2028}c\u{2029}d"), "a b c d");
    assert_eq!(visible("a\rb\r\nc\n"), "a\nb\nc\n");
}

#[test]
fn clip_counts_its_mark() {
    assert_eq!(clip("äöü", 3), "äöü");
    assert_eq!(clip("äöüß", 3), "äö…");
    assert_eq!(clip("a bcd", 3), "a…");
}

#[test]
fn cut_is_at_a_character_and_says_how_much_is_missing() {
    assert_eq!(cut("äöü", 3), "äöü");
    assert_eq!(cut("äöü✓", 2), "äö… (2 more characters)");
    assert_eq!(cut("ä", 0), "… (1 more characters)");
}

#[test]
fn white_space_of_any_kind_is_one_blank() {
    assert_eq!(collapse(" a\u{a0}\u{3000}\tb\n\n"), "a b");
}
