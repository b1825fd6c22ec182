//! A read model in a schema of its own, in a PostgreSQL database.
//!
//! The schema belongs to a role that can touch nothing else, and the host writes as that role; where
//! it may not make roles, the schema is its own.

mod content;
mod fault;
mod guard;
mod journal;
mod open;
mod place;
mod provenance;
mod query;
mod read;
mod ready;
mod retire;
mod scan;
mod schema;
mod values;
mod views;
mod write;

use std::sync::Arc;

use retell_contract::manifest::Manifest;
use retell_contract::row::key_of_row;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::clock::{self, Clock};
use crate::digest::ContentDigest;
use crate::event::Position;
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::postgres::Session;
use crate::read_model::journal::JournalEntry;
use crate::read_model::query::{QueryError, QueryLimits, RowSink};
use crate::read_model::{
    Checkpoint, ContentSink, Flush, KEY_INDEX, ModelName, Provenance, ReadModel, ReadModelError,
    ReadModelStatus, Role, RowChange, RowReader,
};
use fault::{Doing, fault, write_fault};
pub use place::{SchemaPlace, SchemaPlaceError};
use read::PgRows;
pub use retire::schemas_of;
use schema::TableSql;
pub(crate) use views::{LOCK_PATIENCE, LOCK_PAUSE, shown_build};
pub use views::{ServerViews, Views};

/// The writer of a read model.
pub struct PgReadModel {
    place: SchemaPlace,
    session: Session,
    tables: Arc<[TableSql]>,
    after_replay: Arc<[String]>,
    epoch: u64,
    /// That of the last commit.
    checkpoint: Checkpoint,
    ready: bool,
    in_transaction: bool,
    /// Per table: whether the session has its stage.
    staged: Vec<bool>,
    /// Per table and index: whether it is in the database, as of the open transaction.
    index_exists: Vec<Vec<bool>>,
    /// What goes to the server, reused.
    buffer: Vec<u8>,
    clock: Arc<dyn Clock>,
}

