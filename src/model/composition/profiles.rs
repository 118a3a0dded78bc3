//! Which of a Compose file's services a host runs: those without profiles, and those of the active ones.

use serde_json::Value;

/// The variable that says which of a file's profiles are active.
pub const PROFILES: &str = "COMPOSE_PROFILES";

/// The profiles that are active: what the variable is set to, else what the project's `.env` says.
#[must_use]
pub fn active_profiles(set: Option<&str>, dot_env: &str) -> Vec<String> {
    let written = || {
        dot_env.lines().rev().find_map(|line| {
            let line = line.trim().trim_start_matches("export ");
            let value = line
                .strip_prefix(PROFILES)?
                .trim_start()
                .strip_prefix('=')?;
            Some(value.trim().trim_matches(['"', '\'']))
        })
    };
    let profiles = set.or_else(written).unwrap_or_default();
    profiles
        .split(',')
        .map(|profile| profile.trim().to_owned())
        .filter(|profile| !profile.is_empty())
        .collect()
}

/// Leaves out the services that none of these profiles has. Compose 2 does so by itself; 1.x prints every service.
pub fn leave_out_inactive(document: &mut Value, active: &[String]) {
    let services = document.get_mut("services").and_then(Value::as_object_mut);
    let is_active = |profiles: &Vec<Value>| {
        profiles.is_empty()
            || profiles
                .iter()
                .filter_map(Value::as_str)
                .any(|profile| active.iter().any(|a| a == profile))
    };
    if let Some(services) = services {
        services.retain(|_, service| {
            service
                .get("profiles")
                .and_then(Value::as_array)
                .is_none_or(is_active)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_profiles_are_those_of_the_variable_or_else_of_the_file() {
        assert_eq!(active_profiles(None, "A=1\n"), Vec::<String>::new());
        assert_eq!(
            active_profiles(None, "COMPOSE_PROFILES=\"a, b\"\n"),
            ["a", "b"]
        );
        assert_eq!(
            active_profiles(None, "COMPOSE_PROFILES=a\nexport COMPOSE_PROFILES = b\n"),
            ["b"]
        );
        assert_eq!(active_profiles(Some("c"), "COMPOSE_PROFILES=a\n"), ["c"]);
        assert_eq!(
            active_profiles(Some(""), "COMPOSE_PROFILES=a\n"),
            Vec::<String>::new()
        );
    }
}
