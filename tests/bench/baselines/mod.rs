//! What retell is measured against: the same folds by hand, into the same tables.
//!
//! All of them get the settings of the engine's writer while it replays: its page size, its journal, its
//! cache, no syncing while they fill, and everything on the disk at the end. They write through SQLite
//! alone, where the engine lays a new file out by itself. None keeps checkpoints or could go on after a
//! crash, which retell can.

pub(crate) mod hot;
pub(crate) mod join;
pub(crate) mod raw_log;
pub(crate) mod scatter;
pub(crate) mod sparse;
pub(crate) mod wide;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row};

use crate::workloads::{Baseline, Fold};

/// Events that the naive loop puts into one transaction.
const COMMIT_EVERY: u32 = 1_000;

/// The log that is read, and the database that is filled.
pub(crate) struct Ends {
    log: Connection,
    log_path: PathBuf,
    pub(crate) model: Connection,
}

/// Fills a new database at `model` and makes it durable.
pub(crate) fn run(
    log: &Path,
    model: &Path,
    fold: &Fold,
    baseline: &Baseline,
) -> anyhow::Result<()> {
    let ends = Ends {
        log: open_log(log)?,
        log_path: log.to_owned(),
        model: create_model(model)?,
    };
    ends.model.execute_batch(fold.tables)?;
    (baseline.fold)(&ends)?;
    // As the engine's writer does while it creates an index.
    ends.model.pragma_update(None, "cache_size", -2048)?;
    ends.model.execute_batch(fold.indexes)?;
    ends.model.pragma_update(None, "synchronous", "FULL")?;
    ends.model
        .query_row("PRAGMA main.wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    drop(ends);
    File::open(model)?.sync_all()?;
    Ok(())
}

/// As the engine's reader opens it.
pub(crate) fn open_log(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let log = Connection::open_with_flags(path, flags)?;
    log.execute_batch("PRAGMA cache_size = -1024; PRAGMA mmap_size = 0;")?;
    Ok(log)
}

/// As the engine's writer does while it replays.
fn create_model(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let model = Connection::open_with_flags(path, flags)?;
    model.execute_batch(
        "PRAGMA page_size = 8192;
         PRAGMA journal_mode = WAL;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA synchronous = OFF;
         PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 8192;",
    )?;
    Ok(model)
}

impl Ends {
    /// Steps over the payloads of the events of one type, in order.
    fn each(
        &self,
        event_type: &str,
        mut event: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.step(
            "SELECT payload FROM events NOT INDEXED WHERE type = ?1 ORDER BY position",
            &[event_type],
            |row| event(row.get_ref(0)?.as_bytes()?),
        )
    }

    /// Steps over rows of the log.
    fn step(
        &self,
        sql: &str,
        parameters: &[&str],
        mut step: impl FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut statement = self.log.prepare(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        while let Some(row) = rows.next()? {
            step(row)?;
        }
        Ok(())
    }

    /// Runs the work in one transaction.
    fn at_once(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.model.execute_batch("BEGIN")?;
        work()?;
        self.model.execute_batch("COMMIT")?;
        Ok(())
    }

    /// Runs the work in transactions of so many steps as it counts.
    fn in_steps(
        &self,
        work: impl FnOnce(&mut dyn FnMut() -> rusqlite::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut steps = 0;
        self.at_once(|| {
            work(&mut || {
                steps += 1;
                if steps % COMMIT_EVERY == 0 {
                    self.model.execute_batch("COMMIT; BEGIN")?;
                }
                Ok(())
            })
        })
    }

    /// Makes the log readable by SQL of the model's connection, as `log.events`.
    fn attach_log(&self) -> rusqlite::Result<()> {
        let uri = format!("file:{}?mode=ro", self.log_path.display());
        self.model.execute("ATTACH ?1 AS log", [uri])?;
        self.model
            .execute_batch("PRAGMA log.cache_size = -1024; PRAGMA log.mmap_size = 0;")
    }
}
