//! Archives made to do harm, and the proof that none of them gets anywhere.
//!
//! Each is fed to the checked reader and the writer behind it, as if it were the configuration of a backup, and to the
//! verification. All must be refused, and nothing may change outside of the directory that is written into.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::*;
use crate::backup::manifest::{Reason, SCHEMA};

/// A hand-made archive.
#[derive(Default)]
struct Evil(Vec<u8>);

impl Evil {
    fn entry(self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        self.sized(kind, name, link, content, content.len() as u64)
    }

    fn sized(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8], size: u64) -> Self {
        let mut header = header(kind, name, link, size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.content(content)
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", b"owned\n")
    }

    fn dir(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    fn link(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name.as_bytes(), to.as_bytes(), b"")
    }

    fn hard(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), b"")
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn start() -> Evil {
    Evil::default().dir("config/")
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..)
            .find(|n: &usize| rest + n.to_string().len() == *n)
            .expect("a length");
        text.push_str(&format!("{length} {key}={value}\n"));
    }
    text.into_bytes()
}

/// A header changed after its sum was made, or before it is made again.
fn patched(change: impl FnOnce(&mut Header), sum: bool) -> Vec<u8> {
    let mut header = header(b'0', b"config/x", b"", 0);
    header.set_cksum();
    change(&mut header);
    if sum {
        header.set_cksum();
    }
    header.as_bytes().to_vec()
}

