//! What a key of `belay.yml` is made of: a type that can be read, described and written, and the two macros with which
//! `settings.rs` declares the keys.
//!
//! Pure; runs on the runner. A key is declared once. The struct, its default, the reader, the JSON schema and the
//! table in `docs/configuration.md` are all made from that.

use std::collections::BTreeMap;
use std::ops::{RangeFrom, RangeInclusive};

use serde::Serialize;
use serde_json::Value;

use super::document::{Entries, Field, Node};
use super::problems::{Home, Problems, shown};
use super::values::{Choice, Period, Text};

// ---- what is said about a key ---------------------------------------------------------------------------------------

/// One key of `belay.yml`, for the schema, the docs and the hints.
#[derive(Debug, Clone)]
pub struct SettingKey {
    /// As it stands in the file: `over-budget`.
    pub name: String,
    /// What it means, in Markdown; the doc comment of its declaration.
    pub about: String,
    /// What holds without it.
    pub usual: Usual,
    /// What may be written for it.
    pub shape: Shape,
}

/// What holds when a key is not given.
#[derive(Debug, Clone)]
pub enum Usual {
    /// This value, as it would stand in the file.
    Value(Value),
    /// What these words say.
    Words(&'static str),
    /// There is nothing to say: each key below has its own default, or the key has to be given.
    Unsaid,
}

impl Usual {
    /// The words of the declaration, where it has some; else the default, which JSON has as `belay.yml` would.
    pub(super) fn of(default: &impl Serialize, words: &[&'static str]) -> Usual {
        if let Some(words) = words.first() {
            return Usual::Words(words);
        }
        match serde_json::to_value(default) {
            Ok(Value::Array(list)) if list.is_empty() => Usual::Words("none"),
            Ok(Value::Object(map)) if map.is_empty() => Usual::Words("none"),
            Ok(Value::Null | Value::Array(_) | Value::Object(_)) | Err(_) => Usual::Unsaid,
            Ok(value) => Usual::Value(value),
        }
    }
}

/// What may be written for a key.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Text of this pattern.
    Text(&'static str),
    /// An argument of a command: any text that is not empty.
    Argument,
    /// One of these words; each with its meaning.
    Choice(Vec<(&'static str, &'static str)>),
    /// A whole number in this range.
    Number(RangeInclusive<u32>),
    /// A list of these.
    List(Box<Shape>),
    /// A map whose keys are names of the user's own.
    Named {
        /// The pattern of the names.
        pattern: &'static str,
        /// What each of them holds.
        each: Box<Shape>,
    },
    /// A map of these keys; those in `required` have to be there.
    Keys {
        /// All of them.
        keys: Vec<SettingKey>,
        /// The names of those that have no default.
        required: Vec<&'static str>,
    },
    /// A map of exactly one of these keys.
    OneKey(Vec<SettingKey>),
    /// Any of these.
    Either(Vec<Shape>),
}

impl Shape {
    /// A map of these keys, all of which may be left out.
    pub(super) fn keys(keys: Vec<SettingKey>) -> Shape {
        let required = Vec::new();
        Shape::Keys { keys, required }
    }

    /// The same, but these keys have to be there.
    pub(super) fn requiring(self, names: &[&'static str]) -> Shape {
        match self {
            Shape::Keys { keys, .. } => Shape::Keys {
                keys,
                required: names.to_vec(),
            },
            Shape::Either(shapes) => {
                let require = |shape: Shape| shape.requiring(names);
                Shape::Either(shapes.into_iter().map(require).collect())
            }
            other => other,
        }
    }

    /// A choice, with its words.
    pub(super) fn choice<T: Choice>() -> Shape {
        let words = T::words().into_iter();
        Shape::Choice(words.map(|word| (word.word, word.meaning)).collect())
    }
}

/// All maps of settings below these keys, outermost first; for the hint that a key belongs to one of them.
pub(super) fn homes(path: &str, keys: &[SettingKey]) -> Vec<Home> {
    let mut homes = vec![Home {
        path: path.to_owned(),
        keys: keys.iter().map(|key| key.name.clone()).collect(),
    }];
    for key in keys {
        let below = match path {
            "" => key.name.clone(),
            _ => format!("{path}.{}", key.name),
        };
        homes.extend(homes_of(&below, &key.shape));
    }
    homes
}

fn homes_of(path: &str, shape: &Shape) -> Vec<Home> {
    match shape {
        Shape::Text(_) | Shape::Argument | Shape::Choice(_) | Shape::Number(_) => Vec::new(),
        Shape::List(each) => homes_of(path, each),
        Shape::Named { each, .. } => homes_of(&format!("{path}.NAME"), each),
        Shape::Keys { keys, .. } | Shape::OneKey(keys) => homes(path, keys),
        Shape::Either(shapes) => shapes.iter().flat_map(|one| homes_of(path, one)).collect(),
    }
}

// ---- what a type has to do ------------------------------------------------------------------------------------------

/// The type of a key.
pub(super) trait Setting: Sized {
    /// What may be written for it.
    fn shape() -> Shape;

    /// Reads it, and tells `problems` what is wrong; nothing then.
    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<Self>;

