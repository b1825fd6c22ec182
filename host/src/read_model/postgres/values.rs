//! Values between their packed encodings and PostgreSQL's binary forms.

use retell_contract::json;
use retell_contract::row::RowWriter;
use retell_contract::value::{ColumnType, Value, ValueRef};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo};
use sqlx::{Encode, Postgres, Row, Type, ValueRef as _};

use crate::postgres::Timestamp;

/// First byte of a binary `jsonb`.
const JSONB_VERSION: u8 = 1;

/// A stored value that its column can't hold: someone else changed the table.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds what is none of its type, {expected}")]
pub(super) struct ForeignValue {
    column: usize,
    expected: ColumnType,
}

/// What a column type is called in a table.
pub(super) fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Boolean => "boolean",
        ColumnType::Integer => "bigint",
        ColumnType::Real => "double precision",
        ColumnType::Text => "text",
        ColumnType::Bytes => "bytea",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Uuid => "uuid",
        ColumnType::Json => "jsonb",
    }
}

/// The object ids of a type and of its array, which are the same on every server.
fn oids(kind: ColumnType) -> (u32, u32) {
    match kind {
        ColumnType::Boolean => (16, 1000),
        ColumnType::Integer => (20, 1016),
        ColumnType::Real => (701, 1022),
        ColumnType::Text => (25, 1009),
        ColumnType::Bytes => (17, 1001),
        ColumnType::Timestamp => (1184, 1185),
        ColumnType::Uuid => (2950, 2951),
        ColumnType::Json => (3802, 3807),
    }
}

/// Appends the binary form of a value that is not null.
fn push_binary(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => {}
        ValueRef::Boolean(value) => out.push(u8::from(value)),
        ValueRef::Integer(value) => out.extend_from_slice(&value.to_be_bytes()),
        ValueRef::Real(value) => out.extend_from_slice(&value.to_be_bytes()),
        ValueRef::Text(value) => out.extend_from_slice(value.as_bytes()),
        ValueRef::Bytes(value) => out.extend_from_slice(value),
        ValueRef::Timestamp(value) => out.extend_from_slice(&Timestamp(value).to_bytes()),
        ValueRef::Uuid(value) => out.extend_from_slice(value),
        ValueRef::Json(value) => {
            out.push(JSONB_VERSION);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

/// Appends a value as COPY and arrays have it: its length, then its binary form.
pub(super) fn push_field(out: &mut Vec<u8>, value: ValueRef<'_>) {
    if value == ValueRef::Null {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return;
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    push_binary(out, value);
    let length = i32::try_from(out.len() - start - 4).expect("rows are limited to far less");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A value as a parameter.
pub(super) struct Parameter<'a> {
    pub(super) kind: ColumnType,
    pub(super) value: ValueRef<'a>,
}

impl Type<Postgres> for Parameter<'_> {
    /// Each value says for itself what it is.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(oids(ColumnType::Text).0))
    }
}

impl Encode<'_, Postgres> for Parameter<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        if self.value == ValueRef::Null {
            return Ok(IsNull::Yes);
        }
        push_binary(buffer, self.value);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(oids(self.kind).0)))
    }
}

/// One column of several keys, as an array.
pub(super) struct Column<'a> {
    pub(super) kind: ColumnType,
    pub(super) values: Vec<&'a Value>,
}

impl Type<Postgres> for Column<'_> {
    /// Each array says for itself what it is.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(oids(ColumnType::Text).1))
    }
}

impl Encode<'_, Postgres> for Column<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let count = i32::try_from(self.values.len())?;
        // One dimension, no nulls, the type, so many elements, counted from 1.
        for word in [1, 0, i32::try_from(oids(self.kind).0)?, count, 1] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
        for value in &self.values {
            push_field(buffer, value.as_ref());
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(oids(self.kind).1)))
    }
}

/// The keys' columns, each as an array.
pub(super) fn columns<'a>(keys: &'a [Vec<Value>], types: &[ColumnType]) -> Vec<Column<'a>> {
    let column = |(number, &kind): (usize, &ColumnType)| Column {
        kind,
        values: keys.iter().map(|key| &key[number]).collect(),
    };
    types.iter().enumerate().map(column).collect()
}

/// What reading a row met.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowReadError {
    #[error(transparent)]
    Server(#[from] sqlx::Error),
    #[error(transparent)]
    Foreign(#[from] ForeignValue),
}

/// Appends the row encoding of the columns of `row` from `first` on.
pub(super) fn push_row(
    out: &mut Vec<u8>,
    row: &PgRow,
    first: usize,
    columns: &[(ColumnType, bool)],
) -> Result<(), RowReadError> {
    let mut writer = RowWriter::new(out, columns.len());
    for (number, &(kind, _)) in columns.iter().enumerate() {
        with_value(row, first + number, kind, |value| writer.value(value))?;
    }
    Ok(())
}

/// The key encoding of the first columns of `row`.
pub(super) fn read_key(row: &PgRow, types: &[ColumnType]) -> Result<Vec<u8>, RowReadError> {
    let mut key = Vec::with_capacity(types.len() * 16);
    for (number, &kind) in types.iter().enumerate() {
        with_value(row, number, kind, |value| {
            retell_contract::key::push_key_ref(&mut key, value);
        })?;
    }
    Ok(key)
}

fn with_value(
    row: &PgRow,
    number: usize,
    kind: ColumnType,
    take: impl FnOnce(ValueRef<'_>),
) -> Result<(), RowReadError> {
    let stored = row.try_get_raw(number)?;
    let foreign = || ForeignValue {
        column: number + 1,
        expected: kind,
    };
    if stored.is_null() {
        take(ValueRef::Null);
        return Ok(());
    }
    if stored.type_info().oid() != Some(Oid(oids(kind).0)) {
        return Err(foreign().into());
    }
    let bytes = stored.as_bytes().map_err(|_| foreign())?;
    take_binary(bytes, kind, take).ok_or_else(|| foreign().into())
}

fn take_binary(bytes: &[u8], kind: ColumnType, take: impl FnOnce(ValueRef<'_>)) -> Option<()> {
    match kind {
        ColumnType::Boolean => take(ValueRef::Boolean(*bytes.first()? != 0)),
        ColumnType::Integer => {
            take(ValueRef::Integer(i64::from_be_bytes(
                bytes.try_into().ok()?,
            )));
        }
        ColumnType::Real => take(ValueRef::Real(f64::from_be_bytes(bytes.try_into().ok()?))),
        ColumnType::Timestamp => {
            let time = Timestamp::from_bytes(bytes.try_into().ok()?);
            take(ValueRef::Timestamp(time.0));
        }
        ColumnType::Text => take(ValueRef::Text(std::str::from_utf8(bytes).ok()?)),
        ColumnType::Bytes => take(ValueRef::Bytes(bytes)),
        ColumnType::Uuid => take(ValueRef::Uuid(bytes.try_into().ok()?)),
        ColumnType::Json => {
            let text = bytes.strip_prefix(&[JSONB_VERSION])?;
            // The server rewrites what it stores.
            let text = json::canonical(std::str::from_utf8(text).ok()?).ok()?;
            take(ValueRef::Json(&text));
        }
    }
    Some(())
}
