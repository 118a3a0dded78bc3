//! One comment of Belay's own on a pull request, which is written again and again: how it is found, which writing of it
//! this is, and what people have written around Belay's part.
//!
//! Runs anywhere; pure. The mark is on the first line, because a comment that is too long loses its end. GitHub knows no
//! conditional update, so the mark counts the writings: who finds another number than the one that he wrote has been
//! overtaken and begins anew.

/// The first line of a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The environment that the comment is about: each has its own comment on a pull request.
    pub environment: String,
    /// The workflow run that wrote it; an older one never replaces what a newer one wrote.
    pub run: u64,
    /// Counts up with each writing.
    pub revision: u32,
    /// A deployment has written it, so that only a deployment writes it again.
    pub is_release: bool,
}

const OPEN: &str = "<!-- belay:v1 kind=checklist";
const RELEASED: &str = "released";
const BEGIN: &str = "<!-- belay:begin -->";
const END: &str = "<!-- belay:end -->";

impl Mark {
    /// The mark of a comment of ours; nothing for any other comment.
    #[must_use]
    pub fn read(comment: &str) -> Option<Mark> {
        let first = comment.lines().next()?.trim_end();
        let words = first.strip_prefix(OPEN)?.strip_suffix("-->")?;
        let value = |name: &str| {
            let mut words = words.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Mark {
            environment: value("env")?.to_owned(),
            run: value("run")?.parse().ok()?,
            revision: value("rev")?.parse().ok()?,
            is_release: words.split_whitespace().any(|word| word == RELEASED),
        })
    }

    fn line(&self) -> String {
        let Mark {
            environment,
            run,
            revision,
            is_release,
        } = self;
        let released = match is_release {
            true => format!(" {RELEASED}"),
            false => String::new(),
        };
        format!("{OPEN} env={environment} run={run} rev={revision}{released} -->")
    }

    /// Whether a later writer has to leave the comment as it is: what a deployment has completed is a deployment's, and of
    /// two of a kind the newer run has the word.
    #[must_use]
    pub fn is_ahead_of(&self, run: u64, is_release: bool) -> bool {
        match (self.is_release, is_release) {
            (true, false) => true,
            (false, true) => false,
            (true, true) | (false, false) => self.run > run,
        }
    }
}

/// The whole comment: the mark, what people wrote before and after, and Belay's part between.
#[must_use]
pub fn compose(mark: &Mark, body: &str, around: &Around) -> String {
    let mut parts = vec![mark.line()];
    parts.extend((!around.before.is_empty()).then(|| around.before.clone()));
    parts.push(format!("{BEGIN}\n\n{}\n\n{END}", body.trim_matches('\n')));
    parts.extend((!around.after.is_empty()).then(|| around.after.clone()));
    parts.join("\n")
}

/// What people have written around Belay's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Between the mark and Belay's part, without blank lines around it; may be empty.
    pub before: String,
    /// After Belay's part; may be empty.
    pub after: String,
}

impl Around {
    /// Reads a comment of ours. One whose frame somebody has broken has nothing around.
    #[must_use]
    pub fn read(comment: &str) -> Around {
        let text = comment.replace("\r\n", "\n");
        let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
        let begin = line_at(rest, BEGIN, |text, line| text.find(line));
        let end = line_at(rest, END, |text, line| text.rfind(line));
        let around = |(begin, end): (usize, usize)| {
            let (before, after) = (rest.get(..begin)?, rest.get(end + END.len()..)?);
            Some(Around {
                before: before.trim_matches('\n').to_owned(),
                after: after.trim_matches('\n').to_owned(),
            })
        };
        let frame = begin.zip(end).filter(|(begin, end)| begin < end);
        frame.and_then(around).unwrap_or_default()
    }
}

/// Where a line that is exactly this begins.
fn line_at(text: &str, line: &str, find: fn(&str, &str) -> Option<usize>) -> Option<usize> {
    let padded = format!("\n{text}\n");
    find(&padded, &format!("\n{line}\n"))
}

/// Belay's part of a comment, to see whether it has changed.
#[must_use]
pub fn body(comment: &str) -> Option<&str> {
    let (_, rest) = comment.split_once(BEGIN)?;
    let (body, _) = rest.rsplit_once(END)?;
    Some(body.trim_matches(['\n', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            environment: "production".to_owned(),
            run: 17,
            revision: 3,
            is_release: false,
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let comment = compose(&mark(), "text", &Around::default());
        assert_eq!(Mark::read(&comment), Some(mark()));
        assert_eq!(body(&comment), Some("text"));
        let released = Mark {
            is_release: true,
            ..mark()
        };
        let comment = compose(&released, "text", &Around::default());
        assert_eq!(Mark::read(&comment), Some(released));
    }

    #[test]
    fn what_a_deployment_wrote_is_a_deployments() {
        let released = Mark {
            is_release: true,
            ..mark()
        };
        assert!(mark().is_ahead_of(16, false) && !mark().is_ahead_of(18, false));
        assert!(released.is_ahead_of(16, true) && !released.is_ahead_of(18, true));
        assert!(released.is_ahead_of(18, false));
        assert!(!mark().is_ahead_of(16, true));
    }

    #[test]
    fn only_the_first_line_marks_a_comment() {
        let comment = compose(&mark(), "text", &Around::default());
        for other in [
            format!("\n{comment}"),
            format!("> {comment}"),
            comment.replace("rev=3", "rev=x"),
            comment.replace(" env=production", ""),
            comment.replacen(" -->", "", 1),
            String::new(),
        ] {
            assert_eq!(Mark::read(&other), None, "{other}");
        }
    }

    #[test]
    fn what_people_wrote_around_stays() {
        let around = Around {
            before: "@team, please wait.".to_owned(),
            after: "Thanks!\n\nAnd more.".to_owned(),
        };
        let comment = compose(&mark(), "one\n\ntwo", &around);
        assert_eq!(Around::read(&comment), around);
        assert_eq!(Around::read(&comment.replace('\n', "\r\n")), around);
        let again = compose(&mark(), "three", &Around::read(&comment));
        assert_eq!(Around::read(&again), around);
        assert_eq!(body(&again), Some("three"));
    }

    #[test]
    fn a_broken_frame_has_nothing_around() {
        let comment = compose(&mark(), "text", &Around::default());
        for broken in [
            comment.replace(BEGIN, ""),
            comment.replace(END, ""),
            format!("{}\n{END}\n{BEGIN}", mark().line()),
            mark().line(),
        ] {
            assert_eq!(Around::read(&broken), Around::default(), "{broken}");
        }
    }

    /// A log line may say what it likes.
    #[test]
    fn the_last_end_is_the_end() {
        let comment = compose(&mark(), &format!("```\n{END}\nx\n```"), &Around::default());
        assert_eq!(Around::read(&comment), Around::default());
    }
}
