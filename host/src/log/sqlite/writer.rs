//! The one way into the tables: a connection that appends, transaction by transaction.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::adding::{Adding, Revisions, Tail};
use super::connection::open_writer;
use super::errors::explain;
use super::wal::WalKeeper;
use crate::crash_point::{self, CrashPoint};
use crate::event::{Hash, Position};
use crate::log::ids::EventIds;
use crate::log::{Cause, Head, LogError};

/// Appends; between [`begin`](Self::begin) and [`commit`](Self::commit) nobody else can.
pub(super) struct Writer {
    connection: Connection,
    wal: WalKeeper,
    path: PathBuf,
    first_previous: Hash,
    ids: EventIds,
    revisions: Revisions,
    /// Scratch space for the hash chain.
    buffer: Vec<u8>,
    open: Option<Open>,
}

/// What the writer knows inside its transaction.
struct Open {
    /// Where the head was when the transaction began.
    began: Position,
    tail: Tail,
}

impl Writer {
    pub(super) fn open(path: &Path, first_previous: Hash) -> Result<Self, LogError> {
        let connection =
            open_writer(path).map_err(|error| explain(path, "opening the database", error))?;
        Ok(Self {
            connection,
            wal: WalKeeper::new(path),
            path: path.to_owned(),
            first_previous,
            ids: EventIds::default(),
            revisions: Revisions::default(),
            buffer: Vec::new(),
            open: None,
        })
    }

    /// Takes the log for itself, waiting for other processes, and looks where it ends.
    pub(super) fn begin(&mut self, now_us: i64) -> Result<(), LogError> {
        self.step("waiting for the log", |connection| {
            connection
                .prepare_cached("BEGIN IMMEDIATE")?
                .execute([])
                .map(drop)
        })?;
        match self.read_head() {
            Ok((head, recorded_at)) => {
                self.revisions.begin(head.hash);
                self.open = Some(Open {
                    began: head.position,
                    tail: Tail {
                        head,
                        recorded_at: recorded_at.max(now_us),
                    },
                });
                Ok(())
            }
            Err(error) => {
                self.rollback();
                Err(error)
            }
        }
    }

    /// What adds events to the transaction.
    pub(super) fn adding(&mut self) -> Result<Adding<'_>, LogError> {
        let open = self.open.as_mut().expect("a transaction was begun");
        Adding::prepare(
            &self.connection,
            &self.path,
            &mut open.tail,
            &mut self.revisions,
            &mut self.ids,
            &mut self.buffer,
        )
    }

    /// Durable when it returns. Gives the head's position.
    pub(super) fn commit(&mut self) -> Result<Position, LogError> {
        let Open { began, tail } = self.open.take().expect("a transaction was begun");
        let done = self.step("committing", |connection| {
            if tail.head.position > began {
                connection
                    .prepare_cached(
                        "UPDATE log_head SET position = ?1, hash = ?2, recorded_at = ?3",
                    )?
                    .execute((tail.head.position, tail.head.hash, tail.recorded_at))?;
            }
            crash_point::reach(CrashPoint::LogWritten);
            connection.prepare_cached("COMMIT")?.execute([])
        });
        if let Err(error) = done {
            self.rollback();
            return Err(unsure(error));
        }
        crash_point::reach(CrashPoint::LogCommitted);
        self.revisions.committed(tail.head.hash);
        self.wal.tend(&self.connection);
        Ok(tail.head.position)
    }

    /// Forgets the transaction; harmless without one.
    pub(super) fn rollback(&mut self) {
        self.open = None;
        self.revisions.forget();
        if !self.connection.is_autocommit() {
            // After some errors SQLite has rolled back by itself; there is nothing else to do.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Runs other statements of the same transaction.
    pub(super) fn step<T>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        run(&self.connection).map_err(|error| explain(&self.path, doing, error))
    }

    fn read_head(&self) -> Result<(Head, i64), LogError> {
        let (last, recorded) = self.step("reading the head", |connection| {
            let last: Option<(Position, Hash, i64)> = connection
                .prepare_cached(
                    "SELECT position, hash, recorded_at FROM events ORDER BY position DESC LIMIT 1",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let recorded: Position = connection
                .prepare_cached("SELECT position FROM log_head")?
                .query_row([], |row| row.get(0))?;
            Ok((last, recorded))
        })?;
        let (position, hash, recorded_at) = last.unwrap_or((0, self.first_previous, 0));
        // Appending to a log that lost its end would hide the loss for ever.
        if recorded > position {
            return Err(LogError::Shorter {
                log: self.path.as_path().into(),
                head: position,
                seen: recorded,
            });
        }
        Ok((Head { position, hash }, recorded_at))
    }
}

/// Where the commit was written and could not be synced, it counts again once the journal is read anew:
/// after a crash, for one.
fn unsure(error: LogError) -> LogError {
    match error {
        LogError::Storage { log, source, .. } if is_failed_sync(&source) => {
            LogError::CommitUnknown { log, source }
        }
        error => error,
    }
}

fn is_failed_sync(source: &Cause) -> bool {
    let error = source.downcast_ref::<rusqlite::Error>();
    let error = error.and_then(rusqlite::Error::sqlite_error);
    error.is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC)
}
