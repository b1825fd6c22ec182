//! Moving what the log's WAL has gathered into the file, beside the writer.
//!
//! SQLite by itself does it within a commit: one append in a few thousand waits until thousands of
//! pages are copied and synced. Here a thread copies them while appends go on. A WAL begins anew only
//! once all of it is in the file, so what came meanwhile, a small rest, is left to the writer.
//!
//! All of this is best effort: nothing depends on when pages move, and what fails is tried again.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::connection::open_writer;
use crate::limits::{LOG_WAL_PAGES, LOG_WAL_PAGES_MAX};

/// The thread copies again what came while it copied, so often at most.
const ROUNDS_MAX: u32 = 3;

/// Tends the WAL of one writer's log.
#[derive(Debug)]
pub(super) struct WalKeeper {
    path: PathBuf,
    moving: Option<JoinHandle<()>>,
    /// Pages that the WAL had when it was last moved, if it did not begin anew since.
    moved_at: i64,
}

/// How much there is in a WAL.
struct Fill {
    pages: i64,
    /// Of them, those that are in the file, too.
    moved: i64,
}

impl WalKeeper {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            moving: None,
            moved_at: 0,
        }
    }

    /// To be called after each commit.
    pub(super) fn tend(&mut self, connection: &Connection) {
        let _ = self.try_tend(connection);
    }

    fn try_tend(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let pages = checkpoint(connection, "NOOP")?.pages;
        if pages < self.moved_at {
            self.moved_at = 0;
        }
        let new = pages - self.moved_at;
        match &self.moving {
            None if new < LOG_WAL_PAGES => {}
            None => self.begin(),
            // Where it grows faster than it is moved, appends wait after all.
            Some(moving) if !moving.is_finished() && new < LOG_WAL_PAGES_MAX => {}
            Some(_) => {
                self.wait();
                self.moved_at = checkpoint(connection, "PASSIVE")?.pages;
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        let path = self.path.clone();
        let thread = std::thread::Builder::new().name("retell-log-wal".to_owned());
        // Without the thread, the next commit tries again.
        self.moving = thread.spawn(move || drop(move_pages(&path))).ok();
    }

    fn wait(&mut self) {
        if let Some(moving) = self.moving.take() {
            // A panic there is its own affair.
            let _ = moving.join();
        }
    }
}

impl Drop for WalKeeper {
    fn drop(&mut self) {
        self.wait();
    }
}

fn move_pages(path: &Path) -> rusqlite::Result<()> {
    let connection = open_writer(path)?;
    for _ in 0..ROUNDS_MAX {
        let before = checkpoint(&connection, "PASSIVE")?;
        let now = checkpoint(&connection, "NOOP")?;
        // Somebody who reads an older state is in the way, or nearly nothing is left.
        if before.moved < before.pages || now.pages - now.moved < LOG_WAL_PAGES / 16 {
            break;
        }
    }
    Ok(())
}

/// Moves pages, or only looks, without waiting for anybody.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Fill> {
    connection
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| {
            Ok(Fill {
                pages: row.get(1)?,
                moved: row.get(2)?,
            })
        })
}
