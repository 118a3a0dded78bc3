//! Decides from known_hosts text whether a host key may be trusted, as OpenSSH would.
//!
//! Pure; runs on the runner. Belay has its own matcher because that of libssh2 takes `@revoked` and `@cert-authority` for
//! host names and never matches a pattern. It promises: a revoked key is refused whatever else the text says, a line
//! that cannot be read trusts nothing, and a certificate authority vouches for no plain key. Unreadable lines are not
//! fatal, since files collect them over the years, but they are reported.

use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use thiserror::Error;

use super::host_key::{BASE64, BadHostKey, HostKey, KeyType};
use base64::Engine as _;

/// The lines of a known_hosts text that could be read, and the ones that could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHosts {
    lines: Vec<Line>,
    unreadable: Vec<Unreadable>,
}

/// A line that trusts nothing because it could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {number} of known_hosts was ignored: {reason}")]
pub struct Unreadable {
    /// Counted from 1.
    pub number: usize,
    pub reason: LineProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineProblem {
    #[error("unknown marker {0:?}")]
    Marker(String),
    #[error("it needs a host, a key type and a key")]
    Incomplete,
    #[error("it is a bare public key: the host's name must come before it")]
    NoHost,
    #[error("the hashed host name is damaged")]
    Hash,
    #[error(transparent)]
    Key(#[from] BadHostKey),
}

/// What the text says about a key shown by a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Trusted,
    /// No line names this host.
    Unknown,
    /// The host is known by other keys, of these types.
    Mismatch(Vec<KeyType>),
    /// The key was withdrawn by this line.
    Revoked {
        line: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    number: usize,
    marker: Marker,
    hosts: Hosts,
    key: HostKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    CertAuthority,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Patterns(Vec<Pattern>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    glob: String,
}

/// The name under which a host is filed: lower case, and `[host]:port` when the port is not 22.
pub fn host_name(address: &str, port: u16) -> String {
    let host = address
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if port == 22 {
        host
    } else {
        format!("[{host}]:{port}")
    }
}

impl KnownHosts {
    /// Reads the whole text. Blank lines and comments are nothing; other lines that make no sense are kept as
    /// [`Unreadable`].
    pub fn parse(text: &str) -> Self {
        let mut known = Self {
            lines: Vec::new(),
            unreadable: Vec::new(),
        };
        let text = text.trim_start_matches('\u{feff}');
        for (index, line) in text.split('\n').enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            match parse_line(number, line) {
                Ok(line) => known.lines.push(line),
                Err(reason) => known.unreadable.push(Unreadable { number, reason }),
            }
        }
        known
    }

    /// Whether any line can vouch for a plain key.
    pub fn trusts_anything(&self) -> bool {
        self.lines.iter().any(|line| line.marker == Marker::None)
    }

    /// Whether no line could be read at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines that were ignored, to be shown as warnings.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Judges the key that the host called `name` (see [`host_name`]) has shown.
    pub fn judge(&self, name: &str, key: &HostKey) -> Verdict {
        let revoked = self
            .matching(name, Marker::Revoked)
            .find(|line| line.key == *key);
        if let Some(line) = revoked {
            return Verdict::Revoked { line: line.number };
        }
        let mut known = self.matching(name, Marker::None).peekable();
        if known.peek().is_none() {
            return Verdict::Unknown;
        }
        if known.any(|line| line.key == *key) {
            return Verdict::Trusted;
        }
        Verdict::Mismatch(self.types(name))
    }

    /// The types of key by which the host is known, without the revoked ones: these and no others are to be negotiated, or
    /// a server that has several keys would show one that is not in the text.
    pub fn types(&self, name: &str) -> Vec<KeyType> {
        let mut types: Vec<KeyType> = self
            .matching(name, Marker::None)
            .filter(|line| self.judge(name, &line.key) == Verdict::Trusted)
            .map(|line| line.key.kind())
            .collect();
        types.sort();
        types.dedup();
        types
    }

    fn matching<'a>(&'a self, name: &'a str, marker: Marker) -> impl Iterator<Item = &'a Line> {
        self.lines
            .iter()
            .filter(move |line| line.marker == marker && line.hosts.contain(name))
    }
}

fn parse_line(number: usize, line: &str) -> Result<Line, LineProblem> {
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let mut first = words.next().ok_or(LineProblem::Incomplete)?;
    let marker = match first {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::CertAuthority,
        other if other.starts_with('@') => {
            return Err(LineProblem::Marker(other.escape_default().to_string()));
        }
        _ => Marker::None,
    };
    if marker != Marker::None {
        first = words.next().ok_or(LineProblem::Incomplete)?;
    }
    if KeyType::from_name(first).is_some() {
        return Err(LineProblem::NoHost);
    }
    let hosts = Hosts::parse(first)?;
    let kind = words.next().ok_or(LineProblem::Incomplete)?;
    let base64 = words.next().ok_or(LineProblem::Incomplete)?;
    Ok(Line {
        number,
        marker,
        hosts,
        key: HostKey::parse(kind, base64)?,
    })
}

impl Hosts {
    fn parse(field: &str) -> Result<Self, LineProblem> {
        if !field.starts_with('|') {
            return Ok(Self::Patterns(
                field.split(',').map(Pattern::parse).collect(),
            ));
        }
        let (salt, hash) = field
            .strip_prefix("|1|")
            .and_then(|rest| rest.split_once('|'))
            .ok_or(LineProblem::Hash)?;
        let salt = BASE64.decode(salt).map_err(|_| LineProblem::Hash)?;
        let hash = BASE64.decode(hash).map_err(|_| LineProblem::Hash)?;
        // The length of a SHA-1: a shorter hash would be a weaker promise than the line seems to make.
        if salt.len() != 20 || hash.len() != 20 {
            return Err(LineProblem::Hash);
        }
        Ok(Self::Hashed { salt, hash })
    }

    fn contain(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let hits = |negated| {
                    patterns
                        .iter()
                        .any(|pattern| pattern.negated == negated && pattern.matches(name))
                };
                hits(false) && !hits(true)
            }
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt).is_ok_and(|hmac| {
                hmac.chain_update(name.as_bytes())
                    .verify_slice(hash)
                    .is_ok()
            }),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let (negated, glob) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Self {
            negated,
            glob: glob.to_ascii_lowercase(),
        }
    }

    fn matches(&self, name: &str) -> bool {
        glob_matches(self.glob.as_bytes(), name.as_bytes())
    }
}

/// `*` is any run of characters, `?` is one; all else stands for itself. Takes time in proportion to both lengths, at
/// worst their product, whatever the pattern.
fn glob_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            // Let the last star take one character more and try again from there.
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    seen = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}
