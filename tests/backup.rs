//! Backups as files: made on a real file system, opened by the tar of the machine, and damaged in every way.
//!
//! Data comes from directories instead of Docker's volumes here; what needs Docker, or a full disk, says so when it is not
//! to be had.

#![allow(clippy::print_stderr, reason = "a test that was skipped must say so")]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use belay_agent::backup::pack::pack;
use belay_agent::backup::{
    self, BackupLimits, BackupManifest, BackupRequest, BackupSource, Consistency, DataKind,
    DataReader, DockerReader, EntryKind, ImageRecord, LogSource, PublishPoint, ReadError, Reason,
    Sink, SourceState, VerifyError,
};
use jiff::Timestamp;

/// Makes the streams that a helper would.
#[derive(Default)]
struct TarReader {
    /// Where volumes are, by name.
    volumes: BTreeMap<String, PathBuf>,
    /// How the n-th stream is spoiled.
    spoil: Mutex<Vec<Spoil>>,
}

#[derive(Clone, Copy)]
enum Spoil {
    CutAt(usize),
    Fail,
}

impl DataReader for TarReader {
    fn sweep(&self) -> Result<(), ReadError> {
        Ok(())
    }

    fn read(&self, source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError> {
        let path = match source {
            DataKind::Volume { name } => self.volumes.get(name).ok_or(ReadError::Absent)?,
            DataKind::Bind { path } => path,
        };
        if !path.exists() {
            return Err(ReadError::Absent);
        }
        let mut tar = vec![];
        pack(path, &mut tar).expect("packed");
        let spoil = self.spoil.lock().expect("no panic").pop();
        match spoil {
            Some(Spoil::CutAt(at)) => tar.truncate(at),
            Some(Spoil::Fail) => {
                return Err(ReadError::said("tar", "spoiled"));
            }
            None => {}
        }
        sink(&mut tar.as_slice()).map_err(ReadError::Sink)
    }

    fn size(&self, source: &DataKind) -> Result<u64, ReadError> {
        let mut total = 0;
        self.read(source, &mut |stream| {
            total = std::io::copy(stream, &mut std::io::sink())?;
            Ok(())
        })?;
        Ok(total)
    }

    fn logs(&self, source: &LogSource, _most: u64) -> Result<Vec<u8>, ReadError> {
        match source.containers.as_slice() {
            [] => Err(ReadError::Absent),
            some => Ok(format!("log of {}\n", some.join(", ")).into_bytes()),
        }
    }
}

fn request(root: &Path) -> BackupRequest<'_> {
    BackupRequest {
        root,
        app: "shop",
        seq: 4,
        now: "2024-12-15T14:30:22Z"
            .parse::<Timestamp>()
            .expect("a moment"),
        reason: Reason::BeforeDeploy {
            tag: "v1.2.0".to_owned(),
        },
        release: Some("3-v1.1.0".to_owned()),
        revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        images: vec![ImageRecord {
            service: "web".to_owned(),
            reference: "belay/shop-web:0123456789ab".to_owned(),
            id: format!("sha256:{}", "01".repeat(32)),
            engine_id: format!("sha256:{}", "02".repeat(32)),
            digests: vec!["example.com/shop/web@sha256:ab".to_owned()],
            tags: vec!["belay/shop-web:0123456789ab".to_owned()],
            size: 12_345_678,
        }],
        data: vec![],
        logs: vec![(
            "web".to_owned(),
            LogSource {
                lines: None,
                containers: vec!["shop-web-1".to_owned()],
            },
        )],
        exclude: vec![],
        limits: BackupLimits::default(),
    }
}

fn source(kind: DataKind, consistency: Consistency) -> BackupSource {
    BackupSource {
        kind,
        services: vec!["web".to_owned()],
        consistency,
    }
}

fn volume(name: &str) -> DataKind {
    DataKind::Volume {
        name: name.to_owned(),
    }
}

