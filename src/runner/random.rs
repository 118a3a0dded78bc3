//! Random numbers: the kernel's for what nobody may guess, and the process's own for names.
//!
//! Runs on the runner.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};

use belay_model::digest;

/// 128 bits from the kernel as 32 hexadecimal digits: a secret, the name of a transaction, a word that no text contains.
pub(crate) fn hex() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(digest::hex(&bytes))
}

/// A number that nobody else is likely to use, for names. Not for secrets.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
