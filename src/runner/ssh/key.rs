//! Checks and tidies the private key text that a user pasted into a secret.
//!
//! Pure; runs on the runner. Secrets arrive with CRLF, without the last newline, indented, quoted, on one line or with
//! `\n` spelled out; all of these become the one text that OpenSSL reads. What cannot be a usable key is refused before
//! anything connects, each mistake by its own name. The text never appears in an error.

use std::fmt;

use base64::Engine as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::blob::Blob;
use super::host_key::BASE64;
use belay_model::secret::Secret;

/// A private key that looks whole, with the passphrase when it needs one.
#[derive(Clone)]
pub struct Key {
    text: Secret,
    passphrase: Option<Secret>,
    public: Option<String>,
}

/// Why a text is not a usable private key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// As secrets are in runs from forks.
    #[error("the private key is empty")]
    Empty,
    /// The wrong one of the two files.
    #[error("the text is a public key, not the private one")]
    Public,
    /// OpenSSH and the library read other formats.
    #[error("the text is a PuTTY key")]
    Putty,
    /// By what its BEGIN line says.
    #[error("the text is a {0}, not a private key")]
    OtherPem(String),
    /// Which one is meant cannot be told.
    #[error("the text holds more than one private key")]
    Several,
    /// Often the last line was not copied.
    #[error("the private key is cut off: its END line is missing")]
    NoEnd,
    /// It would have to be decoded first.
    #[error("the private key is wrapped in base64 once more")]
    Wrapped,
    /// Its base64 or its lengths are wrong.
    #[error("the private key is damaged")]
    Damaged,
    /// By the name in the key: security keys, DSA.
    #[error("private keys of type {0} are not supported")]
    Unsupported(String),
    /// It cannot be opened without.
    #[error("the private key is encrypted and no passphrase is given")]
    PassphraseMissing,
    /// Nothing in it looks like a key.
    #[error("the text is not a private key")]
    Garbage,
}

impl KeyError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => {
                "set ssh-key to the content of the private key file; secrets are empty in runs from forks"
            }
            Self::Public => {
                "paste the file without .pub; the public half belongs into authorized_keys on the host"
            }
            Self::Putty => {
                "convert it in PuTTYgen with Conversions > Export OpenSSH key, and paste that"
            }
            Self::OtherPem(_) | Self::Garbage => {
                "paste the whole file, from -----BEGIN to -----END"
            }
            Self::Several => "paste only the key that the host knows",
            Self::NoEnd | Self::Damaged => {
                "paste the whole file again, from -----BEGIN to -----END"
            }
            Self::Wrapped => "paste the key file as it is, without encoding it",
            Self::Unsupported(_) => {
                "make a key with `ssh-keygen -t ed25519` and add its public half on the host"
            }
            Self::PassphraseMissing => {
                "set ssh-key-passphrase, or use a key of its own for deployments without one"
            }
        }
    }
}

impl Key {
    /// Checks the text and brings it into the form that the SSH library reads. An empty passphrase is none.
    pub fn parse(text: &Secret, passphrase: Option<Secret>) -> Result<Self, KeyError> {
        let text = Zeroizing::new(unescape(text.expose().trim_start_matches('\u{feff}')));
        let pem = Pem::find(&text)?;
        let facts = pem.inspect()?;
        let passphrase = passphrase.filter(|passphrase| !passphrase.is_empty());
        if facts.locked == Locked::Yes && passphrase.is_none() {
            return Err(KeyError::PassphraseMissing);
        }
        Ok(Self {
            text: Secret::new(pem.render()),
            passphrase,
            public: facts.public,
        })
    }

    pub(super) fn text(&self) -> &Secret {
        &self.text
    }

    pub(super) fn passphrase(&self) -> Option<&Secret> {
        self.passphrase.as_ref()
    }

