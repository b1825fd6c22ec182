//! The shipped git projections: what they retell of a history is what git says of `HEAD`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::repository;
use crate::support::{guest, retell};
use crate::{history, tree};

fn events_of(repository: &Path) -> Vec<u8> {
    let mut events = Vec::new();
    history::write_events(repository, &mut events).unwrap();
    events
}

/// The plainest fold there is, beside the projections.
fn fold(events: &[u8]) -> Vec<String> {
    let mut files = BTreeMap::new();
    for event in parse(events) {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "FileAdded" => {
                let was = files.insert(text("path"), (text("mode"), text("blob")));
                assert!(was.is_none(), "added twice: {event}");
            }
            "FileModified" => {
                let was = files.insert(text("path"), (text("mode"), text("blob")));
                assert!(was.is_some(), "modified, and not there: {event}");
            }
            "FileRenamed" => {
                assert!(files.remove(&text("from")).is_some(), "not there: {event}");
                let was = files.insert(text("path"), (text("mode"), text("blob")));
                assert!(was.is_none(), "renamed onto another: {event}");
            }
            "FileDeleted" => {
                assert!(files.remove(&text("path")).is_some(), "not there: {event}");
            }
            other => panic!("what is {other}?"),
        }
    }
    let mut lines: Vec<String> = files
        .into_iter()
        .map(|(path, (mode, blob))| format!("{mode} {blob} {path}"))
        .collect();
    lines.sort();
    lines
}

#[test]
fn the_events_of_any_history_add_up_to_its_tree() {
    let mut kinds = BTreeSet::new();
    let mut escaped = false;
    for seed in 0..12 {
        let repository = repository::generated(seed, 40);
        let events = events_of(repository.path());
        for event in parse(&events) {
            kinds.insert(event["type"].as_str().unwrap().to_owned());
            escaped |= event["data"]["path"].as_str().unwrap().contains("\\xff");
        }
        let expected = tree::of_git(repository.path()).unwrap();
        assert!(
            expected.len() > 5,
            "seed {seed} makes a tree worth comparing"
        );
        assert_eq!(fold(&events), expected, "seed {seed}");
    }
    let all = ["FileAdded", "FileDeleted", "FileModified", "FileRenamed"];
    assert!(kinds.iter().eq(all), "the histories have it all: {kinds:?}");
    assert!(escaped, "and names that are no UTF-8");
}

fn parse(events: &[u8]) -> impl Iterator<Item = Value> {
    serde_json::Deserializer::from_slice(events)
        .into_iter()
        .map(Result::unwrap)
}

/// An instance with the events of a repository, and both versions deployed.
fn retold(events: &[u8]) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("events.ndjson");
    std::fs::write(&file, events).unwrap();
    run(data.path(), &["append", file.to_str().unwrap()]);
    for module in ["git_tree_v1", "git_tree_v2"] {
        let module = guest(module);
        run(data.path(), &["deploy", module.to_str().unwrap()]);
    }
    data
}

fn run(data: &Path, arguments: &[&str]) -> String {
    let output = retell()
        .arg("--data")
        .arg(data.join("instance"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn rows(data: &Path, name: &str, sql: &str) -> Vec<Value> {
    serde_json::from_str(&run(data, &["--json", "query", name, sql])).unwrap()
}

#[test]
fn both_versions_retell_the_tree_that_git_has() {
    for seed in [100, 101] {
        let repository = repository::generated(seed, 60);
        let expected = tree::of_git(repository.path()).unwrap();
        let data = retold(&events_of(repository.path()));
        for version in ["git_tree@1", "git_tree@2"] {
            let answer = run(data.path(), &["--json", "query", version, tree::SQL]);
            let found = tree::of_rows(&answer).unwrap();
            assert_eq!(found, expected, "seed {seed}, {version}");
        }
        // The statistics agree with each other.
        let sums = rows(
            data.path(),
            "git_tree@2",
            "select path from file f where changes <> (select sum(changes) from file_author where path = f.path)
                or authors <> (select count(*) from file_author where path = f.path)",
        );
        assert_eq!(sums, [] as [Value; 0], "seed {seed}");
    }
}

#[test]
fn the_same_history_twice_adds_nothing() {
    let repository = repository::generated(7, 20);
    let events = events_of(repository.path());
    let lines = parse(&events).count();
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("events.ndjson");
    std::fs::write(&file, &events).unwrap();
    let append = || {
        let said = run(data.path(), &["--json", "append", file.to_str().unwrap()]);
        serde_json::from_str::<Value>(&said).unwrap()
    };
    assert_eq!(append()["appended"], lines);
    let again = append();
    assert_eq!(again["appended"], 0);
    assert_eq!(again["already_there"], lines);
}

/// A history that is written out, for what is said of authors and former names.
const STORY: &str = "\
commit refs/heads/main
author Ada <a@x> 1700000000 +0000
committer Ada <a@x> 1700000000 +0000
data 0
M 100644 inline a
data 60
one line and another line and a third line, so that it is known
M 100644 inline b
data 2
b
commit refs/heads/main
author Mary <m@x> 1700000100 +0000
committer Mary <m@x> 1700000100 +0000
data 0
R a dir/a
commit refs/heads/main
author Ada <a@x> 1700000200 +0000
committer Ada <a@x> 1700000200 +0000
data 0
R dir/a c
D b
";

#[test]
fn version_2_knows_authors_and_former_names() {
    let story = STORY.replace("data 60\n", "data 64\n");
    let repository = repository::repository(story.as_bytes());
    let data = retold(&events_of(repository.path()));
    let authors = rows(
        data.path(),
        "git_tree@2",
        "select name, commits, added, renamed, deleted from author order by name",
    );
    assert_eq!(
        Value::from(authors),
        json!([
            {"name": "Ada", "commits": 2, "added": 2, "renamed": 1, "deleted": 1},
            {"name": "Mary", "commits": 1, "added": 0, "renamed": 1, "deleted": 0},
        ])
    );
    let names = rows(
        data.path(),
        "git_tree@2",
        "select path, step, name from former_name order by step",
    );
    assert_eq!(
        Value::from(names),
        json!([
            {"path": "c", "step": 1, "name": "a"},
            {"path": "c", "step": 2, "name": "dir/a"},
        ])
    );
}

#[test]
fn file_names_become_texts_one_to_one() {
    assert_eq!(history::escape_path(b"plain \"x\"\n"), "plain \"x\"\n");
    assert_eq!(history::escape_path("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
    assert_eq!(history::escape_path(b"\xe9"), "\\xe9");
    assert_eq!(history::escape_path(b"\\xe9"), "\\\\xe9");
    assert_eq!(history::escape_path(b"a\xe2\x82b"), "a\\xe2\\x82b");
}