/// Bytes that cannot be compressed, the same for the same seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, bytes).expect("written");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Everything that has ever broken a backup, in one directory.
fn nasty_tree(top: &Path) {
    write(&top.join("docker-compose.yml"), b"services: {}\n", 0o644);
    write(&top.join(".env"), b"SECRET=1\n", 0o600);
    write(&top.join("bin/run"), b"#!/bin/sh\n", 0o755);
    write(&top.join("bin/suid"), b"x", 0o4755);
    write(&top.join("empty file"), b"", 0o640);
    fs::create_dir_all(top.join("empty/.hidden dir")).expect("directories");
    fs::set_permissions(top.join("empty"), Permissions::from_mode(0o750)).expect("a mode");
    write(
        &top.join("日本語/ünïcödé 🎉.txt"),
        "grüße\n".as_bytes(),
        0o644,
    );
    write(
        &top.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe")),
        b"bytes",
        0o644,
    );
    write(&top.join("back\\slash and\nnewline"), b"odd", 0o644);
    write(
        &top.join(format!("long-{}", "n".repeat(150))),
        b"long",
        0o644,
    );
    let deep: PathBuf = (0..12)
        .map(|n| format!("directory-{n}-with-a-rather-long-name"))
        .collect();
    write(&top.join(deep).join("x".repeat(200)), b"deep", 0o644);
    symlink("docker-compose.yml", top.join("link")).expect("a link");
    symlink("../../outside//odd/./target/", top.join("bin/out")).expect("a link");
    symlink(
        format!("/nowhere/{}", "t".repeat(300)),
        top.join("dangling"),
    )
    .expect("a link");
    fs::hard_link(top.join("bin/run"), top.join("bin/run again")).expect("a hard link");
    write(&top.join("big"), &noise(20 * 1024 * 1024 + 17, 1), 0o644);
    write(&top.join("medium"), &vec![b'a'; 3 * 1024 * 1024], 0o644);
}

/// A tree as text: each path with its kind, mode and content.
fn described(top: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let name = path
            .strip_prefix(top)
            .expect("below")
            .as_os_str()
            .as_bytes()
            .to_vec();
        let text = if metadata.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(&path)
                .expect("a directory")
                .map(|e| e.expect("an entry").path())
                .collect();
            inside.sort();
            inside.reverse();
            waiting.extend(inside);
            "dir".to_owned()
        } else if metadata.is_symlink() {
            format!("-> {:?}", fs::read_link(&path).expect("a link"))
        } else {
            let bytes = fs::read(&path).expect("content");
            let twin = (metadata.nlink() > 1).then(|| {
                inodes
                    .entry(metadata.ino())
                    .or_insert_with(|| name.clone())
                    .clone()
            });
            format!(
                "{} bytes {:x} twin {twin:?}",
                bytes.len(),
                crc32c::crc32c(&bytes)
            )
        };
        let mode = if metadata.is_symlink() {
            0
        } else {
            metadata.mode() & 0o7777
        };
        found.insert(name, format!("{mode:o} {} {text}", metadata.mtime()));
    }
    found
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn untar(archive: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    let said = run(Command::new("tar")
        .arg("-xpzf")
        .arg(archive)
        .arg("-C")
        .arg(to));
    assert!(said.is_empty(), "tar said: {said}");
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return vec![];
    };
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// A root with a few files and one volume, and a backup of it.
fn small_backup(dir: &Path) -> (PathBuf, String) {
    let root = dir.join("root");
    write(&root.join("docker-compose.yml"), b"services: {}\n", 0o644);
    write(&root.join(".env"), b"SECRET=1\n", 0o600);
    write(&root.join("conf/nginx.conf"), &noise(9_000, 3), 0o644);
    symlink("nginx.conf", root.join("conf/current")).expect("a link");
    let data = dir.join("data");
    write(&data.join("upload"), &noise(30_000, 4), 0o600);
    let reader = TarReader {
        volumes: [("uploads".to_owned(), data)].into(),
        ..TarReader::default()
    };
    let mut request = request(&root);
    request.data = vec![source(volume("uploads"), Consistency::Stopped)];
    let made = backup::create(&request, &reader).expect("a backup");
    let name = made.name.to_string();
    drop(request);
    (root, name)
}

