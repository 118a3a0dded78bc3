//! The files that people, and Docker Compose without Belay, go by: what serves, what served before, and the script.
//!
//! Runs on the host. A person may have changed a Compose file, and that counts until the next deployment; one that is no
//! Compose file at all was damaged.

use std::fs;
use std::path::Path;

use super::{Mender, Mode};
use crate::records;
use crate::state;
use belay_model::digest::sha256;
use belay_model::versions::release::Release;
use belay_model::yaml;

/// The emergency path, for a host where nothing of Belay's works any more. POSIX sh. It looks before it stops anything.
pub const ROLLBACK_SCRIPT: &str = include_str!("rollback.sh");

/// Digests of what earlier versions of Belay wrote in its place: they are whole, and replaced without a word.
const EARLIER_SCRIPTS: [&str; 1] =
    ["8273a0b9b5bb309c2ae4468b37e6a8629c0f460516778067153935ebd7204bf4"];

impl Mender<'_> {
    pub(super) fn serving(&mut self) {
        let Some(current) = state::current(self.layout).ok().flatten() else {
            return;
        };
        // A transaction that is not over is about to write them.
        if state::open_transactions(self.layout).is_ok_and(|open| !open.is_empty()) {
            return;
        }
        let releases = state::releases(self.layout).unwrap_or_default();
        let named = |name: &str| releases.iter().find(|release| release.name == name);
        if let Some(release) = named(&current.release) {
            self.compose(&self.layout.compose(), release, &releases);
        }
        let previous = current.previous.as_deref().and_then(named);
        if let Some(release) =
            previous.filter(|_| current.previous.as_ref() != Some(&current.release))
        {
            self.compose(&self.layout.compose_backup(), release, &releases);
        }
        // What was taken over has none until the first deployment.
        if current.seq > 0 {
            self.script();
        }
    }

    fn compose(&mut self, path: &Path, release: &Release, releases: &[Release]) {
        let from = self.layout.release(&release.name).compose();
        let whole = fs::read(&from)
            .ok()
            .filter(|text| sha256(text) == release.compose_sha256);
        let Some(whole) = whole else {
            return;
        };
        let found = match fs::read(path) {
            Ok(text) if releases.iter().any(|r| r.compose_sha256 == sha256(&text)) => return,
            Ok(text) if text.is_empty() => "is empty",
            // Half of a file may be a Compose file as well.
            Ok(text) if whole.starts_with(&text) => "was cut short",
            Ok(text) if is_compose_file(&text) => {
                let found = format!("was changed since {} was deployed", release.tag);
                // A person may mean it: it stays, and the next deployment writes its own.
                let next = format!(
                    "if nobody means it: cp {} {}",
                    from.display(),
                    path.display()
                );
                return self.leave(path, &found, &next);
            }
            Ok(_) => "is damaged: it is no Compose file",
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing",
            Err(_) => "cannot be read",
        };
        let done = format!("it was written again as {} has it", release.tag);
        self.replace(path, found, &done, || records::write(path, &whole, 0o600));
    }

    fn script(&mut self) {
        let path = self.layout.rollback_script();
        let text = fs::read(&path).unwrap_or_default();
        if text == ROLLBACK_SCRIPT.as_bytes() {
            return;
        }
        let write = || records::write(&path, ROLLBACK_SCRIPT.as_bytes(), 0o700);
        if EARLIER_SCRIPTS.contains(&sha256(&text).as_str()) {
            if self.mode != Mode::Look {
                // Else the one that is there does the same, but for the look.
                let _ = write();
            }
            return;
        }
        let found = match (path.exists(), text.is_empty()) {
            (false, _) => "is missing",
            (true, true) => "is empty",
            (true, false) => "is not as Belay writes it",
        };
        self.replace(&path, found, "it was written again", write);
    }
}

/// Whether a text says which services there are, whatever else is right or wrong about it.
fn is_compose_file(text: &[u8]) -> bool {
    let document = yaml::read(text).ok();
    let services = document.as_ref().and_then(|d| d.get("services"));
    services.is_some_and(|services| services.as_object().is_some_and(|s| !s.is_empty()))
}
