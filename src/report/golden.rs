//! Golden tests: what each way to end looks like, word for word. The snapshots lie beside this file.

use insta::assert_snapshot;

use super::examples;
use super::{annotation, console, deployment_status, summary};

#[test]
fn the_summaries_are_as_they_were_reviewed() {
    for (name, outcome) in examples::all() {
        assert_snapshot!(format!("summary_{name}"), summary(&outcome));
    }
}

#[test]
fn the_consoles_statuses_and_annotations_are_as_they_were_reviewed() {
    let mut all = String::new();
    for (name, outcome) in examples::all() {
        let (state, description) = deployment_status(&outcome);
        all.push_str(&format!("=== {name}\n{}", console(&outcome)));
        all.push_str(&format!("--- {}: {description}\n", state.name()));
        if let Some((title, _)) = annotation(&outcome) {
            all.push_str(&format!("--- {title}\n"));
        }
        all.push('\n');
    }
    assert_snapshot!("short_forms", all);
}
