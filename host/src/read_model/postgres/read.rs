//! Reading rows beside the writer: a session of its own, which sees what is committed.

use std::sync::Arc;

use retell_contract::key::decode_key;
use retell_contract::value::Value;
use sqlx::{AssertSqlSafe, Row};

use super::fault::{Doing, fault};
use super::place::SchemaPlace;
use super::schema::TableSql;
use super::values::{self, Parameter};
use super::{read_fault, table_of};
use crate::postgres::Session;
use crate::read_model::{KeyedRow, ReadModelError, RowReader};

/// Rows are always few and found through an index; until the tables are analysed, the planner would
/// not know.
const SET_UP: &str =
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off;
    SET enable_sort = off; SET enable_bitmapscan = off; SET default_transaction_read_only = on";

pub(super) struct PgRows {
    pub(super) place: SchemaPlace,
    session: Option<Session>,
    pub(super) tables: Arc<[TableSql]>,
}

impl PgRows {
    pub(super) fn open(
        place: &SchemaPlace,
        tables: Arc<[TableSql]>,
    ) -> Result<Self, ReadModelError> {
        let mut rows = Self {
            place: place.clone(),
            session: None,
            tables,
        };
        rows.run(async |_| Ok(()))?;
        Ok(rows)
    }

    /// Runs a query, on a new session if the last one failed.
    pub(super) fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, ReadModelError> {
        let reading = |error| fault(&self.place.name(), Doing::Read, error);
        let mut session = match self.session.take() {
            Some(session) => session,
            None => connect(&self.place).map_err(reading)?,
        };
        let done = session.run(work).map_err(reading)?;
        self.session = Some(session);
        Ok(done)
    }
}

fn connect(place: &SchemaPlace) -> Result<Session, sqlx::Error> {
    let mut session = place.connect_to_read()?;
    session.run(async |connection| sqlx::raw_sql(SET_UP).execute(connection).await.map(drop))?;
    Ok(session)
}

impl RowReader for PgRows {
    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<KeyedRow>, ReadModelError> {
        self.scan_rows(table, index, prefix, after, limit)
    }

    fn get_many(
        &mut self,
        table: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, ReadModelError> {
        let tables = self.tables.clone();
        let table = table_of(&tables, table)?;
        let decoded = keys.iter().map(|key| decode_key(key, &table.key_types));
        let decoded: Vec<Vec<Value>> =
            decoded
                .collect::<Result<_, _>>()
                .map_err(|source| ReadModelError::Key {
                    table: table.name.clone(),
                    source,
                })?;
        let rows = self.run(async |connection| {
            let mut query = sqlx::query(AssertSqlSafe(table.get_many.clone()));
            for column in values::columns(&decoded, &table.key_types) {
                query = query.bind(column);
            }
            query.fetch_all(connection).await
        })?;
        let mut found = vec![None; keys.len()];
        let read_fault = |error| read_fault(&self.place.name(), error);
        for row in &rows {
            let place: i64 = row.try_get(0).map_err(|it| read_fault(it.into()))?;
            let mut bytes = Vec::new();
            values::push_row(&mut bytes, row, 1, &table.columns).map_err(read_fault)?;
            let place = usize::try_from(place - 1).expect("the server counts what it was given");
            found[place] = Some(bytes);
        }
        Ok(found)
    }

    fn owner(
        &mut self,
        table: u16,
        index: u16,
        index_key: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadModelError> {
        let tables = self.tables.clone();
        let table = table_of(&tables, table)?;
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
        let row = self.run(async |connection| {
            let mut query = sqlx::query(AssertSqlSafe(index.owner.clone()));
            for (value, &kind) in values.iter().zip(&index.types) {
                let value = value.as_ref();
                query = query.bind(Parameter { kind, value });
            }
            query.fetch_optional(connection).await
        })?;
        row.map(|row| values::read_key(&row, &table.key_types))
            .transpose()
            .map_err(|error| read_fault(&self.place.name(), error))
    }
}
