//! Reading rows beside the writer: a connection of its own, which sees what is committed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use retell_contract::key::decode_key;
use retell_contract::value::Value;
use rusqlite::Connection;

use super::fault::{Doing, fault};
use super::layers::{self, Layers};
use super::schema::TableSql;
use super::{modes, open, read_fault, rows, table_of};
use crate::read_model::{KeyedRow, ReadModelError, RowReader};

pub(super) struct SqliteRows {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) tables: Arc<[TableSql]>,
    /// What the rows are in …
    layers: Arc<Layers>,
    /// … and what they were in when the file was opened or looked at last.
    seen: layers::State,
}

impl SqliteRows {
    pub(super) fn open(
        path: &Path,
        tables: Arc<[TableSql]>,
        layers: Arc<Layers>,
    ) -> Result<Self, ReadModelError> {
        // Before the file: at worst it is opened once more than need be.
        let seen = layers.now();
        Ok(Self {
            connection: connect(path)?,
            path: path.to_owned(),
            tables,
            layers,
            seen,
        })
    }

    /// Makes sure that file and runs are those that were flushed last. A file that has just taken the
    /// place of these layers has all that is in them, too.
    fn refresh(&mut self) -> Result<(), ReadModelError> {
        let now = self.layers.now();
        if now.rewrites != self.seen.rewrites {
            let next = connect(&self.path)?;
            let old = std::mem::replace(&mut self.connection, next);
            let runs = std::mem::take(&mut self.seen.runs);
            self.layers.replaced.close((old, runs));
        }
        self.seen = now;
        Ok(())
    }

    /// What the runs say of a row; `None`: nothing.
    fn in_runs(&self, table: u16, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, ReadModelError> {
        for run in self.seen.runs.iter().rev() {
            let found = run.get(table, key)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    pub(super) fn fault(&self, error: rusqlite::Error) -> ReadModelError {
        fault(&self.path, Doing::Read, error)
    }
}

fn connect(path: &Path) -> Result<Connection, ReadModelError> {
    let connection = open::connect_read_only(path)?;
    modes::reading_mode(&connection).map_err(|error| fault(path, Doing::Open, error))?;
    Ok(connection)
}

impl RowReader for SqliteRows {
    fn let_go(&mut self) -> Result<(), ReadModelError> {
        self.refresh()
    }

    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<KeyedRow>, ReadModelError> {
        self.refresh()?;
        self.scan_rows(table, index, prefix, after, limit)
    }

    fn get_many(
        &mut self,
        table: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, ReadModelError> {
        self.refresh()?;
        let number = table;
        let table = table_of(&self.tables, number)?;
        let fault = |error| self.fault(error);
        let mut statement = self.connection.prepare_cached(&table.get).map_err(fault)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(row) = self.in_runs(number, key)? {
                found.push(row);
                continue;
            }
            let values =
                decode_key(key, &table.key_types).map_err(|source| ReadModelError::Key {
                    table: table.name.clone(),
                    source,
                })?;
            rows::bind_all(&mut statement, 1, &values).map_err(fault)?;
            let mut read = statement.raw_query();
            found.push(match read.next().map_err(fault)? {
                None => None,
                Some(row) => {
                    let mut bytes = Vec::new();
                    rows::push_row(&mut bytes, row, &table.columns)
                        .map_err(|error| read_fault(&self.path, error))?;
                    Some(bytes)
                }
            });
        }
        Ok(found)
    }

    fn owner(
        &mut self,
        table: u16,
        index: u16,
        index_key: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadModelError> {
        self.refresh()?;
        let table = table_of(&self.tables, table)?;
        let found = table.indexes.get(usize::from(index));
        let index = found
            .filter(|index| index.unique)
            .ok_or_else(|| ReadModelError::Unknown {
                what: format!("unique index {index} of table `{}`", table.name),
            })?;
        let values = decode_key(index_key, &index.types).map_err(|source| ReadModelError::Key {
            table: table.name.clone(),
            source,
        })?;
        if values.contains(&Value::Null) {
            return Ok(None);
        }
        let fault = |error| self.fault(error);
        let mut statement = self
            .connection
            .prepare_cached(&index.owner)
            .map_err(fault)?;
        rows::bind_all(&mut statement, 1, &values).map_err(fault)?;
        let mut read = statement.raw_query();
        match read.next().map_err(fault)? {
            None => Ok(None),
            Some(row) => rows::read_key(row, &table.key_types)
                .map(Some)
                .map_err(|error| read_fault(&self.path, error)),
        }
    }
}
