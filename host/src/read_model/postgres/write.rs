//! Writing changed rows: new ones by COPY, others through a stage and one statement, and a few by
//! themselves.

use retell_contract::key::decode_key;
use retell_contract::row::walk_row;
use retell_contract::value::Value;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection};

use super::PgReadModel;
use super::fault::{Doing, write_fault};
use super::schema::TableSql;
use super::values::{self, Parameter};
use crate::limits::POSTGRES_WORK_TIMEOUT;
use crate::read_model::{ReadModelError, RowChange};

/// Fewer rows go one by one: a stage costs some round trips.
const STAGED_ROWS_MIN: usize = 16;
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Bytes given to the socket at once.
const COPY_PIECE_BYTES: usize = 1 << 20;

impl PgReadModel {
    pub(super) fn write_changes(
        &mut self,
        changes: &[RowChange<'_>],
    ) -> Result<(), ReadModelError> {
        self.begin()?;
        let tables = self.tables.clone();
        for group in changes.chunk_by(|a, b| a.table == b.table) {
            let table = super::table_of(&tables, group[0].table)?;
            if table.has_unique_index {
                self.write_with_unique_index(table, group)?;
            } else {
                self.write_table(table, usize::from(group[0].table), group)?;
            }
        }
        Ok(())
    }

    fn write_table(
        &mut self,
        table: &TableSql,
        number: usize,
        changes: &[RowChange<'_>],
    ) -> Result<(), ReadModelError> {
        let fresh = changes.iter().filter(|it| it.fresh);
        self.copy(table, &table.copy_in, fresh.filter_map(|it| it.row))?;
        let known = || changes.iter().filter(|it| !it.fresh);
        self.delete(table, known().filter(|it| it.row.is_none()))?;
        let rows = || known().filter_map(|it| it.row);
        if rows().count() < STAGED_ROWS_MIN {
            return rows().try_for_each(|row| self.upsert(table, row));
        }
        if !std::mem::replace(&mut self.staged[number], true) {
            self.execute(Doing::Write, &table.create_stage)?;
        }
        self.copy(table, &table.copy_to_stage, rows())?;
        let merged = self
            .session
            .run_within(POSTGRES_WORK_TIMEOUT, async |connection| {
                let merge = AssertSqlSafe(table.merge_stage.clone());
                sqlx::raw_sql(merge).execute(connection).await.map(drop)
            });
        merged.map_err(|error| write_fault(&self.place.name(), &table.name, error))?;
        self.execute(Doing::Write, &table.empty_stage)
    }

    /// Clears all rows that change before it writes their new content: two rows that swap a unique
    /// value would be in each other's way otherwise.
    fn write_with_unique_index(
        &mut self,
        table: &TableSql,
        changes: &[RowChange<'_>],
    ) -> Result<(), ReadModelError> {
        self.delete(table, changes.iter().filter(|it| !it.fresh))?;
        self.copy(
            table,
            &table.copy_in,
            changes.iter().filter_map(|it| it.row),
        )
    }

    /// Copies whole rows into a table or its stage.
    fn copy<'a>(
        &mut self,
        table: &TableSql,
        sql: &str,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), ReadModelError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(COPY_HEADER);
        for row in rows {
            push_row(&mut buffer, table, row)?;
        }
        if buffer.len() == COPY_HEADER.len() {
            self.buffer = buffer;
            return Ok(());
        }
        buffer.extend_from_slice(&COPY_TRAILER);
        let copied = self
            .session
            .run_within(POSTGRES_WORK_TIMEOUT, async |connection| {
                send(connection, sql, &buffer).await
            });
        self.buffer = buffer;
        copied.map_err(|error| write_fault(&self.place.name(), &table.name, error))
    }

    fn upsert(&mut self, table: &TableSql, row: &[u8]) -> Result<(), ReadModelError> {
        let mut arguments = PgArguments::default();
        let mut added = Ok(());
        walk_row(row, &table.columns, |column, value| {
            let kind = table.columns[column].0;
            if added.is_ok() {
                added = arguments.add(Parameter { kind, value });
            }
        })
        .map_err(|source| ReadModelError::Row {
            table: table.name.clone(),
            source,
        })?;
        added.map_err(|source| ReadModelError::Storage {
            model: self.place.name(),
            doing: "write to",
            source,
        })?;
        let upserted = self.session.run(async |connection| {
            let sql = AssertSqlSafe(table.upsert.clone());
            let query = sqlx::query_with(sql, arguments);
            query.execute(connection).await.map(drop)
        });
        upserted.map_err(|error| write_fault(&self.place.name(), &table.name, error))
    }

    fn delete<'a>(
        &mut self,
        table: &TableSql,
        changes: impl Iterator<Item = &'a RowChange<'a>>,
    ) -> Result<(), ReadModelError> {
        let keys = changes.map(|change| decode_key(change.key, &table.key_types));
        let keys: Vec<Vec<Value>> =
            keys.collect::<Result<_, _>>()
                .map_err(|source| ReadModelError::Key {
                    table: table.name.clone(),
                    source,
                })?;
        if keys.is_empty() {
            return Ok(());
        }
        self.run(Doing::Write, async |connection| {
            let mut query = sqlx::query(AssertSqlSafe(table.delete_many.clone()));
            for column in values::columns(&keys, &table.key_types) {
                query = query.bind(column);
            }
            query.execute(connection).await.map(drop)
        })
    }
}

/// Appends a row as COPY takes it.
fn push_row(buffer: &mut Vec<u8>, table: &TableSql, row: &[u8]) -> Result<(), ReadModelError> {
    let columns = i16::try_from(table.columns.len()).expect("the manifest check limits columns");
    buffer.extend_from_slice(&columns.to_be_bytes());
    walk_row(row, &table.columns, |_, value| {
        values::push_field(buffer, value);
    })
    .map_err(|source| ReadModelError::Row {
        table: table.name.clone(),
        source,
    })
}

async fn send(connection: &mut PgConnection, sql: &str, rows: &[u8]) -> Result<(), sqlx::Error> {
    let mut copy = connection.copy_in_raw(sql).await?;
    for piece in rows.chunks(COPY_PIECE_BYTES) {
        copy.send(piece).await?;
    }
    copy.finish().await.map(drop)
}
