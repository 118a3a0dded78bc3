//! Opens a connection: dial, agree on keys, check the host key, log in; in this order and no other.
//!
//! Runs on the runner; I/O. It promises that no user name and no signature leave the runner before the host key was
//! found among the pinned ones, that logging in is tried once, and that all of it ends within the limits.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ssh2::{ErrorCode, MethodType};

use super::error::{ConnectStage, Incompatible, Loss, Passphrase, SeenKey};
use super::host_key::{HostKey, KeyType};
use super::known_hosts::{HostKeyVerdict, host_name};
use super::link::{Stop, Transport, dial};
use super::offer::{self, Offer, Purpose};
use super::retry::with_backoff;
use super::{ConnectLimits, HostKeys, Interrupt, Key, SshError, SshTarget};

/// Fast and authenticated first; the CTR ciphers are for old servers and come with a strong MAC. No CBC.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
                       aes256-ctr,aes192-ctr,aes128-ctr";
const MACS: &str =
    "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";

/// One authenticated session. It runs one command at a time and belongs to one thread at a time.
pub struct SshConnection {
    pub(super) link: Transport,
    pub(super) target: SshTarget,
    pub(super) limits: ConnectLimits,
    /// Set once a command was abandoned: what the host still sends of it would be taken for the next one's.
    pub(super) abandoned: Cell<bool>,
}

impl SshConnection {
    /// Connects to the target, checks its host key and logs in.
    pub fn open(
        target: &SshTarget,
        keys: &HostKeys,
        key: &Key,
        limits: &ConnectLimits,
    ) -> Result<Self, SshError> {
        let until = Instant::now() + limits.connect + limits.handshake;
        let name = host_name(&target.address, target.port);
        let link = match agree(target, &keys.types(&name), limits) {
            Ok(link) => link,
            Err(Disagreement::Other(error)) => return Err(error),
            Err(Disagreement::Methods { source, server }) => {
                return Err(diagnose(target, keys, limits, source, server));
            }
        };
        check_host_key(&link, target, keys, &name)?;
        authenticate(&link, target, key, until, &limits.interrupt)?;
        // libssh2 counts in seconds and turns 1 into 2; how often it is asked is decided in `pump`.
        link.session.set_keepalive(true, 1);
        Ok(Self {
            link,
            target: target.clone(),
            limits: limits.clone(),
            abandoned: Cell::new(false),
        })
    }

    /// As it was asked for: address, port and user.
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// How the server names itself, for diagnosis.
    pub fn server(&self) -> String {
        server_name(&self.link)
    }

    pub(super) fn lost(&self, source: Loss) -> SshError {
        SshError::LinkLost {
            target: self.target.clone(),
            source,
        }
    }
}

/// The connection ends here for both sides, without waiting for an answer.
impl Drop for SshConnection {
    fn drop(&mut self) {
        if !self.abandoned.get() && self.link.can_send() {
            // A courtesy: the server's log then shows a goodbye rather than a broken connection.
            let _ = self.link.session.disconnect(None, "done", None);
        }
        self.link.cut();
    }
}

/// Opens a connection, and tries again with growing pauses (1, 2, 4, 8 s) while waiting may help. At most
/// [`MOST_ATTEMPTS`](super::MOST_ATTEMPTS) attempts are made, and none begins after the deadline. A refusal is final.
pub fn connect_with_backoff(
    target: &SshTarget,
    keys: &HostKeys,
    key: &Key,
    limits: &ConnectLimits,
    attempts: u32,
    deadline: Duration,
    sleep: &dyn Fn(Duration),
) -> Result<SshConnection, SshError> {
    let begun = Instant::now();
    with_backoff(attempts, deadline, &|| begun.elapsed(), sleep, |left| {
        let limits = ConnectLimits {
            connect: limits.connect.min(left),
            handshake: limits.handshake.min(left),
            ..limits.clone()
        };
        SshConnection::open(target, keys, key, &limits)
    })
}

/// Why no encrypted connection came about.
enum Disagreement {
    /// The two sides may have no method in common; libssh2 cannot tell that from a hang-up.
    Methods {
        source: ssh2::Error,
        server: String,
    },
    Other(SshError),
}

/// Connects and exchanges keys, accepting host keys of the given types only. Nothing is trusted yet.
fn agree(
    target: &SshTarget,
    types: &[KeyType],
    limits: &ConnectLimits,
) -> Result<Transport, Disagreement> {
    let socket = dial(target, limits).map_err(Disagreement::Other)?;
    let setup = |source| {
        Disagreement::Other(SshError::Setup {
            target: target.clone(),
            source,
        })
    };
    let link = Transport::new(socket).map_err(setup)?;
    choose_methods(&link, types).map_err(|error| setup(error.into()))?;
    let mut session = link.session.clone();
    let until = Instant::now() + limits.handshake;
    match link.drive(until, &limits.interrupt, || session.handshake()) {
        Ok(()) => Ok(link),
        Err(Stop::Failed(source)) if code(&source) == code::KEX_FAILURE => {
            Err(Disagreement::Methods {
                source,
                server: server_name(&link),
            })
        }
        Err(stop) => Err(Disagreement::Other(handshake_error(target, limits, stop))),
    }
}