#[test]
fn a_nasty_tree_comes_back_as_it_was_through_plain_tar() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, data) = (dir.path().join("root"), dir.path().join("volume"));
    nasty_tree(&root);
    nasty_tree(&data);
    write(&root.join("backups/old.sql"), b"never inside itself", 0o600);
    write(&root.join(".belay/current"), b"never", 0o600);
    write(&root.join("uploads/one"), b"a bind mount", 0o640);
    let reader = TarReader {
        volumes: [("files".to_owned(), data.clone())].into(),
        ..TarReader::default()
    };
    let mut request = request(&root);
    let bind = DataKind::Bind {
        path: root.join("uploads"),
    };
    request.data = vec![
        source(volume("files"), Consistency::Paused),
        source(bind, Consistency::Live),
    ];
    let estimate = backup::estimate(&request, &reader).expect("an estimate");
    let made = backup::create(&request, &reader).expect("a backup");

    assert_eq!(made.name.as_str(), "backup_20241215_143022");
    assert!(
        made.manifest.archive.size <= estimate,
        "{} > {estimate}",
        made.manifest.archive.size
    );
    let out = dir.path().join("out");
    untar(&made.archive, &out);
    let mut wanted = described(&root);
    wanted.retain(|path, _| {
        !["backups", ".belay", "uploads"]
            .iter()
            .any(|top| path.starts_with(top.as_bytes()))
    });
    let mut found = described(&out.join("config"));
    // The root's own time changed when `backups` was made in it.
    wanted.remove(&b""[..]);
    found.remove(&b""[..]);
    assert_eq!(found, wanted);
    assert_eq!(described(&out.join("data/volumes/files")), described(&data));
    let bind = out
        .join("data/binds")
        .join(root.strip_prefix("/").expect("absolute"))
        .join("uploads");
    assert_eq!(described(&bind), described(&root.join("uploads")));
    assert_eq!(
        fs::read_to_string(out.join("logs/web.log")).expect("logs"),
        "log of shop-web-1\n"
    );
    let images = fs::read_to_string(out.join("images.txt")).expect("images");
    assert!(
        images.contains(&request.images[0].id) && images.contains("example.com/shop/web@sha256:ab")
    );
    let facts: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("backup.json")).expect("facts")).expect("json");
    assert_eq!(facts["release"], "3-v1.1.0");

    assert_eq!(
        backup::verify(&root, made.name.as_str()).expect("verified"),
        made.manifest
    );
    let listed = backup::list(&root);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].problem, None);
    assert_eq!(listed[0].manifest.tag.as_deref(), Some("v1.1.0"));
    for file in names_in(&root.join("backups"))
        .iter()
        .filter(|name| name.starts_with("backup_"))
    {
        let mode = fs::metadata(root.join("backups").join(file))
            .expect("metadata")
            .mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    assert_eq!(
        fs::metadata(root.join("backups")).expect("metadata").mode() & 0o7777,
        0o700
    );
}

#[test]
fn busybox_and_gzip_read_the_archive_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    nasty_tree(&root);
    let made = backup::create(&request(&root), &TarReader::default()).expect("a backup");
    run(Command::new("gzip").arg("-t").arg(&made.archive));
    if Command::new("busybox").arg("true").status().is_err() {
        eprintln!("SKIPPED: there is no busybox here");
        return;
    }
    let out = dir.path().join("out");
    fs::create_dir(&out).expect("a directory");
    run(Command::new("busybox")
        .args(["tar", "-xzf"])
        .arg(&made.archive)
        .arg("-C")
        .arg(&out));
    let big = fs::read(out.join("config/big")).expect("content");
    assert!(big == fs::read(root.join("big")).expect("content"));
    assert!(
        out.join("config")
            .join(format!("long-{}", "n".repeat(150)))
            .exists()
    );
}

#[test]
fn a_second_backup_of_the_same_second_has_a_name_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    let names: Vec<String> = (0..3)
        .map(|_| {
            backup::create(&request(&root), &TarReader::default())
                .expect("a backup")
                .name
                .to_string()
        })
        .collect();
    let wanted = [
        "backup_20241215_143022",
        "backup_20241215_143022_2",
        "backup_20241215_143022_3",
    ];
    assert_eq!(names, wanted);
    let listed: Vec<String> = backup::list(&root)
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(listed, wanted);
    for _twice in 0..2 {
        backup::remove(&root, &names[1].parse().expect("a name")).expect("removed");
    }
    assert_eq!(backup::list(&root).len(), 2);
    assert!(matches!(
        backup::verify(&root, &names[1]),
        Err(VerifyError::Missing(_))
    ));
}

