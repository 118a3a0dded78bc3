//! Writes everything below a directory as a tar stream, with a record at its end of what there was.
//!
//! Runs inside a helper container, as root: see [`DockerReader`](super::DockerReader). `docker cp` could make a stream as
//! well, but while the application writes it cannot be trusted: a file that shrinks or goes away between two looks breaks
//! its tar off, all that comes after is missing, and it exits with 0 (moby/moby `pkg/archive`: a failed file is logged, and
//! the writer that lacks its bytes takes no more). Here everything is listed first; what was listed is in the stream or in
//! the record, and each content has the length that was announced. Whoever reads the stream compares the two.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TOP;
use super::manifest::LeftOut;
use super::names::readable;
use super::steady::{SMALL, Stable, compared, meta_of, open, read_small};
use super::tar_out::{Kind, Meta, write_end, write_header, write_padding};
use crate::sizes::{at_most, first, first_mut, wide};

/// The name of the record, the last entry of a stream.
pub const RECORD: &str = ".belay-packed";

/// The most examples of one kind that a record names.
pub(super) const EXAMPLES: usize = 5;

/// How much is read at once.
const CHUNK: usize = 128 * 1024;

/// The attribute that a program's rights are in, the one that Docker's own copies keep.
const CAPABILITY: &str = "security.capability";

/// What a stream holds, as whoever wrote it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// How much there was when it began, directories and links included.
    pub listed: u64,
    /// How much of that is in the stream.
    pub entries: u64,
    /// What is not, with the reason.
    pub left_out: Vec<LeftOut>,
    /// How much of what is not went away while the stream was written.
    pub gone: u64,
    /// How many files changed while they were read.
    pub changed: u64,
    /// Some of those, by their paths in the stream.
    pub examples: Vec<String>,
}

impl Packed {
    /// Whether a stream with so many entries is what was written, and that is all that was listed.
    #[must_use]
    pub fn is_whole(&self, entries: u64) -> bool {
        self.entries == entries && self.listed == entries + wide(self.left_out.len())
    }
}

/// Writes what is at `top`, a directory or a file, under the name [`TOP`].
pub fn pack(top: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut packer = Packer {
        top,
        out,
        seen: BTreeMap::new(),
        packed: Packed::default(),
        buffer: vec![0; CHUNK],
    };
    for path in listed(top)? {
        packer.packed.listed += 1;
        packer.add(&path)?;
    }
    let record = serde_json::to_vec(&packer.packed)?;
    let meta = Meta {
        mode: 0o600,
        ..Meta::default()
    };
    let size = wide(record.len());
    write_header(&mut packer.out, RECORD.as_bytes(), &Kind::File, &meta, size)?;
    packer.out.write_all(&record)?;
    write_padding(&mut packer.out, size)?;
    write_end(&mut packer.out)?;
    packer.out.flush()
}

/// Everything at and below a path, a directory before what is in it, in the order of names.
fn listed(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let is_dir = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.is_dir(),
            // Gone since its directory was read: it was not there when the listing was done.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != top => continue,
            Err(error) => return Err(named(&path, error)),
        };
        if is_dir {
            let mut inside = names_in(&path)?;
            // The first name is taken off the end first.
            inside.sort_by(|one, other| other.cmp(one));
            waiting.append(&mut inside);
        }
        found.push(path);
    }
    Ok(found)
}

fn names_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(|e| named(dir, e))?.path()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(named(dir, error)),
    }
}

/// An error with the path that it is of.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