/// Archives that must be refused whatever a manifest says.
fn hostile(outside: &str) -> Vec<(&'static str, Vec<u8>)> {
    let out = format!("{outside}/owned");
    let long = "n".repeat(5_000);
    vec![
        ("a name with ..", start().file("config/../../owned").end()),
        ("a name that is ..", start().file("..").end()),
        ("a name that ends in ..", start().dir("config/..").end()),
        ("an absolute name", start().file("/etc/owned").end()),
        (
            "an absolute name of this machine",
            Evil::default().file(&out).end(),
        ),
        ("two slashes first", start().file("//owned").end()),
        ("an empty part", start().file("config//owned").end()),
        ("a part that is .", start().file("config/./owned").end()),
        (
            "a name that starts with .",
            start().file("./config/owned").end(),
        ),
        ("no name", start().file("").end()),
        ("a name that is a slash", start().dir("/").end()),
        (
            "a file below a link out",
            start()
                .link("config/d", outside)
                .file("config/d/owned")
                .end(),
        ),
        (
            "a file below a link in",
            start()
                .dir("config/a/")
                .link("config/d", "a")
                .file("config/d/owned")
                .end(),
        ),
        (
            "a directory below a link",
            start()
                .link("config/d", outside)
                .dir("config/d/owned/")
                .end(),
        ),
        (
            "a directory over a link",
            start().link("config/d", outside).dir("config/d/").end(),
        ),
        (
            "a file over a link",
            start().link("config/f", &out).file("config/f").end(),
        ),
        (
            "a link over a directory",
            start().dir("config/d/").link("config/d", outside).end(),
        ),
        (
            "a link over a file",
            start().file("config/f").link("config/f", &out).end(),
        ),
        (
            "a file twice",
            start().file("config/f").file("config/f").end(),
        ),
        (
            "a directory twice",
            start().dir("config/d/").dir("config/d/").end(),
        ),
        (
            "a file below a file",
            start().file("config/f").file("config/f/owned").end(),
        ),
        (
            "a file without its directory",
            start().file("config/no/owned").end(),
        ),
        ("a hard link out", start().hard("config/h", &out).end()),
        ("a hard link up", start().hard("config/h", "../owned").end()),
        (
            "a hard link to a link",
            start()
                .link("config/l", &out)
                .hard("config/h", "config/l")
                .end(),
        ),
        (
            "a hard link to a directory",
            start().hard("config/h", "config").end(),
        ),
        (
            "a hard link to what comes later",
            start().hard("config/h", "config/f").file("config/f").end(),
        ),
        (
            "a hard link to itself",
            start().hard("config/h", "config/h").end(),
        ),
        (
            "a hard link with content",
            start()
                .file("config/f")
                .entry(b'1', b"config/h", b"config/f", b"x")
                .end(),
        ),
        ("a hard link to nothing", start().hard("config/h", "").end()),
        ("a link to nothing", start().link("config/l", "").end()),
        (
            "a link with content",
            start().entry(b'2', b"config/l", b"f", b"x").end(),
        ),
        (
            "a directory with content",
            start().entry(b'5', b"config/d/", b"", b"x").end(),
        ),
        (
            "a character device",
            start().entry(b'3', b"config/x", b"", b"").end(),
        ),
        (
            "a block device",
            start().entry(b'4', b"config/x", b"", b"").end(),
        ),
        ("a pipe", start().entry(b'6', b"config/x", b"", b"").end()),
        (
            "a contiguous file",
            start().entry(b'7', b"config/x", b"", b"").end(),
        ),
        (
            "a sparse file",
            start().entry(b'S', b"config/x", b"", b"").end(),
        ),
        (
            "a global header",
            start()
                .entry(b'g', b"x", b"", &pax(&[("path", "config/x")]))
                .end(),
        ),
        (
            "an old name's entry",
            start().entry(b'N', b"config/x", b"", b"").end(),
        ),
        (
            "a multi-volume entry",
            start().entry(b'M', b"config/x", b"", b"").end(),
        ),
        (
            "an unknown kind",
            start().entry(b'?', b"config/x", b"", b"").end(),
        ),
        (
            "a file named like a directory",
            start().entry(b'0', b"config/x/", b"", b"").end(),
        ),
        (
            "a long name with ..",
            start()
                .entry(b'L', b"x", b"", b"config/../../owned\0")
                .file("config/f")
                .end(),
        ),
        (
            "a long name with NUL",
            start()
                .entry(b'L', b"x", b"", b"config/f\0/../../owned\0")
                .file("config/f")
                .end(),
        ),
        (
            "a name too long",
            start()
                .entry(b'L', b"x", b"", long.as_bytes())
                .file("config/f")
                .end(),
        ),
        (
            "a long name of 4 GB",
            start()
                .sized(b'L', b"x", b"", b"", 1 << 32)
                .file("config/f")
                .end(),
        ),
        (
            "two long names",
            start()
                .entry(b'L', b"x", b"", b"config/a\0")
                .entry(b'L', b"x", b"", b"config/b\0")
                .file("config/f")
                .end(),
        ),
        (
            "a long link up",
            start()
                .entry(b'K', b"x", b"", b"../../owned\0")
                .hard("config/h", "config/f")
                .end(),
        ),
        (
            "a long name at the end",
            start().entry(b'L', b"x", b"", b"config/a\0").end(),
        ),
        (
            "a pax name with ..",
            start()
                .entry(b'x', b"x", b"", &pax(&[("path", "../owned")]))
                .file("config/f")
                .end(),
        ),
        (
            "a pax name of root",
            start()
                .entry(b'x', b"x", b"", &pax(&[("path", "/owned")]))
                .file("config/f")
                .end(),
        ),
        (
            "a pax name with NUL",
            start()
                .entry(b'x', b"x", b"", &pax(&[("path", "config/a\0/../b")]))
                .file("config/f")
                .end(),
        ),
        (
            "a pax name and a long one",
            start()
                .entry(b'x', b"x", b"", &pax(&[("path", "config/a")]))
                .entry(b'L', b"x", b"", b"config/b\0")
                .file("config/f")
                .end(),
        ),
        (
            "a pax size that hides an entry",
            start()
                .entry(b'x', b"x", b"", &pax(&[("size", "1536")]))
                .sized(b'0', b"config/f", b"", b"", 0)
                .file("../owned")
                .end(),
        ),
        (
            "a pax size below 0",
            start()
                .entry(b'x', b"x", b"", &pax(&[("size", "-1")]))
                .file("config/f")
                .end(),
        ),
        (
            "a sparse file by pax",
            start()
                .entry(b'x', b"x", b"", &pax(&[("GNU.sparse.name", "../owned")]))
                .file("config/f")
                .end(),
        ),
        (
            "a pax header that is none",
            start()
                .entry(b'x', b"x", b"", b"hello")
                .file("config/f")
                .end(),
        ),
        (
            "a pax length too great",
            start()
                .entry(b'x', b"x", b"", b"999 path=x\n")
                .file("config/f")
                .end(),
        ),
        (
            "a pax length of nothing",
            start()
                .entry(b'x', b"x", b"", b"0 path=x\n")
                .file("config/f")
                .end(),
        ),
        (
            "a pax header of 1 GB",
            start()
                .sized(b'x', b"x", b"", b"", 1 << 30)
                .file("config/f")
                .end(),
        ),
        (
            "a size that is no number",
            start()
                .raw(&patched(|h| h.as_old_mut().size = *b"zzzzzzzzzzzz", true))
                .end(),
        ),
        (
            "a size below 0",
            start()
                .raw(&patched(|h| h.as_old_mut().size = [0xff; 12], true))
                .end(),
        ),
        (
            "a size of 8 EB",
            start()
                .sized(b'0', b"config/x", b"", b"", u64::MAX / 2)
                .end(),
        ),
        (
            "a mode that is no number",
            start()
                .raw(&patched(|h| h.as_old_mut().mode = *b"rwxrwxrw", true))
                .end(),
        ),
        (
            "a wrong sum",
            start()
                .raw(&patched(|h| h.as_old_mut().name[7] = b'y', false))
                .end(),
        ),
        ("no end marker", start().file("config/f").0),
        (
            "half an end marker",
            start().file("config/f").raw(&[0; 512]).0,
        ),
        (
            "an end marker with an entry in it",
            start().raw(&[0; 512]).file("config/f").end(),
        ),
        (
            "a second archive behind the first",
            start().raw(&[0; 1024]).file("config/f").end(),
        ),
        (
            "a content that is not there",
            start().sized(b'0', b"config/f", b"", b"", 4096).0,
        ),
        ("half a header", start().raw(&[b'x'; 100]).0),
        (
            "noise",
            (0..4096u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
        ),
        (
            "more than was announced",
            start()
                .sized(b'0', b"config/x", b"", &vec![0; 2_000_000], 2_000_000)
                .end(),
        ),
        (
            "more entries than announced",
            (0..2_000)
                .fold(start(), |e, n| e.file(&format!("config/{n}")))
                .end(),
        ),
        ("zeros without end", vec![0; 3_000_000]),
    ]
}

/// Archives that a reader may read, but that are not those of the manifest.
fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", Evil::default().end()),
        ("another file", start().file("config/g").end()),
        (
            "another content",
            start().entry(b'0', b"config/f", b"", b"OWNED\n").end(),
        ),
        (
            "a link instead of a file",
            start().link("config/f", "/etc/passwd").end(),
        ),
        (
            "one file more",
            start().file("config/f").file("config/g").end(),
        ),
        (
            "the other order",
            Evil::default().file("images.txt").dir("config/").end(),
        ),
        ("without its directory's mode", good_with_mode(0o777)),
    ]
}

fn good() -> Vec<u8> {
    start().file("config/f").end()
}

fn good_with_mode(mode: u32) -> Vec<u8> {
    let mut header = header(b'5', b"config/", b"", 0);
    header.set_mode(mode);
    header.set_cksum();
    Evil::default()
        .raw(header.as_bytes())
        .file("config/f")
        .end()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// The manifest of [`good`], but with the hash and size of any archive: the attacker can write manifests, too.
fn manifest(archive: &[u8]) -> Manifest {
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
    Manifest {
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