#[test]
fn the_configuration_is_given_back_and_written_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    nasty_tree(&root);
    fs::remove_file(root.join("big")).expect("removed");
    let made = backup::create(&request(&root), &TarReader::default()).expect("a backup");
    let name = made.name.as_str();
    assert_eq!(
        backup::extract_file(&root, name, "config/.env").expect("a file"),
        b"SECRET=1\n"
    );
    assert!(matches!(
        backup::extract_file(&root, name, "config/no"),
        Err(VerifyError::NoSuchFile { .. })
    ));
    let entries = backup::open_config(&root, name).expect("entries");
    let env = entries
        .iter()
        .find(|e| e.path == Path::new(".env"))
        .expect("the file");
    assert_eq!(
        (env.mode, &env.kind),
        (0o600, &backup::ConfigKind::File(b"SECRET=1\n".to_vec()))
    );

    let dest = dir.path().join("dest");
    let left_out = backup::extract_config(&root, name, &dest).expect("written");
    let left: Vec<&str> = left_out.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(left, ["bin/out", "dangling"]);
    assert_eq!(
        fs::read(dest.join("docker-compose.yml")).expect("content"),
        b"services: {}\n"
    );
    assert_eq!(
        fs::read_link(dest.join("link")).expect("a link"),
        Path::new("docker-compose.yml")
    );
    let mode = |path: &str| fs::metadata(dest.join(path)).expect("metadata").mode() & 0o7777;
    assert_eq!(
        (
            mode("bin/run"),
            mode("bin/suid"),
            mode(".env"),
            mode("empty")
        ),
        (0o755, 0o755, 0o600, 0o750)
    );
    assert!(
        backup::extract_config(&root, name, &dest).is_err(),
        "a directory that is there is never written into"
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, name) = small_backup(dir.path());
    backup::verify(&root, &name).expect("whole before");
    let mut flips = 0;
    for (ending, wanted) in [
        (".tar.gz", 400),
        (".manifest.json", 400),
        (".images.txt", 60),
    ] {
        let path = root.join("backups").join(format!("{name}{ending}"));
        let whole = fs::read(&path).expect("content");
        // All of the first bytes, then evenly through the file and its end.
        let step = (whole.len() / wanted).max(1);
        let places = (0..64.min(whole.len()))
            .chain((64..whole.len()).step_by(step))
            .chain([whole.len() - 1]);
        for (n, place) in places.enumerate() {
            let mut broken = whole.clone();
            broken[place] ^= 1 << (n % 8);
            fs::write(&path, &broken).expect("written");
            let verdict = backup::verify(&root, &name);
            assert!(
                verdict.is_err(),
                "bit {} of byte {place} of {ending} went unnoticed",
                n % 8
            );
            flips += 1;
        }
        fs::write(&path, &whole).expect("written");
    }
    assert!(flips >= 600, "{flips}");
    backup::verify(&root, &name).expect("whole again");
}

#[test]
fn every_truncation_and_every_addition_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, name) = small_backup(dir.path());
    for ending in [".tar.gz", ".manifest.json", ".images.txt"] {
        let path = root.join("backups").join(format!("{name}{ending}"));
        let whole = fs::read(&path).expect("content");
        let step = (whole.len() / 100).max(1);
        for length in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            fs::write(&path, &whole[..length]).expect("written");
            assert!(
                backup::verify(&root, &name).is_err(),
                "{ending} cut at {length} went unnoticed"
            );
        }
        for more in [&b"\0"[..], b" ", b"\n", &whole] {
            fs::write(&path, [&whole, more].concat()).expect("written");
            assert!(
                backup::verify(&root, &name).is_err(),
                "{ending} with more went unnoticed"
            );
        }
        fs::remove_file(&path).expect("removed");
        assert!(
            backup::verify(&root, &name).is_err(),
            "{ending} may not be missing"
        );
        fs::write(&path, &whole).expect("written");
    }
    backup::verify(&root, &name).expect("whole again");
}

#[test]
fn one_backups_files_do_not_pass_for_anothers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, name) = small_backup(dir.path());
    let other = "backup_20241216_000000";
    for ending in [".tar.gz", ".images.txt", ".manifest.json"] {
        let file = |name: &str| root.join("backups").join(format!("{name}{ending}"));
        fs::copy(file(&name), file(other)).expect("copied");
    }
    assert!(matches!(
        backup::verify(&root, other),
        Err(VerifyError::Damaged { .. })
    ));
    for name in ["../../etc", "backup_1", ""] {
        assert!(matches!(
            backup::verify(&root, name),
            Err(VerifyError::Name(_))
        ));
    }
}

#[test]
fn a_stream_that_breaks_off_is_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, data) = (dir.path().join("root"), dir.path().join("data"));
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    write(&data.join("a"), &noise(3_000_000, 5), 0o644);
    write(&data.join("b"), b"after it", 0o644);
    let spoil = vec![Spoil::Fail, Spoil::CutAt(2_000_000)];
    let volumes = BTreeMap::from([("v".to_owned(), data.clone())]);
    let reader = TarReader {
        volumes,
        spoil: Mutex::new(spoil),
    };
    let mut request = request(&root);
    request.data = vec![source(volume("v"), Consistency::Live)];
    let made = backup::create(&request, &reader).expect("a backup");
    assert_eq!(made.manifest.sources[1].state, SourceState::Saved);
    let out = dir.path().join("out");
    untar(&made.archive, &out);
    assert_eq!(described(&out.join("data/volumes/v")), described(&data));
}

