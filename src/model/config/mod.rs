//! `belay.yml`, checked: what may be configured, its defaults, and how inputs and environments override it.
//!
//! Pure; the file is read on the runner, its [`Settings`] travel to the host. The way is one: text → located tree
//! (`document`) → typed layers (`read`) → [`Config`] → [`Settings`] of one environment. [`Config::load`] reports every
//! problem of a file at once; a `Config` or a `Settings` therefore proves that all of it was checked. Nothing here is
//! secret: a key that looks like a secret is refused.

pub mod document;
mod read;
pub mod schema;
mod settings;
pub mod values;

pub use self::document::{Problem, render_problems};
pub use self::settings::*;
pub use self::values::{
    AbsolutePath, AppName, Bytes, DataPath, EnvironmentName, HeaderName, HostAddress, ImageName,
    JsonField, Percent, Period, Platform, ProjectName, RelativePath, ServiceName, Text, Url,
    UserName, VolumeName, Word,
};
