//! The record of what serves, held against its spare; without both it is made again from the journals, or from the file
//! that serves.
//!
//! Runs on the host.

use std::fs;
use std::path::Path;

use super::{Mender, is_record};
use crate::journal;
use crate::records;
use crate::state;
use belay_model::digest::sha256;
use belay_model::transaction::journal::{Entry, Output, begin, is_committed, output};
use belay_model::transaction::phase::{Next, next};
use belay_model::transaction::step::Step;
use belay_model::versions::release::{Current, How, Release};

impl Mender<'_> {
    pub(super) fn current(&mut self) {
        let path = self.layout.current();
        let known = self.twin(&path, 0o600, &is_record::<Current>);
        let known = known.and_then(|bytes| records::parse::<Current>(&path, &bytes).ok());
        if let Some(current) = known {
            return self.has_release(&path, &current);
        }
        let releases = whole_releases(self);
        let layout = self.layout;
        if let Some(current) = from_journals(self, &releases).or_else(|| from_file(self, &releases))
        {
            let found = match path.exists() {
                true => "is damaged, and so is its spare copy",
                false => "is missing, and so is its spare copy",
            };
            return self.replace(
                &path,
                found,
                "it was made again from the journals and releases",
                || records::write_json_spared(layout, &layout.current(), &current),
            );
        }
        if path.exists() {
            let adopted = "the next deployment takes over what runs, as the release `adopted`";
            self.replace_if_asked(
                &path,
                "is damaged, and nothing else says what serves",
                adopted,
                || Ok(()),
            );
        }
    }

    fn has_release(&mut self, path: &Path, current: &Current) {
        let is_there = self.layout.release(&current.release).dir().is_dir();
        if !is_there {
            let found = format!(
                "names {}, which is not on this host any more",
                current.release
            );
            let adopted = "the next deployment takes over what runs, as the release `adopted`";
            let layout = self.layout;
            self.replace_if_asked(path, &found, adopted, || {
                let spare = layout.spare(&layout.current());
                spare.map_or(Ok(()), |spare| records::remove(&spare))
            });
        }
    }
}

fn whole_releases(mender: &Mender<'_>) -> Vec<Release> {
    let names = records::names(&mender.layout.releases()).unwrap_or_default();
    let read = |name: &String| state::release(mender.layout, name).ok().flatten();
    let mut releases: Vec<Release> = names.iter().filter_map(read).collect();
    releases.sort_by_key(|release| release.seq);
    releases
}

/// What the newest transaction brought that was committed and is over.
fn from_journals(mender: &Mender<'_>, releases: &[Release]) -> Option<Current> {
    let numbers = journal::sequence_numbers(mender.layout).ok()?;
    numbers.into_iter().rev().find_map(|seq| {
        let entries = journal::read(&mender.layout.journal(seq)).ok()?;
        let is_over = matches!(next(&entries), Next::Closed(_));
        (is_over && is_committed(&entries))
            .then(|| brought(&entries, releases))
            .flatten()
    })
}

fn brought(entries: &[Entry], releases: &[Release]) -> Option<Current> {
    let begin = begin(entries)?;
    let Some(Output::Unpacked { release, .. }) = output(entries, Step::Unpack) else {
        return None;
    };
    let release = releases.iter().find(|known| known.name == *release)?;
    let how = match begin.what.starts_with("deploy ") {
        true => How::Deploy,
        false => How::Rollback,
    };
    let previous = begin.previous.clone().filter(|name| *name != release.name);
    Some(Current {
        environment: begin.environment.clone(),
        bad: match how {
            How::Deploy => vec![],
            How::Rollback => previous.clone().into_iter().collect(),
        },
        previous,
        seq: begin.seq,
        since: entries.last()?.at,
        how,
        ..of(release)
    })
}

/// The release whose file is the one that serves.
fn from_file(mender: &Mender<'_>, releases: &[Release]) -> Option<Current> {
    let open = state::open_transactions(mender.layout).unwrap_or_default();
    let text = fs::read(mender.layout.compose()).ok()?;
    let hash = sha256(&text);
    let mut newest_first = releases.iter().rev();
    let release = newest_first.find(|r| r.compose_sha256 == hash && !open.contains(&r.seq))?;
    Some(of(release))
}

fn of(release: &Release) -> Current {
    Current {
        schema: 1,
        release: release.name.clone(),
        tag: release.tag.clone(),
        revision: release.revision.clone(),
        project: release.project.clone(),
        environment: None,
        seq: release.seq,
        since: release.created,
        how: How::Deploy,
        previous: None,
        bad: vec![],
    }
}