#[test]
fn a_copy_that_always_breaks_off_is_no_backup() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, data) = (dir.path().join("root"), dir.path().join("data"));
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    write(&data.join("a"), &noise(3_000_000, 5), 0o644);
    for cut in [0, 100, 512, 1_000_000, 3_001_344, 3_002_000] {
        for consistency in [Consistency::Live, Consistency::Stopped] {
            let reader = TarReader {
                volumes: BTreeMap::from([("v".to_owned(), data.clone())]),
                spoil: Mutex::new(vec![Spoil::CutAt(cut); 3]),
            };
            let mut request = request(&root);
            request.data = vec![source(volume("v"), consistency)];
            let made = backup::create(&request, &reader);
            assert!(
                matches!(made, Err(backup::BackupError::Torn { .. })),
                "cut at {cut}: {made:?}"
            );
        }
    }
    assert_eq!(names_in(&root.join("backups")), Vec::<String>::new());
}

#[test]
fn a_live_database_is_marked_and_a_stopped_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    let files: [(&str, &[u8]); 5] = [
        ("PG_VERSION", b"16\n"),
        ("ibdata1", b"x"),
        ("dump.rdb", b"REDIS"),
        ("app.sqlite", b"SQLite format 3\0more"),
        ("notes.txt", b"SQLite format 3 is a file format"),
    ];
    for (file, bytes) in files {
        let data = dir.path().join(format!("data-{file}"));
        write(&data.join("sub").join(file), bytes, 0o600);
        for consistency in [
            Consistency::Live,
            Consistency::Paused,
            Consistency::Stopped,
            Consistency::Dumped,
        ] {
            let reader = TarReader {
                volumes: [("v".to_owned(), data.clone())].into(),
                ..TarReader::default()
            };
            let mut request = request(&root);
            request.data = vec![source(volume("v"), consistency)];
            let made = backup::create(&request, &reader).expect("a backup");
            let marked = !made.manifest.inconsistent().is_empty();
            let wanted = consistency == Consistency::Live && file != "notes.txt";
            assert_eq!(
                marked,
                wanted,
                "{file} {consistency:?}: {:?}",
                made.manifest.inconsistent()
            );
        }
    }
}

#[test]
fn what_is_not_there_is_absent_and_logs_that_cannot_be_had_are_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    let mut request = request(&root);
    request.data = vec![source(volume("not-yet"), Consistency::Live)];
    request
        .logs
        .push(("worker".to_owned(), LogSource::default()));
    let made = backup::create(&request, &TarReader::default()).expect("a backup");
    assert_eq!(made.manifest.sources[1].state, SourceState::Absent);
    assert_eq!(made.manifest.left_out[0].path, "logs/worker.log");
}

#[test]
fn sockets_and_pipes_are_left_out_and_said_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, data) = (dir.path().join("root"), dir.path().join("data"));
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    write(&data.join("a"), b"x", 0o644);
    run(Command::new("mkfifo")
        .arg(root.join("pipe"))
        .arg(data.join("pipe")));
    let reader = TarReader {
        volumes: [("v".to_owned(), data)].into(),
        ..TarReader::default()
    };
    let mut request = request(&root);
    request.data = vec![source(volume("v"), Consistency::Live)];
    let made = backup::create(&request, &reader).expect("a backup");
    let mut left: Vec<&str> = made
        .manifest
        .left_out
        .iter()
        .map(|l| l.path.as_str())
        .collect();
    left.sort_unstable();
    assert_eq!(
        left,
        ["config/pipe", "config/socket", "data/volumes/v/pipe"]
    );
}

#[test]
fn a_file_that_never_stands_still_is_saved_and_marked() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    // Large enough that it is written to while it is read.
    write(&root.join("growing.log"), &noise(12_000_000, 6), 0o644);
    let path = root.join("growing.log");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut file = File::options().append(true).open(path).expect("the file");
        while let Err(std::sync::mpsc::TryRecvError::Empty) = stopped.try_recv() {
            file.write_all(b"another line\n").expect("written");
        }
    });
    let made = backup::create(&request(&root), &TarReader::default());
    drop(stop);
    writer.join().expect("no panic");
    let made = made.expect("a backup");
    assert_eq!(
        made.manifest.inconsistent().len(),
        1,
        "{:?}",
        made.manifest.sources
    );
    let out = dir.path().join("out");
    untar(&made.archive, &out);
    let saved = fs::read(out.join("config/growing.log")).expect("content");
    assert!(saved[..12_000_000] == noise(12_000_000, 6)[..]);
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "belay-test"])
        .arg(dir.path())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: only root can mount a small file system here");
        return;
    }
    let root = dir.path().join("root");
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    write(&root.join("noise"), &noise(1_500_000, 7), 0o644);
    let data = tempfile::tempdir().expect("a directory");
    write(&data.path().join("v/big"), &noise(6_000_000, 8), 0o644);
    let reader = TarReader {
        volumes: [("v".to_owned(), data.path().join("v"))].into(),
        ..TarReader::default()
    };
    let mut full = request(&root);
    full.data = vec![source(volume("v"), Consistency::Live)];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let first = backup::create(&request(&root), &reader).expect("one fits");
        let before = names_in(&root.join("backups"));
        let free = backup::free_bytes(&root).expect("free");
        assert!(
            backup::estimate(&full, &reader).expect("an estimate") > free,
            "it is known before"
        );
        let error = backup::create(&full, &reader).expect_err("no space");
        assert!(
            matches!(error, backup::BackupError::NoSpace { .. }),
            "{error}"
        );
        assert_eq!(names_in(&root.join("backups")), before, "nothing is left");
        assert_eq!(backup::free_bytes(&root).expect("free"), free);
        backup::verify(&root, first.name.as_str()).expect("the one before is whole");
    }));
    run(Command::new("umount").arg("-l").arg(dir.path()));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// The variable that makes a test process the one that crashes.
