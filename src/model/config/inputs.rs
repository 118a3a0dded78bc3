//! What the inputs of a run say over `belay.yml`.
//!
//! Pure; runs on the runner.

use super::document::Position;
use super::problems::{Problem, Problems, shown};
use super::values::{AbsolutePath, AppName, EnvironmentName, HostAddress, Period, Text, UserName};

/// The inputs as the action passes them: text, empty when not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Input `environment`.
    pub environment: Option<String>,
    /// Input `host`.
    pub host: Option<String>,
    /// Input `port`.
    pub port: Option<String>,
    /// Input `user`.
    pub user: Option<String>,
    /// Option `--root` of the command line.
    pub root: Option<String>,
    /// Input `lock-wait`.
    pub lock_wait: Option<String>,
    /// The repository, as `owner/name` or `name`.
    pub repository: Option<String>,
}

/// The inputs, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CheckedInputs {
    /// Decides over the kind of tag.
    pub(super) environment: Option<EnvironmentName>,
    pub(super) host: Option<HostAddress>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<UserName>,
    pub(super) root: Option<AbsolutePath>,
    pub(super) lock_wait: Option<Period>,
    /// The app, when nothing else names it.
    pub(super) repository: Option<AppName>,
}

pub(super) fn check(overrides: &Overrides) -> Result<CheckedInputs, Vec<Problem>> {
    let mut problems = Problems::of("inputs", Vec::new());
    let inputs = CheckedInputs {
        environment: input(&mut problems, "environment", overrides.environment.as_ref()),
        host: input(&mut problems, "host", overrides.host.as_ref()),
        port: port(&mut problems, overrides.port.as_ref()),
        user: input(&mut problems, "user", overrides.user.as_ref()),
        root: input(&mut problems, "root", overrides.root.as_ref()),
        lock_wait: input(&mut problems, "lock-wait", overrides.lock_wait.as_ref()),
        repository: overrides.repository.as_deref().and_then(repository_name),
    };
    problems.finish(inputs)
}

/// The value of an input; an empty one is one that was not given.
fn given(value: Option<&String>) -> Option<&str> {
    value
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

fn input<T: Text>(problems: &mut Problems, name: &str, value: Option<&String>) -> Option<T> {
    let text = given(value)?;
    let read = T::read(text);
    if read.is_none() {
        let message = format!("{name}: \"{}\" is not {}", shown(text), T::WHAT);
        problems.add(Position::NONE, message, T::HINT);
    }
    read
}

fn port(problems: &mut Problems, value: Option<&String>) -> Option<u16> {
    let text = given(value)?;
    // `parse` would take a sign as well.
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port > 0);
    if port.is_none() {
        let message = format!("port: \"{}\" is not a port", shown(text));
        problems.add(Position::NONE, message, "write a number from 1 to 65535");
    }
    port
}

/// The name without its owner. One that cannot name an app is no name; then the root or `app` has to.
fn repository_name(repository: &str) -> Option<AppName> {
    AppName::read(repository.trim().rsplit('/').next()?)
}
