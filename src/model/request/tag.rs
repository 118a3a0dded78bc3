//! Which git tags may be deployed, of which kind each is, and where its kind goes.
//!
//! Pure; used on both machines. A [`Tag`] can only be made by parsing, so whoever holds one holds short, harmless ASCII
//! that is safe in a path, a label, an image reference or a message. Everything else is a [`Refusal`]: the reason in
//! words that repeat nothing unprintable, and the nearest name that would have been accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use semver::{Prerelease, Version};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name that is accepted, in bytes; it is also the longest tag of a Docker image.
pub const MAX_BYTES: usize = 128;
/// The most digits that a number of a version may have, so that each fits every integer that it ever meets.
const MAX_DIGITS: usize = 9;
/// The longest slug of a feature tag.
const MAX_SLUG: usize = 63;
/// The longest pre-release part of a version.
const MAX_PRERELEASE: usize = 64;

/// A git tag that Belay deploys. It exists only after [`Tag::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    text: String,
    name: Name,
}

/// What the text of a tag says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Version(Version),
    Dev(Date),
    Feature,
}

/// What a tag is for; it decides the environment that the tag goes to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TagKind {
    /// `v1.2.0`
    Release,
    /// `v1.2.3`: a repair of the release `v1.2.0`, and a descendant of it.
    Hotfix,
    /// `v1.3.0-rc.1`
    Prerelease,
    /// `dev-20241215`
    Dev,
    /// `feature-login`
    Feature,
}

/// The two audiences that a tag can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagClass {
    /// Releases and their hotfixes.
    Production,
    /// Everything that is still being worked on.
    Development,
}

/// Why a name is not deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What is wrong, in words; never the refused text itself.
    pub reason: String,
    /// The closest name that is accepted by the grammar, if one can be guessed.
    pub nearest: Option<String>,
}

impl TagKind {
    /// Every kind, in the order in which they are documented.
    pub const ALL: [TagKind; 5] = [
        TagKind::Release,
        TagKind::Hotfix,
        TagKind::Prerelease,
        TagKind::Dev,
        TagKind::Feature,
    ];

    /// The audience of this kind.
    pub fn class(self) -> TagClass {
        match self {
            TagKind::Release | TagKind::Hotfix => TagClass::Production,
            TagKind::Prerelease | TagKind::Dev | TagKind::Feature => TagClass::Development,
        }
    }

    /// The word used in `belay.yml` and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            TagKind::Release => "release",
            TagKind::Hotfix => "hotfix",
            TagKind::Prerelease => "prerelease",
            TagKind::Dev => "dev",
            TagKind::Feature => "feature",
        }
    }
}

impl TagClass {
    /// The environment that this class goes to unless `belay.yml` says otherwise.
    pub fn default_environment(self) -> &'static str {
        match self {
            TagClass::Production => "production",
            TagClass::Development => "development",
        }
    }
}

impl fmt::Display for TagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Tag {
    /// Reads a tag as git names it (`v1.2.0`, without `refs/tags/`).
    pub fn parse(text: &str) -> Result<Tag, Refusal> {
        read(text).map_err(|reason| Refusal {
            reason,
            nearest: nearest(text).map(|tag| tag.text),
        })
    }

    /// The name, exactly as in git.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the tag is for.
    pub fn kind(&self) -> TagKind {
        match &self.name {
            Name::Version(version) if !version.pre.is_empty() => TagKind::Prerelease,
            Name::Version(version) if version.patch > 0 => TagKind::Hotfix,
            Name::Version(_) => TagKind::Release,
            Name::Dev(_) => TagKind::Dev,
            Name::Feature => TagKind::Feature,
        }
    }

    /// The version of a release, hotfix or pre-release; dates and features have no order.
    pub fn version(&self) -> Option<&Version> {
        match &self.name {
            Name::Version(version) => Some(version),
            Name::Dev(_) | Name::Feature => None,
        }
    }

    /// The release that this hotfix repairs; nothing for the other kinds.
    pub fn repaired_release(&self) -> Option<Tag> {
        match (&self.name, self.kind()) {
            (Name::Version(version), TagKind::Hotfix) => {
                Some(Tag::of_version(version.major, version.minor, 0))
            }
            _ => None,
        }
    }