fn choose_methods(link: &Transport, types: &[KeyType]) -> Result<(), ssh2::Error> {
    let session = &link.session;
    session.method_pref(MethodType::HostKey, &algorithms(types))?;
    session.method_pref(MethodType::CryptCs, CIPHERS)?;
    session.method_pref(MethodType::CryptSc, CIPHERS)?;
    session.method_pref(MethodType::MacCs, MACS)?;
    session.method_pref(MethodType::MacSc, MACS)
}

fn algorithms(types: &[KeyType]) -> String {
    let names: Vec<&str> = types.iter().map(|kind| kind.algorithms()).collect();
    names.join(",")
}

fn server_name(link: &Transport) -> String {
    let banner = link.session.banner().unwrap_or("an unnamed server");
    banner
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(100)
        .collect()
}

/// Turns a failed key exchange into a reason: asks the server what it offers, and when only the type of host key is
/// missing fetches the key that it has, so that the refusal can show it. Nobody logs in on these connections.
fn diagnose(
    target: &SshTarget,
    keys: &HostKeys,
    limits: &ConnectLimits,
    source: ssh2::Error,
    server: String,
) -> SshError {
    let name = host_name(&target.address, target.port);
    let types = keys.types(&name);
    let theirs = dial(target, limits)
        .ok()
        .and_then(|socket| offer::ask(socket, limits.handshake).ok());
    let Some(theirs) = theirs else {
        return SshError::Dropped {
            target: target.clone(),
            stage: ConnectStage::KeyExchange,
            source,
        };
    };
    let gaps = theirs.gaps(&our_offer(&types));
    match gaps.first() {
        // There is a common method for everything, so the server must have hung up.
        None => SshError::Dropped {
            target: target.clone(),
            stage: ConnectStage::KeyExchange,
            source,
        },
        Some(gap) if gap.purpose == Purpose::HostKey && types.len() < KeyType::ALL.len() => {
            show_host_key(target, limits, types)
                .unwrap_or_else(|| nothing_in_common(target, gap, server, source))
        }
        Some(gap) => nothing_in_common(target, gap, server, source),
    }
}

fn nothing_in_common(
    target: &SshTarget,
    gap: &offer::Gap,
    server: String,
    source: ssh2::Error,
) -> SshError {
    let gap = Box::new(Incompatible {
        target: target.clone(),
        server,
        setting: gap.purpose.setting(),
        theirs: gap.theirs.clone(),
        ours: gap.ours.clone(),
    });
    SshError::NothingInCommon { gap, source }
}

fn our_offer(types: &[KeyType]) -> Offer {
    let key_exchange = ssh2::Session::new()
        .and_then(|session| session.supported_algs(MethodType::Kex))
        .map(|names| names.into_iter().map(str::to_owned).collect())
        .unwrap_or_default();
    Offer {
        key_exchange,
        host_keys: offer::split(&algorithms(types)),
        ciphers: offer::split(CIPHERS),
        macs: offer::split(MACS),
    }
}

/// The refusal of whatever key the host has, when it has none of the pinned types.
fn show_host_key(
    target: &SshTarget,
    limits: &ConnectLimits,
    known: Vec<KeyType>,
) -> Option<SshError> {
    let link = agree(target, &KeyType::ALL, limits).ok()?;
    let (blob, _) = link.session.host_key()?;
    let key = HostKey::from_blob(blob).ok()?;
    link.cut();
    Some(SshError::HostKeyMismatch {
        seen: Box::new(SeenKey {
            target: target.clone(),
            key,
        }),
        known,
    })
}

fn check_host_key(
    link: &Transport,
    target: &SshTarget,
    keys: &HostKeys,
    name: &str,
) -> Result<(), SshError> {
    let blob = link.session.host_key().map_or(&[][..], |(blob, _)| blob);
    let key = HostKey::from_blob(blob).map_err(|source| SshError::HostKeyUnreadable {
        target: target.clone(),
        source,
    })?;
    let verdict = keys.judge(name, &key);
    let seen = || {
        Box::new(SeenKey {
            target: target.clone(),
            key: key.clone(),
        })
    };
    match verdict {
        HostKeyVerdict::Trusted => Ok(()),
        HostKeyVerdict::Unknown => Err(SshError::HostKeyUnknown { seen: seen() }),
        HostKeyVerdict::Mismatch(known) => Err(SshError::HostKeyMismatch {
            seen: seen(),
            known,
        }),
        HostKeyVerdict::Revoked { line } => Err(SshError::HostKeyRevoked { seen: seen(), line }),
    }
}

