//! Rows from the contract's encoding to SQLite's.

use retell_contract::key::push_key_ref;
use retell_contract::value::ValueRef;
use retell_contract::walk_row;

use super::super::rows::push_stored;
use super::super::schema::{Layout, TableSql};
use crate::read_model::{ReadModelError, RowChange};
use crate::sqlite_format::RecordWriter;

/// Rows of so many columns are taken apart without an allocation.
const COLUMNS_INLINE: usize = 16;

/// A change, its row encoded.
pub(super) struct EncodedChange<'p> {
    pub(super) key: &'p [u8],
    pub(super) key_prefix: u128,
    pub(super) fresh: bool,
    pub(super) row: Option<EncodedRow<'p>>,
}

/// A row as its table has it.
pub(super) struct EncodedRow<'p> {
    pub(super) record: &'p [u8],
    /// Of a table whose key is SQLite's row number.
    pub(super) rowid: i64,
    /// Of a heap: the types and values of the key's columns.
    pub(super) key_types: &'p [u8],
    pub(super) key_values: &'p [u8],
}

/// Changes one after the other, and the bytes of their keys and rows end to end.
#[derive(Default)]
pub(super) struct Piece {
    changes: Vec<Place>,
    bytes: Vec<u8>,
}

struct Place {
    key_prefix: u128,
    fresh: bool,
    has_row: bool,
    rowid: i64,
    key_end: usize,
    record_end: usize,
    types_end: usize,
    values_end: usize,
}

impl Piece {
    /// Hands each change to `take`, in order.
    pub(super) fn each(
        &self,
        mut take: impl FnMut(&EncodedChange<'_>) -> Result<(), ReadModelError>,
    ) -> Result<(), ReadModelError> {
        let mut start = 0;
        for place in &self.changes {
            let part = |from: usize, to: usize| &self.bytes[from..to];
            let row = place.has_row.then(|| EncodedRow {
                record: part(place.key_end, place.record_end),
                rowid: place.rowid,
                key_types: part(place.record_end, place.types_end),
                key_values: part(place.types_end, place.values_end),
            });
            take(&EncodedChange {
                key: part(start, place.key_end),
                key_prefix: place.key_prefix,
                fresh: place.fresh,
                row,
            })?;
            start = place.values_end;
        }
        Ok(())
    }
}

pub(super) struct Encoder<'t> {
    table: &'t TableSql,
    /// The columns of a record, in their order.
    order: Vec<usize>,
    record: RecordWriter,
    key: Vec<u8>,
}

impl<'t> Encoder<'t> {
    pub(super) fn new(table: &'t TableSql) -> Self {
        let mut order: Vec<usize> = (0..table.columns.len()).collect();
        if table.layout == Layout::Key {
            // A table without rowids has the key's columns first.
            let key: Vec<usize> = table.key.iter().map(|&it| usize::from(it)).collect();
            order.retain(|column| !key.contains(column));
            order = [key, order].concat();
        }
        Self {
            table,
            order,
            record: RecordWriter::default(),
            key: Vec::new(),
        }
    }

    /// Makes it a piece of these changes, with their keys' prefixes.
    pub(super) fn fill<'c>(
        &mut self,
        piece: &mut Piece,
        changes: impl Iterator<Item = (u128, RowChange<'c>)>,
    ) -> Result<(), ReadModelError> {
        piece.changes.clear();
        piece.bytes.clear();
        for (key_prefix, change) in changes {
            let place = self.encode(key_prefix, change, &mut piece.bytes)?;
            piece.changes.push(place);
        }
        Ok(())
    }

    fn encode(
        &mut self,
        key_prefix: u128,
        change: RowChange<'_>,
        bytes: &mut Vec<u8>,
    ) -> Result<Place, ReadModelError> {
        bytes.extend_from_slice(change.key);
        let key_end = bytes.len();
        let mut place = Place {
            key_prefix,
            fresh: change.fresh,
            has_row: change.row.is_some(),
            rowid: 0,
            key_end,
            record_end: key_end,
            types_end: key_end,
            values_end: key_end,
        };
        let Some(row) = change.row else {
            return Ok(place);
        };
        let columns = &self.table.columns;
        let mut values = [ValueRef::Null; COLUMNS_INLINE];
        let mut more = Vec::new();
        let values = if columns.len() <= COLUMNS_INLINE {
            &mut values[..columns.len()]
        } else {
            more.resize(columns.len(), ValueRef::Null);
            &mut more[..]
        };
        walk_row(row, columns, |column, value| values[column] = value).map_err(|source| {
            ReadModelError::Row {
                table: self.table.name.clone(),
                source,
            }
        })?;
        self.key.clear();
        for &column in &self.table.key {
            push_key_ref(&mut self.key, values[usize::from(column)]);
        }
        if self.key != change.key {
            let (table, key) = (&self.table.name, &self.table.key);
            return Err(ReadModelError::not_under_its_key(table, key));
        }
        if let Layout::RowNumber { column } = self.table.layout {
            place.rowid = match std::mem::replace(&mut values[column], ValueRef::Null) {
                ValueRef::Integer(rowid) | ValueRef::Timestamp(rowid) => rowid,
                ValueRef::Boolean(rowid) => i64::from(rowid),
                _ => unreachable!("the layout is for such keys, which are never null"),
            };
        }
        self.record.clear();
        for &column in &self.order {
            push_stored(&mut self.record, values[column]);
        }
        bytes.extend_from_slice(self.record.finish());
        place.record_end = bytes.len();
        if self.table.layout == Layout::Heap {
            self.record.clear();
            for &column in &self.table.key {
                push_stored(&mut self.record, values[usize::from(column)]);
            }
            let (types, values) = self.record.parts();
            bytes.extend_from_slice(types);
            place.types_end = bytes.len();
            bytes.extend_from_slice(values);
        } else {
            place.types_end = bytes.len();
        }
        place.values_end = bytes.len();
        Ok(place)
    }
}
