//! What can still be read of a damaged journal. Pure.
//!
//! Each line has a checksum of its own, by which one damaged byte is not only found but put right: there is but one byte
//! of one place that makes it fit. What cannot be put right is left out where the records around it say what it was.

use belay_model::transaction::journal::{Entry, Event, Output};
use belay_model::transaction::outcome::Failure;
use belay_model::transaction::phase::{Phase, Records};
use belay_model::transaction::step::Step;

use crate::journal::decode_line;
use crate::sizes::wide;

/// CRC-32C's polynomial, the lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Where a line's record begins: after the checksum and a space.
const RECORD: usize = 9;

/// A line of a journal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// Whole, or put right.
    Whole(Entry),
    /// Beyond that.
    Lost,
}

/// Every line of a journal. A last one without its end is what a crash tears, and not one.
pub(super) fn lines(bytes: &[u8]) -> Vec<Line> {
    let mut raw: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    raw.pop();
    let mut lines = vec![];
    let mut at = 0;
    while let Some(line) = raw.get(at) {
        at += 1;
        if let Some(entry) = whole(line) {
            lines.push(Line::Whole(entry));
        } else if let Some((first, second)) = parted(line) {
            lines.extend([Line::Whole(first), Line::Whole(second)]);
        } else if let Some(entry) = raw
            .get(at)
            .and_then(|next| whole(&[line, b"\n".as_slice(), next].concat()))
        {
            // The damaged byte had become the end of a line.
            at += 1;
            lines.push(Line::Whole(entry));
        } else {
            lines.push(Line::Lost);
        }
    }
    lines
}

/// Two lines whose end between them was damaged.
fn parted(line: &[u8]) -> Option<(Entry, Entry)> {
    let brackets = line.iter().enumerate().filter(|(_, b)| **b == b'}');
    brackets.into_iter().find_map(|(at, _)| {
        let first = decode_line(line.get(..=at)?)?;
        Some((first, decode_line(line.get(at + 2..)?)?))
    })
}

/// A line's record, with one damaged byte put right.
fn whole(line: &[u8]) -> Option<Entry> {
    if let Some(entry) = decode_line(line) {
        return Some(entry);
    }
    let (head, json) = line.split_at_checked(RECORD)?;
    let actual = crc32c::crc32c(json);
    let right = format!("{actual:08x} ");
    let wrong = head.iter().zip(right.bytes()).filter(|(a, b)| **a != *b);
    if wrong.count() == 1 {
        // The checksum itself, or the space after it.
        return decode_line(&[right.as_bytes(), json].concat());
    }
    let stored = std::str::from_utf8(head.get(..RECORD - 1)?).ok()?;
    let stored = u32::from_str_radix(stored, 16).ok()?;
    let (at, mask) = flaw(json.len(), stored ^ actual)?;
    let mut json = json.to_vec();
    *json.get_mut(at)? ^= mask;
    decode_line(&[head, json.as_slice()].concat())
}

/// The one byte of a text of this length that changes its checksum so, and how it was changed.
fn flaw(length: usize, difference: u32) -> Option<(usize, u8)> {
    // What a change of the last byte does to the checksum; each byte further in front does that and a zero byte more.
    let mut effects: Vec<(u8, u32)> = (1..=u8::MAX)
        .map(|mask| (mask, byte(mask.into())))
        .collect();
    for at in (0..length).rev() {
        if let Some((mask, _)) = effects.iter().find(|(_, effect)| *effect == difference) {
            return Some((at, *mask));
        }
        for (_, effect) in &mut effects {
            *effect = byte(*effect & 0xff) ^ (*effect >> 8);
        }
    }
    None
}

/// The checksum's table, one entry at a time.
fn byte(value: u32) -> u32 {
    (0..8).fold(value, |crc, _| match crc & 1 {
        1 => crc >> 1 ^ POLYNOMIAL,
        _ => crc >> 1,
    })
}

/// What a journal comes to without its lost lines, as far as the others leave no doubt.
pub(super) fn records(lines: &[Line], begin: impl FnOnce() -> Option<Event>) -> Option<Records> {
    let mut lines = lines.iter().peekable();
    let mut records = Records::default();
    let at = lines.clone().find_map(|line| match line {
        Line::Whole(entry) => Some(entry.at),
        Line::Lost => None,
    })?;
    let first_is_lost = lines.peek().is_some_and(|line| **line == Line::Lost);
    if first_is_lost {
        lines.next();
        let event = begin()?;
        records.push(Entry { n: 0, at, event }).ok()?;
    }
    let mut is_lost = false;
    for line in lines {
        let Line::Whole(entry) = line else {
            is_lost = true;
            continue;
        };
        if is_lost && records.check(&entry.event).is_err() {
            let event = between(records.phase(), &entry.event)?;
            push(&mut records, entry, event)?;
        }
        is_lost = false;
        push(&mut records, entry, entry.event.clone())?;
    }
    // Whether it was committed is what the last line may have said.
    let is_confirming = matches!(
        records.phase(),
        Phase::Performing {
            step: Step::Confirm,
            ..
        }
    );
    (!is_lost || !is_confirming).then_some(records)
}

fn push(records: &mut Records, like: &Entry, event: Event) -> Option<()> {
    let n = wide(records.len());
    records
        .push(Entry {
            n,
            at: like.at,
            event,
        })
        .ok()
}

/// The one record that leads from a phase to where the next record can follow. None of those that later steps read.
fn between(phase: Phase, following: &Event) -> Option<Event> {
    let of_step = |step: Step| {
        let done = (step != Step::Preflight && step != Step::Fetch).then_some(Event::Done {
            step,
            output: Output::Nothing,
        });
        let failed = Event::Failed {
            step,
            failure: Failure::new("the record of this failure was damaged"),
        };
        [
            Some(Event::Started { step }),
            done,
            Some(failed),
            Some(Event::UndoStarted { step }),
            Some(Event::UndoDone { step }),
        ]
    };
    let candidates = Step::ALL.into_iter().flat_map(of_step).flatten();
    let interrupted = Event::Interrupted {
        reason: "the record of this interruption was damaged".to_owned(),
    };
    let leads_on = |event: &Event| phase.after(event).is_ok_and(|p| p.after(following).is_ok());
    let mut found = candidates.chain([interrupted]).filter(leads_on);
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn line(n: u64, text: &str) -> Vec<u8> {
        let event = Event::Note {
            text: text.to_owned(),
        };
        let entry = Entry {
            n,
            at: Timestamp::UNIX_EPOCH,
            event,
        };
        let json = serde_json::to_string(&entry).expect("JSON");
        format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes()
    }

    #[test]
    fn any_damaged_byte_of_a_line_is_put_right() {
        let bytes = [line(0, "one"), line(1, "two"), line(2, "three")].concat();
        let whole = lines(&bytes);
        assert_eq!(whole.len(), 3);
        let middle = line(0, "one").len()..bytes.len() - line(2, "three").len();
        for at in middle {
            for mask in [0x01, 0x20, 0xff, bytes[at] ^ b'\n'] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                assert_eq!(lines(&damaged), whole, "byte {at} by {mask:x}");
            }
        }
    }

    #[test]
    fn two_damaged_bytes_are_not_guessed() {
        let mut damaged = line(0, "one of several words");
        for byte in damaged.iter_mut().skip(40).take(2) {
            *byte ^= 0x11;
        }
        assert_eq!(lines(&damaged), [Line::Lost]);
    }
}
