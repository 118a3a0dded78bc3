//! The accepted name that is nearest to one that is not.

use jiff::civil::Date;

use super::tag_grammar::{MAX_BYTES, MAX_PRERELEASE, MAX_SLUG, date_numbers, read};

/// Guesses what was meant. Only ever a guess to show: nothing is deployed that was not named exactly.
pub(super) fn nearest(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .take(2 * MAX_BYTES)
        .filter_map(as_ascii)
        .collect();
    let whole = plain.trim();
    // Folders are dropped from the left, so that `feature/login` is tried whole before it is tried as `login`.
    let tails = whole
        .match_indices('/')
        .filter_map(|(at, _)| whole.get(at + 1..));
    std::iter::once(whole).chain(tails).find_map(nearest_name)
}

/// Full-width forms become what they look like; everything else outside ASCII, and control bytes, disappears.
fn as_ascii(c: char) -> Option<char> {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0),
        c if c.is_ascii() && !c.is_ascii_control() => Some(c),
        _ => None,
    }
}

fn nearest_name(text: &str) -> Option<String> {
    let candidate = nearest_date(text)
        .or_else(|| nearest_feature(text))
        .or_else(|| nearest_version(text))?;
    read(&candidate).is_ok().then_some(candidate)
}

fn nearest_date(text: &str) -> Option<String> {
    let rest = strip_word(text, &["development", "dev"])?;
    let digits: String = rest
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | '/' | ' '))
        .take_while(char::is_ascii_digit)
        .collect();
    let (year, month, day) = date_numbers(digits.get(..8)?)?;
    let first = Date::new(year.max(1), month.clamp(1, 12), 1).ok()?;
    let day = day.clamp(1, first.days_in_month());
    Some(format!(
        "dev-{:04}{:02}{day:02}",
        first.year(),
        first.month()
    ))
}

fn nearest_feature(text: &str) -> Option<String> {
    let rest = strip_word(text, &["feature", "feat"])?;
    let words: Vec<String> = rest
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let slug = words.join("-");
    let slug = slug.get(..MAX_SLUG).unwrap_or(&slug).trim_end_matches('-');
    Some(format!("feature-{slug}"))
}

fn nearest_version(text: &str) -> Option<String> {
    const WORDS: [&str; 8] = [
        "version", "release", "hotfix", "tag", "rel", "ver", "v", "r",
    ];
    let rest = strip_word(text, &WORDS).unwrap_or(text);
    let rest = strip_word(rest, &["v"]).unwrap_or(rest);
    let is_core = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '_');
    let end = rest.find(|c| !is_core(c)).unwrap_or(rest.len());
    let (core, tail) = rest.split_at(end);
    let mut numbers = core
        .split(['.', ',', '_'])
        .filter(|n| !n.is_empty())
        .map(without_leading_zeros)
        .collect::<Vec<_>>();
    if numbers.is_empty() {
        return None;
    }
    numbers.resize(3, "0");
    let version = format!("v{}", numbers.join("."));
    match tail.strip_prefix('-').and_then(nearest_prerelease) {
        Some(prerelease) => Some(format!("{version}-{prerelease}")),
        None => Some(version),
    }
}

fn nearest_prerelease(text: &str) -> Option<String> {
    let is_other = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    let known = text.split(is_other).next().unwrap_or_default();
    let parts = known
        .get(..MAX_PRERELEASE)
        .unwrap_or(known)
        .split('.')
        .filter(|part| !part.is_empty())
        .map(|part| {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                without_leading_zeros(part)
            } else {
                part
            }
        });
    Some(parts.collect::<Vec<_>>().join(".")).filter(|text| !text.is_empty())
}

fn without_leading_zeros(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    }
}

/// What follows the first of these words, in any case, and the separators after it.
fn strip_word<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    let after = |word: &&str| {
        let (start, rest) = text.split_at_checked(word.len())?;
        start.eq_ignore_ascii_case(word).then_some(rest)
    };
    let rest = words.iter().find_map(after)?;
    Some(rest.trim_start_matches(['-', '_', '.', '/', ' ']))
}
