use retell_sdk::testing::{Event, ReadModel, event, given};
use serde_json::json;

use super::*;

/// Changes by one author in one commit.
struct Commit {
    hash: &'static str,
    author: &'static str,
    hour: u8,
}

impl Commit {
    fn event(&self, kind: &str, from: Option<&str>, path: &str) -> Event {
        let time = format!("2026-01-31T{:02}:00:00Z", self.hour);
        let mut data = json!({
            "path": path, "mode": "100644", "blob": self.hash,
            "commit": self.hash, "author": self.author, "time": time,
        });
        if let Some(from) = from {
            data["from"] = from.into();
        }
        event(kind, data)
    }

    fn added(&self, path: &str) -> Event {
        self.event("FileAdded", None, path)
    }

    fn modified(&self, path: &str) -> Event {
        self.event("FileModified", None, path)
    }

    fn renamed(&self, from: &str, path: &str) -> Event {
        self.event("FileRenamed", Some(from), path)
    }

    fn deleted(&self, path: &str) -> Event {
        self.event("FileDeleted", None, path)
    }
}

const ADA: Commit = Commit {
    hash: "c1",
    author: "Ada",
    hour: 12,
};
const MARY: Commit = Commit {
    hash: "c2",
    author: "Mary",
    hour: 10,
};
const ADA_AGAIN: Commit = Commit {
    hash: "c3",
    author: "Ada",
    hour: 9,
};

fn paths(model: &ReadModel) -> Vec<String> {
    model
        .rows::<File>()
        .into_iter()
        .map(|file| file.path)
        .collect()
}

fn former_names(model: &ReadModel, path: &str) -> Vec<(i64, String)> {
    model
        .rows::<FormerName>()
        .into_iter()
        .filter(|name| name.path == path)
        .map(|name| (name.step, name.name))
        .collect()
}

#[test]
fn files_count_changes_and_authors() {
    let model = given::<Projection>([
        ADA.added("a"),
        MARY.modified("a"),
        ADA_AGAIN.modified("a"),
        ADA_AGAIN.added("b"),
    ]);
    let file = model.get::<File>("a").unwrap();
    assert_eq!((file.changes, file.authors), (3, 2));
    assert_eq!(
        (file.added_by.as_str(), file.author.as_str()),
        ("Ada", "Ada")
    );
    assert_eq!((file.commit_id.as_str(), file.blob.as_str()), ("c3", "c3"));
    assert_eq!(model.get::<FileAuthor>(("a", "Ada")).unwrap().changes, 2);
    assert_eq!(model.get::<FileAuthor>(("a", "Mary")).unwrap().changes, 1);
}

#[test]
fn authors_count_commits_and_what_they_did() {
    let model = given::<Projection>([
        ADA.added("a"),
        ADA.added("b"),
        MARY.deleted("b"),
        ADA_AGAIN.renamed("a", "c"),
        ADA_AGAIN.modified("d"),
    ]);
    let ada = model.get::<Author>("Ada").unwrap();
    assert_eq!(
        (
            ada.commits,
            ada.added,
            ada.modified,
            ada.renamed,
            ada.deleted
        ),
        (2, 2, 1, 1, 0)
    );
    assert!(ada.first_at < ada.last_at, "a later commit may be older");
    let mary = model.get::<Author>("Mary").unwrap();
    assert_eq!((mary.commits, mary.deleted), (1, 1));
}

#[test]
fn a_file_takes_its_numbers_and_names_along() {
    let model = given::<Projection>([
        ADA.added("a"),
        MARY.renamed("a", "b"),
        ADA_AGAIN.renamed("b", "c"),
        ADA_AGAIN.added("a"),
    ]);
    assert_eq!(paths(&model), ["a", "c"]);
    assert_eq!(
        former_names(&model, "c"),
        [(1, "a".to_owned()), (2, "b".to_owned())]
    );
    assert_eq!(former_names(&model, "a"), []);
    let file = model.get::<File>("c").unwrap();
    assert_eq!((file.changes, file.authors), (3, 2));
    assert_eq!(model.get::<FileAuthor>(("c", "Ada")).unwrap().changes, 2);
    assert!(model.get::<FileAuthor>(("b", "Ada")).is_none());
    assert_eq!(model.get::<File>("a").unwrap().changes, 1);
}

#[test]
fn a_deleted_file_takes_its_numbers_with_it() {
    let model = given::<Projection>([
        ADA.added("a"),
        MARY.renamed("a", "b"),
        ADA_AGAIN.deleted("b"),
        MARY.added("b"),
    ]);
    assert_eq!(former_names(&model, "b"), []);
    assert_eq!(model.get::<File>("b").unwrap().changes, 1);
    assert!(model.get::<FileAuthor>(("b", "Ada")).is_none());
}

#[test]
fn what_makes_no_sense_does_no_harm() {
    let model = given::<Projection>([
        ADA.deleted("gone"),
        ADA.renamed("nowhere", "a"),
        ADA.added("b"),
        MARY.renamed("a", "b"),
        MARY.renamed("b", "b"),
        MARY.modified("c"),
    ]);
    assert_eq!(paths(&model), ["b", "c"]);
    assert_eq!(former_names(&model, "b"), [(1, "a".to_owned())]);
}
