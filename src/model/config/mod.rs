//! `belay.yml`, checked: what may be configured, its defaults, and how inputs and environments override it.
//!
//! Pure; the file is read on the runner. Every key is declared in `settings.rs`, once. The way is one: text → located
//! tree (`document`) → typed values (`setting`, `forms`) → what has to fit together (`checks`) → [`Config`] →
//! [`Settings`] of one environment (`resolve`). [`Config::load`] reports every problem of a file at once; a `Config` or
//! a `Settings` therefore proves that all of it was checked. Nothing here is secret: a key that looks like a secret is
//! refused.

mod checks;
mod document;
mod forms;
mod inputs;
mod problems;
mod readers;
pub mod reference;
mod resolve;
pub mod schema;
mod setting;
mod settings;
pub mod values;

pub use self::inputs::Overrides;
pub use self::problems::{Problem, render_problems};
pub use self::resolve::{COMPOSE_FILES, Config, HostToReach, Settings, keys};
pub use self::setting::{SettingKey, Shape, Usual};
pub use self::settings::*;
pub use self::values::{
    AbsolutePath, AppName, Bytes, Choice, DataPath, DataSource, EnvironmentName, HeaderName,
    HostAddress, ImageName, JsonField, Percent, Period, Platform, ProjectName, RelativePath,
    ServiceName, Text, Url, UserName, VolumeName,
};
