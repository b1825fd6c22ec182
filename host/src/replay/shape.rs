//! The shape of a table, as far as keys and indexes need it.

use retell_contract::key::{decode_key, decode_prefix};
use retell_contract::manifest::Table;
use retell_contract::{ColumnType, RowError, ValueRef, key_of_row, walk_row};

use crate::read_model::{KEY_INDEX, ReadModelError};

/// A table's columns, key and indexes.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: String,
    /// Type and whether it may be null.
    columns: Vec<(ColumnType, bool)>,
    key: Vec<u16>,
    pub(super) indexes: Vec<Index>,
    pub(super) has_unique: bool,
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: String,
    columns: Vec<u16>,
    pub(super) unique: bool,
}

impl Shape {
    pub(super) fn new(table: &Table) -> Self {
        let index = |it: &retell_contract::manifest::TableIndex| Index {
            name: it.name.clone(),
            columns: it.columns.clone(),
            unique: it.unique,
        };
        Self {
            name: table.name.clone(),
            columns: table
                .columns
                .iter()
                .map(|it| (it.kind, it.nullable))
                .collect(),
            key: table.key.clone(),
            indexes: table.indexes.iter().map(index).collect(),
            has_unique: table.indexes.iter().any(|it| it.unique),
        }
    }

    /// Where a row stands in the order of an index: its index columns, then its key.
    pub(super) fn place_of(
        &self,
        index: u16,
        row: &[u8],
        key: &[u8],
    ) -> Result<Vec<u8>, ReadModelError> {
        if index == KEY_INDEX {
            return Ok(key.to_vec());
        }
        let mut place = self.key_of(row, &self.index(index)?.columns)?;
        place.extend_from_slice(key);
        Ok(place)
    }

    /// Whether a scan makes sense, whatever rows there are.
    pub(super) fn check_scan(
        &self,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<(), ReadModelError> {
        let (name, columns) = if index == KEY_INDEX {
            ("the key", [].as_slice())
        } else {
            let found = self.index(index)?;
            (found.name.as_str(), found.columns.as_slice())
        };
        let kinds = |columns: &[u16]| -> Vec<ColumnType> {
            let kind = |&column: &u16| self.columns[usize::from(column)].0;
            columns.iter().map(kind).collect()
        };
        let place = [kinds(columns), kinds(&self.key)].concat();
        let prefix_max = if columns.is_empty() {
            place.len()
        } else {
            columns.len()
        };
        let refuse = |what: &str, error: &dyn std::error::Error| ReadModelError::Scan {
            table: self.name.clone(),
            index: name.to_owned(),
            reason: format!("its {what} is none ({error})"),
        };
        decode_prefix(prefix, &place[..prefix_max]).map_err(|error| refuse("prefix", &error))?;
        if let Some(after) = after {
            decode_key(after, &place).map_err(|error| refuse("place to go on from", &error))?;
        }
        Ok(())
    }

    fn index(&self, index: u16) -> Result<&Index, ReadModelError> {
        let found = self.indexes.get(usize::from(index));
        found.ok_or_else(|| ReadModelError::Unknown {
            what: format!("index {index} of table `{}`", self.name),
        })
    }

    /// The encoded value in a unique index; none where any part is null, since nulls never collide.
    pub(super) fn unique_value(
        &self,
        index: u16,
        row: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadModelError> {
        let columns = &self.indexes[usize::from(index)].columns;
        let mut has_null = false;
        let walked = walk_row(row, &self.columns, |column, value| {
            let asked = u16::try_from(column).is_ok_and(|column| columns.contains(&column));
            has_null |= asked && matches!(value, ValueRef::Null);
        });
        walked.map_err(|error| self.bad_row(error))?;
        if has_null {
            Ok(None)
        } else {
            self.key_of(row, columns).map(Some)
        }
    }

    /// A row must stand under its own key, or a later read would not find it.
    pub(super) fn check_key(&self, key: &[u8], row: &[u8]) -> Result<(), ReadModelError> {
        if self.key_of(row, &self.key)? == key {
            return Ok(());
        }
        Err(ReadModelError::not_under_its_key(&self.name, &self.key))
    }

    fn key_of(&self, row: &[u8], columns: &[u16]) -> Result<Vec<u8>, ReadModelError> {
        key_of_row(row, &self.columns, columns).map_err(|error| self.bad_row(error))
    }

    fn bad_row(&self, source: RowError) -> ReadModelError {
        ReadModelError::Row {
            table: self.name.clone(),
            source,
        }
    }
}
