//! The releases: a record, two Compose files and the shipped files, each held against its spare.
//!
//! Runs on the host. The record tells the digests of the others, which may also be whole where they were put into the
//! application's folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Mender, Mode, is_record, seq_in};
use crate::records;
use crate::state;
use belay_model::digest::sha256;
use belay_model::versions::release::Release;

impl Mender<'_> {
    pub(super) fn releases(&mut self) {
        let open = state::open_transactions(self.layout).unwrap_or_default();
        let mut names = records::names(&self.layout.releases()).unwrap_or_default();
        let spares = self.layout.spare(&self.layout.releases());
        names.extend(
            spares
                .and_then(|dir| records::names(&dir).ok())
                .unwrap_or_default(),
        );
        names.sort();
        names.dedup();
        for name in names {
            let is_open = seq_in(&name).is_some_and(|seq| open.contains(&seq));
            self.release(&name, is_open);
        }
    }

    fn release(&mut self, name: &str, is_open: bool) {
        let place = self.layout.release(name);
        let judge = |bytes: &[u8]| {
            is_record::<Release>(bytes)?;
            let record: Release =
                records::parse(Path::new(name), bytes).map_err(|e| e.to_string())?;
            match record.name == name {
                true => Ok(()),
                false => Err(format!("is the record of {}", record.name)),
            }
        };
        let record = self.twin(&place.record(), 0o600, &judge);
        let record =
            record.and_then(|bytes| records::parse::<Release>(&place.record(), &bytes).ok());
        let Some(mut release) = record else {
            if !is_open {
                self.lost(
                    name,
                    &place.record(),
                    "cannot be read, and has no spare copy",
                );
            }
            return;
        };
        let normalised = place.normalised();
        let is_there = self
            .twin(&normalised, 0o600, &is_record::<serde_json::Value>)
            .is_some();
        let compose = self.content(
            &place.compose(),
            &release.compose_sha256,
            0o600,
            &[self.layout.compose(), self.layout.compose_backup()],
        );
        for (path, is_whole) in [(normalised, is_there), (place.compose(), compose)] {
            if !is_whole && !is_open {
                return self.lost(name, &path, "is not what it was, and has no spare copy");
            }
        }
        self.shipped(&mut release);
    }

    /// A file of which a record tells the digest. It may be whole somewhere else, too. Tells whether it is.
    fn content(&mut self, path: &Path, digest: &str, mode: u32, also: &[PathBuf]) -> bool {
        let judge = |bytes: &[u8]| match sha256(bytes) == digest {
            true => Ok(()),
            false => Err("is not what its release's record says".to_owned()),
        };
        if self.twin(path, mode, &judge).is_some() {
            return true;
        }
        let whole = also.iter().filter_map(|from| fs::read(from).ok());
        let Some(bytes) = whole.into_iter().find(|bytes| judge(bytes).is_ok()) else {
            return false;
        };
        let layout = self.layout;
        let found = match path.exists() {
            true => "is not what its release's record says",
            false => "is missing",
        };
        self.replace(
            path,
            found,
            "it was copied from the application's folder",
            || {
                if let Some(dir) = path.parent() {
                    records::make_dir(dir)?;
                }
                records::write_spared(layout, path, &bytes, mode)
            },
        );
        true
    }

    /// The files that a release brings. What is nowhere any more may be what lies in the folder now, if a person says so.
    fn shipped(&mut self, release: &mut Release) {
        let place = self.layout.release(&release.name);
        let mut lost = vec![];
        for file in &release.files {
            let path = place.files().join(&file.path);
            let placed = self.layout.root().join(&file.path);
            let mode = file.mode & 0o777;
            if !self.content(&path, &file.sha256, mode, std::slice::from_ref(&placed)) {
                lost.push((path, placed, mode, file.path.clone()));
            }
        }
        let before = release.clone();
        for (path, placed, mode, name) in lost {
            let found = "is not what its release's record says, nor is the one in the folder";
            if !self.serves(&release.name) {
                let next = "choose another version to go back to, or deploy that tag again";
                self.leave(&path, found, next);
                continue;
            }
            let Ok(bytes) = fs::read(&placed) else {
                self.replace_if_asked(&path, found, "the version is kept without it", || Ok(()));
                if self.mode == Mode::Whole {
                    release.files.retain(|file| file.path != name);
                }
                continue;
            };
            if self.mode == Mode::Whole {
                for file in release.files.iter_mut().filter(|file| file.path == name) {
                    file.sha256 = sha256(&bytes);
                }
            }
            let layout = self.layout;
            self.replace_if_asked(&path, found, "the one in the folder counts now", || {
                records::write_spared(layout, &path, &bytes, mode)
            });
        }
        if *release != before {
            let record = place.record();
            if let Err(error) = records::write_json_spared(self.layout, &record, release) {
                let found = format!("could not be written: {error}");
                self.leave(&record, &found, crate::records::WAY_ON);
            }
        }
    }

    fn serves(&self, name: &str) -> bool {
        let current = state::current(self.layout).ok().flatten();
        current.is_some_and(|current| current.release == name)
    }

    /// A release that is none any more. One that does not serve is only set aside. With the one that serves goes what says
    /// so, and the next deployment takes over what runs, as it does where Belay has never been: a person asks for that.
    fn lost(&mut self, name: &str, path: &Path, found: &str) {
        let place = self.layout.release(name);
        let dir = place.dir().to_owned();
        let spare = self.layout.spare(&dir);
        let aside = |mender: &mut Self, what: &Path, found: &str, done: &str| {
            if what.exists() {
                mender.replace(what, found, done, || Ok(()));
            }
        };
        let why = format!(
            "is no whole release: {} {found}",
            path.file_name().unwrap_or_default().to_string_lossy()
        );
        if !self.serves(name) {
            let gone = "it is no version to go back to any more";
            aside(self, &dir, &why, gone);
            if let Some(spare) = spare {
                aside(self, &spare, "belongs to it", "it was set aside with it");
            }
            return;
        }
        if self.mode != Mode::Whole {
            let why = format!("{why}, and it serves");
            return self.leave(&dir, &why, crate::records::WAY_ON);
        }
        let adopted = "the next deployment takes over what runs, as the release `adopted`";
        aside(self, &dir, &why, adopted);
        let current = self.layout.current();
        let also = [spare, self.layout.spare(&current), Some(current)];
        for path in also.into_iter().flatten() {
            aside(
                self,
                &path,
                "is about that release",
                "it was set aside with it",
            );
        }
    }
}
