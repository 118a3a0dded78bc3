//! The public key that a server shows, its type and its fingerprint.
//!
//! Pure; runs on the runner. Only plain keys exist here: a certificate is never negotiated, because what a user pins
//! is a key. A [`HostKey`] can only be made from a complete, well-formed blob.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::blob::Blob;

/// Standard base64 that does not mind whether the padding is there: fingerprints come without, keys with it.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The types of plain host key that can be negotiated. `ssh-dss` and the SHA-1 signature of RSA cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    /// Preferred: small, and without parameters to get wrong.
    Ed25519,
    /// On the curve P-256.
    EcdsaP256,
    /// On the curve P-384.
    EcdsaP384,
    /// On the curve P-521.
    EcdsaP521,
    /// With signatures of SHA-2 only.
    Rsa,
}

impl KeyType {
    /// Every type, the preferred first.
    pub const ALL: [KeyType; 5] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::Rsa,
    ];

    /// The name in a `known_hosts` line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
        }
    }

    /// The names in a key exchange: an RSA key is asked for by its SHA-2 signatures only.
    pub(super) fn algorithms(self) -> &'static str {
        match self {
            Self::Ed25519 | Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => self.name(),
            Self::Rsa => "rsa-sha2-512,rsa-sha2-256",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why some bytes are not a host key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadHostKey {
    /// Certificates and security keys among them.
    #[error("key type {0:?} is not supported")]
    Unsupported(String),
    /// The third field of a line.
    #[error("the key is not base64")]
    NotBase64,
    /// Its lengths do not add up.
    #[error("the key is cut off or damaged")]
    Damaged,
    /// The second field of a line says something else than the key itself.
    #[error("the line says {line} but the key is of another type")]
    OtherType {
        /// What the line says.
        line: KeyType,
    },
}

/// A plain public host key, complete and well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    kind: KeyType,
    blob: Vec<u8>,
}

impl HostKey {
    /// The key as the server sends it.
    pub fn from_blob(blob: &[u8]) -> Result<Self, BadHostKey> {
        let mut parts = Blob::new(blob);
        let name = parts.text().ok_or(BadHostKey::Damaged)?;
        let kind = KeyType::from_name(name)
            .ok_or_else(|| BadHostKey::Unsupported(name.escape_default().to_string()))?;
        if !well_formed(kind, parts) {
            return Err(BadHostKey::Damaged);
        }
        Ok(Self {
            kind,
            blob: blob.to_vec(),
        })
    }

    /// The key as a `known_hosts` line writes it.
    pub fn parse(kind: &str, base64: &str) -> Result<Self, BadHostKey> {
        let line = KeyType::from_name(kind)
            .ok_or_else(|| BadHostKey::Unsupported(kind.escape_default().to_string()))?;
        let blob = BASE64.decode(base64).map_err(|_| BadHostKey::NotBase64)?;
        let key = Self::from_blob(&blob)?;
        if key.kind != line {
            return Err(BadHostKey::OtherType { line });
        }
        Ok(key)
    }

    /// The type that the key itself names. A `known_hosts` line with another one is refused by [`HostKey::parse`].
    #[must_use]
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// For messages, and to compare with pinned fingerprints.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(&self.blob).into())
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let padded = base64::engine::general_purpose::STANDARD.encode(&self.blob);
        write!(f, "{} {padded}", self.kind)
    }
}

/// Whether the strings after the type name are the ones that such a key has, and nothing follows them.
fn well_formed(kind: KeyType, mut parts: Blob<'_>) -> bool {
    let complete = match kind {
        KeyType::Ed25519 => parts.string().is_some_and(|key| key.len() == 32),
        KeyType::EcdsaP256 => curve_and_point(&mut parts, "nistp256"),
        KeyType::EcdsaP384 => curve_and_point(&mut parts, "nistp384"),
        KeyType::EcdsaP521 => curve_and_point(&mut parts, "nistp521"),
        KeyType::Rsa => {
            parts.string().is_some() && parts.string().is_some_and(|modulus| !modulus.is_empty())
        }
    };
    complete && parts.is_empty()
}

fn curve_and_point(parts: &mut Blob<'_>, curve: &str) -> bool {
    parts.text() == Some(curve) && parts.string().is_some_and(|point| !point.is_empty())
}

/// The SHA-256 of a host key, written `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads `SHA256:...`, with or without padding; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digest = BASE64.decode(text.strip_prefix("SHA256:")?).ok()?;
        Some(Self(digest.try_into().ok()?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", BASE64.encode(self.0))
    }
}
