//! Words for a shell.

/// One word for whatever shell a user has: everything inside single quotes, save the two characters that shells disagree on
/// there.
#[must_use]
pub fn quoted(word: &str) -> String {
    let mut text = String::from("'");
    for character in word.chars() {
        match character {
            '\'' => text.push_str(r"'\''"),
            '\\' => text.push_str(r"'\\'"),
            other => text.push(other),
        }
    }
    text.push('\'');
    text
}

/// A path for people to read and type: without quotes where it needs none.
#[must_use]
pub fn path(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match !path.is_empty() && path.chars().all(is_plain) {
        true => path.to_owned(),
        false => quoted(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_backslash_or_quote_stays_inside_quotes() {
        assert_eq!(quoted(r"a'b"), r"'a'\''b'");
        assert_eq!(quoted(r"a\b"), r"'a'\\'b'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_plain_path_needs_no_quotes() {
        assert_eq!(path("/opt/ntplatform"), "/opt/ntplatform");
        assert_eq!(path("/opt/it's $(x)"), "'/opt/it'\\''s $(x)'");
        assert_eq!(path(""), "''");
    }
}
