//! Archives that no reader may read to its end, by what is wrong with them.

use super::evil::{Evil, good_with_mode, patched, pax, start};

/// A case: what is wrong, and the archive.
pub(super) type Case = (&'static str, Vec<u8>);

/// Archives that must be refused whatever a manifest says. `outside` is a directory that nothing may be written to.
pub(super) fn hostile(outside: &str) -> Vec<Case> {
    [
        names(outside),
        places(outside),
        hard_links(outside),
        kinds(),
        long_names(),
        pax_names(),
        pax_sizes(),
        numbers(),
        ends(),
        lengths(),
    ]
    .concat()
}

/// Names that lead elsewhere, or can be read in two ways.
fn names(outside: &str) -> Vec<Case> {
    let out = format!("{outside}/owned");
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
    ]
}

/// Entries below, over or without others.
fn places(outside: &str) -> Vec<Case> {
    let out = format!("{outside}/owned");
    vec![
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
    ]
}

/// Second names of what is not theirs.
fn hard_links(outside: &str) -> Vec<Case> {
    let out = format!("{outside}/owned");
    vec![
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
    ]
}

/// Kinds of entries that have no place in a backup, or carry what they cannot.
fn kinds() -> Vec<Case> {
    vec![
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
    ]
}

/// Names in headers of their own, as GNU tar writes them.
fn long_names() -> Vec<Case> {
    let long = "n".repeat(5_000);
    vec![
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
    ]
}

/// The same as POSIX writes them.
fn pax_names() -> Vec<Case> {
    vec![
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
    ]
}

/// Lengths and sizes in such headers.
fn pax_sizes() -> Vec<Case> {
    vec![
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
    ]
}

/// Numbers and sums that are wrong.
fn numbers() -> Vec<Case> {
    vec![
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
    ]
}

/// Ends that are missing, or not the end.
fn ends() -> Vec<Case> {
    vec![
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
    ]
}

/// More than anybody announced.
fn lengths() -> Vec<Case> {
    vec![
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
pub(super) fn wrong() -> Vec<Case> {
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
