//! A read model in an SQLite file of its own.

mod content;
mod copy;
mod fault;
mod guard;
mod journal;
mod layers;
mod modes;
mod open;
mod page_file;
mod provenance;
mod query;
mod read;
mod ready;
mod replaced;
mod retire;
mod rewrite;
mod rows;
mod runs;
mod scan;
pub(crate) mod schema;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use retell_contract::manifest::Manifest;
use retell_contract::row::key_of_row;
use rusqlite::{Connection, OpenFlags};

use crate::clock::{self, Clock};
use crate::digest::ContentDigest;
use crate::event::Position;
use crate::read_model::journal::JournalEntry;
use crate::read_model::query::{QueryError, QueryLimits, RowSink};
use crate::read_model::{
    Checkpoint, ContentSink, Flush, KEY_INDEX, Provenance, ReadModel, ReadModelError,
    ReadModelStatus, Role, RowChange, RowReader,
};
use fault::{Doing, fault};
use guard::Guard;
use layers::Layers;
use read::SqliteRows;
pub use retire::files_of_builds;
use schema::TableSql;

/// The writer of a read model.
pub struct SqliteReadModel {
    path: PathBuf,
    connection: Connection,
    guard: Guard,
    tables: Arc<[TableSql]>,
    after_replay: Arc<[String]>,
    epoch: u64,
    /// That of the last commit.
    checkpoint: Checkpoint,
    ready: bool,
    in_transaction: bool,
    /// Rows are changed where they are; until then the file is rewritten.
    in_place: bool,
    layers: Arc<Layers>,
    /// Flushes that wait in runs.
    aside: Option<Aside>,
    provenance: Provenance,
    /// Per table and index: whether it is in the database, as of the open transaction.
    index_exists: Vec<Vec<bool>>,
    clock: Arc<dyn Clock>,
}

/// What is flushed and not committed.
#[derive(Debug, Clone, Copy)]
struct Aside {
    runs: usize,
    /// Of their keys and rows.
    bytes: usize,
    checkpoint: Checkpoint,
    events_per_s: f64,
}

