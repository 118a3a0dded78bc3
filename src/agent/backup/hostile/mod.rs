//! Archives made to do harm, and the proof that none of them gets anywhere.
//!
//! Each is fed to the checked reader and the writer behind it, as if it were the configuration of a backup, and to the
//! verification. All must be refused, and nothing may change outside of the directory that is written into.

mod archives;
mod evil;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use self::archives::{hostile, wrong};
use self::evil::{good, start};
use super::checked::{Budget, CheckedReader};
use super::config_out::{ConfigWriter, config_path, extract_config};
use super::manifest::{BackupManifest, EntryKind, EntryRecord, FileRecord, Reason, SCHEMA};
use super::names::BackupName;
use super::read::{VerifyError, verify};
use super::tar_in::TarError;
use belay_model::digest::hex;

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// The manifest of [`good`], but with the hash and size of any archive: the attacker can write manifests, too.
fn manifest(archive: &[u8]) -> BackupManifest {
    let record = |name: &str, bytes: &[u8]| FileRecord {
        name: name.to_owned(),
        size: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
    };
    let entry = |path: &str, kind| EntryRecord {
        path: path.to_owned(),
        mode: "0644".to_owned(),
        kind,
    };
    let content = EntryKind::File {
        size: 6,
        sha256: hex(&Sha256::digest(b"owned\n")),
    };
    BackupManifest {
        schema: SCHEMA,
        belay: "0".to_owned(),
        name: NAME.to_owned(),
        app: "shop".to_owned(),
        seq: 1,
        created: jiff::Timestamp::UNIX_EPOCH,
        reason: Reason::Manual,
        release: None,
        tag: None,
        revision: None,
        archive: record("x.tar.gz", archive),
        images_file: record("x.images.txt", b""),
        images: vec![],
        sources: vec![],
        left_out: vec![],
        entries: vec![entry("config", EntryKind::Dir), entry("config/f", content)],
        seal: String::new(),
    }
}

const NAME: &str = "backup_20241215_143022";

/// Puts an archive, with a manifest that vouches for it, where a backup would be.
fn plant(root: &Path, archive: &[u8]) {
    let files = NAME.parse::<BackupName>().expect("a name").files(root);
    let sealed = manifest(archive).seal().expect("a manifest");
    fs::create_dir_all(&files.dir).expect("a directory");
    fs::write(files.archive, archive).expect("written");
    fs::write(files.images, b"").expect("written");
    fs::write(files.manifest, sealed).expect("written");
}

/// Reads and writes an archive without any manifest.
fn write_unchecked(archive: &[u8], dest: &Path) -> Result<(), String> {
    let budget = Budget {
        entries: 1_000,
        bytes: 1_000_000,
    };
    let mut tar = CheckedReader::new(archive, budget);
    let mut writer = ConfigWriter::new(dest).map_err(|error| error.to_string())?;
    while let Some(entry) = tar.next_entry().map_err(|error| error.to_string())? {
        if let Some(path) = config_path(&entry.path) {
            writer
                .write(&path, &entry, &mut tar.content())
                .map_err(|error| error.to_string())?;
        }
    }
    tar.finish().map_err(|error| error.to_string())?;
    writer.finish().map(drop).map_err(|error| error.to_string())
}

/// Reads an archive without writing anything, to see that the reader alone refuses it.
fn read_unchecked(archive: &[u8]) -> Result<(), TarError> {
    let budget = Budget {
        entries: 1_000,
        bytes: 1_000_000,
    };
    let mut tar = CheckedReader::new(archive, budget);
    while tar.next_entry()?.is_some() {}
    tar.finish().map(drop)
}

/// Everything in a directory, to see that it stays as it is.
fn snapshot(dir: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        found.push(format!(
            "{} {:o} {}",
            path.display(),
            metadata.permissions().mode(),
            metadata.len()
        ));
        if metadata.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .expect("a directory")
                    .map(|e| e.expect("an entry").path()),
            );
        }
    }
    found.sort();
    found
}

