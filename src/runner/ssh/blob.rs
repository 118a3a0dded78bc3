//! Reads the length-prefixed strings that every SSH key is made of.
//!
//! Pure; runs on the runner. It never reads past its input and never allocates: a key that is cut off yields `None`.

/// What is left to read of a blob.
pub(super) struct Blob<'a>(&'a [u8]);

impl<'a> Blob<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.bytes(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_and_the_rest_stays() {
        let mut blob = Blob::new(b"\0\0\0\x02hi\0\0\0\0");
        assert_eq!(blob.text(), Some("hi"));
        assert_eq!(blob.string(), Some(&b""[..]));
        assert!(blob.is_empty());
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Blob::new(b"\0\0\0\x03hi").string(), None);
        assert_eq!(Blob::new(b"\xff\xff\xff\xffhi").string(), None);
        assert_eq!(Blob::new(b"\0\0").string(), None);
    }
}
