//! The SSH transport against a real sshd on 127.0.0.1.
//!
//! Each test starts its own server, with its own configuration, host keys and log, on a free port, and ends it by its
//! process id. Needs `sshd` and `ssh-keygen`. Links are broken as in life: by killing or stopping the server's process.

use std::fs;
use std::io::{self, Cursor, Read};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use belay_model::secret::Secret;
use belay_runner::ssh::{
    Class, ConnectLimits, ExecLimits, Exit, HostKeyVerdict, HostKeys, Interrupt, Key, KeyError,
    Loss, RemoteCommand, SshConnection, SshError, SshTarget, connect_with_backoff, host_name,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

// ---------------------------------------------------------------------------------------------------------------------
// The server

/// One sshd with everything it owns. It dies with the value.
struct Server {
    dir: TempDir,
    port: u16,
    process: Child,
}

/// What a server is like; `host_keys` in the order of its preference.
struct Setup<'a> {
    host_keys: &'a [&'a str],
    config: &'a str,
}

const USUAL: Setup<'static> = Setup {
    host_keys: &["ed25519", "ecdsa", "rsa"],
    config: "",
};

impl Server {
    fn start(setup: &Setup<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // Where sshd puts privileges away; only root's sshd asks for it.
        let _ = fs::create_dir_all("/run/sshd");
        keygen(&at("user_ed25519"), "ed25519", "");
        fs::copy(at("user_ed25519.pub"), at("authorized_keys")).unwrap();
        let mut config = String::new();
        for kind in setup.host_keys {
            keygen(&at(&format!("host_{kind}")), kind, "");
            config += &format!("HostKey {}\n", at(&format!("host_{kind}")).display());
        }
        let port = free_port();
        config += &format!(
            "Port {port}\nListenAddress 127.0.0.1\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             LogLevel DEBUG2\n{}",
            at("authorized_keys").display(),
            setup.config
        );
        fs::write(at("sshd_config"), config).unwrap();
        let process = Process::new("/usr/sbin/sshd")
            .args(["-D", "-E"])
            .arg(at("log"))
            .arg("-f")
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd must be installed");
        let server = Self { dir, port, process };
        until(|| server.log().contains("Server listening"));
        server
    }

