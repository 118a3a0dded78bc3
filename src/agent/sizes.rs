//! Lengths and parts of buffers, without an index or a conversion that could fail.

/// A length as the 64-bit number that files and records have; every machine that Belay runs on has room for it.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The smaller of what is left and what there is room for.
pub(crate) fn at_most(left: u64, room: usize) -> usize {
    usize::try_from(left).map_or(room, |left| left.min(room))
}

/// The first bytes, or all of them where there are fewer.
pub(crate) fn first(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(..count).unwrap_or(bytes)
}

/// The same part, to be written to.
pub(crate) fn first_mut(bytes: &mut [u8], count: usize) -> &mut [u8] {
    let count = count.min(bytes.len());
    bytes.split_at_mut(count).0
}
