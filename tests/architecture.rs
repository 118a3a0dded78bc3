//! The arrows between the folders of `src`, and the purity of `model`, as ARCHITECTURE.md draws them.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder, and what its files may not name.
const RULES: [(&str, &[&str]); 5] = [
    (
        "src/model",
        &[
            "crate::agent",
            "crate::runner",
            "crate::wire",
            "crate::report",
            "crate::cli",
            "std::fs",
            "std::env",
            "std::process",
            "std::net",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "Timestamp::now",
            "Zoned::now",
            "tokio",
            "reqwest",
            "async fn",
        ],
    ),
    (
        "src/wire",
        &[
            "crate::agent",
            "crate::runner",
            "crate::report",
            "crate::cli",
            "std::fs",
            "std::env",
        ],
    ),
    (
        "src/report",
        &[
            "crate::agent",
            "crate::runner",
            "crate::wire",
            "crate::cli",
            "std::fs",
            "std::env",
            "std::process",
            "Timestamp::now",
            "tokio",
            "async fn",
        ],
    ),
    (
        "src/agent",
        &["crate::runner", "crate::report", "crate::cli"],
    ),
    ("src/runner", &["crate::agent", "crate::cli"]),
];

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(dir).expect("a folder of the crate") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A file's code: comments, and the tests at its end, may name what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn no_arrow_runs_back_and_the_model_is_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    for (folder, forbidden) in RULES {
        for file in rust_files(&root.join(folder)) {
            let code = code(&file);
            for word in forbidden.iter().filter(|word| code.contains(**word)) {
                found.push(format!(
                    "{} names {word}",
                    file.strip_prefix(root).expect("inside").display()
                ));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