    fn usual() -> Self {
        Self::start(&USUAL)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn target(&self) -> SshTarget {
        SshTarget {
            address: "127.0.0.1".into(),
            port: self.port,
            user: whoami(),
        }
    }

    fn public_host_key(&self, kind: &str) -> String {
        let line = fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The known_hosts text that names these keys of the server.
    fn known(&self, kinds: &[&str]) -> HostKeys {
        let name = host_name("127.0.0.1", self.port);
        let text: String = kinds
            .iter()
            .map(|kind| format!("{name} {}\n", self.public_host_key(kind)))
            .collect();
        HostKeys::parse(&text).unwrap()
    }

    fn key(&self) -> Key {
        let text = fs::read_to_string(self.path("user_ed25519")).unwrap();
        Key::parse(&Secret::new(text), None).unwrap()
    }

    fn authorize(&self, public: &Path) {
        fs::copy(public, self.path("authorized_keys")).unwrap();
    }

    fn open(&self, keys: &HostKeys, key: &Key) -> Result<SshConnection, SshError> {
        SshConnection::open(&self.target(), keys, key, &limits())
    }

    fn connect(&self) -> SshConnection {
        self.open(&self.known(&["ed25519"]), &self.key()).unwrap()
    }

    /// The server's processes that serve connections.
    fn sessions(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open = children(self.process.id());
        while let Some(pid) = open.pop() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("sshd") {
                found.push(pid);
                open.extend(children(pid));
            }
        }
        found
    }

    fn signal_sessions(&self, signal: &str) {
        let sessions = self.sessions();
        assert!(!sessions.is_empty(), "no session to signal");
        signal_all(&sessions, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let sessions = self.sessions();
        if !sessions.is_empty() {
            signal_all(&sessions, "KILL");
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal_all(pids: &[u32], signal: &str) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Process::new("kill")
        .arg(format!("-{signal}"))
        .args(pids)
        .stderr(Stdio::null())
        .status();
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Process::new("ssh-keygen");
    command
        .args(["-q", "-t", kind, "-C", "", "-N", passphrase, "-f"])
        .arg(path);
    if kind == "rsa" {
        command.args(["-b", "2048"]);
    }
    assert!(
        command
            .status()
            .expect("ssh-keygen must be installed")
            .success()
    );
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn whoami() -> String {
    let output = Process::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn until(fact: impl Fn() -> bool) {
    let begun = Instant::now();
    while !fact() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it did not come true in 10 s"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The client

fn limits() -> ConnectLimits {
    ConnectLimits {
        connect: Duration::from_secs(5),
        handshake: Duration::from_secs(10),
        silence: Duration::from_secs(4),
        keepalive: Duration::from_millis(500),
        interrupt: Interrupt::default(),
    }
}

fn exec_limits() -> ExecLimits {
    ExecLimits {
        deadline: Duration::from_secs(30),
        idle: Duration::from_secs(10),
        interrupt: Interrupt::default(),
    }
}

fn sh(script: &str) -> RemoteCommand {
    RemoteCommand::new(&["sh", "-c", script]).unwrap()
}

/// Runs a script with the given input; returns the exit and what it printed.
fn run(connection: &SshConnection, script: &str, input: &[u8]) -> Result<(Exit, String), SshError> {
    let mut output = Vec::new();
    let exit = connection.exec(
        &sh(script),
        &mut Cursor::new(input),
        &mut |chunk| {
            output.extend_from_slice(chunk);
            ControlFlow::Continue(())
        },
        exec_limits(),
    )?;
    Ok((exit, String::from_utf8_lossy(&output).into_owned()))
}

fn ignore(_: &[u8]) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// An input without end.
fn endless() -> impl Read {
    io::repeat(b'x')
}

/// Bytes that compress badly and never repeat in step with a buffer.
struct Noise {
    state: u64,
    left: usize,
}

impl Noise {
    fn new(length: usize) -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            left: length,
        }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.left);
        for byte in &mut buffer[..count] {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *byte = self.state.to_le_bytes()[3];
        }
        self.left -= count;
        Ok(count)
    }
}

fn assert_lost(result: Result<Exit, SshError>) {
    match result {
        Err(error @ SshError::LinkLost { .. }) => assert_eq!(error.class(), Class::LinkLost),
        other => panic!("expected a lost link, got {other:?}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys

/// Makes a user key, authorizes it, and connects with its text.
fn connects_with(kind: &str, prepare: impl Fn(&Path)) {
    let server = Server::usual();
    let path = server.path("other");
    keygen(&path, kind, "");
    prepare(&path);
    server.authorize(&path.with_extension("pub"));
    let text = fs::read_to_string(&path).unwrap();
    let key = Key::parse(&Secret::new(text), None).unwrap();
    let connection = server.open(&server.known(&["ed25519"]), &key).unwrap();
    let (exit, output) = run(&connection, "echo in", b"").unwrap();
    assert!(exit.success());
    assert_eq!(output, "in\n");
}

/// Rewrites a key in one of the formats that are not OpenSSH's own.
fn as_format(path: &Path, format: &str) {
    let mut rewrite = Process::new("ssh-keygen");
    rewrite
        .args(["-q", "-p", "-N", "", "-m", format, "-f"])
        .arg(path)
        .stdout(Stdio::null());
    assert!(rewrite.status().unwrap().success());
    assert!(!fs::read_to_string(path).unwrap().contains("OPENSSH"));
}

#[test]
fn an_ed25519_key_connects() {
    connects_with("ed25519", |_| {});
}

#[test]
fn an_ecdsa_key_connects() {
    connects_with("ecdsa", |_| {});
}

#[test]
fn an_rsa_key_connects() {
    connects_with("rsa", |_| {});
}

#[test]
fn keys_in_pem_and_pkcs8_connect() {
    connects_with("rsa", |path| as_format(path, "PEM"));
    connects_with("ecdsa", |path| as_format(path, "PEM"));
    connects_with("rsa", |path| as_format(path, "PKCS8"));
    connects_with("ecdsa", |path| as_format(path, "PKCS8"));
}

#[test]
fn an_ed25519_key_in_pkcs8_connects() {
    let server = Server::usual();
    let path = server.path("other");
    let made = Process::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&path)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let key = Key::parse(&Secret::new(fs::read_to_string(&path).unwrap()), None).unwrap();
    // OpenSSH cannot read this format, so the public half is taken from the DER: its last 32 bytes.
    let der = Process::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(&path)
        .output()
        .unwrap();
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(&der.stdout[der.stdout.len() - 32..]);
    let line = format!(
        "ssh-ed25519 {}",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, blob)
    );
    fs::write(server.path("authorized_keys"), line).unwrap();
    server.open(&server.known(&["ed25519"]), &key).unwrap();
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let server = Server::usual();
    for kind in ["ed25519", "rsa"] {
        let path = server.path(&format!("locked_{kind}"));
        keygen(&path, kind, "open sesame");
        server.authorize(&path.with_extension("pub"));
        let text = Secret::new(fs::read_to_string(&path).unwrap());
        let known = server.known(&["ed25519"]);

        assert_eq!(
            Key::parse(&text, None).unwrap_err(),
            KeyError::PassphraseMissing
        );
        assert_eq!(
            Key::parse(&text, Some(Secret::new(""))).unwrap_err(),
            KeyError::PassphraseMissing
        );

        let wrong = Key::parse(&text, Some(Secret::new("open barley"))).unwrap();
        let error = server.open(&known, &wrong).err().unwrap();
        assert!(matches!(error, SshError::Key { .. }), "{error:?}");
        assert_eq!(error.class(), Class::Refused);
        assert!(error.hint().contains("passphrase"));

        let right = Key::parse(&text, Some(Secret::new("open sesame"))).unwrap();
        server.open(&known, &right).unwrap();
    }
}

#[test]
fn a_key_pasted_badly_connects_all_the_same() {
    let server = Server::usual();
    let text = fs::read_to_string(server.path("user_ed25519")).unwrap();
    let known = server.known(&["ed25519"]);
    for (how, pasted) in [
        ("with CRLF", text.replace('\n', "\r\n")),
        ("without the last newline", text.trim_end().to_owned()),
        ("between blank lines", format!("\n \n{text}\n\n")),
        ("indented", text.replace('\n', "\n    ")),
        ("with newlines spelled out", text.replace('\n', "\\n")),
        ("on one line", text.replace('\n', " ")),
        ("in quotes", format!("\"{}\"", text.trim_end())),
    ] {
        let key =
            Key::parse(&Secret::new(pasted), None).unwrap_or_else(|error| panic!("{how}: {error}"));
        server
            .open(&known, &key)
            .unwrap_or_else(|error| panic!("{how}: {error:?}"));
    }
}

#[test]
fn a_key_that_the_host_does_not_know_is_refused_once_and_shown() {
    let server = Server::usual();
    let path = server.path("stranger");
    keygen(&path, "ed25519", "");
    let key = Key::parse(&Secret::new(fs::read_to_string(&path).unwrap()), None).unwrap();
    let pauses = std::cell::RefCell::new(Vec::new());
    let error = connect_with_backoff(
        &server.target(),
        &server.known(&["ed25519"]),
        &key,
        &limits(),
        5,
        Duration::from_secs(60),
        &|pause| pauses.borrow_mut().push(pause),
    )
    .err()
    .unwrap();
    assert!(matches!(error, SshError::AuthRefused { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Refused);
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    assert!(error.hint().contains(public.trim()), "{}", error.hint());
    assert!(pauses.into_inner().is_empty());
    assert_eq!(server.log().matches("Connection from").count(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Host keys

/// Asserts that nobody tried to log in.
fn assert_no_login(server: &Server) {
    let log = server.log();
    assert!(log.contains("Connection from"), "{log}");
    assert!(!log.contains("userauth-request"), "{log}");
    assert!(!log.contains("userauth_pubkey"), "{log}");
}

#[test]
fn a_wrong_host_key_is_refused_before_anybody_logs_in() {
    let server = Server::usual();
    let other = Server::usual();
    let name = host_name("127.0.0.1", server.port);
    let wrong = HostKeys::parse(&format!("{name} {}", other.public_host_key("ed25519"))).unwrap();
    let error = server.open(&wrong, &server.key()).err().unwrap();
    let SshError::HostKeyMismatch { seen, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        seen.line(),
        format!("{name} {}", server.public_host_key("ed25519"))
    );
    assert_eq!(error.class(), Class::Refused);
    assert!(error.hint().contains(&seen.line()));
    assert_no_login(&server);
}

#[test]
fn an_unknown_host_is_refused_with_the_line_that_would_trust_it() {
    let server = Server::usual();
    let elsewhere = HostKeys::parse(&format!(
        "example.com {}",
        server.public_host_key("ed25519")
    ))
    .unwrap();
    let error = server.open(&elsewhere, &server.key()).err().unwrap();
    let SshError::HostKeyUnknown { seen } = &error else {
        panic!("{error:?}")
    };
    assert_no_login(&server);

    let trusted = HostKeys::parse(&seen.line()).unwrap();
    server.open(&trusted, &server.key()).unwrap();
    let pinned = HostKeys::parse(&seen.key.fingerprint().to_string()).unwrap();
    server.open(&pinned, &server.key()).unwrap();
}

#[test]
fn a_host_is_known_by_the_name_that_it_is_called() {
    let server = Server::usual();
    let target = SshTarget {
        address: "LocalHost".into(),
        ..server.target()
    };
    let line = format!(
        "[localhost]:{} {}",
        server.port,
        server.public_host_key("ed25519")
    );
    let by_name = HostKeys::parse(&line).unwrap();
    SshConnection::open(&target, &by_name, &server.key(), &limits()).unwrap();
    let by_address = server.known(&["ed25519"]);
    let error = SshConnection::open(&target, &by_address, &server.key(), &limits())
        .err()
        .unwrap();
    assert!(
        matches!(error, SshError::HostKeyUnknown { .. }),
        "{error:?}"
    );
}

#[test]
fn the_plain_name_does_not_vouch_for_another_port() {
    let server = Server::usual();
    let keys =
        HostKeys::parse(&format!("127.0.0.1 {}", server.public_host_key("ed25519"))).unwrap();
    let error = server.open(&keys, &server.key()).err().unwrap();
    assert!(
        matches!(error, SshError::HostKeyUnknown { .. }),
        "{error:?}"
    );
}

#[test]
fn a_revoked_host_key_is_refused_before_anybody_logs_in() {
    let server = Server::usual();
    let name = host_name("127.0.0.1", server.port);
    let key = server.public_host_key("ed25519");
    let keys = HostKeys::parse(&format!("{name} {key}\n@revoked * {key}")).unwrap();
    let error = server.open(&keys, &server.key()).err().unwrap();
    // Only the type of the revoked key is known, so any key may be shown; none may be trusted.
    assert!(
        matches!(
            error,
            SshError::HostKeyRevoked { .. } | SshError::HostKeyMismatch { .. }
        ),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Refused);
    assert_no_login(&server);
}

#[test]
fn a_key_type_that_is_known_wins_over_the_one_that_the_server_prefers() {
    let server = Server::usual();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        server
            .open(&server.known(&[kind]), &server.key())
            .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
    }
}

#[test]
fn a_host_without_a_key_of_the_known_type_is_refused_with_the_key_that_it_has() {
    let server = Server::start(&Setup {
        host_keys: &["ed25519"],
        config: "",
    });
    let other = Server::usual();
    let name = host_name("127.0.0.1", server.port);
    let keys = HostKeys::parse(&format!("{name} {}", other.public_host_key("rsa"))).unwrap();
    let error = server.open(&keys, &server.key()).err().unwrap();
    let SshError::HostKeyMismatch { seen, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        seen.line(),
        format!("{name} {}", server.public_host_key("ed25519"))
    );
    assert_no_login(&server);
}

#[test]
fn a_fingerprint_pins_any_of_the_servers_keys_that_is_negotiated() {
    let server = Server::usual();
    let output = Process::new("ssh-keygen")
        .arg("-lf")
        .arg(server.path("host_ed25519.pub"))
        .output()
        .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let pinned = HostKeys::parse(&listing).unwrap();
    assert!(matches!(pinned, HostKeys::Fingerprints(_)));
    server.open(&pinned, &server.key()).unwrap();

    let wrong = HostKeys::parse(&format!("SHA256:{}", "A".repeat(43))).unwrap();
    let error = server.open(&wrong, &server.key()).err().unwrap();
    assert!(
        matches!(error, SshError::HostKeyMismatch { .. }),
        "{error:?}"
    );
}

#[test]
fn a_host_certificate_does_not_get_in_the_way_of_a_plain_key() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    keygen(&ca, "ed25519", "");
    // The server needs its certificate at its start, and the certificate needs the server's key.
    let host = dir.path().join("host");
    keygen(&host, "ed25519", "");
    let signed = Process::new("ssh-keygen")
        .args(["-q", "-h", "-I", "test", "-s"])
        .arg(&ca)
        .arg(host.with_extension("pub"))
        .stderr(Stdio::null())
        .status();
    assert!(signed.unwrap().success());
    let config = format!(
        "HostKey {}\nHostCertificate {}\n",
        host.display(),
        dir.path().join("host-cert.pub").display()
    );
    let server = Server::start(&Setup {
        host_keys: &[],
        config: &config,
    });
    let name = host_name("127.0.0.1", server.port);
    let line = fs::read_to_string(host.with_extension("pub")).unwrap();
    server
        .open(
            &HostKeys::parse(&format!("{name} {line}")).unwrap(),
            &server.key(),
        )
        .unwrap();
}

#[test]
fn a_server_with_no_common_method_is_explained() {
    for (config, setting) in [
        (
            "KexAlgorithms sntrup761x25519-sha512@openssh.com\n",
            "KexAlgorithms",
        ),
        ("Ciphers aes128-cbc\n", "Ciphers"),
        ("Ciphers aes128-ctr\nMACs hmac-sha1\n", "MACs"),
    ] {
        let server = Server::start(&Setup { config, ..USUAL });
        let error = server
            .open(&server.known(&["ed25519"]), &server.key())
            .err()
            .unwrap();
        assert!(
            matches!(error, SshError::NothingInCommon { .. }),
            "{error:?}"
        );
        assert_eq!(error.class(), Class::Refused);
        assert!(error.hint().contains(setting), "{}", error.hint());
        assert!(error.to_string().contains("OpenSSH"), "{error}");
    }
}

#[test]
fn old_and_strict_servers_are_fine() {
    for config in [
        "KexAlgorithms curve25519-sha256\nCiphers chacha20-poly1305@openssh.com\n",
        "KexAlgorithms ecdh-sha2-nistp256\nCiphers aes256-ctr\nMACs hmac-sha2-512-etm@openssh.com\n",
        "KexAlgorithms diffie-hellman-group16-sha512\nCiphers aes128-ctr\nMACs hmac-sha2-256\n",
        "Ciphers aes256-gcm@openssh.com\n",
    ] {
        let server = Server::start(&Setup { config, ..USUAL });
        assert!(
            run(&server.connect(), "true", b"").unwrap().0.success(),
            "{config}"
        );
    }
}

#[test]
fn known_hosts_are_read_as_ssh_keygen_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("known_hosts");
    let hosts = [
        "example.com",
        "EXAMPLE.com",
        "example.com,203.0.113.10",
        "203.0.113.*",
        "203.0.113.1?",
        "*.example.com",
        "*.example.com,!b.example.com",
        "!b.example.com,*.example.com",
        "!*.example.com,a.example.com",
        "!b.example.com",
        "?.example.com",
        "??.example.com",
        "*",
        "*,!example.com",
        "[example.com]:2222",
        "[*.example.com]:2222",
        "[example.com]:*",
        "[*]:2222",
        "[203.0.113.10]:2222,example.com",
        "*:2222",
        "a.*.com",
        "*a*e*x*a*m*",
        "**.example.com",
        "2001:db8::1",
        "[2001:db8::1]:2222",
        "2001:db8::*",
        "example.com,",
        ",example.com",
        "example.com,,b.example.com",
        "ex?mple.c?m",
        "example.co",
        "example.comm",
        "[example.com]",
        "*example.com",
        "a.example.com,b.example.com,!a.example.com",
    ];
    let names = [
        ("example.com", 22),
        ("a.example.com", 22),
        ("b.example.com", 22),
        ("a.b.example.com", 22),
        ("203.0.113.10", 22),
        ("203.0.113.20", 22),
        ("203.0.113.1", 22),
        ("2001:db8::1", 22),
        ("example.com", 2222),
        ("a.example.com", 2222),
        ("203.0.113.10", 2222),
        ("2001:db8::1", 2222),
        ("example.com", 2223),
        ("other.test", 22),
    ];
    // One key for each line tells which lines match.
    let keys: Vec<String> = (0..hosts.len() * 2 + names.len())
        .map(distinct_key)
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        lines.push(format!("{host} {} a comment", keys[index]));
    }
    for (index, host) in hosts.iter().enumerate() {
        lines.push(format!("@revoked {host}\t{}", keys[hosts.len() + index]));
    }
    for (index, (host, port)) in names.iter().enumerate() {
        lines.push(hashed(
            dir.path(),
            &format!(
                "{} {}",
                host_name(host, *port),
                keys[hosts.len() * 2 + index]
            ),
        ));
    }
    fs::write(&path, lines.join("\r\n")).unwrap();
    let ours = HostKeys::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    assert!(ours.unreadable().is_empty());
    for (host, port) in names {
        let name = host_name(host, port);
        let theirs = ssh_keygen_finds(&path, &name);
        let mut found = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let (kind, base64) = key.split_once(' ').unwrap();
            let key = belay_runner::ssh::HostKey::parse(kind, base64).unwrap();
            match ours.judge(&name, &key) {
                HostKeyVerdict::Trusted => found.push(index + 1),
                HostKeyVerdict::Revoked { line } => {
                    assert_eq!(line, index + 1);
                    found.push(line);
                }
                HostKeyVerdict::Unknown | HostKeyVerdict::Mismatch(_) => {}
            }
        }
        assert_eq!(found, theirs, "{name}");
    }
}

fn distinct_key(index: usize) -> String {
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(Sha256::digest(index.to_le_bytes()));
    format!(
        "ssh-ed25519 {}",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, blob)
    )
}

fn hashed(dir: &Path, line: &str) -> String {
    let path = dir.join("to_hash");
    fs::write(&path, format!("{line}\n")).unwrap();
    let mut command = Process::new("ssh-keygen");
    command
        .args(["-q", "-H", "-f"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    fs::read_to_string(&path).unwrap().trim().to_owned()
}

/// The numbers of the lines that `ssh-keygen -F` finds.
fn ssh_keygen_finds(path: &Path, name: &str) -> Vec<usize> {
    let output = Process::new("ssh-keygen")
        .arg("-F")
        .arg(name)
        .arg("-f")
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("# Host ")?
                .split_once(" found: line ")?
                .1
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Commands

#[test]
fn fifty_megabytes_come_back_from_cat_as_they_went() {
    const LENGTH: usize = 50_000_000;
    let server = Server::usual();
    let connection = server.connect();
    let mut expected = Sha256::new();
    io::copy(&mut Noise::new(LENGTH), &mut expected).unwrap();
    let (mut seen, mut length) = (Sha256::new(), 0);
    let exit = connection
        .exec(
            &RemoteCommand::new(&["cat"]).unwrap(),
            &mut Noise::new(LENGTH),
            &mut |chunk| {
                seen.update(chunk);
                length += chunk.len();
                ControlFlow::Continue(())
            },
            exec_limits(),
        )
        .unwrap();
    assert!(exit.success(), "{exit:?}");
    assert_eq!(length, LENGTH);
    assert_eq!(seen.finalize(), expected.finalize());
}

#[test]
#[expect(clippy::print_stdout, reason = "the number is what the test is for")]
fn the_speed_of_an_upload_is_printed() {
    const LENGTH: u64 = 200_000_000;
    let server = Server::usual();
    let connection = server.connect();
    let begun = Instant::now();
    let exit = connection
        .exec(
            &sh("cat > /dev/null"),
            &mut endless().take(LENGTH),
            &mut ignore,
            exec_limits(),
        )
        .unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert!(exit.success());
    println!("upload: {:.0} MB/s", LENGTH as f64 / 1e6 / seconds);
}

#[test]
fn a_command_that_ends_while_its_input_is_written_is_noticed() {
    let server = Server::usual();
    let connection = server.connect();
    let begun = Instant::now();
    let mut output = Vec::new();
    let exit = connection
        .exec(
            &sh("head -c 10; echo enough >&2; exit 3"),
            &mut endless(),
            &mut |chunk| {
                output.extend_from_slice(chunk);
                ControlFlow::Continue(())
            },
            exec_limits(),
        )
        .unwrap();
    assert_eq!(
        exit,
        Exit {
            status: Some(3),
            signal: None,
            eof: true,
            stderr: "enough\n".into()
        }
    );
    assert_eq!(output, b"xxxxxxxxxx");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    // The connection is as good as new.
    assert_eq!(run(&connection, "echo again", b"").unwrap().1, "again\n");
}

#[test]
fn status_output_and_complaints_are_told_apart() {
    let server = Server::usual();
    let connection = server.connect();
    for status in [0, 1, 2, 126, 127, 255] {
        let script = format!("echo out; echo err >&2; exit {status}");
        let (exit, output) = run(&connection, &script, b"").unwrap();
        assert_eq!(
            exit,
            Exit {
                status: Some(status),
                signal: None,
                eof: true,
                stderr: "err\n".into()
            }
        );
        assert_eq!(output, "out\n");
    }
    let (exit, _) = run(&connection, "printf 'no newline' >&2; exit 7", b"").unwrap();
    assert_eq!((exit.status, exit.stderr.as_str()), (Some(7), "no newline"));
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    let server = Server::usual();
    let connection = server.connect();
    let command = RemoteCommand::new(&["/nowhere/belay-agent", "status"]).unwrap();
    let exit = connection
        .exec(&command, &mut io::empty(), &mut ignore, exec_limits())
        .unwrap();
    assert_eq!(exit.status, Some(127));
    assert!(
        exit.stderr.contains("/nowhere/belay-agent"),
        "{}",
        exit.stderr
    );
}

#[test]
fn a_signal_is_never_a_success() {
    let server = Server::usual();
    let connection = server.connect();
    let (exit, _) = run(&connection, "kill -TERM $$", b"").unwrap();
    assert_eq!(exit.status, Some(143));
    // The shell around the command is killed as well: nobody is left to tell a status.
    let (exit, _) = run(&connection, "kill -KILL $PPID", b"").unwrap();
    assert_eq!((exit.status, exit.signal.as_deref()), (None, Some("KILL")));
    assert!(!exit.success());
}

#[test]
fn words_arrive_as_they_were_given() {
    let server = Server::usual();
    let connection = server.connect();
    let nasty = [
        "",
        " ",
        "a b",
        "'",
        "''",
        "\"",
        "\\",
        "\\\\",
        "\\'",
        "$HOME",
        "$(id)",
        "`id`",
        "!!",
        "*",
        "~",
        "#",
        ";",
        "&&",
        "|",
        ">x",
        "-n",
        "--",
        "a=b",
        "{a,b}",
        "[a]",
        "\t",
        "é",
        "日本",
        "%s",
        "\\n",
        "\u{7f}",
        "-c",
        "é'\\\"$`",
    ];
    let mut words = vec!["printf", "<%s>"];
    words.extend(nasty);
    let mut output = Vec::new();
    let exit = connection
        .exec(
            &RemoteCommand::new(&words).unwrap(),
            &mut io::empty(),
            &mut |chunk| {
                output.extend_from_slice(chunk);
                ControlFlow::Continue(())
            },
            exec_limits(),
        )
        .unwrap();
    assert!(exit.success());
    let expected: String = nasty.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(String::from_utf8(output).unwrap(), expected);
}

#[test]
fn much_complaint_is_cut_at_its_beginning() {
    let server = Server::usual();
    let connection = server.connect();
    let (exit, _) = run(
        &connection,
        "yes complaint | head -c 3000000 >&2; echo last >&2; exit 4",
        b"",
    )
    .unwrap();
    assert_eq!(exit.status, Some(4));
    assert!(exit.stderr.ends_with("last\n"));
    assert!(exit.stderr.len() < 70_000);
}

#[test]
fn a_caller_that_has_seen_enough_waits_for_nobody() {
    let server = Server::usual();
    for (script, enough) in [("yes", 1_000_000), ("echo one; sleep 60", 1)] {
        let connection = server.connect();
        let mut seen = 0;
        let mut stopped = None;
        let exit = connection
            .exec(
                &sh(script),
                &mut io::empty(),
                &mut |chunk| {
                    seen += chunk.len();
                    if seen < enough {
                        return ControlFlow::Continue(());
                    }
                    stopped = Some(Instant::now());
                    ControlFlow::Break(())
                },
                exec_limits(),
            )
            .unwrap();
        let waited = stopped.expect("it printed").elapsed();
        assert!(waited < Duration::from_millis(500), "{script}: {waited:?}");
        assert_eq!((exit.status, exit.eof), (None, false));
        assert!(!exit.success());
        let error = run(&connection, "echo again", b"").unwrap_err();
        assert_eq!(error.class(), Class::LinkLost);
    }
}

#[test]
fn an_input_that_has_nothing_yet_is_asked_again() {
    /// Answers "nothing yet" for a second between its two words.
    struct Slow {
        begun: Instant,
        said: usize,
    }
    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.said == 1 && self.begun.elapsed() < Duration::from_secs(1) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let word: &[u8] = [&b"one "[..], b"two", b""][self.said.min(2)];
            self.said += 1;
            buffer[..word.len()].copy_from_slice(word);
            Ok(word.len())
        }
    }
    let server = Server::usual();
    let connection = server.connect();
    let mut output = Vec::new();
    let mut input = Slow {
        begun: Instant::now(),
        said: 0,
    };
    let quick = ExecLimits {
        idle: Duration::from_millis(500),
        ..exec_limits()
    };
    let exit = connection
        .exec(
            &RemoteCommand::new(&["cat"]).unwrap(),
            &mut input,
            &mut |chunk| {
                output.extend_from_slice(chunk);
                ControlFlow::Continue(())
            },
            quick,
        )
        .unwrap();
    assert!(exit.success());
    assert_eq!(output, b"one two");
}

#[test]
fn a_refused_command_leaves_the_connection_usable() {
    let server = Server::start(&Setup {
        config: "MaxSessions 0\n",
        ..USUAL
    });
    let error = run(&server.connect(), "true", b"").unwrap_err();
    assert!(matches!(error, SshError::ExecRefused { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Refused);
}

#[test]
fn keys_are_renewed_in_the_middle_of_a_transfer() {
    let server = Server::start(&Setup {
        config: "RekeyLimit 1M\n",
        ..USUAL
    });
    let connection = server.connect();
    let mut length = 0;
    let exit = connection
        .exec(
            &RemoteCommand::new(&["cat"]).unwrap(),
            &mut Noise::new(10_000_000),
            &mut |chunk| {
                length += chunk.len();
                ControlFlow::Continue(())
            },
            exec_limits(),
        )
        .unwrap();
    assert!(exit.success(), "{exit:?}");
    assert_eq!(length, 10_000_000);
}

// ---------------------------------------------------------------------------------------------------------------------
// Trouble

/// The processor time that this thread has used.
fn busy() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.try_into().unwrap()
}

/// Runs a script that says when it is ready, and then does something to its link.
fn in_the_middle(
    server: &Server,
    script: &str,
    input: &mut dyn Read,
    limits: ExecLimits,
    trouble: impl Fn(),
) -> (Result<Exit, SshError>, Duration) {
    let connection = server.connect();
    let busy_before = busy();
    let mut since = None;
    let result = connection.exec(
        &sh(script),
        input,
        &mut |_| {
            if since.is_none() {
                trouble();
                since = Some(Instant::now());
            }
            ControlFlow::Continue(())
        },
        limits,
    );
    let since = since.expect("the script was not heard");
    let (took, busy) = (since.elapsed(), busy() - busy_before);
    if took > Duration::from_secs(3) {
        assert!(
            busy < took / 4,
            "waiting took {busy:?} of processor time in {took:?}"
        );
    }
    if result.is_err() {
        // What was given up stays given up.
        assert!(run(&connection, "true", b"").is_err());
    }
    (result, took)
}

#[test]
fn a_killed_link_is_lost_and_never_a_success() {
    let server = Server::usual();
    let (result, took) = in_the_middle(
        &server,
        "echo ready; sleep 20",
        &mut io::empty(),
        exec_limits(),
        || server.signal_sessions("KILL"),
    );
    assert_lost(result);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_link_killed_while_input_is_written_is_lost() {
    let server = Server::usual();
    let (result, took) = in_the_middle(
        &server,
        "echo ready; cat > /dev/null",
        &mut endless(),
        exec_limits(),
        || {
            server.signal_sessions("KILL");
        },
    );
    assert_lost(result);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_silent_host_is_given_up_in_time() {
    for mut input in [Box::new(io::empty()) as Box<dyn Read>, Box::new(endless())] {
        let server = Server::usual();
        let (result, took) = in_the_middle(
            &server,
            "echo ready; cat > /dev/null; sleep 20",
            &mut input,
            exec_limits(),
            || {
                server.signal_sessions("STOP");
            },
        );
        assert!(
            matches!(
                &result,
                Err(SshError::LinkLost {
                    source: Loss::Silent(_),
                    ..
                })
            ),
            "{result:?}"
        );
        assert!(
            took >= limits().silence && took < limits().silence + Duration::from_secs(6),
            "{took:?}"
        );
        server.signal_sessions("CONT");
    }
}

#[test]
fn a_silent_command_on_a_live_host_is_idle() {
    let server = Server::usual();
    let patience = ExecLimits {
        idle: Duration::from_secs(6),
        ..exec_limits()
    };
    // Longer than the link may be silent: the signs of life keep it up.
    let (result, took) = in_the_middle(
        &server,
        "echo ready; sleep 20",
        &mut io::empty(),
        patience,
        || {},
    );
    assert!(matches!(&result, Err(SshError::Idle { .. })), "{result:?}");
    assert!(
        took >= Duration::from_secs(6) && took < Duration::from_secs(12),
        "{took:?}"
    );
}

#[test]
fn a_command_ends_at_its_deadline_however_busy_it_is() {
    let server = Server::usual();
    let patience = ExecLimits {
        deadline: Duration::from_secs(1),
        ..exec_limits()
    };
    let (result, took) = in_the_middle(&server, "yes", &mut io::empty(), patience, || {});
    let error = result.unwrap_err();
    assert!(matches!(error, SshError::Deadline { .. }), "{error:?}");
    assert_eq!(error.class(), Class::LinkLost);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn an_interrupt_stops_a_command_at_once() {
    let server = Server::usual();
    let interrupt = Interrupt::default();
    let limits = ExecLimits {
        interrupt: interrupt.clone(),
        ..exec_limits()
    };
    let (result, took) = in_the_middle(
        &server,
        "echo ready; sleep 20",
        &mut io::empty(),
        limits,
        || interrupt.raise(),
    );
    let error = result.unwrap_err();
    assert_eq!(error.class(), Class::Interrupted);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_failing_input_is_told_and_ends_the_command() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the archive is damaged"))
        }
    }
    let server = Server::usual();
    let connection = server.connect();
    let error = connection
        .exec(&sh("cat"), &mut Broken, &mut ignore, exec_limits())
        .unwrap_err();
    assert!(matches!(error, SshError::Input { .. }), "{error:?}");
}

#[test]
fn nobody_listening_is_transient_and_tried_again() {
    let target = SshTarget {
        address: "127.0.0.1".into(),
        port: free_port(),
        user: "deploy".into(),
    };
    let server = Server::usual();
    let pauses = std::cell::RefCell::new(Vec::new());
    let error = connect_with_backoff(
        &target,
        &server.known(&["ed25519"]),
        &server.key(),
        &limits(),
        9,
        Duration::from_secs(600),
        &|pause| pauses.borrow_mut().push(pause.as_secs()),
    )
    .err()
    .unwrap();
    assert!(matches!(error, SshError::Unreachable { .. }), "{error:?}");
    assert_eq!(pauses.into_inner(), [1, 2, 4, 8]);
}

#[test]
fn a_port_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::usual();
    let target = SshTarget {
        address: "127.0.0.1".into(),
        port,
        user: "deploy".into(),
    };
    let short = ConnectLimits {
        handshake: Duration::from_millis(700),
        ..limits()
    };
    let begun = Instant::now();
    let error = SshConnection::open(&target, &server.known(&["ed25519"]), &server.key(), &short)
        .err()
        .unwrap();
    assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_port_that_hangs_up_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hangs_up = thread::spawn(move || drop(listener.accept()));
    let server = Server::usual();
    let target = SshTarget {
        address: "127.0.0.1".into(),
        port,
        user: "deploy".into(),
    };
    let error = SshConnection::open(
        &target,
        &server.known(&["ed25519"]),
        &server.key(),
        &limits(),
    )
    .err()
    .unwrap();
    assert!(matches!(error, SshError::Dropped { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
    hangs_up.join().unwrap();
}

#[test]
fn an_interrupt_stops_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::usual();
    let target = SshTarget {
        address: "127.0.0.1".into(),
        port,
        user: "deploy".into(),
    };
    let limits = limits();
    limits.interrupt.raise();
    let begun = Instant::now();
    let error = SshConnection::open(&target, &server.known(&["ed25519"]), &server.key(), &limits)
        .err()
        .unwrap();
    assert_eq!(error.class(), Class::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(3));
}
