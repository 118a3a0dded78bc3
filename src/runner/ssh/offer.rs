//! Finds out why two sides cannot agree on encryption: asks the server what it offers and compares.
//!
//! Runs on the runner, and only after a key exchange has failed, because the SSH library says neither what the server
//! offered nor whether it hung up. The first packet of each side is plain text: a list of names per purpose. Reading it
//! takes a connection of its own on which nobody logs in. [`Offer::parse`] and [`Offer::gaps`] are pure.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::blob::Blob;

/// The methods that one side is ready to use, as comma-separated names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) key_exchange: Vec<String>,
    pub(super) host_keys: Vec<String>,
    pub(super) ciphers: Vec<String>,
    pub(super) macs: Vec<String>,
}

/// A purpose for which no method is common to both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) purpose: Purpose,
    pub(super) theirs: String,
    pub(super) ours: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    KeyExchange,
    HostKey,
    Cipher,
    Mac,
}

impl Purpose {
    /// The name of the setting in `sshd_config`.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::KeyExchange => "KexAlgorithms",
            Self::HostKey => "HostKeyAlgorithms",
            Self::Cipher => "Ciphers",
            Self::Mac => "MACs",
        }
    }
}

const KEXINIT: u8 = 20;
/// Far above any real list, far below what would hurt.
const LARGEST_PACKET: usize = 64 * 1024;

impl Offer {
    /// Reads the payload of a KEXINIT message.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut blob = Blob::new(payload);
        if blob.bytes(1)? != [KEXINIT] {
            return None;
        }
        let _cookie = blob.bytes(16)?;
        let mut names = || -> Option<Vec<String>> { Some(split(blob.text()?)) };
        let (key_exchange, host_keys) = (names()?, names()?);
        let (ciphers, _to_client, macs) = (names()?, names()?, names()?);
        Some(Self {
            key_exchange,
            host_keys,
            ciphers,
            macs,
        })
    }

    /// The purposes for which `self`, the server, and `ours` share nothing.
    pub(super) fn gaps(&self, ours: &Offer) -> Vec<Gap> {
        let mut purposes = vec![
            (Purpose::KeyExchange, &self.key_exchange, &ours.key_exchange),
            (Purpose::HostKey, &self.host_keys, &ours.host_keys),
            (Purpose::Cipher, &self.ciphers, &ours.ciphers),
        ];
        // A cipher that authenticates needs no MAC beside it.
        let cipher = ours
            .ciphers
            .iter()
            .find(|cipher| self.ciphers.contains(cipher));
        if cipher.is_some_and(|cipher| cipher.ends_with("-ctr")) {
            purposes.push((Purpose::Mac, &self.macs, &ours.macs));
        }
        purposes
            .into_iter()
            .filter(|(_, theirs, ours)| !theirs.iter().any(|name| ours.contains(name)))
            .map(|(purpose, theirs, ours)| Gap {
                purpose,
                theirs: theirs.join(","),
                ours: ours.join(","),
            })
            .collect()
    }
}

pub(super) fn split(names: &str) -> Vec<String> {
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(printable)
        .collect()
}

/// What a server says of itself may end up on a screen.
fn printable(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_graphic)
        .take(100)
        .collect()
}

/// Asks the server for its offer, without logging in.
pub(super) fn ask(mut socket: TcpStream, patience: Duration) -> io::Result<Offer> {
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    socket.write_all(b"SSH-2.0-belay\r\n")?;
    skip_banner(&mut socket)?;
    let length = usize::try_from(u32::from_be_bytes(take(&mut socket)?)).unwrap_or(usize::MAX);
    let [padding] = take(&mut socket)?;
    let payload = length
        .checked_sub(1 + usize::from(padding))
        .filter(|payload| (1..LARGEST_PACKET).contains(payload))
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut packet = vec![0; payload];
    socket.read_exact(&mut packet)?;
    Offer::parse(&packet).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn take<const N: usize>(socket: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Lines before the one that starts with `SSH-` are a greeting.
fn skip_banner(socket: &mut TcpStream) -> io::Result<()> {
    let mut line = Vec::new();
    for _ in 0..LARGEST_PACKET {
        let [byte] = take(socket)?;
        match byte {
            b'\n' if line.starts_with(b"SSH-") => return Ok(()),
            b'\n' => line.clear(),
            other => line.push(other),
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(key_exchange: &str, host_keys: &str, ciphers: &str, macs: &str) -> Offer {
        Offer {
            key_exchange: split(key_exchange),
            host_keys: split(host_keys),
            ciphers: split(ciphers),
            macs: split(macs),
        }
    }

    fn kexinit(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload
    }

    #[test]
    fn the_lists_of_a_first_packet_are_read() {
        let payload = kexinit(&[
            "k1,k2", "h1", "c1,c2", "c3", "m1", "m2", "none", "none", "", "",
        ]);
        assert_eq!(
            Offer::parse(&payload),
            Some(offer("k1,k2", "h1", "c1,c2", "m1"))
        );
    }

    #[test]
    fn a_packet_that_is_cut_off_is_refused_wherever_it_is_cut() {
        let payload = kexinit(&["k1,k2", "h1", "c1,c2", "c3", "m1"]);
        for end in 0..payload.len() {
            assert_eq!(Offer::parse(&payload[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn each_purpose_without_a_common_method_is_named() {
        let ours = offer("k", "h", "aes-gcm,aes-ctr", "m");
        assert_eq!(offer("k", "h", "aes-gcm", "other").gaps(&ours), vec![]);
        let gaps: Vec<Purpose> = offer("x", "x", "aes-ctr", "x")
            .gaps(&ours)
            .into_iter()
            .map(|gap| gap.purpose)
            .collect();
        assert_eq!(gaps, [Purpose::KeyExchange, Purpose::HostKey, Purpose::Mac]);
    }
}
