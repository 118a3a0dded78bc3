//! A sentence that is written once and read in two places: plain on a console, as Markdown in a summary.
//!
//! Runs anywhere; pure. It keeps apart what Belay says and what comes from outside, so that neither reader has to guess.

use super::markdown::Inline;
use belay_model::text::one_line;

/// Words of Belay's own, with names and text from outside between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Own(&'static str),
    /// A version, a service, an environment.
    Name(String),
    /// Prose from outside, or generated.
    Outside(String),
    Link {
        label: String,
        address: String,
    },
}

impl Sentence {
    /// Begins a sentence with words of Belay's own.
    #[must_use]
    pub fn new(words: &'static str) -> Self {
        Sentence(vec![Piece::Own(words)])
    }

    /// Begins a sentence with a name.
    #[must_use]
    pub fn with_name(name: &str) -> Self {
        Sentence::default().name(name)
    }

    /// Goes on with words of Belay's own.
    #[must_use]
    pub fn say(mut self, words: &'static str) -> Self {
        self.0.push(Piece::Own(words));
        self
    }

    /// Goes on with a name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.0.push(Piece::Name(name.to_owned()));
        self
    }

    /// Goes on with prose that is not Belay's, or that was generated.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.push(Piece::Outside(text.to_owned()));
        self
    }

    /// Goes on with a text that leads to an address.
    #[must_use]
    pub fn link(mut self, label: &str, address: &str) -> Self {
        self.0.push(Piece::Link {
            label: label.to_owned(),
            address: address.to_owned(),
        });
        self
    }

    /// Goes on with another sentence.
    #[must_use]
    pub fn then(mut self, next: Sentence) -> Self {
        self.0.extend(next.0);
        self
    }

    /// The sentence on a console: one line.
    pub fn plain(&self) -> String {
        let text: String = self.0.iter().map(Piece::plain).collect();
        one_line(&text)
    }

    /// The sentence in Markdown.
    pub fn inline(&self) -> Inline {
        self.0.iter().map(Piece::inline).collect()
    }
}

impl Piece {
    fn plain(&self) -> &str {
        match self {
            Piece::Own(words) => words,
            Piece::Name(text) | Piece::Outside(text) => text,
            Piece::Link { label, .. } => label,
        }
    }

    fn inline(&self) -> Inline {
        match self {
            Piece::Own(words) => Inline::own(words),
            Piece::Name(name) => Inline::code(name),
            Piece::Outside(text) => Inline::text(text),
            Piece::Link { label, address } => Inline::link(Inline::text(label), address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_reads_plain_and_as_markdown() {
        let sentence = Sentence::with_name("v1.2.0")
            .say(" failed: ")
            .text("a|b\nc");
        assert_eq!(sentence.plain(), "v1.2.0 failed: a|b c");
        assert_eq!(sentence.inline().to_string(), "`v1.2.0` failed: a&#124;b c");
    }
}