const CRASH_AT: &str = "BELAY_TEST_CRASH_AT";
const CRASH_ROOT: &str = "BELAY_TEST_CRASH_ROOT";

#[test]
fn a_crash_at_any_moment_leaves_a_whole_backup_or_none() {
    if let (Ok(at), Ok(root)) = (std::env::var(CRASH_AT), std::env::var(CRASH_ROOT)) {
        let root = PathBuf::from(root);
        let _ = backup::create_watched(&request(&root), &TarReader::default(), &mut |point| {
            if format!("{point:?}") == at {
                std::process::abort();
            }
        });
        return;
    }
    for point in PublishPoint::ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        write(&root.join("docker-compose.yml"), b"x", 0o644);
        write(&root.join("backups/mine.sql"), b"not Belay's", 0o644);
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "a_crash_at_any_moment_leaves_a_whole_backup_or_none",
            ])
            .env(CRASH_AT, format!("{point:?}"))
            .env(CRASH_ROOT, &root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it starts");
        assert!(!status.success(), "{point:?}: it did not crash");
        let whole = backup::list(&root);
        let published = point == PublishPoint::ManifestPlaced;
        assert_eq!(
            whole.len(),
            usize::from(published),
            "{point:?}: {:?}",
            names_in(&root.join("backups"))
        );
        for entry in &whole {
            assert_eq!(entry.problem, None);
            backup::verify(&root, &entry.name).expect("whole");
        }

        let underway = "backup_20241215_143022".parse().expect("a name");
        let kept = backup::sweep(&root, &[underway]).expect("swept");
        assert!(
            kept.is_empty(),
            "{point:?}: an open journal refers to {kept:?}"
        );
        let swept = backup::sweep(&root, &[]).expect("swept");
        assert_eq!(swept.is_empty(), published, "{point:?}");
        let left = names_in(&root.join("backups"));
        assert!(left.contains(&"mine.sql".to_owned()));
        assert_eq!(left.len(), if published { 4 } else { 1 }, "{left:?}");
        let next = backup::create(&request(&root), &TarReader::default()).expect("the next one");
        backup::verify(&root, next.name.as_str()).expect("whole");
    }
}

#[test]
fn a_manifest_names_every_entry_with_its_hash() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, name) = small_backup(dir.path());
    let bytes =
        fs::read(root.join("backups").join(format!("{name}.manifest.json"))).expect("a manifest");
    let manifest = BackupManifest::parse(&bytes).expect("whole");
    let env = manifest
        .entries
        .iter()
        .find(|e| e.path == "config/.env")
        .expect("the entry");
    assert_eq!(env.mode, "0600");
    let output = Command::new("sha256sum")
        .arg(root.join(".env"))
        .output()
        .expect("sha256sum");
    let hash = String::from_utf8_lossy(&output.stdout)[..64].to_owned();
    assert_eq!(
        env.kind,
        EntryKind::File {
            size: 9,
            sha256: hash
        }
    );
    let json: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["created"], "2024-12-15T14:30:22Z");
    assert_eq!(json["reason"]["before-deploy"]["tag"], "v1.2.0");
    assert_eq!(json["sources"][1]["source"]["volume"]["name"], "uploads");
}

// With Docker.

/// What runs in a helper.
const BELAY: &str = env!("CARGO_BIN_EXE_belay");

/// A volume and an image of this test's own, removed again.
struct DockerLab {
    image: String,
    volume: String,
}

