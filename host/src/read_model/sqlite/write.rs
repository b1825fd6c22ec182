//! Writing changed rows: sorted, with prepared statements, in one large transaction.

use std::time::Instant;

use retell_contract::key::decode_key;
use retell_contract::row::walk_row;
use rusqlite::{CachedStatement, ErrorCode, Statement};

use super::SqliteReadModel;
use super::fault::Doing;
use super::ready::STEPS_PER_LOOK;
use super::rows;
use super::schema::TableSql;
use crate::limits;
use crate::read_model::{ReadModelError, RowChange};

impl SqliteReadModel {
    pub(super) fn write_changes(
        &mut self,
        changes: &[RowChange<'_>],
    ) -> Result<(), ReadModelError> {
        self.change_in_place()?;
        self.begin()?;
        if !self.may_have_triggers() {
            return self.write_groups(changes);
        }
        let end = Instant::now() + limits::TRIGGERS_TIME_MAX;
        self.connection
            .progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > end))
            .map_err(|error| self.fault(Doing::Write, error))?;
        let written = self.write_groups(changes);
        let _ = self.connection.progress_handler(0, None::<fn() -> bool>);
        written
    }

    /// Whether the module's own SQL runs with what is written.
    fn may_have_triggers(&self) -> bool {
        self.ready && !self.after_replay.is_empty()
    }

    fn write_groups(&mut self, changes: &[RowChange<'_>]) -> Result<(), ReadModelError> {
        for group in changes.chunk_by(|a, b| a.table == b.table) {
            let table = super::table_of(&self.tables, group[0].table)?;
            if table.has_unique_index {
                self.write_with_unique_index(table, group)?;
            } else {
                self.write_table(table, group)?;
            }
        }
        Ok(())
    }

    fn write_table(
        &self,
        table: &TableSql,
        changes: &[RowChange<'_>],
    ) -> Result<(), ReadModelError> {
        let mut insert = self.statement(&table.insert)?;
        let mut upsert = self.statement(&table.upsert)?;
        let mut delete = self.statement(&table.delete)?;
        for change in changes {
            match change.row {
                Some(row) if change.fresh => self.put(table, &mut insert, row)?,
                Some(row) => self.put(table, &mut upsert, row)?,
                None if change.fresh => {}
                None => self.delete(table, &mut delete, change.key)?,
            }
        }
        Ok(())
    }

    /// Clears all rows that change before it writes their new content: two rows that swap a unique
    /// value would be in each other's way otherwise.
    fn write_with_unique_index(
        &self,
        table: &TableSql,
        changes: &[RowChange<'_>],
    ) -> Result<(), ReadModelError> {
        let mut delete = self.statement(&table.delete)?;
        for change in changes.iter().filter(|change| !change.fresh) {
            self.delete(table, &mut delete, change.key)?;
        }
        let mut insert = self.statement(&table.insert)?;
        for row in changes.iter().filter_map(|change| change.row) {
            self.put(table, &mut insert, row)?;
        }
        Ok(())
    }

    fn put(
        &self,
        table: &TableSql,
        statement: &mut Statement<'_>,
        row: &[u8],
    ) -> Result<(), ReadModelError> {
        let mut bound = Ok(());
        walk_row(row, &table.columns, |column, value| {
            if bound.is_ok() {
                bound = rows::bind(statement, column + 1, value);
            }
        })
        .map_err(|source| ReadModelError::Row {
            table: table.name.clone(),
            source,
        })?;
        bound
            .and_then(|()| statement.raw_execute())
            .map_err(|error| self.write_fault(table, error))?;
        Ok(())
    }

    fn delete(
        &self,
        table: &TableSql,
        statement: &mut Statement<'_>,
        key: &[u8],
    ) -> Result<(), ReadModelError> {
        let values = decode_key(key, &table.key_types).map_err(|source| ReadModelError::Key {
            table: table.name.clone(),
            source,
        })?;
        rows::bind_all(statement, 1, &values)
            .and_then(|()| statement.raw_execute())
            .map_err(|error| self.write_fault(table, error))?;
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, ReadModelError> {
        self.connection
            .prepare_cached(sql)
            .map_err(|error| self.fault(Doing::Write, error))
    }

    fn write_fault(&self, table: &TableSql, error: rusqlite::Error) -> ReadModelError {
        let message = match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => {
                return ReadModelError::Conflict {
                    model: self.path.as_path().into(),
                    table: table.name.clone(),
                    message: error.to_string(),
                };
            }
            Some(ErrorCode::OperationInterrupted) if self.may_have_triggers() => format!(
                "with what its after-replay SQL made, one flush takes more than {} minutes",
                limits::TRIGGERS_TIME_MAX.as_secs() / 60
            ),
            // An expression of an index or a trigger that does not take the row.
            Some(ErrorCode::Unknown | ErrorCode::TooBig | ErrorCode::TypeMismatch)
                if self.may_have_triggers() =>
            {
                error.to_string()
            }
            _ => return self.fault(Doing::Write, error),
        };
        ReadModelError::NotTaken {
            model: self.path.as_path().into(),
            table: table.name.clone(),
            message,
        }
    }
}
