//! What the Actions runner would take for a command, and texts that try to be one. Used by the tests of everything that
//! prints text from outside. The two parsing rules of the Actions runner are written again here from its source.

use belay_model::text::LONGEST_LINE;

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

fn command_of(line: &str) -> Option<String> {
    let bare: String = line.chars().filter(|c| !skipped(*c)).collect();
    [line, &bare]
        .into_iter()
        .find_map(|line| double_colon(line).or_else(|| double_hash(line)))
}

/// The runner reads lines as .NET does: `\n`, `\r` and both together end one.
pub(crate) fn commands_of(text: &str) -> Vec<String> {
    text.split(['\n', '\r']).filter_map(command_of).collect()
}

/// Every way to lead in, crossed with every command, whole and hidden among other characters.
pub(crate) fn hostile() -> Vec<String> {
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
            .map(|command| format!("{}{command}", "a".repeat(LONGEST_LINE - 1))),
    );
    payloads.extend(
        commands
            .iter()
            .map(|command| format!("###[{command}]##[##[")),
    );
    payloads
}
