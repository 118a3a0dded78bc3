//! Files that survive a crash whole.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Puts `bytes` at `path` so that a reader, or a crash, sees the old content or the new one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (dir, temporary) = beside(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    // Set, not asked for at the opening: the process's umask would take bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(dir)
}

/// Puts a symbolic link at `path`, in the place of whatever file or link is there.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let (dir, temporary) = beside(path)?;
    symlink(target, &temporary)?;
    fs::rename(&temporary, path)?;
    sync_dir(dir)
}

/// The directory of a file, and a name in it for what will be renamed to it. Nothing has that name.
fn beside(path: &Path) -> io::Result<(&Path, PathBuf)> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("a file needs a directory"))?;
    let mut name = path
        .file_name()
        .ok_or_else(|| io::Error::other("a file needs a name"))?
        .to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let temporary = dir.join(name);
    let _ = fs::remove_file(&temporary);
    Ok((dir, temporary))
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