/// Logs in with the key, from memory: it never touches the runner's disk. Tried once.
fn authenticate(
    link: &Transport,
    target: &SshTarget,
    key: &Key,
    until: Instant,
    interrupt: &Interrupt,
) -> Result<(), SshError> {
    let passphrase = key.passphrase().map(belay_model::secret::Secret::expose);
    let begun = Instant::now();
    link.drive(until, interrupt, || {
        link.session
            .userauth_pubkey_memory(&target.user, None, key.text().expose(), passphrase)
    })
    .map_err(|stop| match stop {
        Stop::Interrupted => SshError::Interrupted {
            target: target.clone(),
        },
        Stop::TimedOut => SshError::TimedOut {
            target: target.clone(),
            stage: ConnectStage::Authentication,
            limit: until.saturating_duration_since(begun),
        },
        Stop::Broken(source) => SshError::Setup {
            target: target.clone(),
            source,
        },
        Stop::Failed(source) => login_error(target, key, source),
    })
}

fn handshake_error(target: &SshTarget, limits: &ConnectLimits, stop: Stop) -> SshError {
    let target = target.clone();
    match stop {
        Stop::Interrupted => SshError::Interrupted { target },
        Stop::TimedOut => SshError::TimedOut {
            target,
            stage: ConnectStage::KeyExchange,
            limit: limits.handshake,
        },
        Stop::Broken(source) => SshError::Setup { target, source },
        Stop::Failed(source) if hung_up(&source) || code(&source) == code::KEY_EXCHANGE_FAILURE => {
            SshError::Dropped {
                target,
                stage: ConnectStage::KeyExchange,
                source,
            }
        }
        Stop::Failed(source) => SshError::Handshake { target, source },
    }
}

fn login_error(target: &SshTarget, key: &Key, source: ssh2::Error) -> SshError {
    let target = target.clone();
    // The same code stands for "the signature was refused" and "no answer came"; only the words differ.
    let unanswered =
        code(&source) == code::PUBLICKEY_UNVERIFIED && source.message().starts_with("Waiting for");
    if hung_up(&source) || unanswered {
        return SshError::Dropped {
            target,
            stage: ConnectStage::Authentication,
            source,
        };
    }
    match code(&source) {
        code::AUTHENTICATION_FAILED | code::PUBLICKEY_UNVERIFIED => SshError::AuthRefused {
            target,
            public: key.public().map(str::to_owned),
            source,
        },
        _ => {
            let passphrase = if key.passphrase().is_some() {
                Passphrase::Given
            } else {
                Passphrase::Absent
            };
            SshError::Key { passphrase, source }
        }
    }
}

/// The codes of libssh2 that decide something here.
mod code {
    pub(super) const BANNER_RECV: i32 = -2;
    pub(super) const BANNER_SEND: i32 = -3;
    pub(super) const KEX_FAILURE: i32 = -5;
    pub(super) const SOCKET_SEND: i32 = -7;
    pub(super) const KEY_EXCHANGE_FAILURE: i32 = -8;
    pub(super) const TIMEOUT: i32 = -9;
    pub(super) const SOCKET_DISCONNECT: i32 = -13;
    pub(super) const AUTHENTICATION_FAILED: i32 = -18;
    pub(super) const PUBLICKEY_UNVERIFIED: i32 = -19;
    pub(super) const SOCKET_RECV: i32 = -43;
}

fn code(error: &ssh2::Error) -> i32 {
    match error.code() {
        ErrorCode::Session(code) => code,
        ErrorCode::SFTP(_) => 0,
    }
}

fn hung_up(error: &ssh2::Error) -> bool {
    matches!(
        code(error),
        code::BANNER_RECV
            | code::BANNER_SEND
            | code::SOCKET_SEND
            | code::TIMEOUT
            | code::SOCKET_DISCONNECT
            | code::SOCKET_RECV
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: MethodType) -> Vec<String> {
        let session = ssh2::Session::new().unwrap();
        session
            .supported_algs(kind)
            .unwrap()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_method_that_is_asked_for_exists_in_the_library() {
        for (kind, wanted) in [
            (MethodType::CryptCs, CIPHERS.to_owned()),
            (MethodType::MacCs, MACS.to_owned()),
            (MethodType::HostKey, algorithms(&KeyType::ALL)),
        ] {
            let known = names(kind);
            for name in offer::split(&wanted) {
                assert!(known.contains(&name), "{name} is not among {known:?}");
            }
        }
    }

    #[test]
    fn nothing_weak_is_offered() {
        for name in offer::split(&format!("{CIPHERS},{MACS},{}", algorithms(&KeyType::ALL))) {
            assert!(
                !name.contains("cbc")
                    && !name.contains("sha1")
                    && !name.contains("md5")
                    && name != "ssh-rsa"
            );
        }
    }
}
