//! The tree of a repository's `HEAD`, as git has it and as a read model has it: a sorted line for each
//! file with its mode, blob and name.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::history::escape_path;

/// What to ask the read model.
pub(crate) const SQL: &str = "select mode, blob, path from file";

/// From the answer of `retell query --json`.
pub(crate) fn of_rows(answer: &str) -> Result<Vec<String>> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(answer)?;
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or("?").to_owned();
    let mut tree: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {} {}",
                text(row, "mode"),
                text(row, "blob"),
                text(row, "path")
            )
        })
        .collect();
    tree.sort();
    Ok(tree)
}

/// From `git ls-tree`.
pub(crate) fn of_git(repository: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["ls-tree", "-r", "-z", "--full-tree", "HEAD"])
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut tree = Vec::new();
    for entry in output.stdout.split(|byte| *byte == 0) {
        // `MODE KIND BLOB<tab>PATH`; after the last NUL is nothing.
        let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else {
            continue;
        };
        let head = String::from_utf8_lossy(&entry[..tab]);
        let parts: Vec<&str> = head.split(' ').collect();
        let [mode, _, blob] = parts[..] else {
            bail!("git ls-tree printed {head:?}");
        };
        tree.push(format!("{mode} {blob} {}", escape_path(&entry[tab + 1..])));
    }
    tree.sort();
    Ok(tree)
}
