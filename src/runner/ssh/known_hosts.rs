//! Decides from `known_hosts` text whether a host key may be trusted, as OpenSSH would.
//!
//! Pure; runs on the runner. Belay has its own matcher because that of libssh2 takes `@revoked` and `@cert-authority`
//! for host names and never matches a pattern. It promises: a revoked key is refused whatever else the text says, a
//! line that cannot be read trusts nothing, and a certificate authority vouches for no plain key. Unreadable lines are
//! not fatal, since files collect them over the years, but they are reported.

use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use thiserror::Error;

use super::host_key::{BASE64, BadHostKey, HostKey, KeyType};
use base64::Engine as _;

/// The lines of a `known_hosts` text that could be read, and the ones that could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHosts {
    lines: Vec<PinnedLine>,
    unreadable: Vec<UnreadableLine>,
}

/// A line that trusts nothing because it could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {number} of known_hosts was ignored: {reason}")]
pub struct UnreadableLine {
    /// Counted from 1.
    pub number: usize,
    /// What is wrong with it.
    pub reason: LineProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineProblem {
    /// Only `@revoked` and `@cert-authority` are known.
    #[error("unknown marker {0:?}")]
    Marker(String),
    /// It has too few fields.
    #[error("it needs a host, a key type and a key")]
    Incomplete,
    /// As a `.pub` file has it.
    #[error("it is a bare public key: the host's name must come before it")]
    NoHost,
    /// It is not `|1|salt|hash`.
    #[error("the hashed host name is damaged")]
    Hash,
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] BadHostKey),
}

/// What the text says about a key shown by a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeyVerdict {
    /// A line pins this very key for this host.
    Trusted,
    /// No line names this host.
    Unknown,
    /// The host is known by other keys, of these types.
    Mismatch(Vec<KeyType>),
    /// The key was withdrawn by this line.
    Revoked {
        /// Counted from 1.
        line: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PinnedLine {
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
#[must_use]
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
    /// [`UnreadableLine`].
    #[must_use]
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
                Err(reason) => known.unreadable.push(UnreadableLine { number, reason }),
            }
        }
        known
    }

    /// Whether any line can vouch for a plain key.
    #[must_use]
    pub fn trusts_anything(&self) -> bool {
        self.lines.iter().any(|line| line.marker == Marker::None)
    }

    /// Whether no line could be read at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines that were ignored, to be shown as warnings.
    #[must_use]
    pub fn unreadable(&self) -> &[UnreadableLine] {
        &self.unreadable
    }

    /// Judges the key that the host called `name` (see [`host_name`]) has shown.
    #[must_use]
    pub fn judge(&self, name: &str, key: &HostKey) -> HostKeyVerdict {
        let revoked = self
            .matching(name, Marker::Revoked)
            .find(|line| line.key == *key);
        if let Some(line) = revoked {
            return HostKeyVerdict::Revoked { line: line.number };
        }
        let mut known = self.matching(name, Marker::None).peekable();
        if known.peek().is_none() {
            return HostKeyVerdict::Unknown;
        }
        if known.any(|line| line.key == *key) {
            return HostKeyVerdict::Trusted;
        }
        HostKeyVerdict::Mismatch(self.types(name))
    }

    /// The types of key by which the host is known, without the revoked ones: these and no others are to be
    /// negotiated, or a server that has several keys would show one that is not in the text.
    #[must_use]
    pub fn types(&self, name: &str) -> Vec<KeyType> {
        let mut types: Vec<KeyType> = self
            .matching(name, Marker::None)
            .filter(|line| self.judge(name, &line.key) == HostKeyVerdict::Trusted)
            .map(|line| line.key.kind())
            .collect();
        types.sort();
        types.dedup();
        types
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        marker: Marker,
    ) -> impl Iterator<Item = &'a PinnedLine> {
        self.lines
            .iter()
            .filter(move |line| line.marker == marker && line.hosts.contain(name))
    }
}

