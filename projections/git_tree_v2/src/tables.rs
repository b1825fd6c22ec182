//! The tables, and rows as they begin.

use retell_sdk::prelude::*;

#[derive(Table, Debug, Clone, PartialEq)]
pub struct File {
    #[key]
    pub path: String,
    pub mode: String,
    pub blob: String,
    /// Times it was added, modified or renamed.
    pub changes: i64,
    /// Different authors of those changes.
    pub authors: i64,
    pub added_by: String,
    pub added_at: Timestamp,
    /// The commit that changed it last, with its author and time.
    pub commit_id: String,
    pub author: String,
    pub time: Timestamp,
}

impl File {
    /// A file that nobody changed yet.
    pub(crate) fn new(path: &str, author: &str, time: Timestamp) -> Self {
        Self {
            path: path.to_owned(),
            mode: String::new(),
            blob: String::new(),
            changes: 0,
            authors: 0,
            added_by: author.to_owned(),
            added_at: time,
            commit_id: String::new(),
            author: author.to_owned(),
            time,
        }
    }
}

/// How often an author changed a file.
#[derive(Table, Debug, Clone, PartialEq)]
pub struct FileAuthor {
    #[key]
    pub path: String,
    #[key]
    pub author: String,
    pub changes: i64,
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct Author {
    #[key]
    pub name: String,
    pub commits: i64,
    /// Files added, modified, renamed, deleted.
    pub added: i64,
    pub modified: i64,
    pub renamed: i64,
    pub deleted: i64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// The commit that was counted last.
    pub last_commit: String,
}

impl Author {
    /// An author who did nothing yet.
    pub(crate) fn new(name: &str, time: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            commits: 0,
            added: 0,
            modified: 0,
            renamed: 0,
            deleted: 0,
            first_at: time,
            last_at: time,
            last_commit: String::new(),
        }
    }
}

/// The names that a file had before: step 1 is the oldest.
#[derive(Table, Debug, Clone, PartialEq)]
pub struct FormerName {
    #[key]
    pub path: String,
    #[key]
    pub step: i64,
    pub name: String,
    /// The commit that renamed it, and when.
    pub commit_id: String,
    pub until: Timestamp,
}