    /// What holds with this in the file: `self` when nothing is there, or something wrong.
    fn read_over(self, problems: &mut Problems, field: Option<&Field<'_>>) -> Self {
        field
            .and_then(|field| Self::read_field(problems, field))
            .unwrap_or(self)
    }
}

/// The type of a key that takes only a range.
pub(super) trait Ranged: Sized {
    type Range;

    fn shape(range: &Self::Range) -> Shape;

    fn read_field(problems: &mut Problems, field: &Field<'_>, range: &Self::Range) -> Option<Self>;

    fn read_over(
        self,
        problems: &mut Problems,
        field: Option<&Field<'_>>,
        range: &Self::Range,
    ) -> Self {
        field
            .and_then(|field| Self::read_field(problems, field, range))
            .unwrap_or(self)
    }
}

/// A struct of [`settings!`].
pub(super) trait KeyMap: Default {
    /// Its keys, described.
    fn keys() -> Vec<SettingKey>;

    /// Reads each key over what `self` has.
    fn read_keys(self, problems: &mut Problems, entries: &Entries<'_>) -> Self;
}

/// The names of its keys, as they stand in the file.
pub(super) fn names<T: KeyMap>() -> Vec<String> {
    T::keys().into_iter().map(|key| key.name).collect()
}

impl<T: Text> Setting for T {
    fn shape() -> Shape {
        Shape::Text(T::PATTERN)
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<T> {
        problems.text(field)
    }
}

/// A key without a default.
impl<T: Setting> Setting for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<Option<T>> {
        T::read_field(problems, field).map(Some)
    }
}

/// Things with names of the user's own.
impl<K: Text + Ord, T: Setting> Setting for BTreeMap<K, T> {
    fn shape() -> Shape {
        Shape::Named {
            pattern: K::PATTERN,
            each: Box::new(T::shape()),
        }
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<Self> {
        let mut found = BTreeMap::new();
        for (text, at, entry) in problems.table(field).fields() {
            let Some(name) = K::read(text) else {
                let message = format!("{}: \"{}\" is not {}", field.name, shown(text), K::WHAT);
                problems.add(at, message, K::HINT);
                continue;
            };
            if let Some(value) = T::read_field(problems, &entry) {
                found.insert(name, value);
            }
        }
        Some(found)
    }
}

/// A command as a list of arguments: no shell ever splits it.
impl Setting for Vec<String> {
    fn shape() -> Shape {
        Shape::List(Box::new(Shape::Argument))
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<Vec<String>> {
        if let Node::Text(_) = field.item.node {
            let hint = "write it as in [\"/app\", \"--self-test\"]";
            problems.wrong_type(field, "a list of arguments", hint);
            return None;
        }
        let arguments = problems.list(field);
        let arguments = arguments.iter();
        Some(arguments.filter_map(|one| problems.any_text(one)).collect())
    }
}

impl Ranged for u32 {
    type Range = RangeInclusive<u32>;

    fn shape(range: &Self::Range) -> Shape {
        Shape::Number(range.clone())
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>, range: &Self::Range) -> Option<u32> {
        problems.count(field, range)
    }
}

/// A port.
impl Ranged for u16 {
    type Range = RangeInclusive<u16>;

    fn shape(range: &Self::Range) -> Shape {
        Shape::Number((*range.start()).into()..=(*range.end()).into())
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>, range: &Self::Range) -> Option<u16> {
        let range = (*range.start()).into()..=(*range.end()).into();
        problems.count(field, &range)?.try_into().ok()
    }
}

/// A period that makes sense only from a certain length on. The schema cannot say that.
impl Ranged for Period {
    type Range = RangeFrom<Period>;

    fn shape(_: &Self::Range) -> Shape {
        <Period as Setting>::shape()
    }

    fn read_field(
        problems: &mut Problems,
        field: &Field<'_>,
        range: &Self::Range,
    ) -> Option<Period> {
        let period: Period = problems.text(field)?;
        if range.contains(&period) {
            return Some(period);
        }
        let message = format!("{}: {period} is too short", field.name);
        let hint = format!("give it at least {}", range.start);
        problems.add(field.item.at, message, hint);
        None
    }
}

impl<T: Ranged> Ranged for Option<T> {
    type Range = T::Range;

    fn shape(range: &Self::Range) -> Shape {
        T::shape(range)
    }

