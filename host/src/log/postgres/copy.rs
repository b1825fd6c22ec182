//! PostgreSQL's binary COPY, as far as the log needs it: rows as they come from the server.
//!
//! A message holds one row. The first one begins with the header; the last one is the trailer alone.

use std::io::{Error, ErrorKind};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Flags, and the length of an extension that there never is.
const REST_OF_HEADER_BYTES: usize = 8;

/// Takes rows out of messages.
#[derive(Debug, Default)]
pub(super) struct Rows {
    began: bool,
}

/// The fields of one row, in order.
pub(super) struct Fields<'a>(&'a [u8]);

impl Rows {
    /// The row in a message, or none in the last one.
    pub(super) fn of<'a>(&mut self, message: &'a [u8]) -> Result<Option<Fields<'a>>, Error> {
        let mut rest = message;
        if !std::mem::replace(&mut self.began, true) {
            rest = rest.strip_prefix(SIGNATURE).ok_or_else(malformed)?;
            rest = rest.get(REST_OF_HEADER_BYTES..).ok_or_else(malformed)?;
        }
        let (count, fields) = rest.split_first_chunk().ok_or_else(malformed)?;
        Ok((i16::from_be_bytes(*count) >= 0).then_some(Fields(fields)))
    }
}

impl<'a> Fields<'a> {
    /// The next field, or none if it is null.
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let (length, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.0 = rest;
            return Ok(None);
        };
        let (field, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(Some(field))
    }

    /// A text that is one; the empty text for null.
    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let bytes = self.next()?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))
    }

    /// Eight bytes, or none if it is null.
    pub(super) fn eight(&mut self) -> Result<Option<[u8; 8]>, Error> {
        let bytes = self.next()?;
        bytes
            .map(|bytes| bytes.try_into().map_err(|_| malformed()))
            .transpose()
    }
}

fn malformed() -> Error {
    Error::new(
        ErrorKind::InvalidData,
        "a COPY sent what is not its binary format",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_of_messages() {
        let mut first = [SIGNATURE, &[0; 8]].concat();
        first.extend_from_slice(&[0, 3, 0, 0, 0, 2, b'h', b'i', 0xff, 0xff, 0xff, 0xff]);
        first.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0]);
        let mut rows = Rows::default();
        let mut fields = rows.of(&first).unwrap().unwrap();
        assert_eq!(fields.text().unwrap(), "hi");
        assert_eq!(fields.next().unwrap(), None);
        assert_eq!(fields.eight().unwrap(), Some(256_u64.to_be_bytes()));
        assert!(fields.next().is_err());
        let mut fields = rows.of(&[0, 1, 0, 0, 0, 1, b'x']).unwrap().unwrap();
        assert_eq!(fields.next().unwrap(), Some(b"x".as_slice()));
        assert!(rows.of(&[0xff, 0xff]).unwrap().is_none());
    }

    #[test]
    fn half_a_row_is_an_error() {
        assert!(Rows::default().of(b"PGCOPY").is_err());
        let mut rows = Rows { began: true };
        assert!(rows.of(&[0]).is_err());
        let mut fields = rows.of(&[0, 1, 0, 0, 0, 9, b'x']).unwrap().unwrap();
        assert!(fields.next().is_err());
    }
}
