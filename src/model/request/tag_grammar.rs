//! The grammar of tags: a version, a development date or a feature, in short and harmless ASCII.

use jiff::civil::Date;
use semver::{Prerelease, Version};

/// The longest name that is accepted, in bytes; it is also the longest tag of a Docker image.
pub(super) const MAX_BYTES: usize = 128;
/// The most digits that a number of a version may have, so that each fits every integer that it ever meets.
const MAX_DIGITS: usize = 9;
/// The first number that has more of them.
pub(super) const NUMBERS_END: u64 = 1_000_000_000;
/// The longest slug of a feature tag: a label of a host name has room for no more.
pub(super) const MAX_SLUG: usize = 63;
/// The longest pre-release part of a version.
pub(super) const MAX_PRERELEASE: usize = 64;

/// What the text of a tag says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Version(Version),
    Dev(Date),
    Feature,
}

/// What is wrong with a name, in words that never repeat it: it may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TagError {
    #[error("the tag is empty")]
    Empty,
    #[error("the tag is {0} bytes long; the limit is {MAX_BYTES}")]
    TooLong(usize),
    #[error("the tag contains a slash; give its name without refs/tags/ or any folder")]
    Slash,
    #[error("the tag has build metadata (a plus sign); two builds of one version would be one tag")]
    BuildMetadata,
    #[error("the tag contains {}; only ASCII letters, digits, . and - are allowed", describe(*.0))]
    Character(char),
    #[error("a version has three numbers, as in v1.2.0; this one has {0}")]
    Numbers(usize),
    #[error("a version is v and three numbers, as in v1.2.0")]
    NoVersion,
    #[error("a number of the version has more than {MAX_DIGITS} digits")]
    TooManyDigits,
    #[error("a number of the version has a leading zero")]
    LeadingZero,
    #[error("the pre-release part has {0} characters; it needs 1 to {MAX_PRERELEASE}")]
    PrereleaseLength(usize),
    #[error("the pre-release part is not as in rc.1 (no empty part, no leading zero)")]
    Prerelease,
    #[error("a development tag is dev- and a date of eight digits")]
    NoDate,
    #[error("the date does not exist in the calendar")]
    NoSuchDate,
    #[error("a feature has a name of 1 to {MAX_SLUG} characters; this one has {0}")]
    SlugLength(usize),
    #[error("a feature is named with lower-case letters, digits and hyphens")]
    SlugCharacters,
    #[error("hyphens in the name of a feature stand alone, between letters or digits")]
    SlugHyphens,
    #[error("a version tag begins with a lower-case v")]
    UpperCaseV,
    #[error("a version tag begins with v")]
    NoV,
    #[error(
        "it is neither a version (v1.2.0), a development date (dev-20241215) nor a feature (feature-login)"
    )]
    UnknownShape,
}

/// Reads a tag as git names it.
pub(super) fn read(text: &str) -> Result<Name, TagError> {
    check_characters(text)?;
    if let Some(date) = text.strip_prefix("dev-") {
        Ok(Name::Dev(read_date(date)?))
    } else if let Some(slug) = text.strip_prefix("feature-") {
        check_slug(slug)?;
        Ok(Name::Feature)
    } else if let Some(version) = text.strip_prefix('v') {
        Ok(Name::Version(read_version(version)?))
    } else {
        Err(unknown_shape(text))
    }
}

/// Only letters, digits, dots and hyphens get past this; whatever is quoted later is therefore harmless.
fn check_characters(text: &str) -> Result<(), TagError> {
    if text.is_empty() {
        return Err(TagError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(TagError::TooLong(text.len()));
    }
    match text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-'))
    {
        None => Ok(()),
        Some('/') => Err(TagError::Slash),
        Some('+') => Err(TagError::BuildMetadata),
        Some(c) => Err(TagError::Character(c)),
    }
}

/// Names a character without printing it.
fn describe(c: char) -> String {
    let name = match c {
        '\n' => "a line feed",
        '\r' => "a carriage return",
        '\0' => "a zero byte",
        ' ' => "a space",
        '$' => "a dollar sign",
        '`' => "a backquote",
        '\'' | '"' => "a quote",
        '\\' => "a backslash",
        ';' => "a semicolon",
        '_' => "an underscore",
        c if c.is_ascii_control() => {
            return format!("the control character U+{:04X}", u32::from(c));
        }
        c if !c.is_ascii() => return format!("U+{:04X}, which is not ASCII", u32::from(c)),
        c => return format!("the character U+{:04X}", u32::from(c)),
    };
    name.into()
}

fn read_version(text: &str) -> Result<Version, TagError> {
    let (core, prerelease) = match text.split_once('-') {
        Some((core, prerelease)) => (core, Some(prerelease)),
        None => (text, None),
    };
    let parts: Vec<&str> = core.split('.').collect();
    let [major, minor, patch] = parts[..] else {
        return Err(TagError::Numbers(parts.len()));
    };
    let mut version = Version::new(
        read_number(major)?,
        read_number(minor)?,
        read_number(patch)?,
    );
    if let Some(prerelease) = prerelease {
        version.pre = read_prerelease(prerelease)?;
    }
    Ok(version)
}

fn read_number(text: &str) -> Result<u64, TagError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(TagError::NoVersion);
    }
    if text.len() > MAX_DIGITS {
        return Err(TagError::TooManyDigits);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(TagError::LeadingZero);
    }
    text.parse().map_err(|_| TagError::NoVersion)
}

fn read_prerelease(text: &str) -> Result<Prerelease, TagError> {
    if text.is_empty() || text.len() > MAX_PRERELEASE {
        return Err(TagError::PrereleaseLength(text.len()));
    }
    Prerelease::new(text).map_err(|_| TagError::Prerelease)
}

fn read_date(text: &str) -> Result<Date, TagError> {
    let (year, month, day) = date_numbers(text).ok_or(TagError::NoDate)?;
    match Date::new(year, month, day) {
        Ok(date) if year > 0 => Ok(date),
        _ => Err(TagError::NoSuchDate),
    }
}

/// The numbers of `YYYYMMDD`, whether or not they make a date.
pub(super) fn date_numbers(text: &str) -> Option<(i16, i8, i8)> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    Some((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
}

fn check_slug(slug: &str) -> Result<(), TagError> {
    if slug.is_empty() || slug.len() > MAX_SLUG {
        return Err(TagError::SlugLength(slug.len()));
    }
    if !slug
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        return Err(TagError::SlugCharacters);
    }
    if slug.split('-').any(str::is_empty) {
        return Err(TagError::SlugHyphens);
    }
    Ok(())
}

fn unknown_shape(text: &str) -> TagError {
    if text.starts_with('V') {
        TagError::UpperCaseV
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        TagError::NoV
    } else {
        TagError::UnknownShape
    }
}
