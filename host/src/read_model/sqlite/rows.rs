//! Rows and keys between their packed encodings and SQLite's values, without a detour over owned
//! values where it is hot.

use retell_contract::json;
use retell_contract::row::RowWriter;
use retell_contract::uuid::parse_uuid;
use retell_contract::value::{ColumnType, Value, ValueRef};
use rusqlite::types::{Null, ValueRef as SqlRef};
use rusqlite::{Row, Statement};

use crate::sqlite_format::RecordWriter;

/// A stored value that its column can't hold: someone else wrote into the file.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds {found} where {expected} belongs")]
pub(super) struct ForeignValue {
    column: String,
    found: String,
    expected: ColumnType,
}

/// Binds a value to the parameter `place` (from 1).
pub(super) fn bind(
    statement: &mut Statement<'_>,
    place: usize,
    value: ValueRef<'_>,
) -> rusqlite::Result<()> {
    match value {
        ValueRef::Null => statement.raw_bind_parameter(place, Null),
        ValueRef::Boolean(value) => statement.raw_bind_parameter(place, value),
        ValueRef::Integer(value) | ValueRef::Timestamp(value) => {
            statement.raw_bind_parameter(place, value)
        }
        ValueRef::Real(value) => statement.raw_bind_parameter(place, value),
        ValueRef::Text(value) | ValueRef::Json(value) => statement.raw_bind_parameter(place, value),
        ValueRef::Bytes(value) => statement.raw_bind_parameter(place, value),
        ValueRef::Uuid(value) => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let text: &str = uuid::Uuid::from_bytes(*value)
                .hyphenated()
                .encode_lower(&mut text);
            statement.raw_bind_parameter(place, text)
        }
    }
}

/// Binds values to the parameters from `first` on.
pub(super) fn bind_all(
    statement: &mut Statement<'_>,
    first: usize,
    values: &[Value],
) -> rusqlite::Result<()> {
    for (value, place) in values.iter().zip(first..) {
        bind(statement, place, value.as_ref())?;
    }
    Ok(())
}

/// Appends the row encoding of the first columns of `row`.
pub(super) fn push_row(
    out: &mut Vec<u8>,
    row: &Row<'_>,
    columns: &[(ColumnType, bool)],
) -> Result<(), RowReadError> {
    let mut writer = RowWriter::new(out, columns.len());
    for (number, &(kind, _)) in columns.iter().enumerate() {
        with_value(row, number, kind, |value| writer.value(value))?;
    }
    Ok(())
}

/// The key encoding of the first columns of `row`.
pub(super) fn read_key(row: &Row<'_>, types: &[ColumnType]) -> Result<Vec<u8>, RowReadError> {
    let mut key = Vec::with_capacity(types.len() * 16);
    for (number, &kind) in types.iter().enumerate() {
        with_value(row, number, kind, |value| {
            retell_contract::key::push_key_ref(&mut key, value);
        })?;
    }
    Ok(key)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RowReadError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Foreign(#[from] ForeignValue),
}

fn with_value(
    row: &Row<'_>,
    number: usize,
    kind: ColumnType,
    take: impl FnMut(ValueRef<'_>),
) -> Result<(), RowReadError> {
    let stored = row.get_ref(number)?;
    take_stored(stored, kind, take).map_err(|NotOfItsType| {
        ForeignValue {
            column: row.as_ref().column_name(number).unwrap_or("?").to_owned(),
            found: format!("{:?}", stored.data_type()).to_lowercase(),
            expected: kind,
        }
        .into()
    })
}

/// A stored value that is none of its column's type.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotOfItsType;

/// Hands a stored value to `take` as what its column makes of it.
pub(super) fn take_stored(
    stored: SqlRef<'_>,
    kind: ColumnType,
    mut take: impl FnMut(ValueRef<'_>),
) -> Result<(), NotOfItsType> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| NotOfItsType);
    match (kind, stored) {
        (_, SqlRef::Null) => take(ValueRef::Null),
        (ColumnType::Boolean, SqlRef::Integer(value @ (0 | 1))) => {
            take(ValueRef::Boolean(value != 0));
        }
        (ColumnType::Integer, SqlRef::Integer(value)) => take(ValueRef::Integer(value)),
        (ColumnType::Timestamp, SqlRef::Integer(value)) => take(ValueRef::Timestamp(value)),
        (ColumnType::Real, SqlRef::Real(value)) => take(ValueRef::Real(value)),
        (ColumnType::Text, SqlRef::Text(bytes)) => take(ValueRef::Text(text(bytes)?)),
        (ColumnType::Bytes, SqlRef::Blob(bytes)) => take(ValueRef::Bytes(bytes)),
        (ColumnType::Uuid, SqlRef::Text(bytes)) => {
            // Written otherwise, SQL would take it for another one.
            let is_plain = !bytes.iter().any(u8::is_ascii_uppercase);
            let value = parse_uuid(text(bytes)?).filter(|_| is_plain);
            let value = value.ok_or(NotOfItsType)?;
            take(ValueRef::Uuid(&value));
        }
        (ColumnType::Json, SqlRef::Text(bytes)) => {
            // Canonical when it was written; someone else's writing must not change the digest.
            let value = json::canonical(text(bytes)?).map_err(|_| NotOfItsType)?;
            take(ValueRef::Json(&value));
        }
        _ => return Err(NotOfItsType),
    }
    Ok(())
}

/// Adds a value to a record, as it is stored.
#[inline]
pub(super) fn push_stored(record: &mut RecordWriter, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => record.push(SqlRef::Null),
        ValueRef::Boolean(value) => record.push(SqlRef::Integer(i64::from(value))),
        ValueRef::Integer(value) | ValueRef::Timestamp(value) => {
            record.push(SqlRef::Integer(value));
        }
        ValueRef::Real(value) => record.push(SqlRef::Real(value)),
        ValueRef::Text(value) | ValueRef::Json(value) => {
            record.push(SqlRef::Text(value.as_bytes()));
        }
        ValueRef::Bytes(value) => record.push(SqlRef::Blob(value)),
        ValueRef::Uuid(value) => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let text = uuid::Uuid::from_bytes(*value)
                .hyphenated()
                .encode_lower(&mut text);
            record.push(SqlRef::Text(text.as_bytes()));
        }
    }
}