    /// The public half as a line for `authorized_keys`, when the file's format shows it.
    #[must_use]
    pub fn public(&self) -> Option<&str> {
        self.public.as_deref()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// The one private-key block of a text.
struct Pem<'a> {
    label: &'a str,
    /// Header lines such as `DEK-Info`, of the traditional format only.
    headers: Vec<&'a str>,
    body: Zeroizing<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locked {
    Yes,
    No,
}

struct KeyFacts {
    locked: Locked,
    public: Option<String>,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Turns a spelled-out `\n` into a line break. A key holds no backslash, so nothing else can be meant.
fn unescape(text: &str) -> String {
    text.replace("\\r", "").replace("\\n", "\n")
}

impl<'a> Pem<'a> {
    fn find(text: &'a str) -> Result<Self, KeyError> {
        let Some((_, after)) = text.split_once(BEGIN) else {
            return Err(mistake(text.trim()));
        };
        let (label, rest) = after.split_once(DASHES).ok_or(KeyError::Damaged)?;
        if !label.ends_with("PRIVATE KEY") {
            return Err(KeyError::OtherPem(
                label.chars().take(40).filter(|c| !c.is_control()).collect(),
            ));
        }
        let (content, tail) = rest.split_once(END).ok_or(KeyError::NoEnd)?;
        if tail.split_once(DASHES).map(|(end, _)| end) != Some(label) {
            return Err(KeyError::NoEnd);
        }
        if tail.contains(BEGIN) {
            return Err(KeyError::Several);
        }
        let (headers, body): (Vec<&str>, Vec<&str>) = content
            .lines()
            .map(str::trim)
            .partition(|line| line.contains(": "));
        let body: Zeroizing<String> = Zeroizing::new(body.concat().split_whitespace().collect());
        Ok(Self {
            label,
            headers,
            body,
        })
    }

    /// Reads what the block says of itself without opening it.
    fn inspect(&self) -> Result<KeyFacts, KeyError> {
        let bytes = Zeroizing::new(
            BASE64
                .decode(self.body.as_bytes())
                .map_err(|_| KeyError::Damaged)?,
        );
        if bytes.is_empty() {
            return Err(KeyError::Damaged);
        }
        match self.label {
            "OPENSSH PRIVATE KEY" => inspect_openssh(&bytes),
            "ENCRYPTED PRIVATE KEY" => Ok(KeyFacts {
                locked: Locked::Yes,
                public: None,
            }),
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "PRIVATE KEY" => {
                let encrypted = self.headers.iter().any(|line| line.contains("ENCRYPTED"));
                if !encrypted && !whole_der(&bytes) {
                    return Err(KeyError::Damaged);
                }
                Ok(KeyFacts {
                    locked: if encrypted { Locked::Yes } else { Locked::No },
                    public: None,
                })
            }
            other => Err(KeyError::Unsupported(
                other.trim_end_matches(" PRIVATE KEY").to_owned(),
            )),
        }
    }

    /// The block in the one form that every reader takes: 64 columns and a newline at the end.
    fn render(&self) -> String {
        let mut text = format!("{BEGIN}{}{DASHES}\n", self.label);
        for header in &self.headers {
            text.push_str(header);
            text.push('\n');
        }
        if !self.headers.is_empty() {
            text.push('\n');
        }
        // The body has passed the base64 check, so it is ASCII and can be cut anywhere.
        let mut rest = self.body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str(&format!("{END}{}{DASHES}\n", self.label));
        text
    }
}

/// Names the mistake in a text that has no BEGIN line.
fn mistake(text: &str) -> KeyError {
    const PUBLIC: [&str; 5] = [
        "ssh-",
        "ecdsa-sha2-",
        "sk-ssh-",
        "sk-ecdsa-",
        "---- BEGIN SSH2 PUBLIC KEY",
    ];
    if text.is_empty() {
        return KeyError::Empty;
    }
    if PUBLIC.iter().any(|start| text.starts_with(start)) {
        return KeyError::Public;
    }
    if text.starts_with("PuTTY-User-Key-File") {
        return KeyError::Putty;
    }
    let joined = Zeroizing::new(text.split_whitespace().collect::<String>());
    match BASE64.decode(joined.as_bytes()).map(Zeroizing::new) {
        Ok(inner) if inner.starts_with(BEGIN.as_bytes()) => KeyError::Wrapped,
        _ => KeyError::Garbage,
    }
}

/// Reads the open part of OpenSSH's own format: cipher and public key; the private part must be there in full.
fn inspect_openssh(bytes: &[u8]) -> Result<KeyFacts, KeyError> {
    let body = bytes
        .strip_prefix(b"openssh-key-v1\0")
        .ok_or(KeyError::Damaged)?;
    let mut blob = Blob::new(body);
    let (cipher, public) = openssh_parts(&mut blob).ok_or(KeyError::Damaged)?;
    let kind = Blob::new(public).text().ok_or(KeyError::Damaged)?;
    match kind {
        "ssh-ed25519"
        | "ssh-rsa"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "ecdsa-sha2-nistp521" => {}
        other => return Err(KeyError::Unsupported(other.escape_default().to_string())),
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(public);
    Ok(KeyFacts {
        locked: if cipher == "none" {
            Locked::No
        } else {
            Locked::Yes
        },
        public: Some(format!("{kind} {encoded}")),
    })
}

fn openssh_parts<'a>(blob: &mut Blob<'a>) -> Option<(&'a str, &'a [u8])> {
    let cipher = blob.text()?;
    let _kdf = blob.string()?;
    let _kdf_options = blob.string()?;
    if blob.number()? != 1 {
        return None;
    }
    let public = blob.string()?;
    blob.string()?;
    Some((cipher, public))
}

/// Whether the outer DER sequence is as long as it says, so that a key cut in the middle is noticed.
fn whole_der(bytes: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = bytes else {
        return false;
    };
    let size = usize::from(first & 0x7f);
    if first & 0x80 == 0 {
        return rest.len() == size;
    }
    let Some((length, content)) = rest.split_at_checked(size) else {
        return false;
    };
    size <= 4
        && content.len()
            == length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [
            &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..],
            bytes,
        ]
        .concat()
    }

    /// A text with the outline of an OpenSSH key and nothing in it.
    fn openssh(kind: &str, cipher: &str) -> String {
        let public = [string(kind.as_bytes()), string(&[9; 32])].concat();
        let body = [
            b"openssh-key-v1\0".to_vec(),
            string(cipher.as_bytes()),
            string(b"none"),
            string(b""),
            1u32.to_be_bytes().to_vec(),
            string(&public),
            string(&[7; 120]),
        ]
        .concat();
        pem("OPENSSH PRIVATE KEY", &body)
    }

    fn pem(label: &str, body: &[u8]) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(body);
        let lines: Vec<&str> = body
            .as_bytes()
            .chunks(70)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    }

