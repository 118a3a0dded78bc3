//! What a Compose project is called, and what its images are called for its sake.

/// The reference that pins an image in a rendered file. It names the content (the ID), so the same image keeps the same
/// pin and Compose leaves its container alone.
#[must_use]
pub fn pin(project: &str, service: &str, config: &str) -> String {
    let digits = config.strip_prefix("sha256:").unwrap_or(config);
    format!(
        "{}:{}",
        repository(project, service),
        digits.get(..12).unwrap_or(digits)
    )
}

/// The repository of Belay's own image references for a service.
#[must_use]
pub fn repository(project: &str, service: &str) -> String {
    format!(
        "{}{}",
        repository_prefix(project),
        service.to_ascii_lowercase()
    )
}

/// What every image reference of Belay's for a project begins with. The slash keeps one project's prefix from being
/// another's beginning.
#[must_use]
pub fn repository_prefix(project: &str) -> String {
    format!("belay/{project}/")
}

/// The project's name that Compose itself makes from a directory's name: lower case, and only letters, digits, `-`, `_`.
#[must_use]
pub fn project_from_directory(name: &str) -> Option<String> {
    let kept: String = name
        .to_ascii_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        .collect();
    let name = kept.trim_start_matches(['-', '_']).to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_named_as_compose_names_them() {
        assert_eq!(
            project_from_directory("NT Platform.v2").as_deref(),
            Some("ntplatformv2")
        );
        assert_eq!(project_from_directory("_x-1").as_deref(), Some("x-1"));
        assert_eq!(project_from_directory("..."), None);
    }
}
