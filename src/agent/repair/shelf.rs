//! Backups: those with a damaged or missing record are told of, and when a person asks for it the record is made again from
//! the archive.
//!
//! Runs on the host. Nothing here removes a backup, or changes an archive.

use super::{Mender, Mode};
use crate::backup::{self, BackupName, rebuild};
use crate::records::WAY_ON;
use belay_model::transaction::outcome::with_causes;

impl Mender<'_> {
    pub(super) fn shelf(&mut self) {
        let root = self.layout.root();
        let unrecorded = backup::unrecorded(root).into_iter();
        let mut bad: Vec<(BackupName, String)> = unrecorded.map(|u| (u.name, u.why)).collect();
        for entry in backup::list(root) {
            if let (Some(problem), Ok(name)) = (entry.problem, entry.name.parse()) {
                bad.push((name, problem));
            }
        }
        for (name, why) in bad {
            self.backup(&name, &why);
        }
    }

    fn backup(&mut self, name: &BackupName, why: &str) {
        let (root, path) = (
            self.layout.root(),
            self.layout.backups().join(name.as_str()),
        );
        let found = format!("is no backup to rely on: {why}");
        if self.mode != Mode::Whole {
            return self.leave(&path, &found, WAY_ON);
        }
        let keep =
            "it counts for nothing and is left alone; put a good copy there, or move it away";
        let rebuilt = match rebuild::reconstruct(root, name) {
            Ok(rebuilt) => rebuilt,
            Err(error) => {
                let found = format!("{found} ({})", with_causes(&error));
                return self.leave(&path, &found, keep);
            }
        };
        for file in rebuild::in_the_way(root, name) {
            self.replace(&file, "is damaged", "it was set aside", || Ok(()));
        }
        match rebuild::put_back(root, name, &rebuilt) {
            Ok(()) => self.tell(
                &path,
                &found,
                Some("its record was made again from its archive, which was read whole"),
                None,
                None,
            ),
            Err(error) => self.leave(&path, &format!("{found} ({})", with_causes(&error)), WAY_ON),
        }
    }
}
