//! Reads the one text by which a user pins a host: `known_hosts` lines, or `SHA256:` fingerprints.
//!
//! Pure; runs on the runner. It promises to fail closed: a text from which nothing can be trusted is an error here,
//! before anything connects.

use thiserror::Error;

use super::host_key::{Fingerprint, HostKey, KeyType};
use super::known_hosts::{HostKeyVerdict, KnownHosts, UnreadableLine};

/// The pinned keys of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// As OpenSSH keeps them.
    KnownHosts(KnownHosts),
    /// Any key with one of these is trusted.
    Fingerprints(Vec<Fingerprint>),
}

/// Why a text pins nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostKeysError {
    /// Nothing is learnt on first use, so an empty text trusts nobody.
    #[error("no host key is pinned: the text is empty")]
    Empty,
    /// The line that looks like one.
    #[error("could not read the fingerprint {0:?}")]
    Fingerprint(String),
    /// MD5 can be forged.
    #[error("could not use an MD5 fingerprint")]
    Md5,
    /// A text with only such lines trusts nobody.
    #[error("no line of the known_hosts text can be used")]
    NothingUsable {
        /// The first line that could not be read.
        #[source]
        first: Option<UnreadableLine>,
    },
}

impl HostKeysError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => {
                "set known-hosts to the output of `ssh-keyscan HOST`, compared with `ssh-keygen -lf \
                 /etc/ssh/ssh_host_ed25519_key.pub` run on the host itself"
            }
            Self::Fingerprint(_) => {
                "a fingerprint is SHA256: and 43 characters, as `ssh-keygen -lf FILE` prints it"
            }
            Self::Md5 => {
                "take the fingerprint that `ssh-keygen -lf FILE` prints; it starts with SHA256:"
            }
            Self::NothingUsable { .. } => {
                "a line is the host's name, the key type and the key: `203.0.113.10 ssh-ed25519 AAAA...`"
            }
        }
    }
}

impl HostKeys {
    /// Reads `known_hosts` lines, or fingerprints separated by lines, commas or spaces. The output of `ssh-keygen -l` is
    /// fine too.
    pub fn parse(text: &str) -> Result<Self, HostKeysError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(HostKeysError::Empty);
        }
        // Lines come first: a fingerprint in the comment of a line must not become the pin.
        let known = KnownHosts::parse(text);
        if known.trusts_anything() {
            return Ok(Self::KnownHosts(known));
        }
        let words = words(text);
        if known.is_empty() && words.clone().any(|word| word.starts_with("SHA256:")) {
            return fingerprints(words);
        }
        if known.is_empty() && words.clone().any(|word| word.starts_with("MD5:")) {
            return Err(HostKeysError::Md5);
        }
        Err(HostKeysError::NothingUsable {
            first: known.unreadable().first().cloned(),
        })
    }

    /// Judges the key that the host called `name` has shown.
    #[must_use]
    pub fn judge(&self, name: &str, key: &HostKey) -> HostKeyVerdict {
        match self {
            Self::KnownHosts(known) => known.judge(name, key),
            Self::Fingerprints(pins) if pins.contains(&key.fingerprint()) => {
                HostKeyVerdict::Trusted
            }
            Self::Fingerprints(_) => HostKeyVerdict::Mismatch(Vec::new()),
        }
    }

    /// The key types to negotiate with the host called `name`. When nothing is known of it these are all of them, so
    /// that the refusal can show the key.
    #[must_use]
    pub fn types(&self, name: &str) -> Vec<KeyType> {
        let known = match self {
            Self::KnownHosts(known) => known.types(name),
            Self::Fingerprints(_) => Vec::new(),
        };
        if known.is_empty() {
            KeyType::ALL.to_vec()
        } else {
            known
        }
    }

    /// Lines that were ignored, to be shown as warnings.
    #[must_use]
    pub fn unreadable(&self) -> &[UnreadableLine] {
        match self {
            Self::KnownHosts(known) => known.unreadable(),
            Self::Fingerprints(_) => &[],
        }
    }
}