    fn of_version(major: u64, minor: u64, patch: u64) -> Tag {
        Tag {
            text: format!("v{major}.{minor}.{patch}"),
            name: Name::Version(Version::new(major, minor, patch)),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Tag {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Tag, Refusal> {
        Tag::parse(text)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Tag {
    /// Checks again: a tag that comes from a file or the other machine is as foreign as one from a command line.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tag, D::Error> {
        Tag::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

// ---- the grammar ----------------------------------------------------------------------------------------------------

fn read(text: &str) -> Result<Tag, String> {
    check_characters(text)?;
    let name = if let Some(date) = text.strip_prefix("dev-") {
        Name::Dev(read_date(date)?)
    } else if let Some(slug) = text.strip_prefix("feature-") {
        check_slug(slug)?;
        Name::Feature
    } else if let Some(version) = text.strip_prefix('v') {
        Name::Version(read_version(version)?)
    } else {
        return Err(unknown_shape(text));
    };
    Ok(Tag {
        text: text.to_owned(),
        name,
    })
}

/// Only letters, digits, dots and hyphens get past this; whatever is quoted later is therefore harmless.
fn check_characters(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the tag is empty".into());
    }
    if text.len() > MAX_BYTES {
        return Err(format!(
            "the tag is {} bytes long; the limit is {MAX_BYTES}",
            text.len()
        ));
    }
    match text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-'))
    {
        None => Ok(()),
        Some('/') => {
            Err("the tag contains a slash; give its name without refs/tags/ or any folder".into())
        }
        Some('+') => Err(
            "the tag has build metadata (a plus sign); two builds of one version would be one tag"
                .into(),
        ),
        Some(c) => Err(format!(
            "the tag contains {}; only ASCII letters, digits, . and - are allowed",
            describe(c)
        )),
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

fn read_version(text: &str) -> Result<Version, String> {
    let (core, prerelease) = match text.split_once('-') {
        Some((core, prerelease)) => (core, Some(prerelease)),
        None => (text, None),
    };
    let parts: Vec<&str> = core.split('.').collect();
    let [major, minor, patch] = parts[..] else {
        return Err(format!(
            "a version has three numbers, as in v1.2.0; this one has {}",
            parts.len()
        ));
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

fn read_number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a version is v and three numbers, as in v1.2.0".into());
    }
    if text.len() > MAX_DIGITS {
        return Err(format!(
            "a number of the version has more than {MAX_DIGITS} digits"
        ));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err("a number of the version has a leading zero".into());
    }
    text.parse()
        .map_err(|_| "a number of the version could not be read".into())
}

fn read_prerelease(text: &str) -> Result<Prerelease, String> {
    if text.is_empty() || text.len() > MAX_PRERELEASE {
        return Err(format!(
            "the pre-release part has {} characters; it needs 1 to {MAX_PRERELEASE}",
            text.len()
        ));
    }
    Prerelease::new(text).map_err(|_| {
        "the pre-release part is not as in rc.1 (no empty part, no leading zero)".into()
    })
}

fn read_date(text: &str) -> Result<Date, String> {
    let (year, month, day) =
        date_numbers(text).ok_or("a development tag is dev- and a date of eight digits")?;
    match Date::new(year, month, day) {
        Ok(date) if year > 0 => Ok(date),
        _ => Err("the date does not exist in the calendar".into()),
    }
}

/// The numbers of `YYYYMMDD`, whether or not they make a date.
fn date_numbers(text: &str) -> Option<(i16, i8, i8)> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((
        text[..4].parse().ok()?,
        text[4..6].parse().ok()?,
        text[6..].parse().ok()?,
    ))
}

fn check_slug(slug: &str) -> Result<(), String> {
    if slug.is_empty() || slug.len() > MAX_SLUG {
        return Err(format!(
            "a feature has a name of 1 to {MAX_SLUG} characters; this one has {}",
            slug.len()
        ));
    }
    if !slug
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        return Err("a feature is named with lower-case letters, digits and hyphens".into());
    }
    if slug.split('-').any(str::is_empty) {
        return Err(
            "hyphens in the name of a feature stand alone, between letters or digits".into(),
        );
    }
    Ok(())
}

fn unknown_shape(text: &str) -> String {
    if text.starts_with('V') {
        "a version tag begins with a lower-case v".into()
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        "a version tag begins with v".into()
    } else {
        "it is neither a version (v1.2.0), a development date (dev-20241215) nor a feature (feature-login)".into()
    }
}

// ---- the nearest accepted name --------------------------------------------------------------------------------------

/// Guesses what was meant. Only ever a guess to show: nothing is deployed that was not named exactly.
fn nearest(text: &str) -> Option<Tag> {
    let plain: String = text
        .chars()
        .take(2 * MAX_BYTES)
        .filter_map(as_ascii)
        .collect();
    let whole = plain.trim();
    // Folders are dropped from the left, so that `feature/login` is tried whole before it is tried as `login`.
    let tails = whole.match_indices('/').map(|(at, _)| &whole[at + 1..]);
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

fn nearest_name(text: &str) -> Option<Tag> {
    let candidate = nearest_date(text)
        .or_else(|| nearest_feature(text))
        .or_else(|| nearest_version(text))?;
    read(&candidate).ok()
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
    let slug = slug[..slug.len().min(MAX_SLUG)].trim_end_matches('-');
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
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')))
        .unwrap_or(text.len());
    let parts = text[..end.min(MAX_PRERELEASE)]
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
    let word = words.iter().find(|word| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    })?;
    Some(text[word.len()..].trim_start_matches(['-', '_', '.', '/', ' ']))
}

// ---- order and ancestry ---------------------------------------------------------------------------------------------

/// What the repository knows that bears on one tag. Gathered by `runner::git`, judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// Whether all of the history is here.
    pub history: History,
    /// Every tag of the repository that Belay would deploy, and the commit that it points to.
    pub tags: BTreeMap<String, String>,
    /// The commit that the tag in question stands for.
    pub place: Place,
    /// The tags whose commits are this commit or ancestors of it.
    pub contained: BTreeSet<String>,
}

/// How much of the history a clone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All of it.
    Complete,
    /// `git clone --depth`: ancestors and tags may be missing, so their absence proves nothing.
    Shallow,
}

/// Where a tag is, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The tag exists and points to this commit.
    Tagged(String),
    /// The tag does not exist; made now, it would point here.
    Head(String),
    /// The tag does not exist and the repository has no commit yet.
    Nowhere,
}

/// What became of the question where a tag stands in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ancestry {
    /// Every rule for this kind of tag holds.
    Holds,
    /// It could not be told, for this reason; nothing speaks against the tag.
    Unknown(String),
}

impl RepositoryFacts {
    /// The commit that a tag of this repository points to.
    pub fn commit_of(&self, tag: &Tag) -> Option<&str> {
        self.tags.get(tag.as_str()).map(String::as_str)
    }

