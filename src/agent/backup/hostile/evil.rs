//! Makes archives by hand, header by header, whatever is wrong with them.

use tar::{EntryType, Header};

/// A hand-made archive.
#[derive(Default)]
pub(super) struct Evil(pub(super) Vec<u8>);

impl Evil {
    pub(super) fn entry(self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        self.sized(kind, name, link, content, content.len() as u64)
    }

    pub(super) fn sized(
        mut self,
        kind: u8,
        name: &[u8],
        link: &[u8],
        content: &[u8],
        size: u64,
    ) -> Self {
        let mut header = header(kind, name, link, size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.content(content)
    }

    pub(super) fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", b"owned\n")
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    pub(super) fn link(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name.as_bytes(), to.as_bytes(), b"")
    }

    pub(super) fn hard(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), b"")
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub(super) fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Header {
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

pub(super) fn start() -> Evil {
    Evil::default().dir("config/")
}

pub(super) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
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
pub(super) fn patched(change: impl FnOnce(&mut Header), sum: bool) -> Vec<u8> {
    let mut header = header(b'0', b"config/x", b"", 0);
    header.set_cksum();
    change(&mut header);
    if sum {
        header.set_cksum();
    }
    header.as_bytes().to_vec()
}

pub(super) fn good() -> Vec<u8> {
    start().file("config/f").end()
}

pub(super) fn good_with_mode(mode: u32) -> Vec<u8> {
    let mut header = header(b'5', b"config/", b"", 0);
    header.set_mode(mode);
    header.set_cksum();
    Evil::default()
        .raw(header.as_bytes())
        .file("config/f")
        .end()
}
