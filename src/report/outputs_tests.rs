//! The outputs of the action, for the examples of this crate.

use super::*;
use crate::examples;

fn get(outputs: &[(&'static str, String)], name: &str) -> String {
    let found = outputs.iter().find(|(n, _)| *n == name);
    found.map(|(_, value)| value.clone()).unwrap()
}

#[test]
fn the_revision_is_the_serving_versions_or_nothing() {
    assert!(!get(&outputs(&examples::deployed(), None), "revision").is_empty());
    assert_eq!(
        get(&outputs(&examples::rolled_back(), None), "revision"),
        ""
    );
}

#[test]
fn a_shared_image_is_counted_once() {
    let mut outcome = examples::deployed();
    outcome.images.truncate(1);
    let size = outcome.images[0].size;
    outcome.images.push(outcome.images[0].clone());
    assert_eq!(
        get(&outputs(&outcome, None), "image-size"),
        size.to_string()
    );
}

#[test]
fn every_value_is_one_line() {
    let mut outcome = examples::deployed();
    outcome.serving = Some("v1\nrolled-back=true".to_owned());
    assert_eq!(
        get(&outputs(&outcome, Some(7)), "version"),
        "v1 rolled-back=true"
    );
    assert_eq!(get(&outputs(&outcome, Some(7)), "deployment-id"), "7");
}

#[test]
fn the_names_are_those_of_action_yml() {
    let names: Vec<_> = outputs(&examples::deployed(), None)
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    assert_eq!(
        names,
        [
            "outcome",
            "version",
            "previous-version",
            "revision",
            "environment-url",
            "deployment-id",
            "backup",
            "rolled-back",
            "failed-requests",
            "longest-gap-ms",
            "duration-ms",
            "image-size"
        ]
    );
}
