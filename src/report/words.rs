//! Durations, sizes and times as people say them, and columns.
//!
//! Runs anywhere; pure. Sizes are decimal, because budgets are ("300MB"); times are UTC.

use jiff::Timestamp;

use belay_model::text::one_line;
pub use belay_model::text::size;
pub(crate) use belay_model::text::tenths;
use belay_model::versions::history::MetricKind;

/// The minus sign of differences; a hyphen would be read as a dash.
const MINUS: char = '\u{2212}';

/// A duration: `40 ms`, `0.8 s`, `1 m 23 s`, `2 h 5 m`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms.saturating_add(500) / 1000;
    match ms {
        0..100 => format!("{ms} ms"),
        100..59_950 => format!("{} s", tenths(ms, 1000)),
        _ if seconds < 3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => hours(seconds),
    }
}

fn hours(seconds: u64) -> String {
    let minutes = seconds / 60;
    format!("{} h {} m", minutes / 60, minutes % 60)
}

/// A transfer's speed: `6.9 MB/s`; nothing when it took no time that could be measured.
#[must_use]
pub fn speed(bytes: u64, ms: u64) -> Option<String> {
    (ms > 0).then(|| {
        let per_second = u128::from(bytes) * 1000 / u128::from(ms);
        format!("{}/s", size(u64::try_from(per_second).unwrap_or(u64::MAX)))
    })
}

/// How a size changed: `+1.2 MB (+3 %)`, `−55.9 MB (−16 %)`, `same`.
#[must_use]
pub fn difference(now: u64, before: u64) -> String {
    if now == before {
        return "same".to_owned();
    }
    let sign = if now > before { '+' } else { MINUS };
    let change = now.abs_diff(before);
    if before == 0 {
        return format!("{sign}{}", size(change));
    }
    let (part, whole) = (u128::from(change), u128::from(before));
    let percent = (part * 100 + whole / 2) / whole;
    format!("{sign}{} ({sign}{percent} %)", size(change))
}

/// A time in full: `2026-11-24 03:14:05 UTC`.
#[must_use]
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A time of today, to wait for: `03:14 UTC`. Rounded up, so that whoever waits for it is not early.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    let up = Timestamp::from_second(at.as_second().saturating_add(59)).unwrap_or(at);
    up.strftime("%H:%M UTC").to_string()
}

/// How long ago something was: `just now`, `3 minutes ago`, `2 days ago`. A host whose clock is ahead is not the future.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

/// A metric's number in its unit.
#[must_use]
pub fn amount(kind: MetricKind, number: u64) -> String {
    match kind {
        MetricKind::StartUp | MetricKind::Answer => duration(number),
        MetricKind::ImageSize => size(number),
    }
}

/// `1 image`, `2 images`.
#[must_use]
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The subject of "… not run": `web does`, `web, worker and db do`. Names come from the host.
#[must_use]
pub fn not_running(services: &[String]) -> String {
    let names: Vec<String> = services.iter().map(|name| one_line(name)).collect();
    match names.as_slice() {
        [] => "nothing does".to_owned(),
        [one] => format!("{one} does"),
        [others @ .., last] => format!("{} and {last} do", others.join(", ")),
    }
}

/// Rows as columns of a terminal, two blanks apart, without blanks at the lines' ends.
#[must_use]
pub fn columns(rows: &[Vec<String>], indent: &str) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(&format!("{indent}{}\n", line.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said = [
            0, 40, 99, 100, 840, 1000, 12_340, 59_949, 59_950, 83_000, 3_599_499, 3_599_500,
            7_500_000,
        ]
        .map(duration);
        assert_eq!(
            said,
            [
                "0 ms",
                "40 ms",
                "99 ms",
                "0.1 s",
                "0.8 s",
                "1.0 s",
                "12.3 s",
                "59.9 s",
                "1 m 0 s",
                "1 m 23 s",
                "59 m 59 s",
                "1 h 0 m",
                "2 h 5 m"
            ]
        );
        assert!(duration(u64::MAX).ends_with(" m"));
    }

    #[test]
    fn sizes_are_decimal() {
        let said = [
            0,
            999,
            1000,
            12_345_678,
            300_000_000,
            999_949,
            999_950,
            1_440_000_000,
        ]
        .map(size);
        assert_eq!(
            said,
            [
                "0 B", "999 B", "1.0 kB", "12.3 MB", "300.0 MB", "999.9 kB", "1.0 MB", "1.4 GB"
            ]
        );
        assert_eq!(size(u64::MAX), "18446.7 PB");
    }

    #[test]
    fn a_difference_says_its_direction() {
        assert_eq!(difference(343_000_000, 1_440_000_000), "−1.1 GB (−76 %)");
        assert_eq!(difference(103, 100), "+3 B (+3 %)");
        assert_eq!(difference(5, 0), "+5 B");
        assert_eq!(difference(7, 7), "same");
    }

    #[test]
    fn a_speed_needs_a_time() {
        assert_eq!(speed(84_300_000, 12_000).as_deref(), Some("7.0 MB/s"));
        assert_eq!(speed(1, 0), None);
        assert!(speed(u64::MAX, 1).is_some());
    }

    #[test]
    fn times_are_utc_and_a_deadline_is_rounded_up() {
        assert_eq!(
            utc(at("2026-11-24T03:14:05+02:00")),
            "2026-11-24 01:14:05 UTC"
        );
        assert_eq!(clock(at("2026-11-24T03:14:01Z")), "03:15 UTC");
        assert_eq!(clock(at("2026-11-24T03:14:00Z")), "03:14 UTC");
    }

    #[test]
    fn ago_counts_whole_units_and_never_the_future() {
        let now = at("2026-11-24T12:00:00Z");
        let said = [
            "2026-11-24T13:00:00Z",
            "2026-11-24T11:59:01Z",
            "2026-11-24T11:59:00Z",
            "2026-11-24T09:30:00Z",
            "2026-11-22T11:00:00Z",
        ]
        .map(|then| ago(at(then), now));
        assert_eq!(
            said,
            [
                "just now",
                "just now",
                "1 minute ago",
                "2 hours ago",
                "2 days ago"
            ]
        );
    }

    #[test]
    fn columns_align_and_end_without_blanks() {
        let rows = vec![
            vec!["web".to_owned(), "x".to_owned()],
            vec!["ä".to_owned(), String::new()],
        ];
        assert_eq!(columns(&rows, "  "), "  web  x\n  ä\n");
    }
}
