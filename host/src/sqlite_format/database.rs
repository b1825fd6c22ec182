//! The pages of a database as SQLite has them for a connection, wherever they lie.

use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::Malformed;
use super::ahead::{PageOrder, PageRun, ReadAhead};

/// Reads pages in the connection's transaction. One has to be open, or each page would be of another
/// moment.
pub(crate) struct DatabasePages<'c> {
    connection: &'c Connection,
    select: CachedStatement<'c>,
    ahead: Option<&'c ReadAhead>,
}

impl<'c> DatabasePages<'c> {
    /// Whether this SQLite was compiled with what it takes.
    pub(crate) fn are_readable(connection: &Connection) -> rusqlite::Result<bool> {
        let module = "SELECT 1 FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
        let found = connection.query_row(module, [], |_| Ok(())).optional()?;
        Ok(found.is_some())
    }

    pub(crate) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let select = connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        Ok(Self {
            connection,
            select,
            ahead: None,
        })
    }

    /// Reads pages past SQLite, if the transaction only reads, and has begun to.
    pub(crate) fn reading_ahead(
        connection: &'c Connection,
        ahead: &'c mut ReadAhead,
        order: PageOrder,
    ) -> rusqlite::Result<Self> {
        ahead.begin(connection, order)?;
        Ok(Self {
            ahead: Some(ahead),
            ..Self::new(connection)?
        })
    }

    /// Turns a run to a page. It is empty where there is no such page.
    pub(crate) fn read(&mut self, number: u32, run: &mut PageRun) -> rusqlite::Result<()> {
        if let Some(ahead) = &self.ahead
            && ahead.turn(self.connection, number, run)?
        {
            return Ok(());
        }
        let mut rows = self.select.query([number])?;
        let page = match rows.next()? {
            Some(row) => row.get_ref(0)?.as_blob()?,
            None => &[],
        };
        run.set(number, page);
        Ok(())
    }
}

/// Why pages could not be read, or make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<PageError> for rusqlite::Error {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Sqlite(error) => error,
            PageError::Malformed(error) => corrupt(error.to_string()),
        }
    }
}

/// What SQLite itself would say.
pub(crate) fn corrupt(what: String) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what))
}
