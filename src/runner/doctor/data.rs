//! The doctor's look at the data: what deploying this checkout would leave behind, and what is there without being used.

use super::of_failure;
use crate::deploy::outlook_of_checkout;
use crate::link::Link;
use crate::session::Session;
use belay_model::config::Settings;
use belay_report::doctor::Finding;
use belay_report::words;
use belay_wire::{DataOutlook, UnusedVolume};

const WHAT: &str = "data";

/// Asks the host what the checkout would mean for its data.
pub(super) fn examine(session: &Session<'_>, settings: &Settings, link: &Link) -> Vec<Finding> {
    match outlook_of_checkout(session, settings, link) {
        Ok(outlook) => findings(outlook),
        Err(error) => vec![of_failure(WHAT, error)],
    }
}

fn findings(outlook: DataOutlook) -> Vec<Finding> {
    let DataOutlook {
        refusal,
        warnings,
        unnamed,
        unused,
        // The warning says what is copied.
        stops: _,
    } = outlook;
    let mut found: Vec<Finding> = refusal.into_iter().map(|f| of_failure(WHAT, f)).collect();
    let known = "see `data` in docs/configuration.md";
    found.extend(
        warnings
            .into_iter()
            .map(|text| Finding::careful(WHAT, text, known)),
    );
    if found.is_empty() {
        let good = "this checkout has all data where the running version has it";
        found.push(Finding::good(WHAT, good));
    }
    let unnamed = unnamed
        .iter()
        .map(|volume| Finding::careful(WHAT, volume.describe(), volume.advice()));
    found.extend(unnamed);
    found.extend(unused.iter().map(unused_volume));
    found
}

fn unused_volume(volume: &UnusedVolume) -> Finding {
    let size = volume
        .bytes
        .map_or("of unknown size".to_owned(), words::size);
    let made = volume
        .created
        .map_or(String::new(), |at| format!(", made {}", words::utc(at)));
    let name = &volume.name;
    Finding::careful(
        WHAT,
        format!("no service uses the volume {name} ({size}{made})"),
        format!("once nothing of it is needed: docker volume rm {name}, on the host"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use belay_model::composition::data_view::UnnamedVolume;
    use belay_model::transaction::outcome::Failure;
    use belay_report::doctor::{doctor_text, is_bad};

    #[test]
    fn data_that_would_be_left_behind_is_a_problem_and_unused_volumes_are_told() {
        let outlook = DataOutlook {
            refusal: Some(Failure::new("HEAD would leave data behind").next("say so")),
            warnings: vec![],
            unnamed: vec![UnnamedVolume {
                service: "web".to_owned(),
                target: "/data".to_owned(),
            }],
            unused: vec![UnusedVolume {
                name: "shop_old".to_owned(),
                bytes: Some(4_200_000),
                created: "2024-11-02T08:00:00Z".parse().ok(),
            }],
            stops: vec![],
        };
        let found = findings(outlook);
        assert!(is_bad(&found));
        let text = doctor_text(&found);
        for part in [
            "web keeps data at /data in a volume without a name",
            "volumes: [\"web-data:/data\"]",
            "no service uses the volume shop_old (4.2 MB, made 2024-11-02 08:00:00 UTC)",
            "docker volume rm shop_old",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let nothing = findings(DataOutlook::default());
        assert!(!is_bad(&nothing) && nothing.len() == 1);
    }
}
