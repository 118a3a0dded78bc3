//! What the texts of `belay.yml` are made of: names, numbers with a unit, addresses, and which paths may be an app's folder, a
//! file of the repository, or data. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) fn plain_name(text: &str, punctuation: &str) -> Option<String> {
    name(text, 63, punctuation)
}

/// Begins with a letter or digit; this also keeps it from ever looking like an option.
pub(super) fn name(text: &str, longest: usize, punctuation: &str) -> Option<String> {
    let fits = text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && is_made_of(text, punctuation);
    fits.then(|| text.to_owned())
}

pub(super) fn is_made_of(text: &str, punctuation: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c))
}

/// Splits `300MB` where its digits (and a dot) end.
pub(super) fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(end);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    number.splitn(2, '.').all(digits).then_some((number, unit))
}

pub(super) fn platform(text: &str) -> Option<String> {
    let mut parts = text.split('/');
    let (Some("linux"), Some(architecture), variant, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let architecture_fits =
        is_made_of(architecture, "") && !architecture.bytes().any(|b| b.is_ascii_uppercase());
    let variant_fits =
        variant.is_none_or(|variant| matches!(variant.as_bytes(), [b'v', b'0'..=b'9']));
    (architecture_fits && variant_fits).then(|| text.to_owned())
}

pub(super) fn host_address(text: &str) -> Option<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Some(bare.to_owned());
    }
    let is_label =
        |label: &str| is_made_of(label, "_-") && !label.starts_with('-') && !label.ends_with('-');
    let is_numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let fits = text.len() <= 253
        && text.split('.').all(is_label)
        && (!is_numeric || text.parse::<Ipv4Addr>().is_ok());
    fits.then(|| text.to_owned())
}

pub(super) fn url(text: &str) -> Option<String> {
    let parsed = url::Url::parse(text).ok()?;
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let fits = parsed.has_host()
        && !authority.is_empty()
        && !authority.contains('@')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '\\');
    fits.then(|| text.to_owned())
}

/// Folders that belong to the system: a root there would mix the app's files with the host's own.
const SYSTEM_FOLDERS: [&str; 19] = [
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc",
    "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
];
/// Folders in which nothing may be kept at any depth.
const FORBIDDEN_TREES: [&str; 9] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys",
];

pub(super) fn absolute_path(text: &str) -> Option<String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let parts = path.strip_prefix('/')?;
    let fits = path.len() <= 255
        && parts
            .split('/')
            .all(|part| is_made_of(part, "._+@-") && part != "." && part != "..")
        && !SYSTEM_FOLDERS.contains(&path)
        && !FORBIDDEN_TREES.iter().any(|tree| {
            path.strip_prefix(tree)
                .is_some_and(|rest| rest.starts_with('/'))
        });
    fits.then(|| path.to_owned())
}

pub(super) fn data_source(text: &str) -> Option<String> {
    if text.len() > 1024 || text.contains(|c: char| c.is_ascii_control()) {
        return None;
    }
    let is_path = |path: &str| path.len() > 1 && path.starts_with('/');
    let path = text.strip_prefix('.').unwrap_or(text);
    if is_path(path) {
        return Some(text.to_owned());
    }
    let (name, target) = match text.split_once(':') {
        Some((service, target)) => (service, Some(target)),
        None => (text, None),
    };
    let fits = plain_name(name, "._-").is_some() && target.is_none_or(is_path);
    fits.then(|| text.to_owned())
}

pub(super) fn relative_path(text: &str) -> Option<String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let is_sign = |c: char| c.is_ascii_control() || "\\$`'\"*?;&|<>!".contains(c);
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(is_sign);
    let fits = !text.starts_with(['-', ' '])
        && !text.ends_with(' ')
        && path.len() <= 1024
        && path.split('/').all(is_part);
    fits.then(|| path.to_owned())
}