fn parse_line(number: usize, line: &str) -> Result<PinnedLine, LineProblem> {
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
    Ok(PinnedLine {
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
            Some(byte) if *byte == b'?' || name.get(seen) == Some(byte) => {
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
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxNsklyrv2ILHMoyQWqubFd6O6xzU9C0KO1D4H5XE7G";
    const B: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHeVL00Zu7vX/xqKZbhz6UoL\
                     8n2PvSckgLJVT1vpTz9SawIx5VwkR87nOUsb+bOVuU0BwDcWeCB/ngec6bO14S8=";
    /// `host.example.com` and `[host.example.com]:2222`, hashed by ssh-keygen.
    const HASHED: &str = "|1|SlYmXWnrSvTqPXeI0pd5mIPRuEY=|3N9//z8QRl0C/rU+SuNEw6cJQ9g=";
    const HASHED_2222: &str = "|1|XXnFHiC0+U1TJvvi2hlBxzpatDs=|qXmcHQ7L84cOMo2s8TWozv1vDSg=";

    fn key(text: &str) -> HostKey {
        let (kind, base64) = text.split_once(' ').unwrap();
        HostKey::parse(kind, base64).unwrap()
    }

    /// Whether key `A` of a host is trusted when the text has the line `HOSTS A`.
    fn trusted(hosts: &str, address: &str, port: u16) -> bool {
        let known = KnownHosts::parse(&format!("{hosts} {A}\n"));
        known.judge(&host_name(address, port), &key(A)) == HostKeyVerdict::Trusted
    }

    #[test]
    fn hosts_match_as_in_openssh() {
        let yes = [
            ("host.example.com", "host.example.com", 22),
            ("host.example.com", "HOST.Example.Com", 22),
            ("Host.Example.COM", "host.example.com", 22),
            ("203.0.113.10", "203.0.113.10", 22),
            ("other.example.com,host.example.com", "host.example.com", 22),
            ("host.example.com,203.0.113.10", "203.0.113.10", 22),
            ("*.example.com", "host.example.com", 22),
            ("*.example.com", "a.b.example.com", 22),
            ("*", "host.example.com", 22),
            ("*", "host.example.com", 2222),
            ("h?st.example.com", "host.example.com", 22),
            ("203.0.113.1?", "203.0.113.10", 22),
            ("*.example.com,!other.example.com", "host.example.com", 22),
            ("!other.example.com,*.example.com", "host.example.com", 22),
            ("[host.example.com]:2222", "host.example.com", 2222),
            ("[*.example.com]:2222", "host.example.com", 2222),
            ("[host.example.com]:*", "host.example.com", 2222),
            ("2001:db8::1", "2001:db8::1", 22),
            ("2001:db8::1", "[2001:db8::1]", 22),
            ("[2001:db8::1]:2222", "2001:db8::1", 2222),
            ("a*b*c*", "aXbYc", 22),
            (HASHED, "host.example.com", 22),
            (HASHED, "Host.Example.com", 22),
            (HASHED_2222, "host.example.com", 2222),
        ];
        let no = [
            ("host.example.com", "other.example.com", 22),
            ("host.example.com", "host.example.co", 22),
            ("host.example.com", "ahost.example.com", 22),
            ("host.example.com", "host.example.com", 2222),
            ("[host.example.com]:2222", "host.example.com", 22),
            ("[host.example.com]:2222", "host.example.com", 2223),
            ("[host.example.com]", "host.example.com", 22),
            ("*.example.com", "example.com", 22),
            ("h?st.example.com", "hst.example.com", 22),
            ("?.example.com", "host.example.com", 22),
            ("*.example.com,!host.example.com", "host.example.com", 22),
            ("!host.example.com,*.example.com", "host.example.com", 22),
            ("host.example.com,!*.example.com", "host.example.com", 22),
            ("!host.example.com", "host.example.com", 22),
            ("!other.example.com", "host.example.com", 22),
            ("a*b*c", "aXbYcZ", 22),
            (HASHED, "other.example.com", 22),
            (HASHED, "host.example.com", 2222),
            (HASHED_2222, "host.example.com", 22),
            (",", "host.example.com", 22),
        ];
        for (hosts, address, port) in yes {
            assert!(
                trusted(hosts, address, port),
                "{hosts} should match {address}:{port}"
            );
        }
        for (hosts, address, port) in no {
            assert!(
                !trusted(hosts, address, port),
                "{hosts} should not match {address}:{port}"
            );
        }
    }

    #[test]
    fn a_known_host_with_another_key_is_a_mismatch_that_names_the_known_types() {
        let known = KnownHosts::parse(&format!("h {A}\n"));
        assert_eq!(
            known.judge("h", &key(B)),
            HostKeyVerdict::Mismatch(vec![KeyType::Ed25519])
        );
        assert_eq!(known.judge("other", &key(B)), HostKeyVerdict::Unknown);
    }

    #[test]
    fn any_of_several_keys_is_trusted() {
        let known = KnownHosts::parse(&format!("h {A}\nh {B}\n"));
        assert_eq!(known.judge("h", &key(A)), HostKeyVerdict::Trusted);
        assert_eq!(known.judge("h", &key(B)), HostKeyVerdict::Trusted);
        assert_eq!(known.types("h"), [KeyType::Ed25519, KeyType::EcdsaP256]);
    }

    #[test]
    fn a_revoked_key_is_refused_wherever_the_line_stands() {
        for text in [
            format!("h {A}\n@revoked h {A}\n"),
            format!("@revoked h {A}\nh {A}\n"),
            format!("h {A}\n@revoked * {A}\n"),
            format!("h {A}\n@revoked\th\t{A}\n"),
        ] {
            let known = KnownHosts::parse(&text);
            assert!(
                matches!(known.judge("h", &key(A)), HostKeyVerdict::Revoked { .. }),
                "{text}"
            );
            assert_eq!(known.types("h"), []);
        }
    }

    #[test]
    fn a_revocation_for_another_host_or_key_changes_nothing() {
        let known = KnownHosts::parse(&format!("h {A}\n@revoked other {A}\n@revoked h {B}\n"));
        assert_eq!(known.judge("h", &key(A)), HostKeyVerdict::Trusted);
        assert_eq!(
            known.judge("h", &key(B)),
            HostKeyVerdict::Revoked { line: 3 }
        );
    }

    #[test]
    fn a_certificate_authority_vouches_for_no_plain_key() {
        let known = KnownHosts::parse(&format!("@cert-authority * {A}\n"));
        assert_eq!(known.judge("h", &key(A)), HostKeyVerdict::Unknown);
        assert_eq!(known.types("h"), []);
        assert!(!known.trusts_anything());
    }

    #[test]
    fn comments_blank_lines_tabs_and_crlf_do_not_matter() {
        let known = KnownHosts::parse(&format!(
            "\u{feff}# a comment\r\n\r\n   \t\r\n \th\t {A}  root@host # more\r\n#h {B}\r\n"
        ));
        assert_eq!(known.judge("h", &key(A)), HostKeyVerdict::Trusted);
        assert_eq!(
            known.judge("h", &key(B)),
            HostKeyVerdict::Mismatch(vec![KeyType::Ed25519])
        );
        assert_eq!(known.unreadable(), []);
    }

    #[test]
    fn a_line_that_makes_no_sense_trusts_nothing_and_is_reported() {
        let cut = &A[..A.len() - 4];
        let long = format!("{A}AAAA");
        let swapped = A.replace("ssh-ed25519 ", "ssh-rsa ");
        for (line, reason) in [
            (A.to_owned(), LineProblem::NoHost),
            ("h".into(), LineProblem::Incomplete),
            ("h ssh-ed25519".into(), LineProblem::Incomplete),
            ("@revoked".into(), LineProblem::Incomplete),
            (
                format!("@trusted h {A}"),
                LineProblem::Marker("@trusted".into()),
            ),
            (
                format!("@Revoked h {A}"),
                LineProblem::Marker("@Revoked".into()),
            ),
            (format!("h {cut}"), BadHostKey::Damaged.into()),
            (format!("h {long}"), BadHostKey::Damaged.into()),
            (
                format!("h {swapped}"),
                BadHostKey::OtherType { line: KeyType::Rsa }.into(),
            ),
            ("h ssh-ed25519 !!!!".into(), BadHostKey::NotBase64.into()),
            (
                "h ssh-dss AAAA".into(),
                BadHostKey::Unsupported("ssh-dss".into()).into(),
            ),
            (format!("|1|AAAA {A}"), LineProblem::Hash),
            (format!("|2|AAAA|AAAA {A}"), LineProblem::Hash),
            (format!("|1|AAAA|AAAA {A}"), LineProblem::Hash),
            (format!("|1|{A}"), LineProblem::Hash),
        ] {
            let known = KnownHosts::parse(&format!("# first\n{line}\n"));
            assert_eq!(
                known.unreadable(),
                [UnreadableLine { number: 2, reason }],
                "{line}"
            );
            assert!(!known.trusts_anything());
        }
    }

    #[test]
    fn one_bad_line_does_not_spoil_the_others() {
        let known = KnownHosts::parse(&format!("nonsense\nh {A}\n"));
        assert_eq!(known.judge("h", &key(A)), HostKeyVerdict::Trusted);
        assert_eq!(known.unreadable().len(), 1);
    }

    #[test]
    fn a_pattern_full_of_stars_takes_no_time() {
        let pattern = "*a".repeat(400) + "b";
        let begun = std::time::Instant::now();
        assert!(!glob_matches(
            pattern.as_bytes(),
            "a".repeat(4000).as_bytes()
        ));
        assert!(begun.elapsed().as_secs() < 5);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            let _ = KnownHosts::parse(&text).judge("h", &key(A));
        }

        #[test]
        fn a_glob_agrees_with_the_definition(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, None) => true,
                    (None, Some(_)) => false,
                    (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| by_definition(rest, &name[skip..])),
                    (Some((byte, rest)), Some((first, others))) => {
                        (*byte == b'?' || byte == first) && by_definition(rest, others)
                    }
                    (Some(_), None) => false,
                }
            }
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            proptest::prop_assert_eq!(glob_matches(pattern, name), by_definition(pattern, name));
        }
    }
}
