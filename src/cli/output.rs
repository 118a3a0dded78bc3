//! Where a command's words go.

use std::io::{self, Write};

use belay_model::transaction::outcome::{Failure, Word};

/// Tells a failure before which nothing was touched, and returns its exit code.
pub(super) fn fail(failure: &Failure) -> u8 {
    print(&belay_report::three_lines(failure, Word::Refused));
    Word::Refused.exit_code()
}

/// Prints a text, and ends its last line.
pub(super) fn print(text: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    // There is no one to tell when standard output is gone.
    let _ = write!(io::stdout(), "{text}{newline}");
}