struct Packer<'a> {
    top: &'a Path,
    out: &'a mut dyn Write,
    /// Files with several names, by device and inode, with the first of them in the stream.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    /// A path's name in the stream.
    fn place(&self, path: &Path) -> Vec<u8> {
        let below = path.strip_prefix(self.top).unwrap_or(path);
        match below.as_os_str().is_empty() {
            true => TOP.into(),
            false => [TOP.as_bytes(), b"/", below.as_os_str().as_bytes()].concat(),
        }
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let place = self.place(path);
        match self.add_at(path, &place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.packed.gone += 1;
                self.leave_out(&place, "it went away during the copy");
                Ok(())
            }
            done => done,
        }
    }

    /// An error of the kind `NotFound` means that nothing of it was written.
    fn add_at(&mut self, path: &Path, place: &[u8]) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        let meta = meta_of(&metadata);
        if kind.is_dir() {
            self.write(place, &Kind::Dir, &meta, 0)
        } else if kind.is_symlink() {
            let target = fs::read_link(path)?;
            let kind = Kind::Symlink(target.as_os_str().as_bytes().to_vec());
            self.write(place, &kind, &meta, 0)
        } else if kind.is_file() {
            self.file(path, place, &metadata)
        } else {
            let why = match kind.is_socket() {
                true => "it is a socket",
                false => "it is a device or a pipe",
            };
            self.leave_out(place, why);
            Ok(())
        }
    }

    fn file(&mut self, path: &Path, place: &[u8], metadata: &Metadata) -> io::Result<()> {
        let identity = (metadata.dev(), metadata.ino());
        if let Some(first) = self.seen.get(&identity) {
            let link = Kind::HardLink(first.clone());
            return self.write(place, &link, &meta_of(metadata), 0);
        }
        let file = open(path)?;
        let before = file.metadata().map_err(|e| named(path, e))?;
        let meta = Meta {
            xattrs: capability(&file),
            ..meta_of(&before)
        };
        let stable = match before.len() <= SMALL {
            true => self.small(path, place, &meta)?,
            false => self
                .large(file, &before, place, &meta)
                .map_err(|e| named(path, e))?,
        };
        if stable == Stable::Changing {
            self.saw_change(place);
        }
        if metadata.nlink() > 1 {
            self.seen.insert(identity, place.to_vec());
        }
        Ok(())
    }

    fn small(&mut self, path: &Path, place: &[u8], meta: &Meta) -> io::Result<Stable> {
        let (bytes, stable) = read_small(path)?;
        let size = wide(bytes.len());
        self.write(place, &Kind::File, meta, size)?;
        self.out.write_all(&bytes)?;
        write_padding(&mut self.out, size)?;
        Ok(stable)
    }

    /// A content of the length that was announced: what the file does not have any more is zeros, and it has changed.
    fn large(
        &mut self,
        mut file: File,
        before: &Metadata,
        place: &[u8],
        meta: &Meta,
    ) -> io::Result<Stable> {
        let size = before.len();
        self.write(place, &Kind::File, meta, size)?;
        let mut read = 0;
        while read < size {
            let room = at_most(size - read, CHUNK);
            match file.read(first_mut(&mut self.buffer, room)) {
                Ok(0) => break,
                Ok(count) => {
                    self.out.write_all(first(&self.buffer, count))?;
                    read += wide(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The name was found, so nobody may take this for a file that went away.
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        io::copy(&mut io::repeat(0).take(size - read), &mut self.out)?;
        write_padding(&mut self.out, size)?;
        Ok(compared(before, &file.metadata()?, read))
    }

    fn write(&mut self, place: &[u8], kind: &Kind, meta: &Meta, size: u64) -> io::Result<()> {
        write_header(&mut self.out, place, kind, meta, size)?;
        self.packed.entries += 1;
        Ok(())
    }

    fn saw_change(&mut self, place: &[u8]) {
        self.packed.changed += 1;
        if self.packed.examples.len() < EXAMPLES {
            self.packed.examples.push(readable(place));
        }
    }

    fn leave_out(&mut self, place: &[u8], why: &str) {
        self.packed.left_out.push(LeftOut {
            path: readable(place),
            why: why.to_owned(),
        });
    }
}

/// The rights of a program, where the file has some and its file system keeps them.
fn capability(file: &File) -> Vec<(String, Vec<u8>)> {
    let mut value = [0; 64];
    match rustix::fs::fgetxattr(file, CAPABILITY, &mut value) {
        Ok(length) if length > 0 => {
            let name = format!("SCHILY.xattr.{CAPABILITY}");
            vec![(name, first(&value, length).to_vec())]
        }
        Ok(_) | Err(_) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::backup::tar_in::TarReader;

    /// The names in a stream, and its record.
    fn unpacked(stream: &[u8]) -> (Vec<String>, Packed) {
        let mut tar = TarReader::new(stream);
        let mut names = vec![];
        let mut record = None;
        while let Some(entry) = tar.next_entry().expect("readable") {
            let mut content = vec![0; usize::try_from(entry.size).expect("small")];
            let mut read = 0;
            while read < content.len() {
                read += tar.read_content(&mut content[read..]).expect("whole");
            }
            let name = readable(&entry.path);
            match name.as_str() {
                RECORD => record = serde_json::from_slice(&content).ok(),
                _ => names.push(name),
            }
        }
        (names, record.expect("a record"))
    }

    fn packed(top: &Path) -> (Vec<String>, Packed) {
        let mut stream = vec![];
        pack(top, &mut stream).expect("packed");
        unpacked(&stream)
    }

    #[test]
    fn what_is_there_is_in_the_stream_or_in_the_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path();
        fs::create_dir(top.join("sub")).expect("made");
        fs::write(top.join("sub/a"), b"a").expect("written");
        fs::write(top.join("large"), vec![7; 5 * 1024 * 1024]).expect("written");
        fs::hard_link(top.join("sub/a"), top.join("z")).expect("linked");
        symlink("nowhere", top.join("link")).expect("linked");
        let _socket = UnixListener::bind(top.join("socket")).expect("bound");
        let (names, record) = packed(top);
        let wanted = ["", "/large", "/link", "/sub", "/sub/a", "/z"];
        assert_eq!(names, wanted.map(|name| format!("{TOP}{name}")));
        assert_eq!((record.listed, record.entries, record.changed), (7, 6, 0));
        assert_eq!(record.left_out[0].path, format!("{TOP}/socket"));
        assert!(record.is_whole(6) && !record.is_whole(5));
    }

    #[test]
    fn a_file_by_itself_has_the_name_of_the_top() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("single");
        fs::write(&file, b"x").expect("written");
        assert_eq!(packed(&file).0, [TOP]);
    }

    /// Changes the tree while the stream is being written.
    struct Meddler<F> {
        /// Called before each write, with what was written until then.
        act: F,
        stream: Vec<u8>,
    }

    impl<F: FnMut(usize)> Write for Meddler<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            (self.act)(self.stream.len());
            self.stream.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn packed_while(top: &Path, act: impl FnMut(usize)) -> (Vec<String>, Packed) {
        let mut meddler = Meddler {
            act,
            stream: vec![],
        };
        pack(top, &mut meddler).expect("packed");
        unpacked(&meddler.stream)
    }

    #[test]
    fn what_shrinks_or_goes_away_cuts_nothing_short() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path();
        for number in 0..20 {
            fs::write(top.join(format!("z{number:02}")), b"behind it").expect("written");
        }
        fs::write(top.join("gone"), b"x").expect("written");
        fs::write(top.join("large"), vec![7; 6 * 1024 * 1024]).expect("written");
        let (names, record) = packed_while(top, |written| {
            if written == 0 {
                fs::remove_file(top.join("gone")).expect("removed");
            }
        });
        assert_eq!(names.len(), 22, "the top, large, and all behind it");
        assert_eq!((record.listed, record.gone), (23, 1));
        assert!(record.is_whole(22));

        // While its own content is being written.
        let large = File::options().write(true).open(top.join("large"));
        let large = large.expect("opened");
        let (names, record) = packed_while(top, |written| {
            if written > 1024 * 1024 {
                large.set_len(1024).expect("cut");
            }
        });
        assert_eq!(names.len(), 22);
        assert_eq!(
            (record.changed, record.examples),
            (1, vec![format!("{TOP}/large")])
        );
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_an_error_with_its_name() {
        let missing = Path::new("/no/such/place");
        let error = pack(missing, &mut vec![]).expect_err("refused");
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    }
}
