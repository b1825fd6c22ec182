//! Rows as CBOR arrays (RFC 8949): one item per column, in the order of the columns.
//!
//! One value has one encoding: definite lengths, shortest integers and lengths, reals always as
//! eight bytes and never as a negative zero, timestamps as integers (microseconds), UUIDs as
//! sixteen bytes, JSON as canonical text. Anything else is refused, so that equal rows are equal
//! bytes.

use crate::json;
use crate::key::push_key_ref;
use crate::time::{TIMESTAMP_MAX, TIMESTAMP_MIN};
use crate::value::{ColumnType, Value, ValueRef, normal_real};

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

/// Writes the columns of one row, one call each. Checks nothing: the values must keep the rules.
#[derive(Debug)]
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> RowWriter<'a> {
    /// Starts a row of so many columns at the end of the buffer.
    pub fn new(out: &'a mut Vec<u8>, columns: usize) -> Self {
        push_head(out, ARRAY, columns as u64);
        Self { out }
    }

    pub fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.null(),
            ValueRef::Boolean(v) => self.boolean(v),
            ValueRef::Integer(v) => self.integer(v),
            ValueRef::Real(v) => self.real(v),
            ValueRef::Text(v) => self.text(v),
            ValueRef::Bytes(v) => self.bytes(v),
            ValueRef::Timestamp(v) => self.timestamp(v),
            ValueRef::Uuid(v) => self.uuid(v),
            ValueRef::Json(v) => self.json(v),
        }
    }

    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    pub fn boolean(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    pub fn integer(&mut self, value: i64) {
        if value < 0 {
            // CBOR stores -1 - value, which is the value with its bits inverted.
            push_head(self.out, NEGATIVE, (!value).cast_unsigned());
        } else {
            push_head(self.out, UNSIGNED, value.cast_unsigned());
        }
    }

    /// Negative zero is written as zero.
    pub fn real(&mut self, value: f64) {
        self.out.push(REAL);
        self.out
            .extend_from_slice(&normal_real(value).to_be_bytes());
    }

    pub fn text(&mut self, value: &str) {
        push_head(self.out, TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        push_head(self.out, BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// Microseconds since the Unix epoch.
    pub fn timestamp(&mut self, micros: i64) {
        self.integer(micros);
    }

    pub fn uuid(&mut self, value: &[u8; 16]) {
        self.bytes(value);
    }

    /// Canonical JSON text.
    pub fn json(&mut self, text: &str) {
        self.text(text);
    }
}

fn push_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    if argument < u64::from(ONE_BYTE) {
        return out.push(major | argument.to_le_bytes()[0]);
    }
    // Numbers come in all sizes, which no branch could foresee.
    let size =
        u8::from(argument > 0xff) + u8::from(argument > 0xffff) + u8::from(argument > 0xffff_ffff);
    let length = 1_usize << size;
    out.push(major | (ONE_BYTE + size));
    let end = out.len() + length;
    // Copying eight bytes and dropping the last ones is faster than copying a few.
    let leading = argument << (64 - 8 * length);
    out.extend_from_slice(&leading.to_be_bytes());
    out.truncate(end);
}

/// Reads the columns of one row strictly, one call each, and [`finish`](Self::finish) at the end.
/// A column that may be null is asked with [`null`](Self::null) first.
#[derive(Debug)]
pub struct RowReader<'a> {
    rest: &'a [u8],
    /// The column that is read next, for messages.
    column: usize,
}

impl<'a> RowReader<'a> {
    pub fn new(bytes: &'a [u8], columns: usize) -> Result<Self, RowError> {
        let mut reader = Self {
            rest: bytes,
            column: 0,
        };
        let first = *bytes.first().ok_or(RowError::NotARow)?;
        if first & 0xe0 != ARRAY || first == ARRAY | INDEFINITE {
            return Err(RowError::NotARow);
        }
        let found = reader.argument()?;
        if found != columns as u64 {
            return Err(RowError::Count {
                expected: columns,
                found,
            });
        }
        Ok(reader)
    }

    /// The number of the next column, from 0.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Whether the next column is null; if so, it is passed.
    #[inline]
    pub fn null(&mut self) -> bool {
        let null = self.rest.first() == Some(&NULL);
        if null {
            self.rest = &self.rest[1..];
            self.column += 1;
        }
        null
    }

    #[inline]
    pub fn boolean(&mut self) -> Result<bool, RowError> {
        let value = match self.first()? {
            FALSE => false,
            TRUE => true,
            _ => return Err(self.unexpected(ColumnType::Boolean)),
        };
        self.rest = &self.rest[1..];
        self.column += 1;
        Ok(value)
    }

    #[inline]
    pub fn integer(&mut self) -> Result<i64, RowError> {
        self.integer_of(ColumnType::Integer)
    }

    #[inline]
    pub fn real(&mut self) -> Result<f64, RowError> {
        if self.first()? != REAL {
            return Err(self.unexpected(ColumnType::Real));
        }
        let truncated = RowError::Truncated {
            column: self.column,
        };
        let bytes = self.rest[1..].first_chunk().ok_or(truncated)?;
        let value = f64::from_be_bytes(*bytes);
        if !value.is_finite() {
            return Err(self.malformed("the real is not finite"));
        }
        if value == 0.0 && value.is_sign_negative() {
            return Err(self.malformed("the real is a negative zero"));
        }
        self.rest = &self.rest[9..];
        self.column += 1;
        Ok(value)
    }

    #[inline]
    pub fn text(&mut self) -> Result<&'a str, RowError> {
        self.text_of(ColumnType::Text)
    }

    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], RowError> {
        let value = self.content(BYTES, ColumnType::Bytes)?;
        self.column += 1;
        Ok(value)
    }

    #[inline]
    pub fn timestamp(&mut self) -> Result<i64, RowError> {
        let micros = self.integer_of(ColumnType::Timestamp)?;
        if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&micros) {
            return Ok(micros);
        }
        let reason = "the timestamp is outside the years 1 to 9999";
        Err(RowError::Malformed {
            column: self.column - 1,
            reason,
        })
    }

    pub fn uuid(&mut self) -> Result<&'a [u8; 16], RowError> {
        let bytes = self.content(BYTES, ColumnType::Uuid)?;
        let uuid = bytes
            .try_into()
            .map_err(|_| self.malformed("the UUID has not 16 bytes"))?;
        self.column += 1;
        Ok(uuid)
    }

    /// JSON text; that it is canonical is not checked here.
    #[inline]
    pub fn json(&mut self) -> Result<&'a str, RowError> {
        self.text_of(ColumnType::Json)
    }

    /// To be called after the last column.
    #[inline]
    pub fn finish(self) -> Result<(), RowError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(RowError::Trailing { count }),
        }
    }

    #[inline]
    fn integer_of(&mut self, expected: ColumnType) -> Result<i64, RowError> {
        let major = self.first()? & 0xe0;
        if major != UNSIGNED && major != NEGATIVE {
            return Err(self.unexpected(expected));
        }
        let argument = i64::try_from(self.argument()?)
            .map_err(|_| self.malformed("the integer is outside 64 bits"))?;
        self.column += 1;
        Ok(if major == NEGATIVE {
            !argument
        } else {
            argument
        })
    }

    #[inline]
    fn text_of(&mut self, expected: ColumnType) -> Result<&'a str, RowError> {
        let bytes = self.content(TEXT, expected)?;
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| self.malformed("the text is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(self.malformed("the text holds U+0000"));
        }
        self.column += 1;
        Ok(text)
    }

    #[inline]
    fn content(&mut self, major: u8, expected: ColumnType) -> Result<&'a [u8], RowError> {
        let first = self.first()?;
        if first & 0xe0 != major || first == major | INDEFINITE {
            return Err(self.unexpected(expected));
        }
        let length = self.argument()?;
        let truncated = RowError::Truncated {
            column: self.column,
        };
        let length = usize::try_from(length).map_err(|_| truncated)?;
        let (content, rest) = self.rest.split_at_checked(length).ok_or(truncated)?;
        self.rest = rest;
        Ok(content)
    }

    /// The argument of a head, in as few bytes as it takes.
    #[inline]
    fn argument(&mut self) -> Result<u64, RowError> {
        let first = self.first()?;
        let (length, least) = match first & 31 {
            short @ 0..=23 => {
                self.rest = &self.rest[1..];
                return Ok(u64::from(short));
            }
            ONE_BYTE => (1, 24),
            TWO_BYTES => (2, 0x100),
            FOUR_BYTES => (4, 0x1_0000),
            EIGHT_BYTES => (8, 0x1_0000_0000),
            _ => return Err(self.malformed("the CBOR head is not allowed")),
        };
        let bytes = self.rest.get(1..=length).ok_or(RowError::Truncated {
            column: self.column,
        })?;
        let argument = match self.rest[1..].first_chunk() {
            // Reading eight bytes and dropping the last ones is faster than reading a few.
            Some(&more) => u64::from_be_bytes(more) >> (64 - 8 * length),
            None => bytes
                .iter()
                .fold(0, |argument, &byte| argument << 8 | u64::from(byte)),
        };
        if argument < least {
            return Err(self.malformed("a number or length is longer than it need be"));
        }
        self.rest = &self.rest[1 + length..];
        Ok(argument)
    }

    #[inline]
    fn first(&self) -> Result<u8, RowError> {
        self.rest.first().copied().ok_or(RowError::Truncated {
            column: self.column,
        })
    }

    #[cold]
    fn unexpected(&self, expected: ColumnType) -> RowError {
        match self.rest.first() {
            None => RowError::Truncated {
                column: self.column,
            },
            Some(&NULL) => RowError::Null {
                column: self.column,
            },
            Some(&found) => RowError::Type {
                column: self.column,
                expected,
                found,
            },
        }
    }

    #[cold]
    fn malformed(&self, reason: &'static str) -> RowError {
        RowError::Malformed {
            column: self.column,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::encode_key;
    use crate::samples::value_of;
    use proptest::prelude::*;

    use ColumnType::{Boolean, Bytes, Integer, Json, Real, Text, Timestamp, Uuid};

    const TYPES: [ColumnType; 8] = [Boolean, Integer, Real, Text, Bytes, Timestamp, Uuid, Json];

    fn columns_and_row() -> impl Strategy<Value = (Vec<(ColumnType, bool)>, Vec<Value>)> {
        let column = (prop::sample::select(TYPES.to_vec()), any::<bool>());
        prop::collection::vec(column, 0..30).prop_flat_map(|columns| {
            let values: Vec<_> = columns
                .iter()
                .map(|&(ty, null)| value_of(ty, null))
                .collect();
            (Just(columns), values)
        })
    }

    proptest! {
        #[test]
        fn round_trip((columns, values) in columns_and_row()) {
            let row = encode_row(&values);
            prop_assert_eq!(check_row(&row, &columns), Ok(()));
            prop_assert_eq!(decode_row(&row, &columns), Ok(values));
        }

        #[test]
        fn any_cbor_library_reads_a_row((columns, values) in columns_and_row()) {
            let row = encode_row(&values);
            let mut decoder = minicbor::Decoder::new(&row);
            prop_assert_eq!(decoder.array().ok(), Some(Some(columns.len() as u64)));
            for value in &values {
                match value {
                    Value::Null => decoder.null().expect("null"),
                    Value::Boolean(v) => prop_assert_eq!(decoder.bool().ok(), Some(*v)),
                    Value::Integer(v) | Value::Timestamp(v) => {
                        prop_assert_eq!(decoder.i64().ok(), Some(*v));
                    }
                    Value::Real(v) => prop_assert_eq!(decoder.f64().ok(), Some(*v)),
                    Value::Text(v) | Value::Json(v) => prop_assert_eq!(decoder.str().ok(), Some(&**v)),
                    Value::Bytes(v) => prop_assert_eq!(decoder.bytes().ok(), Some(&**v)),
                    Value::Uuid(v) => prop_assert_eq!(decoder.bytes().ok(), Some(&v[..])),
                }
            }
            prop_assert_eq!(decoder.position(), row.len());
        }

        #[test]
        fn a_changed_row_is_refused_or_is_another_row(
            (columns, values) in columns_and_row(),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut row = encode_row(&values);
            let at = at.index(row.len());
            row[at] = byte;
            if let Ok(read) = decode_row(&row, &columns) {
                prop_assert_eq!(encode_row(&read), row);
            }
        }

        #[test]
        fn a_cut_row_is_refused((columns, values) in columns_and_row(), at: prop::sample::Index) {
            let row = encode_row(&values);
            prop_assert!(check_row(&row[..at.index(row.len())], &columns).is_err());
        }

        #[test]
        fn keys_of_rows((columns, values) in columns_and_row(), order: bool) {
            let mut picked: Vec<u16> = (0..)
                .zip(&columns)
                .filter(|(_, column)| column.0 != Json)
                .map(|(i, _)| i)
                .collect();
            if order {
                picked.reverse();
            }
            let key: Vec<_> = picked.iter().map(|&i| values[usize::from(i)].clone()).collect();
            let row = encode_row(&values);
            prop_assert_eq!(key_of_row(&row, &columns, &picked), Ok(encode_key(&key)));
        }
    }

    #[test]
    fn negative_zero_is_written_as_zero() {
        assert_eq!(
            encode_row(&[Value::Real(-0.0)]),
            encode_row(&[Value::Real(0.0)])
        );
    }

    #[test]
    fn other_encodings_are_refused() {
        let cases: [(&[u8], ColumnType, &str); 24] = [
            (b"", Text, "not a CBOR array"),
            (b"\x01", Text, "not a CBOR array"),
            (b"\x9f\x01\xff", Integer, "not a CBOR array"),
            (b"\x80", Integer, "0 columns instead of 1"),
            (b"\x82\x01\x01", Integer, "2 columns instead of 1"),
            (b"\x98\x01\x01", Integer, "longer than it need be"),
            (b"\x81", Integer, "ends within column 0"),
            (b"\x81\x01\x01", Integer, "1 bytes more"),
            (b"\x81\x18\x17", Integer, "longer than it need be"),
            (b"\x81\x19\x00\xff", Integer, "longer than it need be"),
            (
                b"\x81\x1a\x00\x00\xff\xff",
                Integer,
                "longer than it need be",
            ),
            (
                b"\x81\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
                Integer,
                "longer than it need be",
            ),
            (
                b"\x81\x1b\x80\x00\x00\x00\x00\x00\x00\x00",
                Integer,
                "outside 64 bits",
            ),
            (b"\x81\x1c", Integer, "head is not allowed"),
            (b"\x81\xf6", Integer, "cannot be null"),
            (
                b"\x81\x7f\x61a\xff",
                Text,
                "expected text, found the CBOR byte 0x7f",
            ),
            (b"\x81\x61\xff", Text, "not UTF-8"),
            (b"\x81\x61\x00", Text, "U+0000"),
            (b"\x81\xfa\x00\x00\x00\x00", Real, "expected real"),
            (
                b"\x81\xfb\x80\x00\x00\x00\x00\x00\x00\x00",
                Real,
                "negative zero",
            ),
            (
                b"\x81\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
                Real,
                "not finite",
            ),
            (
                b"\x81\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
                Timestamp,
                "outside the years",
            ),
            (b"\x81\x42ab", Uuid, "not 16 bytes"),
            (b"\x81\x63{ }", Json, "not canonical"),
        ];
        for (bytes, ty, message) in cases {
            let error = decode_row(bytes, &[(ty, false)])
                .expect_err(message)
                .to_string();
            assert!(error.contains(message), "{error} should say {message}");
            assert!(check_row(bytes, &[(ty, false)]).is_err(), "{message}");
        }
        assert!(
            check_row(b"\x81\xf7", &[(Boolean, true)]).is_err(),
            "undefined is not null"
        );
        assert!(
            check_row(b"\x81\xc0\x61a", &[(Text, true)]).is_err(),
            "no tags"
        );
    }
}