    fn contained_tags(&self) -> impl Iterator<Item = Tag> {
        self.contained
            .iter()
            .filter_map(|name| Tag::parse(name).ok())
    }
}

/// Judges a tag by the repository's tags: a hotfix needs its release and descends from it, and no release or hotfix may
/// stand on top of a newer one.
pub fn check_ancestry(tag: &Tag, facts: &RepositoryFacts) -> Result<Ancestry, Refusal> {
    check_order(tag, facts)?;
    match tag.repaired_release() {
        Some(release) => check_descent(tag, &release, facts),
        None => Ok(Ancestry::Holds),
    }
}

fn check_descent(tag: &Tag, release: &Tag, facts: &RepositoryFacts) -> Result<Ancestry, Refusal> {
    if facts.contained.contains(release.as_str()) {
        return Ok(Ancestry::Holds);
    }
    if facts.history == History::Shallow {
        return Ok(Ancestry::Unknown(format!(
            "this is a shallow clone, so whether {tag} descends from {release} could not be checked (fetch-depth: 0)"
        )));
    }
    if facts.commit_of(release).is_none() {
        return Err(Refusal {
            reason: format!("a hotfix needs its release, and the repository has no tag {release}"),
            nearest: Some(release.text.clone()),
        });
    }
    let place = match facts.place {
        Place::Tagged(_) => tag.as_str(),
        Place::Head(_) | Place::Nowhere => "HEAD",
    };
    Err(Refusal {
        reason: format!(
            "a hotfix descends from its release, and {place} does not descend from {release}"
        ),
        nearest: Some(next_release(facts).text),
    })
}

/// A version that contains a newer one would undo it: `v1.0.1` made on top of `v1.1.0`, say. Two tags on one commit are
/// left alone when both exist, since git does not tell which came first.
fn check_order(tag: &Tag, facts: &RepositoryFacts) -> Result<(), Refusal> {
    let Some(version) = tag
        .version()
        .filter(|_| tag.kind().class() == TagClass::Production)
    else {
        return Ok(());
    };
    let own_commit = match &facts.place {
        Place::Tagged(commit) => Some(commit.as_str()),
        Place::Head(_) | Place::Nowhere => None,
    };
    let newer = facts
        .contained_tags()
        .filter(|other| other.kind().class() == TagClass::Production)
        .filter(|other| facts.commit_of(other) != own_commit || own_commit.is_none())
        .filter(|other| other.version().is_some_and(|other| other > version))
        .max_by(|a, b| a.version().cmp(&b.version()));
    match newer {
        None => Ok(()),
        Some(newer) => Err(Refusal {
            reason: format!("{tag} is older than {newer}, which its commit already contains"),
            nearest: Some(successor(tag.kind(), &newer).text),
        }),
    }
}

/// The next name after `newest` for a tag of this kind.
fn successor(kind: TagKind, newest: &Tag) -> Tag {
    match newest.version() {
        None => Tag::of_version(1, 0, 0),
        Some(version) if kind == TagKind::Hotfix => {
            bounded(version.major, version.minor, version.patch + 1)
        }
        Some(version) => bounded(version.major, version.minor + 1, 0),
    }
}

fn next_release(facts: &RepositoryFacts) -> Tag {
    let mut next = next_tags(facts.tags.keys().map(String::as_str));
    next.remove(0)
}

/// The tags that could come next: a release, and a hotfix of the newest one when there is one.
pub fn next_tags<'a>(existing: impl IntoIterator<Item = &'a str>) -> Vec<Tag> {
    let tags = existing
        .into_iter()
        .filter_map(|name| Tag::parse(name).ok());
    let newest = tags
        .filter(|tag| tag.kind().class() == TagClass::Production)
        .max_by(|a, b| a.version().cmp(&b.version()));
    match newest {
        None => vec![Tag::of_version(1, 0, 0)],
        Some(newest) => vec![
            successor(TagKind::Release, &newest),
            successor(TagKind::Hotfix, &newest),
        ],
    }
}