    /// A DER sequence of the given length of content.
    fn der(length: u8) -> Vec<u8> {
        [vec![0x30, 0x81, length], vec![5; usize::from(length)]].concat()
    }

    fn parse(text: &str) -> Result<Key, KeyError> {
        Key::parse(&Secret::new(text), None)
    }

    fn refusal(text: &str) -> KeyError {
        parse(text)
            .err()
            .unwrap_or_else(|| panic!("accepted: {text}"))
    }

    #[test]
    fn every_way_of_pasting_a_key_gives_the_same_text() {
        let text = openssh("ssh-ed25519", "none");
        let expected = parse(&text).unwrap().text().clone();
        for (how, pasted) in [
            ("crlf", text.replace('\n', "\r\n")),
            ("cr", text.replace('\n', "\r")),
            ("no last newline", text.trim_end().to_owned()),
            ("blank lines", format!("\r\n\n  {text}\n\t\n")),
            ("blank lines inside", text.replace('\n', "\n\n")),
            ("indented", text.replace('\n', "\n\t  ")),
            ("one line", text.replace('\n', " ")),
            ("spelled out", text.replace('\n', "\\n")),
            ("spelled out with cr", text.replace('\n', "\\r\\n")),
            ("quoted", format!("'{}'", text.trim_end())),
            ("bom", format!("\u{feff}{text}")),
        ] {
            assert!(
                parse(&pasted)
                    .unwrap_or_else(|error| panic!("{how}: {error}"))
                    .text()
                    == &expected,
                "{how}"
            );
        }
        assert!(
            expected
                .expose()
                .ends_with("-----END OPENSSH PRIVATE KEY-----\n")
        );
        assert!(expected.expose().lines().all(|line| line.len() <= 70));
    }

    #[test]
    fn every_format_is_known() {
        for label in ["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"] {
            parse(&pem(label, &der(200))).unwrap();
        }
        for kind in [
            "ssh-ed25519",
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
        ] {
            parse(&openssh(kind, "none")).unwrap();
        }
    }

