//! Reading single rows, with what `write` wrote in the open transaction.

use retell_contract::key::decode_key;
use retell_contract::value::Value;
use rusqlite::OptionalExtension;

use super::fault::Doing;
use super::{SqliteReadModel, read_fault, rows, schema, table_of};
use crate::read_model::ReadModelError;

impl SqliteReadModel {
    pub(super) fn rows_of(
        &self,
        table: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, ReadModelError> {
        let table = table_of(&self.tables, table)?;
        let fault = |error| self.fault(Doing::Read, error);
        let mut statement = self.connection.prepare_cached(&table.get).map_err(fault)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
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

    pub(super) fn owner_of(
        &self,
        table: u16,
        index: u16,
        index_key: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadModelError> {
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
        let fault = |error| self.fault(Doing::Read, error);
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

    pub(super) fn has_no_rows(&self, table: u16) -> Result<bool, ReadModelError> {
        let name = schema::quote(&table_of(&self.tables, table)?.name);
        self.connection
            .prepare_cached(&format!("SELECT 1 FROM {name} LIMIT 1"))
            .and_then(|mut statement| statement.query_row([], |_| Ok(())).optional())
            .map(|found| found.is_none())
            .map_err(|error| self.fault(Doing::Read, error))
    }

    pub(super) fn count_rows(&self, table: u16) -> Result<u64, ReadModelError> {
        let name = schema::quote(&table_of(&self.tables, table)?.name);
        self.connection
            .prepare_cached(&format!("SELECT count(*) FROM {name}"))
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
            .map_err(|error| self.fault(Doing::Read, error))
    }
}
