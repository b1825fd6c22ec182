use retell_sdk::testing::{Event, event, given};
use serde_json::json;

use super::*;

fn change(kind: &str, path: &str, blob: &str) -> Event {
    event(
        kind,
        json!({
            "path": path, "mode": "100644", "blob": blob,
            "commit": "c", "author": "Ada", "time": "2026-01-31T12:00:00Z",
        }),
    )
}

fn renamed(from: &str, path: &str, blob: &str) -> Event {
    event(
        "FileRenamed",
        json!({
            "from": from, "path": path, "mode": "100644", "blob": blob,
            "commit": "c", "author": "Ada", "time": "2026-01-31T12:00:00Z",
        }),
    )
}

fn deleted(path: &str) -> Event {
    event("FileDeleted", json!({ "path": path, "commit": "c" }))
}

fn tree(events: Vec<Event>) -> Vec<(String, String)> {
    let model = given::<Projection>(events);
    let files = model.rows::<File>();
    files
        .into_iter()
        .map(|file| (file.path, file.blob))
        .collect()
}

fn expected<const N: usize>(files: [(&str, &str); N]) -> Vec<(String, String)> {
    files
        .map(|(path, blob)| (path.to_owned(), blob.to_owned()))
        .to_vec()
}

#[test]
fn the_tree_follows_the_changes() {
    let events = vec![
        change("FileAdded", "a", "1"),
        change("FileAdded", "b \"c\"\nd", "2"),
        change("FileModified", "a", "3"),
        renamed("a", "dir/a", "4"),
        change("FileAdded", "a", "5"),
        deleted("b \"c\"\nd"),
    ];
    assert_eq!(tree(events), expected([("a", "5"), ("dir/a", "4")]));
}

#[test]
fn two_files_may_swap_names() {
    // Git itself tells of a swap as two modifications; either way the tree is the same.
    let events = vec![
        change("FileAdded", "a", "1"),
        change("FileAdded", "b", "2"),
        change("FileModified", "a", "2"),
        change("FileModified", "b", "1"),
    ];
    assert_eq!(tree(events), expected([("a", "2"), ("b", "1")]));
}

#[test]
fn what_makes_no_sense_does_no_harm() {
    let events = vec![
        deleted("gone"),
        change("FileModified", "a", "1"),
        renamed("nowhere", "b", "2"),
        change("FileAdded", "a", "3"),
        renamed("a", "a", "4"),
        renamed("a", "b", "5"),
    ];
    assert_eq!(tree(events), expected([("b", "5")]));
}