    #[test]
    fn the_public_half_is_told_when_it_can_be() {
        let key = parse(&openssh("ssh-ed25519", "none")).unwrap();
        assert!(
            key.public()
                .unwrap()
                .starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI")
        );
        assert_eq!(
            parse(&pem("PRIVATE KEY", &der(200))).unwrap().public(),
            None
        );
    }

    #[test]
    fn a_locked_key_needs_a_passphrase() {
        let traditional = pem("RSA PRIVATE KEY", &[1; 64]).replace(
            "KEY-----\n",
            "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n",
        );
        for text in [
            openssh("ssh-ed25519", "aes256-ctr"),
            pem("ENCRYPTED PRIVATE KEY", &der(200)),
            traditional.clone(),
        ] {
            assert_eq!(refusal(&text), KeyError::PassphraseMissing);
            assert!(Key::parse(&Secret::new(&*text), Some(Secret::new(""))).is_err());
            Key::parse(&Secret::new(&*text), Some(Secret::new("x"))).unwrap();
        }
        let key = Key::parse(
            &Secret::new(traditional.replace('\n', "\r\n")),
            Some(Secret::new("x")),
        )
        .unwrap();
        assert!(
            key.text()
                .expose()
                .contains("-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n")
        );
    }

    #[test]
    fn each_mistake_has_its_own_name() {
        let key = openssh("ssh-ed25519", "none");
        let half = &key[..key.len() / 2];
        let wrapped = base64::engine::general_purpose::STANDARD.encode(&key);
        for (text, expected) in [
            ("", KeyError::Empty),
            (" \r\n", KeyError::Empty),
            ("ssh-ed25519 AAAA deploy@example.com", KeyError::Public),
            ("ecdsa-sha2-nistp256 AAAA", KeyError::Public),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", KeyError::Public),
            (
                "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none",
                KeyError::Putty,
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                KeyError::OtherPem("CERTIFICATE".into()),
            ),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
                KeyError::OtherPem("PUBLIC KEY".into()),
            ),
            (&format!("{key}{key}"), KeyError::Several),
            (half, KeyError::NoEnd),
            (
                &key.replace("-----END OPENSSH", "-----END RSA"),
                KeyError::NoEnd,
            ),
            (&wrapped, KeyError::Wrapped),
            ("/home/deploy/.ssh/id_ed25519", KeyError::Garbage),
            ("***", KeyError::Garbage),
            (
                &pem("DSA PRIVATE KEY", &der(200)),
                KeyError::Unsupported("DSA".into()),
            ),
            (
                &openssh("ssh-dss", "none"),
                KeyError::Unsupported("ssh-dss".into()),
            ),
            (
                &openssh("sk-ssh-ed25519@openssh.com", "none"),
                KeyError::Unsupported("sk-ssh-ed25519@openssh.com".into()),
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\n***\n-----END OPENSSH PRIVATE KEY-----",
                KeyError::Damaged,
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
                KeyError::Damaged,
            ),
            (&pem("OPENSSH PRIVATE KEY", b"other"), KeyError::Damaged),
            (&pem("PRIVATE KEY", &der(200)[..150]), KeyError::Damaged),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
            assert!(!expected.hint().is_empty());
        }
    }

    #[test]
    fn a_key_with_a_line_missing_is_damaged() {
        let text = openssh("ssh-rsa", "none");
        let lines: Vec<&str> = text.lines().collect();
        for missing in 1..lines.len() - 1 {
            let mut lines = lines.clone();
            lines.remove(missing);
            assert_eq!(
                refusal(&lines.join("\n")),
                KeyError::Damaged,
                "line {missing}"
            );
        }
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let text = openssh("ssh-ed25519", "none");
        let shown = format!(
            "{:?}",
            Key::parse(&Secret::new(&*text), Some(Secret::new("hush"))).unwrap()
        );
        assert!(!shown.contains("hush") && !shown.contains("OPENSSH"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*", label in "[A-Z ]{0,12}") {
            let _ = parse(&text);
            let _ = parse(&format!("-----BEGIN {label}PRIVATE KEY-----\n{text}\n-----END {label}PRIVATE KEY-----"));
        }
    }
}
