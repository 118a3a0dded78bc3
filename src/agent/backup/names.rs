//! Names: of backups, of their three files, of paths in an archive, and of anything in a manifest.
//!
//! Runs on the host, but only thinks. A name that was made here or checked here is safe as a file name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;

use super::BackupError;

/// The directory of backups, under the root.
pub(super) const BACKUPS: &str = "backups";
/// The directory of Belay's own state, under the root.
const STATE: &str = ".belay";

/// The longest path in an archive, in bytes: what Linux itself allows.
pub(super) const LONGEST_PATH: usize = 4096;

/// Directories of the root that no backup contains: the backups themselves, and Belay's own state.
pub(super) const NEVER_INSIDE: [&str; 2] = [BACKUPS, STATE];

/// The endings of a backup's three files.
const ARCHIVE: &str = ".tar.gz";
const IMAGES: &str = ".images.txt";
const MANIFEST: &str = ".manifest.json";
/// Follows the name of a file that is not finished.
pub(super) const PART: &str = ".part";

/// The name of a backup, `backup_YYYYMMDD_HHMMSS` in UTC, with `_2`, `_3`, … when the second is taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackupName(String);

/// A text that is not the name of a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a backup; one looks like backup_20241215_143022")]
pub struct NotABackupName(String);

impl BackupName {
    /// The n-th name (from 1) for a moment.
    pub(super) fn at(moment: Timestamp, n: u32) -> BackupName {
        let second = moment.strftime("backup_%Y%m%d_%H%M%S");
        BackupName(match n {
            0 | 1 => second.to_string(),
            n => format!("{second}_{n}"),
        })
    }

    /// The moment in the name, in UTC; none where there is no such day or time.
    #[must_use]
    pub fn moment(&self) -> Option<Timestamp> {
        let second = self.0.get(..22)?;
        let parsed = jiff::civil::DateTime::strptime("backup_%Y%m%d_%H%M%S", second).ok()?;
        let zoned = parsed.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    }

    /// The name without any ending.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn files(&self, root: &Path) -> BackupFiles {
        let dir = root.join(BACKUPS);
        let file = |ending: &str| dir.join(format!("{}{ending}", self.0));
        BackupFiles {
            archive: file(ARCHIVE),
            images: file(IMAGES),
            manifest: file(MANIFEST),
            part: file(&format!("{ARCHIVE}{PART}")),
            unpublished: file(&format!("{MANIFEST}{PART}")),
            dir,
        }
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BackupName {
    type Err = NotABackupName;

    /// Reads a name with or without the ending of one of its files.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = [ARCHIVE, IMAGES, MANIFEST]
            .iter()
            .find_map(|ending| text.strip_suffix(ending))
            .unwrap_or(text);
        let number = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|b| b.is_ascii_digit())
        };
        let parts: Vec<&str> = bare.split('_').collect();
        let good = match parts.as_slice() {
            ["backup", day, time] => number(day, 8) && number(time, 6),
            ["backup", day, time, n] => {
                let counts = n.len() <= 4 && n.parse::<u32>().is_ok_and(|n| n >= 2);
                number(day, 8)
                    && number(time, 6)
                    && counts
                    && number(n, n.len())
                    && !n.starts_with('0')
            }
            _ => false,
        };
        if good {
            Ok(BackupName(bare.to_owned()))
        } else {
            Err(NotABackupName(text.to_owned()))
        }
    }
}

/// Where the files of one backup are.
#[derive(Clone, Debug)]
pub(super) struct BackupFiles {
    pub(super) dir: PathBuf,
    pub(super) archive: PathBuf,
    pub(super) images: PathBuf,
    pub(super) manifest: PathBuf,
    pub(super) part: PathBuf,
    /// The manifest while the other files are put into place, and while they are removed: what has it is Belay's own to
    /// remove.
    pub(super) unpublished: PathBuf,
}

impl BackupFiles {
    /// Every file that the backup may have, the commit pointer first, and last what says that the others are unfinished.
    pub(super) fn all(&self) -> [&Path; 5] {
        [
            &self.manifest,
            &self.archive,
            &self.images,
            &self.part,
            &self.unpublished,
        ]
    }
}

/// What a file in the directory of backups is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Archive(BackupName),
    Images(BackupName),
    Manifest(BackupName),
    /// A file of ours that was never finished.
    Unfinished,
    /// The manifest of a backup that is not published yet, or is being removed.
    Unpublished(BackupName),
    /// Not ours.
    Foreign,
}

/// Tells what a file in the directory of backups is, by its name.
pub(super) fn recognise(file_name: &str) -> Found {
    // The name in front of the ending must be bare: `backup_….tar.gz.tar.gz` is someone else's.
    let named = |ending: &str| {
        let bare = file_name.strip_suffix(ending)?;
        let name: BackupName = bare.parse().ok()?;
        (name.as_str() == bare).then_some(name)
    };
    if let Some(name) = named(ARCHIVE) {
        return Found::Archive(name);
    }
    if let Some(name) = named(IMAGES) {
        return Found::Images(name);
    }
    if let Some(name) = named(MANIFEST) {
        return Found::Manifest(name);
    }
    if let Some(name) = named(&format!("{MANIFEST}{PART}")) {
        return Found::Unpublished(name);
    }
    match named(&format!("{ARCHIVE}{PART}")) {
        Some(_) => Found::Unfinished,
        None => Found::Foreign,
    }
}

