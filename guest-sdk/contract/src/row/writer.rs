//! Rows from values, column by column.

use super::{ARRAY, BYTES, FALSE, NEGATIVE, NULL, ONE_BYTE, REAL, TEXT, TRUE, UNSIGNED};
use crate::key::tagged;
use crate::value::{ValueRef, normal_real};

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
        let bits = normal_real(value).to_bits();
        self.out.extend_from_slice(&tagged(REAL, bits));
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
    let end = out.len() + 1 + length;
    // Copying nine bytes and dropping the last ones is faster than copying a few.
    let leading = argument << (64 - 8 * length);
    out.extend_from_slice(&tagged(major | (ONE_BYTE + size), leading));
    out.truncate(end);
}