/// The words outside comments.
fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split([' ', '\t', ',', ';']))
        .filter(|word| !word.is_empty())
}

fn fingerprints<'a>(words: impl Iterator<Item = &'a str>) -> Result<HostKeys, HostKeysError> {
    words
        .filter(|word| word.starts_with("SHA256:"))
        .map(|word| {
            Fingerprint::parse(word)
                .ok_or_else(|| HostKeysError::Fingerprint(word.escape_default().to_string()))
        })
        .collect::<Result<Vec<_>, _>>()
        .map(HostKeys::Fingerprints)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxNsklyrv2ILHMoyQWqubFd6O6xzU9C0KO1D4H5XE7G";
    const PIN: &str = "SHA256:1Zwte+OrI2SI89AvgqTb3oJUFVkgVfiPZvZPTmO4OFk";

    fn key() -> HostKey {
        let (kind, base64) = KEY.split_once(' ').unwrap();
        HostKey::parse(kind, base64).unwrap()
    }

    #[test]
    fn a_fingerprint_is_the_one_that_ssh_keygen_prints() {
        assert_eq!(key().fingerprint().to_string(), PIN);
        assert_eq!(Fingerprint::parse(PIN), Some(key().fingerprint()));
        assert_eq!(
            Fingerprint::parse(&format!("{PIN}=")),
            Some(key().fingerprint())
        );
    }

    #[test]
    fn a_host_key_is_written_as_it_is_read() {
        assert_eq!(key().to_string(), KEY);
    }

    #[test]
    fn fingerprints_come_in_many_shapes() {
        let other = format!("SHA256:{}", "A".repeat(43));
        for text in [
            PIN.to_owned(),
            format!("  {PIN}\r\n"),
            format!("{other},{PIN}"),
            format!("{other}\n{PIN}\n"),
            format!("{other}, {PIN}"),
            format!("# the new host\n{PIN}"),
            format!("256 {PIN} root@example.com (ED25519)"),
        ] {
            let pinned = HostKeys::parse(&text).unwrap();
            assert!(matches!(pinned, HostKeys::Fingerprints(_)), "{text}");
            assert_eq!(
                pinned.judge("anything", &key()),
                HostKeyVerdict::Trusted,
                "{text}"
            );
            assert_eq!(pinned.types("anything"), KeyType::ALL);
        }
    }

    #[test]
    fn a_fingerprint_in_a_comment_pins_nothing() {
        let text = format!(
            "h ssh-ed25519 {} {PIN}",
            "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        );
        let pinned = HostKeys::parse(&text).unwrap();
        assert_eq!(
            pinned.judge("h", &key()),
            HostKeyVerdict::Mismatch(vec![KeyType::Ed25519])
        );
        let only_revoked = format!("@revoked h {KEY} {PIN}");
        assert_eq!(
            HostKeys::parse(&only_revoked),
            Err(HostKeysError::NothingUsable { first: None })
        );
    }

    #[test]
    fn a_text_that_pins_nothing_is_an_error() {
        assert_eq!(HostKeys::parse(""), Err(HostKeysError::Empty));
        assert_eq!(HostKeys::parse(" \r\n\t"), Err(HostKeysError::Empty));
        assert_eq!(HostKeys::parse("MD5:aa:bb"), Err(HostKeysError::Md5));
        assert_eq!(
            HostKeys::parse("SHA256:short"),
            Err(HostKeysError::Fingerprint("SHA256:short".into()))
        );
        for text in [
            "# only a comment",
            "yes",
            KEY,
            &format!("@cert-authority * {KEY}"),
        ] {
            assert!(
                matches!(
                    HostKeys::parse(text),
                    Err(HostKeysError::NothingUsable { .. })
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn the_types_of_an_unknown_host_are_all_of_them_so_that_its_key_can_be_shown() {
        let pinned = HostKeys::parse(&format!("h {KEY}")).unwrap();
        assert_eq!(pinned.types("h"), [KeyType::Ed25519]);
        assert_eq!(pinned.types("other"), KeyType::ALL);
        assert_eq!(pinned.judge("other", &key()), HostKeyVerdict::Unknown);
    }
}