/// Checks a path of an archive: relative, without `.` or `..` or empty parts, and returns it without the final slash
/// that directories may have.
pub(super) fn checked_path(path: &[u8]) -> Result<&[u8], &'static str> {
    if path.len() > LONGEST_PATH {
        return Err("its name is too long");
    }
    if path.contains(&0) {
        return Err("its name contains NUL");
    }
    if path.starts_with(b"/") {
        return Err("its name is absolute");
    }
    let path = path.strip_suffix(b"/").unwrap_or(path);
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" => return Err("its name has an empty part"),
            b"." | b".." => return Err("its name has a part that is . or .."),
            _ => {}
        }
    }
    Ok(path)
}

/// Where a symbolic link in an archive leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// A link that stays in the configuration, and is safe to write again.
    Inside,
    /// A link that leads out of it.
    Outside,
}

/// Tells whether a link `depth` directories below a tree's top stays inside that tree.
///
/// `..` is accepted only at the beginning, where the parents are known to be real directories. After a name it could
/// follow another link and climb further than it seems.
pub(super) fn leads(target: &[u8], depth: usize) -> Leads {
    if target.starts_with(b"/") {
        return Leads::Outside;
    }
    let (mut ups, mut named) = (0usize, false);
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if named => return Leads::Outside,
            b".." => ups += 1,
            _ => named = true,
        }
    }
    if ups > depth {
        Leads::Outside
    } else {
        Leads::Inside
    }
}

/// Bytes as text that shows them all and can be taken for no others: what is not printable becomes `\xNN`.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    use fmt::Write;
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Checks a name that becomes one part of a path: a volume's, or a service's.
pub(super) fn checked_part(name: &str) -> Result<&str, BackupError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(fine) {
        return Err(BackupError::BadName(name.to_owned()));
    }
    Ok(name)
}

/// The last part of a path, for people; the path itself where it has none.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_moment_in_utc() {
        let moment: Timestamp = "2024-12-15T15:30:22+01:00".parse().expect("a moment");
        assert_eq!(BackupName::at(moment, 1).as_str(), "backup_20241215_143022");
        assert_eq!(
            BackupName::at(moment, 3).as_str(),
            "backup_20241215_143022_3"
        );
    }

    #[test]
    fn a_name_is_read_with_any_of_its_endings() {
        for text in [
            "backup_20241215_143022",
            "backup_20241215_143022.tar.gz",
            "backup_20241215_143022.manifest.json",
        ] {
            let name: BackupName = text.parse().expect("a name");
            assert_eq!(name.as_str(), "backup_20241215_143022");
        }
        assert!("backup_20241215_143022_12".parse::<BackupName>().is_ok());
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in [
            "",
            "backup_",
            "backup_2024_143022",
            "../backup_20241215_143022",
            "backup_20241215_143022/..",
            "backup_20241215_143022_1",
            "backup_20241215_143022_02",
            "backup_20241215_143022_+2",
            "backup_20241215_143022_99999",
            "backup_20241215_143022.tar.gz.part",
            "backup_２０241215_143022",
        ] {
            assert!(text.parse::<BackupName>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_our_own_files_are_recognised() {
        assert_eq!(
            recognise("backup_20241215_143022.tar.gz.part"),
            Found::Unfinished
        );
        for foreign in [
            "backup_20241215_143022.tar.gz.tar.gz",
            "backup_20241215_143022.tar.gz.images.txt",
            "dump.sql",
            "backup_old.tar.gz",
            "x.part",
            "backup_20241215_143022.sql",
        ] {
            assert_eq!(recognise(foreign), Found::Foreign, "{foreign}");
        }
    }

    #[test]
    fn unreadable_bytes_are_shown_and_never_confused() {
        assert_eq!(readable("déjà vu".as_bytes()), "déjà vu");
        assert_eq!(readable(b"a\xffb"), "a\\xffb");
        assert_ne!(readable(b"a\\xffb"), readable(b"a\xffb"));
        assert_eq!(readable(b"a\nb\x1b"), "a\\x0ab\\x1b");
    }

    #[test]
    fn a_link_leads_inside_only_when_no_other_link_could_carry_it_out() {
        assert_eq!(leads(b"../shared/.env", 1), Leads::Inside);
        assert_eq!(leads(b"a/./b", 0), Leads::Inside);
        assert_eq!(leads(b"..", 0), Leads::Outside);
        assert_eq!(leads(b"../../x", 1), Leads::Outside);
        assert_eq!(leads(b"/etc/passwd", 3), Leads::Outside);
        // `d` may itself be a link to `..`.
        assert_eq!(leads(b"d/..", 1), Leads::Outside);
    }
}
