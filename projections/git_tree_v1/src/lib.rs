//! The current tree of a git repository, from the events of its history (`examples/git_history`
//! makes them): what `git ls-tree -r HEAD` prints, and who changed each file last.
//!
//! Modes and blobs are git's own texts: `100644` a file, `100755` an executable, `120000` a symbolic
//! link, `160000` a submodule, whose blob is a commit.
//!
//! Any sequence of events can be retold: adding a file that exists changes it, changing or renaming
//! one that does not exist adds it, and deleting one that does not exist does nothing.

use retell_sdk::prelude::*;

#[derive(Event)]
#[expect(clippy::enum_variant_names, reason = "event types are named so")]
enum Change<'a> {
    FileAdded {
        path: &'a str,
        mode: &'a str,
        blob: &'a str,
        commit: &'a str,
        author: &'a str,
        time: Timestamp,
    },
    FileModified {
        path: &'a str,
        mode: &'a str,
        blob: &'a str,
        commit: &'a str,
        author: &'a str,
        time: Timestamp,
    },
    FileRenamed {
        from: &'a str,
        path: &'a str,
        mode: &'a str,
        blob: &'a str,
        commit: &'a str,
        author: &'a str,
        time: Timestamp,
    },
    FileDeleted {
        path: &'a str,
    },
}

#[derive(Table, Debug, Clone, PartialEq)]
pub struct File {
    #[key]
    pub path: String,
    pub mode: String,
    pub blob: String,
    /// The commit that changed it last, with its author and time.
    pub commit_id: String,
    pub author: String,
    pub time: Timestamp,
}

#[projection(name = "git_tree", version = "1.0.0", tables(File))]
fn project(event: Change<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Change::FileAdded {
            path,
            mode,
            blob,
            commit,
            author,
            time,
        }
        | Change::FileModified {
            path,
            mode,
            blob,
            commit,
            author,
            time,
        } => put_file(db, path, mode, blob, commit, author, time),
        Change::FileRenamed {
            from,
            path,
            mode,
            blob,
            commit,
            author,
            time,
        } => {
            db.delete::<File>(from)?;
            put_file(db, path, mode, blob, commit, author, time)
        }
        Change::FileDeleted { path } => db.delete::<File>(path),
    }
}

fn put_file(
    db: &mut Db,
    path: &str,
    mode: &str,
    blob: &str,
    commit: &str,
    author: &str,
    time: Timestamp,
) -> Result<()> {
    db.put(File {
        path: path.to_owned(),
        mode: mode.to_owned(),
        blob: blob.to_owned(),
        commit_id: commit.to_owned(),
        author: author.to_owned(),
        time,
    })
}

#[cfg(test)]
mod tests;
