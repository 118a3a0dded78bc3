//! The place where a release's Compose file is read by Compose before its files are in the root.
//!
//! Runs on the host. A path of a Compose file counts from the application's directory, and may leave it: `../shared`. So the
//! place is as deep below a copy of `/` as the root is below the real one, with links to everything that is beside the way
//! there. Compose cleans paths by their words alone (`filepath.Clean`, `os.path.abspath`), so what it makes of a path in this
//! place is what it would make of it in the root, behind a prefix that [`Rendering::moved_to_root`] takes away again.
//!
//! Changes nothing outside of the place. Fails when a link cannot be made, or a directory above cannot be read for another
//! reason than that it is not ours.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::durable::is_there;
use crate::layout::{BACKUPS, STATE};

/// The name of the folders above the copy of `/`.
const ABOVE: &str = "_above";
/// How many of them there are: how often a path may say `..` at `/`, where it changes nothing.
const MOST_ABOVE: usize = 24;

/// A place that stands for an application's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    top: PathBuf,
    root: PathBuf,
}

/// A path that no copy of `/` is deep enough for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Compose file names a path that goes up more often than there are directories: {0}")]
pub struct TooFarUp(
    /// As Compose printed it, behind the prefix.
    String,
);

impl Rendering {
    /// The place for `root` below the directory `top`, which is its own and of absolute path.
    #[must_use]
    pub fn new(top: &Path, root: &Path) -> Rendering {
        Rendering {
            top: top.to_owned(),
            root: root.to_owned(),
        }
    }

    /// What stands for `/`.
    fn slash(&self) -> PathBuf {
        let above = std::iter::repeat_n(ABOVE, MOST_ABOVE);
        above.fold(self.top.clone(), |path, name| path.join(name))
    }

    /// What stands for the root: files of the release are written here before [`Rendering::link`].
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let below = self.root.components();
        let below = below.filter(|part| matches!(part, Component::Normal(_)));
        self.slash().join(below.collect::<PathBuf>())
    }

    /// Links what is in the root but for Belay's own and what is there already, and what is beside each directory above it.
    pub fn link(&self) -> io::Result<()> {
        let directory = self.directory();
        fs::create_dir_all(&directory)?;
        mirror(&self.root, &directory, &[STATE, BACKUPS])?;
        let (mut real, mut place) = (self.root.as_path(), directory.as_path());
        while let (Some(above), Some(place_above)) = (real.parent(), place.parent()) {
            // Another's directory may not be ours to list: what a file names in there, Compose does not find.
            if let Err(error) = link_missing(above, place_above)
                && error.kind() != io::ErrorKind::PermissionDenied
            {
                return Err(error);
            }
            (real, place) = (above, place_above);
        }
        Ok(())
    }

    /// A text for people, an error of Compose's, with the paths that they know. One of the place that means none is left.
    #[must_use]
    pub fn said_of_root(&self, text: &str) -> String {
        match self.moved(text) {
            Ok(Some(moved)) => moved,
            Ok(None) | Err(TooFarUp(_)) => text.to_owned(),
        }
    }

    /// Changes every path of this place in a document to that in the root.
    pub fn moved_to_root(&self, document: &mut Value) -> Result<(), TooFarUp> {
        match document {
            Value::String(text) => {
                if let Some(moved) = self.moved(text)? {
                    *text = moved;
                }
                Ok(())
            }
            Value::Array(list) => list.iter_mut().try_for_each(|v| self.moved_to_root(v)),
            Value::Object(map) => map.values_mut().try_for_each(|v| self.moved_to_root(v)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    /// A text with every path in it moved; nothing when there is none. A path may stand anywhere: `--config=${PWD}/x`.
    fn moved(&self, text: &str) -> Result<Option<String>, TooFarUp> {
        let top = self.top.display().to_string();
        let release = self.top.parent().unwrap_or(&self.top).display().to_string();
        let mut moved = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(&top) {
            moved.push_str(before);
            rest = below_slash(after);
            // The path was that of `/` itself.
            if !rest.starts_with('/') {
                moved.push('/');
            }
        }
        moved.push_str(rest);
        match moved.contains(&release) {
            true => Err(TooFarUp(text.to_owned())),
            false => Ok((moved != text).then_some(moved)),
        }
    }
}

/// What follows the folders above the copy of `/`, or above that at which a path goes off.
fn below_slash(path: &str) -> &str {
    let mut rest = path;
    for _ in 0..MOST_ABOVE {
        let after = rest.strip_prefix('/').and_then(|r| r.strip_prefix(ABOVE));
        let Some(after) = after.filter(|after| !continues_a_name(after)) else {
            break;
        };
        rest = after;
    }
    rest
}

/// Whether the text before this one is only the beginning of a file's name.
fn continues_a_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['/', ':', ',', ' ', '"', '\''])
}

