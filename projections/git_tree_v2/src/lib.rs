//! The current tree of a git repository as in version 1, and what its history says besides: how
//! often each file changed and by whom, what each author did, and the names that files had before.
//!
//! A file's numbers and former names go with it when it is renamed, and end when it is deleted; an
//! author's numbers stay. A commit counts for its author when it changed a file.
//!
//! Any sequence of events can be retold: adding a file that exists changes it, changing or renaming
//! one that does not exist adds it, deleting one that does not exist does nothing, and a rename onto
//! a file that exists replaces that one.

use retell_sdk::prelude::*;

mod tables;

pub use tables::{Author, File, FileAuthor, FormerName};

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
        commit: &'a str,
        author: &'a str,
        time: Timestamp,
    },
}

/// Who changed something, and when.
#[derive(Clone, Copy)]
struct By<'a> {
    commit: &'a str,
    author: &'a str,
    time: Timestamp,
}

#[projection(
    name = "git_tree",
    version = "2.0.0",
    tables(File, FileAuthor, Author, FormerName)
)]
fn project(event: Change<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Change::FileAdded {
            path,
            mode,
            blob,
            commit,
            author,
            time,
        } => {
            let by = By {
                commit,
                author,
                time,
            };
            count_for_author(db, by, |author| author.added += 1)?;
            change_file(db, path, mode, blob, by)
        }
        Change::FileModified {
            path,
            mode,
            blob,
            commit,
            author,
            time,
        } => {
            let by = By {
                commit,
                author,
                time,
            };
            count_for_author(db, by, |author| author.modified += 1)?;
            change_file(db, path, mode, blob, by)
        }
        Change::FileRenamed {
            from,
            path,
            mode,
            blob,
            commit,
            author,
            time,
        } => {
            let by = By {
                commit,
                author,
                time,
            };
            count_for_author(db, by, |author| author.renamed += 1)?;
            move_file(db, from, path, by)?;
            change_file(db, path, mode, blob, by)
        }
        Change::FileDeleted {
            path,
            commit,
            author,
            time,
        } => {
            let by = By {
                commit,
                author,
                time,
            };
            count_for_author(db, by, |author| author.deleted += 1)?;
            erase_file(db, path)
        }
    }
}

fn count_for_author(db: &mut Db, by: By<'_>, count: impl FnOnce(&mut Author)) -> Result<()> {
    db.update_or_insert::<Author>(
        by.author,
        || Author::new(by.author, by.time),
        |author| {
            // The changes of one commit follow each other.
            if author.last_commit != by.commit {
                author.commits += 1;
                by.commit.clone_into(&mut author.last_commit);
            }
            author.first_at = author.first_at.min(by.time);
            author.last_at = author.last_at.max(by.time);
            count(author);
        },
    )
}

fn change_file(db: &mut Db, path: &str, mode: &str, blob: &str, by: By<'_>) -> Result<()> {
    let is_new = !db.exists::<FileAuthor>((path, by.author))?;
    db.update_or_insert::<FileAuthor>(
        (path, by.author),
        || FileAuthor {
            path: path.to_owned(),
            author: by.author.to_owned(),
            changes: 0,
        },
        |file| file.changes += 1,
    )?;
    db.update_or_insert::<File>(
        path,
        || File::new(path, by.author, by.time),
        |file| {
            mode.clone_into(&mut file.mode);
            blob.clone_into(&mut file.blob);
            file.changes += 1;
            file.authors += i64::from(is_new);
            by.commit.clone_into(&mut file.commit_id);
            by.author.clone_into(&mut file.author);
            file.time = by.time;
        },
    )
}

/// Moves a file with all that is known of it, and remembers the name that it had.
fn move_file(db: &mut Db, from: &str, path: &str, by: By<'_>) -> Result<()> {
    if from == path {
        return Ok(());
    }
    let Some(file) = db.get::<File>(from)?.cloned() else {
        return Ok(());
    };
    erase_file(db, path)?;
    let authors = db.scan(FileAuthor::BY_KEY, from)?;
    let names = db.scan(FormerName::BY_KEY, from)?;
    erase_file(db, from)?;

    let step = names.last().map_or(1, |last| last.step + 1);
    for mut author in authors {
        path.clone_into(&mut author.path);
        db.put(author)?;
    }
    for mut name in names {
        path.clone_into(&mut name.path);
        db.put(name)?;
    }
    db.put(FormerName {
        path: path.to_owned(),
        step,
        name: from.to_owned(),
        commit_id: by.commit.to_owned(),
        until: by.time,
    })?;
    db.put(File {
        path: path.to_owned(),
        ..file
    })
}

fn erase_file(db: &mut Db, path: &str) -> Result<()> {
    for author in db.scan(FileAuthor::BY_KEY, path)? {
        db.delete::<FileAuthor>((path, &author.author))?;
    }
    for name in db.scan(FormerName::BY_KEY, path)? {
        db.delete::<FormerName>((path, name.step))?;
    }
    db.delete::<File>(path)
}

#[cfg(test)]
mod tests;
