//! Files that are replaced, made and removed, as far as a test can see that.

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("the directory is there")
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

#[test]
fn a_file_is_replaced_with_exactly_the_mode_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state");
    for (text, mode) in [("one", 0o600), ("two", 0o644), ("three", 0o777)] {
        replace(&path, text.as_bytes(), mode).expect("replaced");
        assert_eq!(fs::read_to_string(&path).expect("text"), text);
        let found = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(found & 0o7777, mode);
    }
    assert_eq!(names(dir.path()), ["state"]);
}

#[test]
fn a_failed_write_leaves_the_old_content_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state");
    replace(&path, b"old", 0o600).expect("replaced");
    let failed = replace_with(&path, 0o600, |file| {
        file.write_all(b"half")?;
        Err(io::Error::other("the disk is full"))
    });
    assert!(failed.is_err());
    assert_eq!(fs::read(&path).expect("text"), b"old");
    assert_eq!(names(dir.path()), ["state"]);
}

#[test]
fn a_link_in_the_way_is_replaced_not_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = dir.path().join("outside");
    fs::write(&outside, "untouched").expect("written");
    let path = dir.path().join("current");
    replace_link(&path, &outside).expect("linked");
    replace(&path, b"mine", 0o600).expect("replaced");
    assert_eq!(fs::read(&outside).expect("text"), b"untouched");
    replace_link(&path, Path::new("releases/2-v1.1.0")).expect("linked");
    assert_eq!(
        fs::read_link(&path).expect("a link"),
        Path::new("releases/2-v1.1.0")
    );
}

#[test]
fn a_new_file_is_never_opened_through_a_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("new");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("linked");
    assert!(create_new(&path).is_err());
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn what_a_crash_leaves_is_recognised_and_nothing_else_is() {
    let aside = aside_of(Path::new("/srv/state")).expect("a name");
    assert!(is_leftover(aside.file_name().expect("a name")));
    for innocent in [
        "state",
        ".env",
        ".state.belay-new",
        "state.belay-new.1.2",
        ".belay-new.x.y",
    ] {
        assert!(!is_leftover(OsStr::new(innocent)), "{innocent}");
    }
}

/// Writes down what it is told.
#[derive(Default)]
struct Listener(std::cell::RefCell<Vec<String>>);

impl disk::Tape for Listener {
    fn before(&self, op: &disk::Op<'_>) -> io::Result<()> {
        self.0.borrow_mut().push(format!("{op:?}"));
        Ok(())
    }
}

/// The operations of some work under a directory, without the directory's name.
fn heard(dir: &Path, work: impl FnOnce() -> io::Result<()>) -> Vec<String> {
    let listener = std::rc::Rc::new(Listener::default());
    disk::listen(Some(listener.clone()));
    let done = work();
    disk::listen(None);
    done.expect("it works");
    let dir = dir.display().to_string();
    let told = listener.0.borrow();
    told.iter().map(|op| op.replace(&dir, "")).collect()
}

#[test]
fn a_directory_that_is_made_is_there_after_a_loss_of_power() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = dir.path().join("a/b");
    let told = heard(dir.path(), || make_dirs(&made, 0o700));
    let expected = [
        "MakeDir(\"/a\")",
        "SyncDir(\"\")",
        "MakeDir(\"/a/b\")",
        "SyncDir(\"/a\")",
    ];
    assert_eq!(told, expected);
    assert_eq!(heard(dir.path(), || make_dirs(&made, 0o700)), [""; 0]);
}

#[test]
fn what_is_removed_is_gone_after_a_loss_of_power() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x");
    fs::write(&path, "x").expect("written");
    let told = heard(dir.path(), || remove(&path));
    assert_eq!(told, ["Remove(\"/x\")", "SyncDir(\"\")"]);
    fs::create_dir(&path).expect("made");
    let told = heard(dir.path(), || remove_tree(&path));
    assert_eq!(told, ["RemoveTree(\"/x\")", "SyncDir(\"\")"]);
    let told = heard(dir.path(), || remove_tree(&path));
    assert_eq!(
        told,
        ["RemoveTree(\"/x\")", "SyncDir(\"\")"],
        "gone already"
    );
    remove(&path.join("y")).expect("not even a directory for it");
    fs::create_dir(&path).expect("made");
    let told = heard(dir.path(), || remove_dir(&path));
    assert_eq!(told, ["RemoveDir(\"/x\")", "SyncDir(\"\")"]);
}

#[test]
fn a_sweep_removes_what_a_crash_left_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let aside = aside_of(&dir.path().join("state")).expect("a name");
    for path in [&aside, &dir.path().join("state"), &dir.path().join(".env")] {
        fs::write(path, "x").expect("written");
    }
    sweep(dir.path()).expect("swept");
    assert_eq!(names(dir.path()), [".env", "state"]);
    sweep(&dir.path().join("nowhere")).expect("nothing to do");
    try_out(dir.path()).expect("it can be written");
    assert_eq!(names(dir.path()), [".env", "state"]);
}

#[test]
fn removing_what_is_gone_is_fine() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state");
    replace(&path, b"x", 0o600).expect("replaced");
    remove(&path).expect("removed");
    remove(&path).expect("removed again");
}
