//! Rows as CBOR arrays (RFC 8949): one item per column, in the order of the columns.
//!
//! One value has one encoding: definite lengths, shortest integers and lengths, reals always as
//! eight bytes and never as a negative zero, timestamps as integers (microseconds), UUIDs as
//! sixteen bytes, JSON as canonical text. Anything else is refused, so that equal rows are equal
//! bytes.

mod reader;
mod writer;

use crate::json;
use crate::key::push_key_ref;
use crate::value::{ColumnType, Value, ValueRef};
pub use reader::RowReader;
pub use writer::RowWriter;

const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
/// Additional information of a head: how many bytes its argument has. One after the other.
const ONE_BYTE: u8 = 24;
const TWO_BYTES: u8 = 25;
const FOUR_BYTES: u8 = 26;
const EIGHT_BYTES: u8 = 27;
const INDEFINITE: u8 = 31;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const REAL: u8 = 0xfb;

/// Bytes that are no row of the given columns. Columns are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("the row is not a CBOR array of definite length")]
    NotARow,
    #[error("the row has {found} columns instead of {expected}")]
    Count { expected: usize, found: u64 },
    #[error("the row ends within column {column}")]
    Truncated { column: usize },
    #[error("the row has {count} bytes more than its columns")]
    Trailing { count: usize },
    #[error("column {column} of the row: expected {expected}, found the CBOR byte {found:#04x}")]
    Type {
        column: usize,
        expected: ColumnType,
        found: u8,
    },
    #[error("column {column} of the row cannot be null")]
    Null { column: usize },
    #[error("column {column} of the row: {reason}")]
    Malformed { column: usize, reason: &'static str },
}

/// The row of the values, which must keep the rules of [`Value::check`].
pub fn encode_row(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + values.len() * 9);
    let mut writer = RowWriter::new(&mut out, values.len());
    for value in values {
        writer.value(value.as_ref());
    }
    out
}

/// The values of a row, after the checks of [`check_row`].
pub fn decode_row(bytes: &[u8], columns: &[(ColumnType, bool)]) -> Result<Vec<Value>, RowError> {
    let mut values = Vec::with_capacity(columns.len());
    read(bytes, columns, true, |_, value| {
        values.push(value.to_value());
    })?;
    Ok(values)
}

/// Whether the bytes are a row of these columns (type, and whether it may be null), with values
/// that keep the rules. Allocates only for JSON columns.
pub fn check_row(bytes: &[u8], columns: &[(ColumnType, bool)]) -> Result<(), RowError> {
    read(bytes, columns, true, |_, _| {})
}

/// Visits the values of a row in the order of the columns, without allocating. Everything that
/// [`check_row`] checks is checked on the way, except that JSON is canonical: that takes parsing
/// it, and a row is walked more often than it is made.
pub fn walk_row<'a>(
    bytes: &'a [u8],
    columns: &[(ColumnType, bool)],
    visit: impl FnMut(usize, ValueRef<'a>),
) -> Result<(), RowError> {
    read(bytes, columns, false, visit)
}

/// The key made of the picked columns of a row: its primary key, or its entry in an index.
///
/// # Panics
/// When a column is picked that is JSON or does not exist: check the manifest first.
pub fn key_of_row(
    bytes: &[u8],
    columns: &[(ColumnType, bool)],
    picked: &[u16],
) -> Result<Vec<u8>, RowError> {
    let mut out = Vec::with_capacity(picked.len() * 16);
    push_key_of_row(&mut out, bytes, columns, picked)?;
    Ok(out)
}

/// [`key_of_row`] that appends to a buffer. On an error, the buffer may hold a part of the key.
///
/// # Panics
/// As [`key_of_row`].
pub fn push_key_of_row(
    out: &mut Vec<u8>,
    bytes: &[u8],
    columns: &[(ColumnType, bool)],
    picked: &[u16],
) -> Result<(), RowError> {
    if picked.is_sorted_by(|a, b| a < b) {
        let mut next = picked.iter().map(|&column| usize::from(column)).peekable();
        walk_row(bytes, columns, |column, value| {
            if next.next_if_eq(&column).is_some() {
                push_key_ref(out, value);
            }
        })?;
        assert!(
            next.peek().is_none(),
            "a key names a column that does not exist"
        );
        return Ok(());
    }
    let mut values = vec![ValueRef::Null; columns.len()];
    walk_row(bytes, columns, |column, value| values[column] = value)?;
    for &column in picked {
        push_key_ref(out, values[usize::from(column)]);
    }
    Ok(())
}

fn read<'a>(
    bytes: &'a [u8],
    columns: &[(ColumnType, bool)],
    check_json: bool,
    mut visit: impl FnMut(usize, ValueRef<'a>),
) -> Result<(), RowError> {
    let mut reader = RowReader::new(bytes, columns.len())?;
    for (column, &(ty, nullable)) in columns.iter().enumerate() {
        if reader.null() {
            if !nullable {
                return Err(RowError::Null { column });
            }
            visit(column, ValueRef::Null);
            continue;
        }
        let value = match ty {
            ColumnType::Boolean => ValueRef::Boolean(reader.boolean()?),
            ColumnType::Integer => ValueRef::Integer(reader.integer()?),
            ColumnType::Real => ValueRef::Real(reader.real()?),
            ColumnType::Text => ValueRef::Text(reader.text()?),
            ColumnType::Bytes => ValueRef::Bytes(reader.bytes()?),
            ColumnType::Timestamp => ValueRef::Timestamp(reader.timestamp()?),
            ColumnType::Uuid => ValueRef::Uuid(reader.uuid()?),
            ColumnType::Json => ValueRef::Json(reader.json()?),
        };
        if let ValueRef::Json(text) = value
            && check_json
            && json::canonical(text).as_deref() != Ok(text)
        {
            return Err(RowError::Malformed {
                column,
                reason: "the JSON text is not canonical",
            });
        }
        visit(column, value);
    }
    reader.finish()
}

#[cfg(test)]
mod tests;
