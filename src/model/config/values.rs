//! The values of `belay.yml`, each a type that can only be made from text that was checked.
//!
//! Pure; used on both machines: a value that arrives from the other one is checked again while it is deserialised.
//! Every type carries the words for its own error message and the pattern that stands for it in the JSON schema, side
//! by side with the code that does the checking, so that a test can hold the two together.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::readers::{
    absolute_path, data_source, host_address, is_made_of, name, number_and_unit, plain_name,
    platform, relative_path, url,
};
use crate::request::tag::TagKind;

/// A value that is written as text.
pub trait Text: Sized {
    /// What it is called in a message, with its article: `a duration`.
    const WHAT: &'static str;
    /// How to write one, for a hint.
    const HINT: &'static str;
    /// An ECMA regular expression for the JSON schema. It may accept more than [`Text::read`], never less.
    const PATTERN: &'static str;
    /// Reads a value; nothing when the text is not one.
    fn read(text: &str) -> Option<Self>;
}

/// A default that is written as text. It is not checked here: `tests/config.rs` reads every default as a user's value.
pub(super) trait FromLiteral {
    fn literal(text: &'static str) -> Self;
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {what}")]
pub struct InvalidText {
    what: &'static str,
}

/// What every [`Text`] can do, given `Text` and `Display`.
macro_rules! text_impls {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = InvalidText;
            fn from_str(text: &str) -> Result<Self, InvalidText> {
                Self::read(text).ok_or(InvalidText { what: Self::WHAT })
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidText;
            fn try_from(text: String) -> Result<Self, InvalidText> {
                text.parse()
            }
        }
    };
    ($name:ident, displayed) => {
        text_impls!($name);
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

/// A [`Text`] that is kept as it was written.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident {
        what: $what:literal, hint: $hint:literal, pattern: $pattern:expr, read: $read:expr
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The value as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl Text for $name {
            const WHAT: &'static str = $what;
            const HINT: &'static str = $hint;
            const PATTERN: &'static str = $pattern;
            fn read(text: &str) -> Option<Self> {
                let read: fn(&str) -> Option<String> = $read;
                read(text).map($name)
            }
        }
        impl FromLiteral for $name {
            fn literal(text: &'static str) -> Self {
                $name(text.to_owned())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        text_impls!($name, displayed);
    };
}

text! {
    /// The name of an app: the last part of its root, and a label on its images.
    AppName {
        what: "an app name", hint: "use up to 63 letters, digits, ., _ and -, beginning with a letter or digit",
        pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", read: |text| plain_name(text, "._-")
    }
}

text! {
    /// The name of an environment, on GitHub and in `belay.yml`.
    EnvironmentName {
        what: "an environment name",
        hint: "use up to 63 letters, digits, ., _ and -, beginning with a letter or digit",
        pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", read: |text| plain_name(text, "._-")
    }
}

text! {
    /// The name of a service in the Compose file.
    ServiceName {
        what: "a service name", hint: "use the name that the Compose file has under services",
        pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", read: |text| plain_name(text, "._-")
    }
}

text! {
    /// A Compose project name.
    ProjectName {
        what: "a Compose project name",
        hint: "use lower-case letters, digits, _ and -, beginning with a letter or digit",
        pattern: "^[a-z0-9][a-z0-9_-]{0,62}$",
        read: |text| plain_name(text, "_-").filter(|name| !name.bytes().any(|b| b.is_ascii_uppercase()))
    }
}

text! {
    /// The name of a Docker volume, as the Compose file has it.
    VolumeName {
        what: "a volume name", hint: "use the name that the Compose file has under volumes",
        pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", read: |text| plain_name(text, "._-")
    }
}

text! {
    /// A reference to an image: `registry/name:tag` or `name@sha256:…`.
    ImageName {
        what: "an image name", hint: "write it as docker does, as in ghcr.io/example/app:v1.2.0",
        pattern: "^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$", read: |text| name(text, 255, "._/:@-")
    }
}

text! {
    /// The name of an HTTP response header.
    HeaderName {
        what: "a header name", hint: "use letters, digits and hyphens, as in X-App-Version",
        pattern: "^[A-Za-z0-9][A-Za-z0-9-]{0,62}$", read: |text| plain_name(text, "-")
    }
}

text! {
    /// Where a value stands in a JSON answer: `version`, or `build.version` for a nested one.
    JsonField {
        what: "the name of a JSON field", hint: "use names joined by dots, as in build.version",
        pattern: "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
        read: |text| text.split('.').all(|part| is_made_of(part, "_-")).then(|| text.to_owned())
    }
}

text! {
    /// A platform as Docker names it. Belay deploys to Linux only.
    Platform {
        what: "a platform", hint: "write linux/amd64, linux/arm64 or linux/arm/v7",
        pattern: "^linux/[a-z0-9]+(/v[0-9])?$", read: platform
    }
}

text! {
    /// A user on the host.
    UserName {
        what: "a user name", hint: "use up to 32 letters, digits, ., _ and -, as in deploy",
        pattern: "^[A-Za-z_][A-Za-z0-9._-]{0,31}$",
        read: |text| {
            let first = text.bytes().next()?;
            let fits = text.len() <= 32 && is_made_of(text, "._-") && (first.is_ascii_alphabetic() || first == b'_');
            fits.then(|| text.to_owned())
        }
    }
}

text! {
    /// The address of a host: a name, an IPv4 address or an IPv6 address.
    HostAddress {
        what: "a host address",
        hint: "give the name or IP address alone; user and port are keys of host",
        pattern: "^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\
                  |\\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\\]?)$",
        read: host_address
    }
}

text! {
    /// An endpoint that is asked over HTTP. It has no password in it, so that it may appear in every report.
    Url {
        what: "an http or https address",
        hint: "write it as in http://127.0.0.1:8080/health, without a user, password or fragment",
        pattern: "^https?://[^\\s/?#@]+([/?][^\\s#]*)?$", read: url
    }
}

text! {
    /// A folder on the host, from its root; never a folder of the system itself.
    AbsolutePath {
        what: "a folder of its own on the host",
        hint: "begin with /, as in /opt/app; letters, digits, ., _, +, @ and - only, no .., no folder of the system",
        pattern: "^(/(?!\\.{1,2}(/|$))[A-Za-z0-9._+@-]+)+/?$", read: absolute_path
    }
}

text! {
    /// A file below the repository, and below the root on the host.
    RelativePath {
        what: "a path inside the repository",
        hint: "give it relative to the repository, without .. or signs that a shell reads, as in config/nginx.conf",
        pattern: "^(?![- ])(?!.* $)(\\./)?(?!\\.{1,2}(/|$))[^/\\\\\\x00-\\x1f\\x7f$`'\"*?;&|<>!]+\
                  (/(?!\\.{1,2}(/|$))[^/\\\\\\x00-\\x1f\\x7f$`'\"*?;&|<>!]+)*$",
        read: relative_path
    }
}

text! {
    /// Data on the host: an absolute path, or one below the root.
    DataPath {
        what: "a path on the host", hint: "give it below the root or from /, without .., as in ./data or /srv/data",
        pattern: "^(?![- ])(?!.* $)(\\./|/)?(?!\\.{1,2}(/|$))[^/\\\\\\x00-\\x1f\\x7f$`'\"*?;&|<>!]+\
                  (/(?!\\.{1,2}(/|$))[^/\\\\\\x00-\\x1f\\x7f$`'\"*?;&|<>!]+)*$",
        read: |text| match text.strip_prefix('/') {
            Some(rest) => relative_path(rest).filter(|path| path == rest).map(|rest| format!("/{rest}")),
            None => relative_path(text),
        }
    }
}

text! {
    /// Data of the running version, under `data`: a volume, a path, or a service and the place of its volume without a
    /// name.
    DataSource {
        what: "data of a Compose file",
        hint: "write a volume's name (uploads), a path (./files, /srv/files), or service:/path for a volume without a name",
        pattern: "^([A-Za-z0-9][A-Za-z0-9._-]{0,62}(:/[^\\x00-\\x1f\\x7f]+)?|\\.?/[^\\x00-\\x1f\\x7f]+)$",
        read: data_source
    }
}

impl AbsolutePath {
    /// The last part: the app, unless it is named.
    #[must_use]
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl RelativePath {
    /// Whether this is `folder` or something in it.
    #[must_use]
    pub fn is_within(&self, folder: &str) -> bool {
        self.0.split('/').next() == Some(folder)
    }
}

/// A length of time: `500ms`, `10s`, `2m`, `1h`; at most a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

impl Period {
    const LONGEST: Duration = Duration::from_hours(24);

    /// So many whole seconds; longer than a day becomes a day.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Period {
        if seconds > Period::LONGEST.as_secs() {
            Period(Period::LONGEST)
        } else {
            Period(Duration::from_secs(seconds))
        }
    }

    /// So many thousandths of a second; at most a day, as above.
    pub(super) const fn milliseconds(milliseconds: u64) -> Period {
        if milliseconds > 1_000 * Period::LONGEST.as_secs() {
            Period(Period::LONGEST)
        } else {
            Period(Duration::from_millis(milliseconds))
        }
    }

    /// The same, for the standard library.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Text for Period {
    const WHAT: &'static str = "a duration";
    const HINT: &'static str = "write a number and ms, s, m or h, as in 10s; at most 24h";
    const PATTERN: &'static str = "^[0-9]{1,9}(ms|s|m|h)$";

    fn read(text: &str) -> Option<Period> {
        let (number, unit) = number_and_unit(text)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let number: u32 = (number.len() <= 9).then(|| number.parse().ok()).flatten()?;
        let duration = Duration::from_millis(u64::from(number) * milliseconds);
        (duration <= Period::LONGEST).then_some(Period(duration))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

text_impls!(Period);

impl From<Period> for String {
    /// As belay.yml would have it, in the largest unit that needs no fraction: `10m`, where a message says `600s`.
    fn from(period: Period) -> String {
        let milliseconds = period.0.as_millis();
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let fits =
            |(_, size): &(&str, u128)| milliseconds > 0 && milliseconds.is_multiple_of(*size);
        let (unit, size) = units.into_iter().find(fits).unwrap_or(("ms", 1));
        format!("{}{unit}", milliseconds / size)
    }
}

/// An amount of data: `300MB`, `1.5GB`, `64MiB`. Decimal units are powers of 1000, as Docker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(u64);

/// Largest first, so that the first that divides an amount is the shortest way to write it.
const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Bytes {
    /// So many million bytes.
    #[must_use]
    pub const fn megabytes(count: u64) -> Bytes {
        Bytes(count.saturating_mul(1_000_000))
    }

    /// The same, as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Text for Bytes {
    const WHAT: &'static str = "a size";
    const HINT: &'static str = "write a number and kB, MB or GB, as in 300MB (or KiB, MiB, GiB)";
    const PATTERN: &'static str = "^[0-9]{1,19}(\\.[0-9]{1,3})?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$";

    fn read(text: &str) -> Option<Bytes> {
        let (number, unit) = number_and_unit(text)?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.len() > 19 || fraction.len() > 3 {
            return None;
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
        let whole: u64 = whole.parse().ok()?;
        whole
            .checked_mul(*unit)?
            .checked_add(u64::try_from(u128::from(thousandths) * u128::from(*unit) / 1000).ok()?)
            .map(Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS
            .iter()
            .find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

text_impls!(Bytes, displayed);

/// A share of something, in whole percent: `20%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u16);

impl Percent {
    /// So many percent.
    #[must_use]
    pub const fn new(percent: u16) -> Percent {
        Percent(percent)
    }

    /// The same, as a number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Text for Percent {
    const WHAT: &'static str = "a percentage";
    const HINT: &'static str = "write a whole number and %, as in 20%";
    const PATTERN: &'static str = "^[0-9]{1,4}%$";

    fn read(text: &str) -> Option<Percent> {
        let (number, unit) = number_and_unit(text)?;
        (unit == "%" && number.len() <= 4)
            .then(|| number.parse().ok())
            .flatten()
            .map(Percent)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

text_impls!(Percent, displayed);

/// A value that is one of a few words.
pub trait Choice: Sized + Copy + PartialEq + 'static {
    /// Every word, in the order in which they are documented.
    fn words() -> Vec<Keyword<Self>>;
}

/// One of the words of a [`Choice`].
#[derive(Debug, Clone, Copy)]
pub struct Keyword<T> {
    /// As it stands in `belay.yml`.
    pub word: &'static str,
    /// What it stands for.
    pub value: T,
    /// What it means, for the schema and the docs.
    pub meaning: &'static str,
}

impl Choice for TagKind {
    fn words() -> Vec<Keyword<TagKind>> {
        let meaning = |kind| match kind {
            TagKind::Release => "as in `v1.2.0`",
            TagKind::Hotfix => "as in `v1.2.3`, a repair of `v1.2.0`",
            TagKind::Prerelease => "as in `v1.3.0-rc.1`",
            TagKind::Dev => "as in `dev-20241215`",
            TagKind::Feature => "as in `feature-login`",
        };
        let word = |kind: TagKind| Keyword {
            word: kind.word(),
            value: kind,
            meaning: meaning(kind),
        };
        TagKind::ALL.into_iter().map(word).collect()
    }
}