impl SqliteReadModel {
    /// Makes a read model in a file that must not exist; its folder is made if need be.
    pub fn create(
        path: &Path,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Self, ReadModelError> {
        let tables: Arc<[_]> = schema::tables(manifest).into();
        let clock = clock::system();
        let connection = open::create(path, &tables, provenance, epoch, clock.now_us())?;
        Self::new(path, connection, tables, manifest, provenance, epoch, clock)
    }

    /// Opens the read model of this build, module and log for writing, and shuts out writers of
    /// earlier epochs.
    pub fn open(
        path: &Path,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Self, ReadModelError> {
        let tables: Arc<[_]> = schema::tables(manifest).into();
        let (connection, stored) = open::open(path, &tables, provenance, epoch)?;
        let clock = clock::system();
        let mut model = Self::new(path, connection, tables, manifest, provenance, epoch, clock)?;
        model.checkpoint = stored.status.checkpoint;
        model.ready = stored.status.ready;
        Ok(model)
    }

    /// What the read model at `path` says of itself. Changes nothing, and makes nothing where there
    /// is none. (SQLite may leave an empty `-wal` and `-shm` beside the file.)
    pub fn status(path: &Path) -> Result<ReadModelStatus, ReadModelError> {
        open::status(path)
    }

    /// Notes the role in a read model that has no writer, such as one that is halted.
    pub fn write_role(path: &Path, role: Role, epoch: u64) -> Result<(), ReadModelError> {
        let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        provenance::read(&connection, path)?;
        open::take_over(&connection, path, epoch)?;
        connection
            .execute(provenance::UPDATE_ROLE, [role.as_str()])
            .map_err(|error| fault(path, Doing::Write, error))?;
        Ok(())
    }

    /// The read model's journal, by position. Changes nothing.
    pub fn journal(path: &Path) -> Result<Vec<JournalEntry>, ReadModelError> {
        let connection = open::snapshot(path)?;
        provenance::read(&connection, path)?;
        journal::read(&connection).map_err(|error| fault(path, Doing::Read, error))
    }

    /// Copies the read model, as it is at one moment, into a file that must not exist, durably. Returns
    /// where it stood.
    pub fn copy(path: &Path, to: &Path) -> Result<Checkpoint, ReadModelError> {
        copy::copy(path, to)
    }

    /// Hands all rows to `sink`, in one snapshot, and returns the position they stand at.
    pub fn content(
        path: &Path,
        manifest: &Manifest,
        sink: &mut dyn ContentSink,
    ) -> Result<Position, ReadModelError> {
        content::read(path, manifest, sink)
    }

    /// The digest of the read model's tables and the position they stand at, in one snapshot.
    pub fn digest(path: &Path, manifest: &Manifest) -> Result<ContentDigest, ReadModelError> {
        super::content::digest(|sink| content::read(path, manifest, sink))
    }

    /// Runs a read-only query and hands its rows to `sink`.
    pub fn query(
        path: &Path,
        sql: &str,
        limits: QueryLimits,
        sink: &mut dyn RowSink,
    ) -> Result<(), QueryError> {
        query::query(path, sql, limits, sink)
    }

    /// Drops the read model's tables and then its files; readers who have it open get an error. Does
    /// the rest where an earlier call was cut off, and nothing where nothing is left.
    /// One of another log is left alone.
    pub fn drop_read_model(path: &Path, log_id: &str) -> Result<(), ReadModelError> {
        retire::drop_read_model(path, log_id)
    }

    /// Removes what readers of dropped read models left in a folder of read models.
    pub fn sweep(folder: &Path) -> Result<(), ReadModelError> {
        retire::sweep(folder).map_err(|error| fault::io_fault(folder, Doing::Drop, error))
    }

    fn new(
        path: &Path,
        connection: Connection,
        tables: Arc<[TableSql]>,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReadModelError> {
        let in_place = modes::is_changed_in_place(&connection)
            .map_err(|error| fault(path, Doing::Open, error))?;
        let guard = Guard::install(&connection, &tables)
            .map_err(|error| fault(path, Doing::Open, error))?;
        let mut model = Self {
            path: path.to_owned(),
            connection,
            guard,
            index_exists: Vec::new(),
            tables,
            after_replay: ready::scripts(manifest).into(),
            epoch,
            checkpoint: Checkpoint::START,
            ready: false,
            in_transaction: false,
            in_place,
            layers: Arc::default(),
            aside: None,
            provenance: provenance.clone(),
            clock,
        };
        model.note_indexes()?;
        Ok(model)
    }

    /// Opens the transaction, unless one is open, and makes sure that this host may still write.
    fn begin(&mut self) -> Result<(), ReadModelError> {
        if self.in_transaction {
            return Ok(());
        }
        self.connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(|error| self.fault(Doing::Write, error))?;
        self.in_transaction = true;
        let stored: i64 = self
            .connection
            .prepare_cached(provenance::SELECT_EPOCH)
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| self.fault(Doing::Read, error))?;
        if stored.cast_unsigned() != self.epoch {
            self.roll_back();
            return Err(ReadModelError::FencedOff {
                model: self.path.as_path().into(),
                ours: self.epoch,
                theirs: stored.cast_unsigned(),
            });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ReadModelError> {
        self.connection
            .execute_batch("COMMIT")
            .map_err(|error| self.fault(Doing::Commit, error))?;
        self.in_transaction = false;
        Ok(())
    }

    fn roll_back(&mut self) {
        // SQLite itself rolls back on some errors; then there is nothing left to do.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.in_transaction = false;
        let _ = self.note_indexes();
    }

    /// From now on rows are changed where they are, beside readers.
    fn change_in_place(&mut self) -> Result<(), ReadModelError> {
        if !self.in_place {
            modes::replaying_mode(&self.connection)
                .map_err(|error| self.fault(Doing::Write, error))?;
            self.in_place = true;
        }
        Ok(())
    }

    fn between_commits(&self, doing: &'static str) -> Result<(), ReadModelError> {
        if self.in_transaction {
            return Err(ReadModelError::TransactionOpen { doing });
        }
        Ok(())
    }

    fn build_index(&mut self, table: &TableSql, index: usize) -> Result<(), ReadModelError> {
        let number = self.number_of(table);
        if !self.index_exists[number][index] {
            modes::create_index(&self.connection, &table.indexes[index].create)
                .map_err(|error| self.fault(Doing::Write, error))?;
            self.index_exists[number][index] = true;
        }
        Ok(())
    }

    fn number_of(&self, table: &TableSql) -> usize {
        self.tables
            .iter()
            .position(|known| known.name == table.name)
            .expect("tables come from this list")
    }

    fn note_indexes(&mut self) -> Result<(), ReadModelError> {
        let noted = (|| {
            let mut statement = self
                .connection
                .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1")?;
            let mut all = Vec::with_capacity(self.tables.len());
            for table in self.tables.iter() {
                let indexes = table.indexes.iter();
                let exist = indexes.map(|index| statement.exists([&index.sql_name]));
                all.push(exist.collect::<rusqlite::Result<Vec<bool>>>()?);
            }
            Ok(all)
        })();
        self.index_exists = noted.map_err(|error| self.fault(Doing::Read, error))?;
        Ok(())
    }

    fn fault(&self, doing: Doing, error: rusqlite::Error) -> ReadModelError {
        fault(&self.path, doing, error)
    }
}

impl ReadModel for SqliteReadModel {
    fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    fn reader(&self) -> Result<Box<dyn RowReader>, ReadModelError> {
        let layers = self.layers.clone();
        let rows = SqliteRows::open(&self.path, self.tables.clone(), layers)?;
        Ok(Box::new(rows))
    }

    fn ensure_index(&mut self, table: u16, index: u16) -> Result<(), ReadModelError> {
        self.between_commits("building an index")?;
        self.settle()?;
        if index == KEY_INDEX {
            self.layers.forbid_runs();
            return Ok(());
        }
        let tables = self.tables.clone();
        let table = table_of(&tables, table)?;
        if usize::from(index) >= table.indexes.len() {
            return Err(ReadModelError::Unknown {
                what: format!("index {index} of table `{}`", table.name),
            });
        }
        if self.index_exists[self.number_of(table)][usize::from(index)] {
            return Ok(());
        }
        self.change_in_place()?;
        self.begin()?;
        let built = self
            .build_index(table, usize::from(index))
            .and_then(|()| self.end());
        built.inspect_err(|_| self.roll_back())
    }

    fn write(&mut self, changes: &[RowChange<'_>]) -> Result<(), ReadModelError> {
        self.settle()?;
        self.write_changes(changes)
    }

    fn journal(&mut self) -> Result<Vec<JournalEntry>, ReadModelError> {
        journal::read(&self.connection).map_err(|error| self.fault(Doing::Read, error))
    }

    fn record(&mut self, entries: &[JournalEntry]) -> Result<(), ReadModelError> {
        self.settle()?;
        self.change_in_place()?;
        self.begin()?;
        journal::write(&self.connection, entries).map_err(|error| self.fault(Doing::Write, error))
    }

    fn commit(&mut self, checkpoint: Checkpoint, events_per_s: f64) -> Result<(), ReadModelError> {
        self.settle()?;
        self.begin()?;
        let time = self.clock.now_us();
        provenance::update_checkpoint(&self.connection, checkpoint, time, events_per_s)
            .map_err(|error| self.fault(Doing::Write, error))?;
        self.end()?;
        self.checkpoint = checkpoint;
        Ok(())
    }

    fn is_to_be_rewritten(
        &self,
        flush_bytes: usize,
        may_wait: bool,
    ) -> Result<bool, ReadModelError> {
        self.is_worth_rewriting(flush_bytes, may_wait)
    }

    fn rewrite(&mut self, flush: Flush<'_>) -> Result<(), ReadModelError> {
        self.rewrite_with(flush)
    }

    fn has_flushes_aside(&self) -> bool {
        self.aside.is_some()
    }

    fn rollback(&mut self) {
        self.roll_back();
        self.drop_aside();
    }

    fn prepare_ready(&mut self) -> Result<(), ReadModelError> {
        self.make_ready()
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn set_role(&mut self, role: Role) -> Result<(), ReadModelError> {
        self.between_commits("changing its role")?;
        self.settle()?;
        self.begin()?;
        self.connection
            .execute(provenance::UPDATE_ROLE, [role.as_str()])
            .map_err(|error| self.fault(Doing::Write, error))?;
        self.end()
    }

    fn close(mut self: Box<Self>) -> Result<(), ReadModelError> {
        self.roll_back();
        self.settle()?;
        if !self.ready {
            open::sync(&self.connection, &self.path)?;
            self.begin()?;
            open::note_unsynced(&self.connection, None)
                .map_err(|error| self.fault(Doing::Write, error))?;
            self.end()?;
        }
        let path = self.path.clone();
        self.connection
            .close()
            .map_err(|(_, error)| fault(&path, Doing::Commit, error))
    }
}

fn table_of(tables: &[TableSql], number: u16) -> Result<&TableSql, ReadModelError> {
    tables
        .get(usize::from(number))
        .ok_or_else(|| ReadModelError::Unknown {
            what: format!("table {number}"),
        })
}

fn key_of(table: &TableSql, row: &[u8]) -> Result<Vec<u8>, ReadModelError> {
    key_of_row(row, &table.columns, &table.key).map_err(|source| ReadModelError::Row {
        table: table.name.clone(),
        source,
    })
}

fn read_fault(path: &Path, error: rows::RowReadError) -> ReadModelError {
    match error {
        rows::RowReadError::Sqlite(error) => fault(path, Doing::Read, error),
        rows::RowReadError::Foreign(error) => ReadModelError::Malformed {
            model: path.into(),
            message: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
