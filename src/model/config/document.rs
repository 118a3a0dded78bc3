//! YAML as a tree that knows where everything stands.
//!
//! Pure; runs on the runner. This is the only file that knows which YAML library reads `belay.yml`. It promises that an
//! alias bomb or a huge file costs a bounded amount of work, and that every value has a position.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};

/// The largest file that is read, in bytes. Belay's own examples have less than one KiB.
const LARGEST: usize = 256 * 1024;

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Position {
    /// For what is not in any file.
    pub(super) const NONE: Position = Position { line: 0, column: 0 };
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) at: Position,
    pub(super) node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Nothing,
    Bool,
    Whole(i128),
    Fraction,
    Text(String),
    List(Vec<Located>),
    Map(Vec<(Located, Located)>),
}

impl Node {
    /// What it is called in a message.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Node::Nothing => "nothing",
            Node::Bool => "true or false",
            Node::Whole(_) | Node::Fraction => "a number",
            Node::Text(_) => "text",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Located, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        // Where an alias is used, not where its anchor is: that is the line to change for this key.
        let at = Position {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
        };
        Ok(Located {
            at,
            node: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Whole(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
        Ok(Node::Whole(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
        Ok(i128::try_from(number).map_or(Node::Fraction, Node::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

/// Why a text is not a document.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotADocument {
    #[error("the file is larger than {} KiB", LARGEST / 1024)]
    TooLarge,
    /// With the YAML library's own words for what is wrong, made harmless.
    #[error("not valid YAML: {words}")]
    NotYaml { at: Option<Position>, words: String },
}

impl NotADocument {
    /// Where to look; the beginning, where nothing better is known.
    pub(super) fn at(&self) -> Position {
        let at = match self {
            NotADocument::TooLarge => None,
            NotADocument::NotYaml { at, .. } => *at,
        };
        at.unwrap_or(Position { line: 1, column: 1 })
    }
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Located, NotADocument> {
    if text.len() > LARGEST {
        return Err(NotADocument::TooLarge);
    }
    let options = serde_saphyr::options! {
        // Repeated keys, yes/no and .inf become problems of their own here, beside all the others.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
        // Far beyond any real file, and far below what would be felt: the work is bounded before any key is looked at.
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 20_000, max_events: 60_000, max_aliases: 200 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| not_yaml(&error))
}

/// The library's error. It tells its position twice, the second time at the end of its text (serde-saphyr 2.1); a
/// problem has it in front.
fn not_yaml(error: &serde_saphyr::Error) -> NotADocument {
    let at = error.location().map(|at| Position {
        line: at.line(),
        column: at.column(),
    });
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or_default();
    NotADocument::NotYaml {
        at,
        words: words.escape_debug().to_string(),
    }
}

/// A value that belongs to a named key.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    /// The whole name, as in `images.budget`.
    pub(super) name: String,
    pub(super) item: &'a Located,
}

/// The entries of a map whose keys are text, each once.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    /// The whole name of the map; empty for the file itself.
    pub(super) name: String,
    at: Position,
    found: BTreeMap<&'a str, (Position, &'a Located)>,
}

impl<'a> Entries<'a> {
    pub(super) fn none(field: &Field<'a>) -> Entries<'a> {
        Entries {
            name: field.name.clone(),
            at: field.item.at,
            found: BTreeMap::new(),
        }
    }

    /// Adds an entry, unless its key is there: then the answer is where.
    pub(super) fn add(
        &mut self,
        key: &'a str,
        at: Position,
        item: &'a Located,
    ) -> Result<(), Position> {
        match self.found.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert((at, item));
                Ok(())
            }
            Entry::Occupied(there) => Err(there.get().0),
        }
    }

    /// Takes out the entries whose keys are not among these, and answers with the places of their keys.
    pub(super) fn take_others(&mut self, keys: &[String]) -> Vec<(&'a str, Position)> {
        let is_known = |key: &str| keys.iter().any(|known| known == key);
        let others = self.found.iter().filter(|(key, _)| !is_known(key));
        let others = others.map(|(key, (at, _))| (*key, *at)).collect();
        self.found.retain(|key, _| is_known(key));
        others
    }

    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        self.found.get(key).map(|(_, item)| Field {
            name: join(&self.name, key),
            item,
        })
    }

    /// Every entry, with the place of its key.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, Position, Field<'a>)> + '_ {
        self.found.iter().map(|(key, (at, item))| {
            (
                *key,
                *at,
                Field {
                    name: join(&self.name, key),
                    item,
                },
            )
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.found.contains_key(key)
    }

    /// Where the key itself stands; the map, when it is not there.
    pub(super) fn place_of_key(&self, key: &str) -> Position {
        self.found.get(key).map_or(self.at, |(at, _)| *at)
    }

    /// Where to point for something about this key: its value, or the section when the key is not there.
    pub(super) fn place_of(&self, key: &str) -> Position {
        self.found.get(key).map_or(self.at, |(_, item)| item.at)
    }

    /// The whole name of one of its keys.
    pub(super) fn name_of(&self, key: &str) -> String {
        join(&self.name, key)
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}