    fn read_field(
        problems: &mut Problems,
        field: &Field<'_>,
        range: &Self::Range,
    ) -> Option<Option<T>> {
        T::read_field(problems, field, range).map(Some)
    }
}

// ---- the declaration ------------------------------------------------------------------------------------------------

/// Declares maps of `belay.yml`. For a newcomer the declarations in `settings.rs` should be enough; the form is:
///
/// ```text
/// /// What the map is for.
/// pub struct ImageSettings {
///     ..shared: SharedSettings;                          // all keys of another map, in this one
///     /// What the key means: for the struct, the schema and the docs.
///     keep: u32 = 3, within 2..=100;                     // `keep`, a number, and its default
///     platform: Option<Platform>, else "the host's own"; // no value without it; the docs say what holds then
///     over_budget: Excess = Excess::Warn;                // `over-budget`
/// }
/// ```
///
/// `pub struct X, or only key: "a thing", "{key: a}"` says that a plain text may stand for the map, as its `key`.
///
/// What the macros here name, the file that uses them imports: there is one, `settings.rs`.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])*
        $vis:vis struct $group:ident $(, or only $short:ident: $what:literal, $example:literal)? {
            $(..$shared:ident: $shared_type:ty;)?
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty $(= $usual:expr)? $(, else $words:literal)? $(, within $range:expr)?;
            )*
        }
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        $vis struct $group {
            $( $(#[doc = $doc])* pub $key: $type, )*
            $(
                /// What an environment may have for itself.
                pub $shared: $shared_type,
            )?
        }

        impl Default for $group {
            fn default() -> $group {
                $group {
                    $( $key: default_of!($($usual)?), )*
                    $( $shared: <$shared_type>::default(), )?
                }
            }
        }

        impl KeyMap for $group {
            fn keys() -> Vec<SettingKey> {
                let default = $group::default();
                let own = [$( SettingKey {
                    name: stringify!($key).replace('_', "-"),
                    about: [$($doc),*].concat().trim().to_owned(),
                    usual: Usual::of(&default.$key, &[$($words)?]),
                    shape: shape_of!($type $(, within $range)?),
                } ),*];
                let shared: [Vec<SettingKey>; _] = [$( <$shared_type>::keys() )?];
                shared.into_iter().flatten().chain(own).collect()
            }

            fn read_keys(
                self,
                problems: &mut Problems,
                entries: &Entries<'_>,
            ) -> $group {
                $group {
                    $( $key: read_over!(
                        self.$key, $type, problems,
                        entries.get(&stringify!($key).replace('_', "-")).as_ref() $(, within $range)?
                    ), )*
                    $( $shared: self.$shared.read_keys(problems, entries), )?
                }
            }
        }

        impl Setting for $group {
            fn shape() -> Shape {
                let keys = Shape::keys(Self::keys());
                $(
                    let short = Self::keys().into_iter().find(|key| key.name == stringify!($short));
                    let short = short.into_iter().map(|key| key.shape);
                    let keys = Shape::Either(short.chain([keys]).collect());
                )?
                keys
            }

            fn read_field(
                problems: &mut Problems,
                field: &Field<'_>,
            ) -> Option<$group> {
                Some($group::default().read_over(problems, Some(field)))
            }

            fn read_over(
                self,
                problems: &mut Problems,
                field: Option<&Field<'_>>,
            ) -> $group {
                let Some(field) = field else { return self };
                $(
                    match field.item.node {
                        Node::Map(_) => {}
                        Node::Text(_) => {
                            let $short = self.$short.read_over(problems, Some(field));
                            return $group { $short, ..self };
                        }
                        _ => {
                            let hint = concat!("write ", $what, ", or ", $example);
                            problems.wrong_type(field, concat!($what, " or a map"), hint);
                            return self;
                        }
                    }
                )?
                let entries = problems.section(field, &names::<$group>());
                self.read_keys(problems, &entries)
            }
        }
    )*};
}

/// The default of a key: as declared, or that of its type.
macro_rules! default_of {
    () => {
        Default::default()
    };
    ($usual:expr) => {
        $usual
    };
}

macro_rules! shape_of {
    ($type:ty, within $range:expr) => {
        <$type as Ranged>::shape(&($range))
    };
    ($type:ty) => {
        <$type as Setting>::shape()
    };
}

macro_rules! read_over {
    ($value:expr, $type:ty, $problems:expr, $field:expr, within $range:expr) => {
        <$type as Ranged>::read_over($value, $problems, $field, &($range))
    };
    ($value:expr, $type:ty, $problems:expr, $field:expr) => {
        <$type as Setting>::read_over($value, $problems, $field)
    };
}

/// An enum whose variants are written as words: the same in `belay.yml`, in JSON, in the schema and in the docs, which
/// have the meanings from the doc comments.
macro_rules! choice {
    ($(#[doc = $about:literal])* $(#[default = $usual:ident])? $vis:vis enum $name:ident {
        $($(#[doc = $meaning:literal])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        $vis enum $name { $($(#[doc = $meaning])* #[serde(rename = $word)] $variant),+ }

        // Where it travels: what one means that was written before there was such a setting.
        $(impl Default for $name {
            fn default() -> Self {
                $name::$usual
            }
        })?

        impl Choice for $name {
            fn words() -> Vec<Keyword<Self>> {
                vec![$(Keyword {
                    word: $word,
                    value: $name::$variant,
                    meaning: concat!($($meaning),*).trim(),
                }),+]
            }
        }

        impl Setting for $name {
            fn shape() -> Shape {
                Shape::choice::<$name>()
            }

            fn read_field(
                problems: &mut Problems,
                field: &Field<'_>,
            ) -> Option<$name> {
                problems.choice(field)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($name::$variant => $word),+ })
            }
        }
    };
}

pub(super) use {choice, default_of, read_over, settings, shape_of};