/// Links what is in a directory into another, but for some names. Where both have a directory, what is in it is linked.
fn mirror(from: &Path, into: &Path, but: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if but.iter().any(|but| name == *but) {
            continue;
        }
        let to = into.join(&name);
        if !is_there(&to) {
            symlink(entry.path(), &to)?;
        } else if to.is_dir() && entry.path().is_dir() {
            mirror(&entry.path(), &to, &[])?;
        }
    }
    Ok(())
}

/// Links what is in a directory, and not in another, into that one.
fn link_missing(from: &Path, into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = into.join(entry.file_name());
        if !is_there(&to) {
            symlink(entry.path(), &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place() -> Rendering {
        Rendering::new(
            Path::new("/opt/app/.belay/releases/1-v1/rendering"),
            Path::new("/opt/app"),
        )
    }

    fn moved(path: &str) -> Result<Value, TooFarUp> {
        let mut document = json!(path);
        place().moved_to_root(&mut document).map(|()| document)
    }

    /// As Compose does it.
    fn cleaned(path: &str) -> String {
        let mut parts = vec![];
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    #[test]
    fn a_path_means_what_it_means_in_the_root() {
        let directory = place().directory().display().to_string();
        for path in [
            ".",
            "data",
            "../shared",
            "../..",
            "../../etc/x",
            "../../../../../x",
            "../app/x",
            "../appendix",
        ] {
            let printed = cleaned(&format!("{directory}/{path}"));
            let meant = cleaned(&format!("/opt/app/{path}"));
            assert_eq!(moved(&printed), Ok(json!(meant)), "{path}");
            assert_eq!(
                moved(&format!("{printed}:/x:ro")),
                Ok(json!(format!("{meant}:/x:ro")))
            );
            assert_eq!(
                moved(&format!("--a={printed} --b={printed}")),
                Ok(json!(format!("--a={meant} --b={meant}")))
            );
        }
        assert_eq!(moved("/opt/application"), Ok(json!("/opt/application")));
        let said = format!("stat {directory}/x.env: no such file");
        assert_eq!(
            place().said_of_root(&said),
            "stat /opt/app/x.env: no such file"
        );
    }

    #[test]
    fn one_that_goes_up_too_far_is_refused() {
        let directory = place().directory().display().to_string();
        let printed = cleaned(&format!("{directory}/{}x", "../".repeat(MOST_ABOVE + 3)));
        assert_eq!(moved(&printed), Err(TooFarUp(printed)));
    }

    #[test]
    fn what_is_beside_the_way_to_the_root_is_found_in_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("srv/app");
        for path in [
            "srv/app/conf/own.txt",
            "srv/app/.belay/x",
            "srv/shared.txt",
            "above.txt",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, path.display().to_string()).expect("written");
        }
        let place = Rendering::new(&root.join(".belay/rendering"), &root);
        let shipped = place.directory().join("conf/shipped.txt");
        fs::create_dir_all(shipped.parent().expect("a parent")).expect("made");
        fs::write(&shipped, "shipped").expect("written");
        place.link().expect("linked");
        let there = |path: &str| place.directory().join(path).exists();
        for path in [
            "conf/own.txt",
            "conf/shipped.txt",
            "../shared.txt",
            "../../above.txt",
        ] {
            assert!(there(path), "{path}");
        }
        assert!(!there(".belay"));
    }
}
