//! The log of a run while the host is at work: a group for each step.
//!
//! Runs on the runner.

use std::cell::RefCell;

use super::actions::Actions;
use super::github_record::GitHubRecord;
use super::transaction::Watcher;
use belay_model::transaction::journal::{Entry, Event};
use belay_report::{Narrator, Progress};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Open,
    Closed,
}

/// The live log.
pub(super) struct LiveLog<'t, 'a, 's> {
    actions: &'a Actions,
    narrator: Narrator,
    record: &'t RefCell<GitHubRecord<'a, 's>>,
    group: Group,
    /// The beginning of a line of another program's output.
    unfinished: Vec<u8>,
}

impl<'t, 'a, 's> LiveLog<'t, 'a, 's> {
    /// Writes to the run's log, and tells GitHub of the steps.
    pub(super) fn new(actions: &'a Actions, record: &'t RefCell<GitHubRecord<'a, 's>>) -> Self {
        LiveLog {
            actions,
            narrator: Narrator::new(),
            record,
            group: Group::Closed,
            unfinished: vec![],
        }
    }

    /// Ends what is unfinished: a line of output, a group.
    pub(super) fn close_group(&mut self) {
        if !self.unfinished.is_empty() {
            self.remote(b"\n");
        }
        if self.group == Group::Open {
            let _ = self.actions.end_group();
            self.group = Group::Closed;
        }
    }

    fn open_group(&mut self, title: &str) {
        self.close_group();
        let _ = self.actions.group(title);
        self.group = Group::Open;
    }
}

impl Watcher for LiveLog<'_, '_, '_> {
    fn entry(&mut self, entry: &Entry) {
        if let Event::Started { step } = entry.event {
            self.record.borrow_mut().phase(step);
        }
        match self.narrator.tell(entry) {
            None => {}
            Some(Progress::StepBegan { title, .. }) => self.open_group(&title),
            Some(Progress::Line(line)) => self.actions.say(&line),
            // Neither may be folded away with what came before.
            Some(Progress::StepEnded { line, .. } | Progress::Warning(line)) => {
                self.close_group();
                self.actions.say(&line);
            }
            Some(Progress::Block { title, lines }) => {
                self.open_group(&title);
                let _ = self.actions.remote(lines.join("\n").as_bytes());
                self.close_group();
            }
        }
    }

    fn line(&mut self, text: &str) {
        self.actions.say(text);
    }

    fn remote(&mut self, bytes: &[u8]) {
        // Whole lines, each made harmless by itself: chunk by chunk a word could be hidden across two.
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let _ = self.actions.line(String::from_utf8_lossy(&line).trim_end());
        }
    }

    fn section(&mut self, title: &str) {
        self.open_group(title);
    }
}
