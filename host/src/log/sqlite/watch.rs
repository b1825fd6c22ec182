//! Noticing what other processes append: SQLite's `data_version` changes with every commit that
//! another connection makes, and costs a look at shared memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::connection::open_reader;
use super::errors::explain;
use crate::event::Position;
use crate::log::follow::{Pace, Signal};
use crate::log::{LogError, LogWatch};

pub(super) struct SqliteWatch {
    connection: Connection,
    path: PathBuf,
    signal: Arc<Signal>,
    pace: Pace,
    /// The last `data_version` and the head then.
    known: Option<(i64, Position)>,
}

impl SqliteWatch {
    pub(super) fn open(path: &Path, signal: Arc<Signal>) -> Result<Self, LogError> {
        Ok(Self {
            connection: open_reader(path)
                .map_err(|error| explain(path, "opening the database", error))?,
            path: path.to_owned(),
            signal,
            pace: Pace::new(),
            known: None,
        })
    }
}

impl LogWatch for SqliteWatch {
    fn wait(&mut self, seen: Position, timeout: Duration) -> Result<Position, LogError> {
        let Self {
            connection,
            path,
            signal,
            pace,
            known,
        } = self;
        pace.wait(signal, seen, timeout, || {
            look(connection, known).map_err(|error| explain(path, "watching for events", error))
        })
    }
}

fn look(
    connection: &Connection,
    known: &mut Option<(i64, Position)>,
) -> rusqlite::Result<Option<Position>> {
    let version = connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))?;
    if let Some((known_version, head)) = *known
        && known_version == version
    {
        return Ok(Some(head));
    }
    let head = connection
        .prepare_cached("SELECT coalesce(max(position), 0) FROM events")?
        .query_row([], |row| row.get(0))?;
    *known = Some((version, head));
    Ok(Some(head))
}