/// The version with its overflow carried upwards, so that a suggestion always stays inside the grammar.
fn bounded(major: u64, minor: u64, patch: u64) -> Tag {
    const END: u64 = 10_u64.pow(MAX_DIGITS as u32);
    match (major, minor, patch) {
        (major, minor, patch) if patch < END && minor < END => Tag::of_version(major, minor, patch),
        (major, minor, _) if minor + 1 < END => Tag::of_version(major, minor + 1, 0),
        (major, _, _) => Tag::of_version((major + 1).min(END - 1), 0, 0),
    }
}

/// A release or hotfix must be newer than what the environment serves. The tag that is already served passes (deploying
/// it again changes nothing), and so does anything after a tag without a version.
pub fn check_newer(tag: &Tag, serving: Option<&Tag>) -> Result<(), Refusal> {
    let (TagClass::Production, Some(serving)) = (tag.kind().class(), serving) else {
        return Ok(());
    };
    let (Some(version), Some(served)) = (tag.version(), serving.version()) else {
        return Ok(());
    };
    if version >= served {
        return Ok(());
    }
    Err(Refusal {
        reason: format!(
            "{tag} is older than {serving}, which is serving; going back is a rollback: belay rollback {tag}"
        ),
        nearest: Some(successor(tag.kind(), serving).text),
    })
}

// ---- the explanation ------------------------------------------------------------------------------------------------

/// What `belay tag` answers; serialised, it is the one object of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name as it was given.
    pub tag: String,
    /// Whether Belay would deploy it.
    pub accepted: bool,
    /// Its kind, if it has the shape of one.
    pub kind: Option<TagKind>,
    /// Where it goes; nothing when it is refused.
    pub environment: Option<String>,
    /// Why it is refused, or what could not be checked.
    pub reason: Option<String>,
    /// The nearest name that is accepted, when this one is not.
    pub nearest: Option<String>,
}

/// Explains any text. Without `facts` (outside a repository) only the grammar is judged. A kind that no environment
/// takes is refused.
pub fn explain(
    text: &str,
    facts: Option<&RepositoryFacts>,
    environment_of: impl FnOnce(TagKind) -> Option<String>,
) -> Explanation {
    let tag = match Tag::parse(text) {
        Ok(tag) => tag,
        Err(refusal) => return refused(text, None, refusal),
    };
    let kind = tag.kind();
    let reason = match facts.map(|facts| check_ancestry(&tag, facts)) {
        Some(Err(refusal)) => return refused(text, Some(kind), refusal),
        Some(Ok(Ancestry::Unknown(reason))) => Some(reason),
        Some(Ok(Ancestry::Holds)) | None => None,
    };
    let Some(environment) = environment_of(kind) else {
        let reason = format!("no environment of belay.yml takes {kind} tags");
        return refused(
            text,
            Some(kind),
            Refusal {
                reason,
                nearest: None,
            },
        );
    };
    Explanation {
        tag: tag.text,
        accepted: true,
        kind: Some(kind),
        environment: Some(environment),
        reason,
        nearest: None,
    }
}

fn refused(text: &str, kind: Option<TagKind>, refusal: Refusal) -> Explanation {
    Explanation {
        tag: text.to_owned(),
        accepted: false,
        kind,
        environment: None,
        reason: Some(refusal.reason),
        nearest: refusal.nearest,
    }
}
