//! The log against hostile text, and what the tests of the other files need.

use std::sync::Arc;

use super::*;
use belay_model::secret::Secret;
use workflow_commands::{commands_of, hostile};

#[path = "../../model/tests/support/workflow_commands.rs"]
mod workflow_commands;

/// A sink whose text can be read while the writer lives.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Vec<u8>>>);

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
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("only text is written")
    }
}

pub(super) fn actions(env: &[(&str, &str)]) -> (Actions, Shown) {
    let shown = Shown::default();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    (Actions::new(&env, shown.clone()), shown)
}

pub(super) fn in_actions() -> (Actions, Shown) {
    actions(&[("GITHUB_ACTIONS", "true")])
}

pub(super) fn file(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(name);
    (dir, path)
}

#[test]
fn hostile_output_is_shown_between_words_that_stop_commands() {
    for payload in hostile() {
        let (actions, shown) = in_actions();
        actions.remote(payload.as_bytes()).expect("written");
        let text = shown.text();
        if log_lines(payload.as_bytes()).is_empty() {
            assert_eq!(text, "");
            continue;
        }
        assert_eq!(commands_of(&text), ["stop-commands"], "{text:?}");
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
        assert!(commands_of(&shown.text()).is_empty());
        let (actions, shown) = in_actions();
        actions
            .error(&Annotation::new(&payload, &payload).at(&payload, 1, 2))
            .expect("written");
        assert_eq!(commands_of(&shown.text()), ["error"], "{:?}", shown.text());
        let (actions, shown) = in_actions();
        actions.group(&payload).expect("written");
        assert_eq!(commands_of(&shown.text()), ["group"], "{:?}", shown.text());
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
