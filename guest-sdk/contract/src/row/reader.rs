//! Values from rows, column by column.

use super::{
    ARRAY, BYTES, EIGHT_BYTES, FALSE, FOUR_BYTES, INDEFINITE, NEGATIVE, NULL, ONE_BYTE, REAL,
    RowError, TEXT, TRUE, TWO_BYTES, UNSIGNED,
};
use crate::time::{TIMESTAMP_MAX, TIMESTAMP_MIN};
use crate::value::ColumnType;

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