impl PgReadModel {
    /// Makes a read model in a schema that must not exist.
    pub fn create(
        place: &SchemaPlace,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Self, ReadModelError> {
        let tables: Arc<[_]> = schema::tables(place.schema(), manifest).into();
        let clock = clock::system();
        let session = open::create(place, &tables, provenance, epoch, clock.now_us())?;
        Self::new(place, session, tables, manifest, epoch, clock)
    }

    /// Opens the read model of this build, module and log for writing, and shuts out writers of
    /// earlier epochs.
    pub fn open(
        place: &SchemaPlace,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Self, ReadModelError> {
        let tables: Arc<[_]> = schema::tables(place.schema(), manifest).into();
        let (session, status) = open::open(place, &tables, provenance, epoch)?;
        let clock = clock::system();
        let mut model = Self::new(place, session, tables, manifest, epoch, clock)?;
        model.checkpoint = status.checkpoint;
        model.ready = status.ready;
        Ok(model)
    }

    /// What the read model says of itself. Changes nothing.
    pub fn status(place: &SchemaPlace) -> Result<ReadModelStatus, ReadModelError> {
        open::status(place)
    }

    /// Notes the role in a read model that has no writer, such as one that is halted.
    pub fn write_role(place: &SchemaPlace, role: Role, epoch: u64) -> Result<(), ReadModelError> {
        let writing = |error| fault(&place.name(), Doing::Write, error);
        let mut session = place.connect().map_err(writing)?;
        open::take_over(&mut session, place, epoch)?;
        session
            .run(async |it| provenance::update_role(it, place, role).await)
            .map_err(writing)
    }

    /// The read model's journal, by position. Changes nothing.
    pub fn journal(place: &SchemaPlace) -> Result<Vec<JournalEntry>, ReadModelError> {
        let reading = |error| fault(&place.name(), Doing::Read, error);
        let mut session = place.connect().map_err(reading)?;
        session
            .run(async |it| journal::read(it, place).await)
            .map_err(reading)
    }

    /// Hands all rows to `sink`, in one snapshot, and returns the position they stand at.
    pub fn content(
        place: &SchemaPlace,
        manifest: &Manifest,
        sink: &mut dyn ContentSink,
    ) -> Result<Position, ReadModelError> {
        content::read(place, manifest, sink)
    }

    /// The digest of the read model's tables and the position they stand at, in one snapshot.
    pub fn digest(
        place: &SchemaPlace,
        manifest: &Manifest,
    ) -> Result<ContentDigest, ReadModelError> {
        super::content::digest(|sink| content::read(place, manifest, sink))
    }

    /// Runs a read-only query and hands its rows to `sink`.
    pub fn query(
        place: &SchemaPlace,
        sql: &str,
        limits: QueryLimits,
        sink: &mut dyn RowSink,
    ) -> Result<(), QueryError> {
        query::query(place, sql, limits, sink)
    }

    /// Drops the schema and its roles. Does the rest where an earlier call was cut off, and nothing
    /// where nothing is left. What is not marked as a read model is left alone.
    pub fn drop_read_model(place: &SchemaPlace) -> Result<(), ReadModelError> {
        retire::drop_read_model(place)
    }

    fn new(
        place: &SchemaPlace,
        session: Session,
        tables: Arc<[TableSql]>,
        manifest: &Manifest,
        epoch: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReadModelError> {
        let mut model = Self {
            place: place.clone(),
            session,
            staged: vec![false; tables.len()],
            index_exists: Vec::new(),
            tables,
            after_replay: ready::scripts(manifest).into(),
            epoch,
            checkpoint: Checkpoint::START,
            ready: false,
            in_transaction: false,
            buffer: Vec::new(),
            clock,
        };
        model.note_indexes()?;
        Ok(model)
    }

    fn name(&self) -> ModelName {
        self.place.name()
    }

    /// Runs statements that are answered at once, or not at all.
    fn ask<T>(
        &mut self,
        doing: Doing,
        work: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, ReadModelError> {
        self.session
            .run(work)
            .map_err(|error| fault(&self.place.name(), doing, error))
    }

    /// Runs statements that read or write rows, or build what takes long.
    fn run<T>(
        &mut self,
        doing: Doing,
        work: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, ReadModelError> {
        self.session
            .run_within(POSTGRES_WORK_TIMEOUT, work)
            .map_err(|error| fault(&self.place.name(), doing, error))
    }

    fn execute(&mut self, doing: Doing, sql: &str) -> Result<(), ReadModelError> {
        self.run(doing, async |connection| {
            let sql = AssertSqlSafe(sql.to_owned());
            sqlx::raw_sql(sql).execute(connection).await.map(drop)
        })
    }

    /// Opens the transaction, unless one is open, and makes sure that this host may still write.
    fn begin(&mut self) -> Result<(), ReadModelError> {
        if self.in_transaction {
            return Ok(());
        }
        let place = self.place.clone();
        self.in_transaction = true;
        let stored = self.ask(Doing::Write, async |connection| {
            connection.execute("BEGIN").await?;
            provenance::lock_epoch(connection, &place).await
        })?;
        if stored != self.epoch {
            self.roll_back();
            return Err(ReadModelError::FencedOff {
                model: self.name(),
                ours: self.epoch,
                theirs: stored,
            });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ReadModelError> {
        self.ask(Doing::Commit, async |it| it.execute("COMMIT").await)?;
        self.in_transaction = false;
        Ok(())
    }

    fn roll_back(&mut self) {
        if !std::mem::take(&mut self.in_transaction) {
            return;
        }
        // On a session that is lost there is nothing to roll back.
        let _ = self.ask(Doing::Write, async |it| it.execute("ROLLBACK").await);
        self.staged.fill(false);
        let _ = self.note_stages();
        let _ = self.note_indexes();
    }

    fn between_commits(&self, doing: &'static str) -> Result<(), ReadModelError> {
        if self.in_transaction {
            return Err(ReadModelError::TransactionOpen { doing });
        }
        Ok(())
    }

    fn build_index(&mut self, table: usize, index: usize) -> Result<(), ReadModelError> {
        if !self.index_exists[table][index] {
            let tables = self.tables.clone();
            let create = AssertSqlSafe(tables[table].indexes[index].create.clone());
            let built = self
                .session
                .run_within(POSTGRES_WORK_TIMEOUT, async |connection| {
                    sqlx::raw_sql(create).execute(connection).await.map(drop)
                });
            built.map_err(|error| write_fault(&self.place.name(), &tables[table].name, error))?;
            self.index_exists[table][index] = true;
        }
        Ok(())
    }

    fn note_indexes(&mut self) -> Result<(), ReadModelError> {
        let tables = self.tables.clone();
        self.index_exists = self.ask(Doing::Read, async |connection| {
            let mut all = Vec::with_capacity(tables.len());
            for table in tables.iter() {
                let mut exist = Vec::with_capacity(table.indexes.len());
                for index in &table.indexes {
                    exist.push(exists(connection, &index.sql_name).await?);
                }
                all.push(exist);
            }
            Ok(all)
        })?;
        Ok(())
    }

    /// Stages that were made before the transaction that was rolled back.
    fn note_stages(&mut self) -> Result<(), ReadModelError> {
        let tables = self.tables.clone();
        self.staged = self.ask(Doing::Read, async |connection| {
            let mut all = Vec::with_capacity(tables.len());
            for table in tables.iter() {
                let stage = format!("pg_temp.{}", schema::quote(&table.name));
                all.push(exists(connection, &stage).await?);
            }
            Ok(all)
        })?;
        Ok(())
    }
}

/// Whether there is a table or an index of this name, written as in SQL.
async fn exists(connection: &mut sqlx::PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(name)
        .fetch_one(connection)
        .await
}

impl ReadModel for PgReadModel {
    fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn reader(&self) -> Result<Box<dyn RowReader>, ReadModelError> {
        let rows = PgRows::open(&self.place, self.tables.clone())?;
        Ok(Box::new(rows))
    }

    fn ensure_index(&mut self, table: u16, index: u16) -> Result<(), ReadModelError> {
        self.between_commits("building an index")?;
        let tables = self.tables.clone();
        let known = table_of(&tables, table)?;
        if index == KEY_INDEX {
            return Ok(());
        }
        let (table, index) = (usize::from(table), usize::from(index));
        if index >= known.indexes.len() {
            return Err(ReadModelError::Unknown {
                what: format!("index {index} of table `{}`", known.name),
            });
        }
        if self.index_exists[table][index] {
            return Ok(());
        }
        self.begin()?;
        let built = self.build_index(table, index).and_then(|()| self.end());
        built.inspect_err(|_| self.roll_back())
    }

    fn write(&mut self, changes: &[RowChange<'_>]) -> Result<(), ReadModelError> {
        self.write_changes(changes)
    }

    fn journal(&mut self) -> Result<Vec<JournalEntry>, ReadModelError> {
        let place = self.place.clone();
        self.run(Doing::Read, async |it| journal::read(it, &place).await)
    }

    fn record(&mut self, entries: &[JournalEntry]) -> Result<(), ReadModelError> {
        self.begin()?;
        let place = self.place.clone();
        self.run(Doing::Write, async |it| {
            journal::write(it, &place, entries).await
        })
    }

    fn commit(&mut self, checkpoint: Checkpoint, events_per_s: f64) -> Result<(), ReadModelError> {
        self.begin()?;
        let (place, now) = (self.place.clone(), self.clock.now_us());
        self.ask(Doing::Write, async |it| {
            provenance::update_checkpoint(it, &place, checkpoint, now, events_per_s).await
        })?;
        self.end()?;
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// Tables on a server are changed where they are.
    fn is_to_be_rewritten(&self, _: usize, _: bool) -> Result<bool, ReadModelError> {
        Ok(false)
    }

    fn rewrite(&mut self, _flush: Flush<'_>) -> Result<(), ReadModelError> {
        Err(ReadModelError::TransactionOpen {
            doing: "rewriting a read model that is changed where it is",
        })
    }

    fn rollback(&mut self) {
        self.roll_back();
    }

    fn prepare_ready(&mut self) -> Result<(), ReadModelError> {
        self.make_ready()
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn set_role(&mut self, role: Role) -> Result<(), ReadModelError> {
        self.between_commits("changing its role")?;
        self.begin()?;
        let place = self.place.clone();
        let written = self.ask(Doing::Write, async |it| {
            provenance::update_role(it, &place, role).await
        });
        written
            .and_then(|()| self.end())
            .inspect_err(|_| self.roll_back())
    }

    fn close(mut self: Box<Self>) -> Result<(), ReadModelError> {
        self.roll_back();
        Ok(())
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

fn read_fault(model: &ModelName, error: values::RowReadError) -> ReadModelError {
    match error {
        values::RowReadError::Server(error) => fault(model, Doing::Read, error),
        values::RowReadError::Foreign(error) => ReadModelError::Malformed {
            model: model.clone(),
            message: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
