//! The summary of a step: Markdown that GitHub shows on the run's page. Runs on the runner.

use std::io;

use super::{Actions, append};

/// Above this size GitHub drops the whole summary of a step.
const MAX_SUMMARY: usize = 1024 * 1024;
const NOTE: &str =
    "\n\n_The rest of this summary was left out: GitHub keeps at most 1 MiB. It is in the log._";

impl Actions {
    /// Adds Markdown to the step summary, cut at a section when it would grow too large to be kept. Without a summary
    /// file nothing happens.
    pub fn summary(&self, markdown: &str) -> io::Result<()> {
        let Some(path) = &self.summary else {
            return Ok(());
        };
        let used = std::fs::metadata(path)
            .map_or(0, |data| usize::try_from(data.len()).unwrap_or(usize::MAX));
        let room = MAX_SUMMARY.saturating_sub(used.saturating_add(1));
        append(path, &format!("{}\n", fit(markdown.trim_end(), room)))
    }
}

/// Keeps as many whole sections as fit, and says that there was more.
fn fit(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let Some(room) = room.checked_sub(NOTE.len()) else {
        return String::new();
    };
    let (kept, _) = text.split_at(boundary(text, room));
    format!("{}{NOTE}", kept.trim_end())
}

/// The last heading that starts within `room`, else the last line break, both outside code and folded parts, which
/// would swallow the note; else nothing at all.
fn boundary(text: &str, room: usize) -> usize {
    let (mut at, mut section, mut paragraph) = (0, 0, 0);
    let (mut fenced, mut folded) = (false, 0_usize);
    for line in text.split_inclusive('\n') {
        if at > room {
            break;
        }
        if !fenced && folded == 0 {
            paragraph = at;
            if line.starts_with("# ") || line.starts_with("## ") || line.starts_with("### ") {
                section = at;
            }
        }
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            folded = (folded + line.matches("<details").count())
                .saturating_sub(line.matches("</details>").count());
        }
        at += line.len();
    }
    if section > 0 { section } else { paragraph }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{actions, file};
    use super::*;

    #[test]
    fn summaries_add_up_and_stay_under_the_limit() {
        let (_dir, path) = file("summary");
        let (actions, _) = actions(&[("GITHUB_STEP_SUMMARY", path.to_str().expect("UTF-8"))]);
        actions.summary("# First\n").expect("written");
        let section = format!("## Section\n{}\n", "text ".repeat(20_000));
        actions.summary(&section.repeat(20)).expect("written");
        actions.summary("# No room").expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.len() <= MAX_SUMMARY, "{}", text.len());
        assert!(text.starts_with("# First\n## Section\n"));
        assert_eq!(text.matches("was left out").count(), 1);
        let kept = text.split("\n\n_The rest").next().expect("a part");
        assert!(kept.ends_with("text"), "the cut is at a section");
    }

    #[test]
    fn a_summary_is_not_cut_inside_code_or_a_folded_part() {
        let text = "intro\n\n<details>\n```\n## not a heading\nmore\n```\n\n## folded heading\nx\n</details>\n";
        for room in 8..text.len() - 1 {
            assert_eq!(&text[..boundary(text, room)], "intro\n\n", "room {room}");
        }
        assert_eq!(boundary("one long line", 5), 0);
    }
}
