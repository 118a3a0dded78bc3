//! The words of the command line, all of them: helps, examples, groups, and what is made of them.
//!
//! `BELAY_BLESS=1 cargo test --bin belay` rewrites `tests/fixtures/commands.json`, which
//! `tests/docs_test.py` reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Arg, Command};
use serde_json::{Value, json};

use super::args::Shell;
use super::{generate, help};

const WIDTH: usize = 100;

/// Every command below this one, by its whole name.
fn below(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        found.push((path.clone(), sub.clone()));
        below(sub, &path, found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut command = help::command();
    command.build();
    let mut found = vec![("belay".to_owned(), command.clone())];
    below(&command, "belay", &mut found);
    found
}

/// Those that have an example of their own: not the agent's verbs, whose one caller is Belay.
fn with_examples() -> Vec<(String, Command)> {
    let mut found = all();
    found.retain(|(path, _)| !path.starts_with("belay agent "));
    found
}

fn examples(command: &Command) -> Vec<String> {
    let after = command.get_after_help().map(ToString::to_string);
    let after = after.unwrap_or_default();
    let (_, examples) = after.split_once("Examples:\n").unwrap_or_default();
    let examples = examples.lines().take_while(|line| !line.is_empty());
    examples.map(|line| line.trim().to_owned()).collect()
}

/// The words of an example as a shell would pass them on: quotes keep a word together, `>` ends the command.
fn words(example: &str) -> Vec<String> {
    let mut words = vec![];
    for (number, part) in example.split('"').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words.into_iter().take_while(|word| word != ">").collect()
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
}

#[test]
fn the_definition_is_sound() {
    help::command().debug_assert();
    help::command_of_users().debug_assert();
}

#[test]
fn every_command_is_in_one_group() {
    let command = help::command();
    let shown: Vec<&str> = help::GROUPS
        .iter()
        .flat_map(|(_, names)| *names)
        .copied()
        .collect();
    let visible: BTreeSet<&str> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(Command::get_name)
        .collect();
    assert_eq!(shown.len(), visible.len(), "one is shown twice");
    assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), visible);
}

#[test]
fn every_command_has_examples_that_parse() {
    for (path, command) in with_examples() {
        let examples = examples(&command);
        assert!(!examples.is_empty(), "{path} has no example");
        for example in examples {
            assert!(example.starts_with(&path), "{path}: {example}");
            let parsed = help::parse(words(&example).into_iter().map(Into::into));
            assert!(parsed.is_ok(), "{example}: {:?}", parsed.err());
        }
    }
}

#[test]
fn every_command_and_argument_has_a_help() {
    for (path, command) in all() {
        assert!(command.get_about().is_some(), "{path} has no help");
        for arg in arguments(&command) {
            assert!(
                arg.get_help().is_some(),
                "{path} {} has no help",
                arg.get_id()
            );
        }
    }
}

#[test]
fn every_help_fits_the_width_and_uses_plain_words() {
    // Words of the code that a user of the tool would stumble over.
    let odd = [
        "serves", "mend", "anew", "beside", "somebody", "nobody", "whoever", "settle",
    ];
    for (path, mut command) in all() {
        for text in [command.render_help(), command.render_long_help()] {
            let text = text.to_string();
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{path}: {line}");
            }
            let is_odd =
                |word: &&str| path.matches("agent").next().is_none() && text.contains(*word);
            assert_eq!(odd.iter().copied().find(is_odd), None, "{path}");
        }
    }
}

#[test]
fn help_is_an_answer_and_a_missing_command_is_not() {
    let kind = |words: &[&str]| {
        let words = words.iter().map(Into::into);
        let error = help::parse(words).err().expect("no command");
        (error.kind(), error.use_stderr())
    };
    assert_eq!(kind(&["belay", "--help"]), (ErrorKind::DisplayHelp, false));
    assert_eq!(kind(&["belay", "help"]), (ErrorKind::DisplayHelp, false));
    assert_eq!(
        kind(&["belay", "agent", "--help"]),
        (ErrorKind::DisplayHelp, false)
    );
    let bare = (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, true);
    assert_eq!(kind(&["belay"]), bare);
}

#[test]
fn completions_and_manual_pages_are_of_what_users_type() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = String::from_utf8(generate::completions(shell)).expect("text");
        assert!(script.contains("restore-data"));
        assert!(!script.contains("look-back"), "{script}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    generate::man(&dir.path().join("man")).expect("written");
    let mut pages: Vec<String> = std::fs::read_dir(dir.path().join("man"))
        .expect("there")
        .map(|entry| {
            entry
                .expect("read")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    let page = std::fs::read_to_string(dir.path().join("man/belay.1")).expect("there");
    assert!(
        page.contains("Deploys a Docker Compose application"),
        "{page}"
    );
    pages.sort();
    let names = help::GROUPS.iter().flat_map(|(_, names)| *names);
    let mut expected: Vec<String> = names.map(|name| format!("belay-{name}.1")).collect();
    expected.push("belay.1".to_owned());
    expected.sort();
    assert_eq!(pages, expected);
}

/// Commands and verbs with their long options, as the documents may name them.
fn described() -> Value {
    let mut found = json!({"commands": {}, "verbs": {}, "hidden": []});
    for (path, command) in all() {
        let Some((_, name)) = path.split_once(' ') else {
            continue;
        };
        let options = arguments(&command).filter_map(Arg::get_long);
        let options: BTreeSet<String> = options.map(|long| format!("--{long}")).collect();
        match name.strip_prefix("agent ") {
            Some(verb) => found["verbs"][verb] = json!(options),
            None => found["commands"][name] = json!(options),
        }
        if command.is_hide_set() {
            let hidden = found["hidden"].as_array_mut().expect("a list");
            hidden.push(json!(name));
        }
    }
    found
}

#[test]
fn the_committed_list_of_commands_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/commands.json");
    let now = described();
    if std::env::var_os("BELAY_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&now).expect("serialises");
        std::fs::write(&file, text + "\n").expect("written");
    }
    let text = std::fs::read_to_string(&file).expect("there");
    let committed: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert!(
        json!(committed) == now,
        "tests/fixtures/commands.json is out of date (BELAY_BLESS=1 rewrites it)"
    );
}