#[test]
fn the_archive_that_the_others_are_variants_of_is_accepted() {
    let dir = tempfile::tempdir().expect("a directory");
    write_unchecked(&good(), &dir.path().join("written")).expect("accepted");
    plant(dir.path(), &gzipped(&good()));
    verify(dir.path(), NAME).expect("verified");
    extract_config(dir.path(), NAME, &dir.path().join("dest")).expect("written");
    assert_eq!(
        fs::read(dir.path().join("dest/f")).expect("content"),
        b"owned\n"
    );
}

#[test]
fn no_hostile_archive_is_read_to_its_end_or_writes_outside() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = dir.path().join("outside");
    fs::create_dir_all(outside.join("owned dir")).expect("a directory");
    File::create(outside.join("passwd")).expect("a file");
    let before = snapshot(&outside);
    let cases = hostile(&outside.to_string_lossy());
    assert!(cases.len() >= 70, "{}", cases.len());
    for (n, (what, archive)) in cases.iter().enumerate() {
        let inside = dir.path().join(format!("inside-{n}"));
        fs::create_dir(&inside).expect("a directory");
        assert!(read_unchecked(archive).is_err(), "{what} was read");
        let result = write_unchecked(archive, &inside.join("dest"));
        assert!(result.is_err(), "{what} was accepted");
        assert_eq!(snapshot(&outside), before, "{what} wrote outside");
        let beside: Vec<_> = fs::read_dir(&inside).expect("a directory").collect();
        assert_eq!(beside.len(), 1, "{what} wrote beside its directory");
    }
}

#[test]
fn no_hostile_archive_is_verified_even_when_its_manifest_vouches_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    for (what, archive) in hostile("/nowhere").into_iter().chain(wrong()) {
        plant(dir.path(), &gzipped(&archive));
        let verdict = verify(dir.path(), NAME);
        assert!(
            matches!(verdict, Err(VerifyError::Damaged { .. })),
            "{what}: {verdict:?}"
        );
        let dest = dir.path().join("dest");
        assert!(extract_config(dir.path(), NAME, &dest).is_err(), "{what}");
        assert!(
            !dest.exists(),
            "{what}: it was written before it was verified"
        );
    }
}

#[test]
fn what_is_no_gzip_or_goes_on_after_it_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = gzipped(&good());
    let cases: [(&str, Vec<u8>); 5] = [
        ("plain tar", good()),
        ("nothing", vec![]),
        ("half of it", whole[..whole.len() / 2].to_vec()),
        ("noise behind it", [&whole[..], b"noise"].concat()),
        (
            "another archive behind it",
            [whole.clone(), whole.clone()].concat(),
        ),
    ];
    for (what, archive) in cases {
        plant(dir.path(), &archive);
        assert!(verify(dir.path(), NAME).is_err(), "{what}");
    }
}

#[test]
fn links_that_lead_out_are_reported_and_not_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let archive = start()
        .dir("config/d/")
        .link("config/absolute", "/etc/passwd")
        .link("config/up", "../x")
        .link("config/d/in", "../f")
        .link("config/d/trick", "in/../../../etc")
        .end();
    let budget = Budget {
        entries: 10,
        bytes: 10,
    };
    let mut tar = CheckedReader::new(archive.as_slice(), budget);
    let dest = dir.path().join("dest");
    let mut writer = ConfigWriter::new(&dest).expect("a writer");
    while let Some(entry) = tar.next_entry().expect("an entry") {
        if let Some(path) = config_path(&entry.path) {
            writer
                .write(&path, &entry, &mut tar.content())
                .expect("written");
        }
    }
    let left: Vec<String> = writer
        .finish()
        .expect("finished")
        .into_iter()
        .map(|l| l.path)
        .collect();
    assert_eq!(left, ["absolute", "up", "d/trick"]);
    assert_eq!(
        fs::read_link(dest.join("d/in")).expect("a link"),
        Path::new("../f")
    );
    assert!(fs::symlink_metadata(dest.join("up")).is_err());
}