impl DockerLab {
    fn new(dir: &Path) -> Option<DockerLab> {
        let works = Command::new("docker")
            .arg("info")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !works.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: there is no Docker here");
            return None;
        }
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("belay-test-{}-{number}", std::process::id());
        let lab = DockerLab {
            image: format!("{unique}:empty"),
            volume: unique,
        };
        let tar = dir.join("image.tar");
        fs::write(dir.join("marker"), "x").expect("written");
        run(Command::new("tar")
            .arg("-C")
            .arg(dir)
            .arg("-cf")
            .arg(&tar)
            .arg("marker"));
        // An image with nothing in it that could run, and with a VOLUME, which Docker makes for the helper.
        run(Command::new("docker")
            .args(["import", "--change", "VOLUME /extra"])
            .arg(&tar)
            .arg(&lab.image));
        run(Command::new("docker").args(["volume", "create", &lab.volume]));
        Some(lab)
    }

    /// Puts a tree into the volume, owned by root.
    fn fill(&self, tree: &Path) {
        let mount = format!("type=volume,src={},dst=/data", self.volume);
        let id =
            output(Command::new("docker").args(["create", "--mount", &mount, &self.image, "x"]));
        let id = id.trim();
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(tree)
            .args(["--owner=0", "--group=0", "-cf", "-", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar");
        let to = format!("{id}:/data");
        let from = tar.stdout.take().expect("its output");
        let filled = Command::new("docker")
            .args(["cp", "-", &to])
            .stdin(from)
            .output()
            .expect("docker");
        tar.wait().expect("tar ends");
        run(Command::new("docker").args(["rm", "--volumes", id]));
        let said = String::from_utf8_lossy(&filled.stderr);
        assert!(filled.status.success(), "{said}");
    }

    fn volumes() -> Vec<String> {
        output(Command::new("docker").args(["volume", "ls", "--quiet"]))
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for DockerLab {
    fn drop(&mut self) {
        for words in [["volume", "rm", &self.volume], ["image", "rm", &self.image]] {
            let _ = Command::new("docker").args(words).output();
        }
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn data_of_root_is_saved_through_docker() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(lab) = DockerLab::new(dir.path()) else {
        return;
    };
    let (root, tree) = (dir.path().join("root"), dir.path().join("tree"));
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    nasty_tree(&tree);
    // Docker takes no such link in; it gives them out all right.
    fs::remove_file(tree.join("bin/out")).expect("removed");
    write(&tree.join("secret"), b"of root", 0o600);
    lab.fill(&tree);
    let bind = dir.path().join("bind, with a comma");
    write(&bind.join(".hidden/one"), b"bound", 0o600);
    fs::set_permissions(&bind, Permissions::from_mode(0o700)).expect("a mode");
    let file = dir.path().join("single");
    write(&file, b"a single file", 0o600);

    let project = lab.volume.clone();
    let reader = DockerReader::new(Path::new(BELAY), &project);
    let mut request = request(&root);
    request.logs.clear();
    request.data = vec![
        source(volume(&lab.volume), Consistency::Live),
        source(volume("belay-test-no-such-volume"), Consistency::Live),
        source(DataKind::Bind { path: bind.clone() }, Consistency::Live),
        source(DataKind::Bind { path: file.clone() }, Consistency::Live),
        source(
            DataKind::Bind {
                path: dir.path().join("absent"),
            },
            Consistency::Live,
        ),
    ];
    let estimate = backup::estimate(&request, &reader).expect("an estimate");
    let made = backup::create(&request, &reader).expect("a backup");
    assert!(
        made.manifest.archive.size <= estimate,
        "{} > {estimate}",
        made.manifest.archive.size
    );

    let out = dir.path().join("out");
    untar(&made.archive, &out);
    let saved = out.join("data/volumes").join(&lab.volume);
    let (mut found, mut wanted) = (described(&saved), described(&tree));
    // What else was in the volume's own directory is Docker's business.
    found.remove(&b""[..]);
    wanted.remove(&b""[..]);
    assert_eq!(found, wanted);
    let binds = |path: &Path| {
        out.join("data/binds")
            .join(path.strip_prefix("/").expect("absolute"))
    };
    assert_eq!(described(&binds(&bind)), described(&bind));
    assert_eq!(fs::read(binds(&file)).expect("content"), b"a single file");
    let state = |n: usize| &made.manifest.sources[n].state;
    let absent = (1..=5)
        .filter(|n| *state(*n) == SourceState::Absent)
        .count();
    assert_eq!(absent, 2, "{:?}", made.manifest.sources);
    let volumes = DockerLab::volumes();
    assert!(
        volumes.contains(&lab.volume),
        "the named volume is never removed"
    );
    assert!(
        !volumes.contains(&"belay-test-no-such-volume".to_owned()),
        "none is made"
    );
    let filter = format!("label=dev.belay.helper={project}");
    let helpers = output(Command::new("docker").args(["ps", "-aq", "--filter", &filter]));
    assert_eq!(helpers, "", "no helper is left");
}

#[test]
fn helpers_that_a_crash_left_are_swept_and_others_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(lab) = DockerLab::new(dir.path()) else {
        return;
    };
    let project = format!("{}-sweep", lab.volume);
    let create = |label: &str| {
        let label = format!("dev.belay.helper={label}");
        let mount = format!(
            "type=volume,src={},dst=/belay-data,readonly,volume-nocopy",
            lab.volume
        );
        output(Command::new("docker").args([
            "create", "--label", &label, "--mount", &mount, &lab.image, "x",
        ]))
    };
    let (ours, others) = (create(&project), create(&format!("{project}-other")));
    let mounts = output(Command::new("docker").args([
        "inspect",
        "--format",
        "{{range .Mounts}}{{.Name}} {{end}}",
        ours.trim(),
    ]));
    DockerReader::new(Path::new(BELAY), &project)
        .sweep()
        .expect("swept");
    let left = output(Command::new("docker").args(["ps", "-aq", "--no-trunc"]));
    run(Command::new("docker").args(["rm", "-f", "-v", others.trim()]));
    assert!(!left.contains(ours.trim()) && left.contains(others.trim()));
    let volumes = DockerLab::volumes();
    assert!(volumes.contains(&lab.volume), "the named volume stays");
    let nameless: Vec<&str> = mounts
        .split_whitespace()
        .filter(|name| *name != lab.volume)
        .collect();
    assert_eq!(nameless.len(), 1, "the image's VOLUME made one");
    assert!(
        !volumes.contains(&nameless[0].to_owned()),
        "the helper's own went with it"
    );
}

/// The variables that make a test process the ordinary user.
const AS_USER: &str = "BELAY_TEST_AS_USER";
const AS_USER_VOLUME: &str = "BELAY_TEST_AS_USER_VOLUME";

#[test]
fn an_ordinary_user_of_the_docker_group_needs_no_sudo() {
    const NAME: &str = "an_ordinary_user_of_the_docker_group_needs_no_sudo";
    if let Ok(root) = std::env::var(AS_USER) {
        let root = PathBuf::from(root);
        assert!(
            File::open(root.join("private/key")).is_err()
                && File::open(root.join("token")).is_err()
        );
        let name = std::env::var(AS_USER_VOLUME).expect("a volume");
        let reader = DockerReader::new(Path::new(BELAY), &name);
        let mut request = request(&root);
        request.data = vec![source(volume(&name), Consistency::Live)];
        let made = backup::create(&request, &reader).expect("a backup");
        assert_eq!(made.manifest.inconsistent(), Vec::<String>::new());
        assert_eq!(made.manifest.left_out[0].path, "logs/web.log");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let Some(lab) = DockerLab::new(dir.path()) else {
        return;
    };
    let group = output(Command::new("stat").args(["-c", "%g", "/var/run/docker.sock"]));
    let chown = |path: &Path, to: &str| {
        Command::new("chown")
            .arg(to)
            .arg(path)
            .stderr(Stdio::null())
            .status()
    };
    let root = dir.path().join("root");
    write(&root.join("docker-compose.yml"), b"x", 0o644);
    if !chown(&root, "65534:65534").is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: only root can become another user here");
        return;
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("a mode");
    write(&root.join("private/key"), b"of root", 0o600);
    fs::set_permissions(root.join("private"), Permissions::from_mode(0o700)).expect("a mode");
    write(&root.join("token"), b"of root too", 0o600);
    write(&dir.path().join("tree/.hidden"), b"in a volume", 0o600);
    lab.fill(&dir.path().join("tree"));
    let me = std::env::current_exe().expect("this test");
    let mut child = Command::new("setpriv");
    child.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--groups",
        group.trim(),
        "--no-new-privs",
        "--",
    ]);
    child.arg(me).args(["--exact", NAME, "--nocapture"]);
    child
        .env(AS_USER, &root)
        .env(AS_USER_VOLUME, &lab.volume)
        .env("HOME", "/nonexistent");
    run(&mut child);

    let out = dir.path().join("out");
    untar(&root.join("backups/backup_20241215_143022.tar.gz"), &out);
    let content = |path: &str| fs::read_to_string(out.join(path)).expect("content");
    assert_eq!(content("config/private/key"), "of root");
    assert_eq!(content("config/token"), "of root too");
    assert_eq!(
        content(&format!("data/volumes/{}/.hidden", lab.volume)),
        "in a volume"
    );
    let private = fs::metadata(out.join("config/private")).expect("metadata");
    assert_eq!((private.mode() & 0o7777, private.uid()), (0o700, 0));
}
