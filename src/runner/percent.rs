//! Percent-encoding of a text as one part of an address. Runs on the runner; pure.

/// Letters, digits and the bytes in `unreserved` stay as they are; every other byte becomes `%XX`.
pub(crate) fn percent_encode(text: &str, unreserved: &[u8]) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || unreserved.contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}
