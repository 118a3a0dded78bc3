//! Annotations: messages that GitHub shows at the top of the run. Runs on the runner.

use std::io;

use super::command::command;
use super::{Actions, Audience, title_line};
use belay_model::text::{cut, log_lines};

/// GitHub cuts the message of an annotation here.
const MAX_ANNOTATION: usize = 4_096;
/// GitHub shows this many annotations of a kind for a step; later ones are printed as plain lines.
const SHOWN_PER_KIND: usize = 10;

/// How grave an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// How many annotations of each kind were shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    errors: usize,
    warnings: usize,
}

impl Shown {
    /// Counts one more, and says whether GitHub shows it.
    fn count(&mut self, level: Level) -> bool {
        let count = match level {
            Level::Error => &mut self.errors,
            Level::Warning => &mut self.warnings,
        };
        *count += 1;
        *count <= SHOWN_PER_KIND
    }
}

/// A message that GitHub shows at the top of the run, and beside a line of a file when one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    title: String,
    message: String,
    place: Option<Place>,
}

/// A place in a file of the repository. Line and column start at 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    file: String,
    line: u32,
    col: u32,
}

impl Annotation {
    /// A message about the run as a whole.
    pub fn new(title: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            message: message.into(),
            place: None,
        }
    }

    /// Puts it beside a place in a file of the repository. Both counts start at 1.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, line: u32, col: u32) -> Self {
        self.place = Some(Place {
            file: file.into(),
            line,
            col,
        });
        self
    }
}

impl Actions {
    /// Shows an error at the top of the run; beyond the number that GitHub shows for a step it is an ordinary line.
    pub fn error(&self, annotation: &Annotation) -> io::Result<()> {
        self.annotate(Level::Error, annotation)
    }

    /// Shows a warning at the top of the run, with the same limit.
    pub fn warning(&self, annotation: &Annotation) -> io::Result<()> {
        self.annotate(Level::Warning, annotation)
    }

    fn annotate(&self, level: Level, annotation: &Annotation) -> io::Result<()> {
        let mut sink = self.sink();
        let is_shown = sink.shown.count(level);
        let text = match self.audience {
            Audience::ActionsRunner if is_shown => as_command(level, annotation),
            Audience::ActionsRunner | Audience::Person => as_line(level, annotation),
        };
        sink.write(&text)
    }
}

fn as_command(level: Level, annotation: &Annotation) -> String {
    let mut properties = vec![];
    if let Some(Place { file, line, col }) = &annotation.place {
        properties.push(("file", title_line(file)));
        properties.push(("line", line.to_string()));
        properties.push(("col", col.to_string()));
    }
    properties.push(("title", title_line(&annotation.title)));
    let message = cut(&log_lines(annotation.message.as_bytes()), MAX_ANNOTATION);
    command(level.word(), &properties, &message)
}

fn as_line(level: Level, annotation: &Annotation) -> String {
    let place = annotation
        .place
        .as_ref()
        .map(|Place { file, line, col }| format!(" ({}:{line}:{col})", title_line(file)))
        .unwrap_or_default();
    let (word, title) = (level.word(), title_line(&annotation.title));
    let message = log_lines(annotation.message.as_bytes());
    format!("{word}: {title}: {message}{place}\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::in_actions;
    use super::*;

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
}
