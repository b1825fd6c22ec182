//! Keys as bytes whose order is the order of the values.
//!
//! A key is its elements end to end, in the style of FoundationDB's tuple layer. One tag byte
//! starts each element, so no element is the beginning of another one and the elements of a prefix
//! are a prefix of the bytes: a scan over `("x",)` is a range of bytes. Within a column, null
//! sorts first and texts sort by their bytes.
//!
//! | value | bytes |
//! |---|---|
//! | null | `00` |
//! | bytes | `01`, content with 00 as `01 01` and 01 as `01 02`, `00` |
//! | text | `02`, UTF-8 (which holds no 00), `00` |
//! | integer, timestamp | `14` ± n, then the magnitude in n bytes, big-endian, as few as it takes; inverted when negative |
//! | real | `21`, the IEEE bits big-endian, all inverted when negative, else the sign bit inverted |
//! | false, true | `26`, `27` |
//! | UUID | `30`, 16 bytes |
//!
//! JSON has no order that both databases share, so it is never part of a key or an index.

use crate::value::{ColumnType, Value, ValueRef, normal_real};

/// Bytes of an encoded key or index entry at most: PostgreSQL's B-tree takes 2,704.
pub const KEY_BYTES_MAX: usize = 1024;

const NULL: u8 = 0x00;
const BYTES: u8 = 0x01;
const TEXT: u8 = 0x02;
const ZERO: u8 = 0x14;
const REAL: u8 = 0x21;
const FALSE: u8 = 0x26;
const TRUE: u8 = 0x27;
const UUID: u8 = 0x30;
const END: u8 = 0x00;

const SIGN: u64 = 1 << 63;

/// Bytes that are no key of the given types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key ends within element {element}")]
    Truncated { element: usize },
    #[error("element {element} of the key: expected {expected}, found tag {tag:#04x}")]
    Tag {
        element: usize,
        expected: ColumnType,
        tag: u8,
    },
    #[error("element {element} of the key: {reason}")]
    Malformed {
        element: usize,
        reason: &'static str,
    },
    #[error("the key has {count} bytes more than its elements")]
    Trailing { count: usize },
}

/// The key of the values. They must keep the rules of [`Value::check`] and hold no JSON.
pub fn encode_key(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * 10);
    for value in values {
        push_key(&mut out, value);
    }
    out
}

/// Appends one element.
///
/// # Panics
/// On JSON, which no manifest that was checked puts into a key.
pub fn push_key(out: &mut Vec<u8>, value: &Value) {
    push_key_ref(out, value.as_ref());
}

/// [`push_key`] of a borrowed value.
///
/// # Panics
/// On JSON.
pub fn push_key_ref(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => push_null(out),
        ValueRef::Boolean(v) => push_bool(out, v),
        ValueRef::Integer(v) => push_i64(out, v),
        ValueRef::Real(v) => push_f64(out, v),
        ValueRef::Text(v) => push_text(out, v),
        ValueRef::Bytes(v) => push_bytes(out, v),
        ValueRef::Timestamp(v) => push_timestamp(out, v),
        ValueRef::Uuid(v) => push_uuid(out, v),
        ValueRef::Json(_) => panic!("JSON cannot be part of a key"),
    }
}

pub fn push_null(out: &mut Vec<u8>) {
    out.push(NULL);
}

pub fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    let magnitude = value.unsigned_abs();
    let length = 8 - magnitude.leading_zeros() / 8;
    let length_byte = length.to_le_bytes()[0];
    let (tag, bits) = if value < 0 {
        (ZERO - length_byte, !magnitude)
    } else {
        (ZERO + length_byte, magnitude)
    };
    // Copying nine bytes and dropping the last ones is faster than copying a few.
    let leading = bits.checked_shl(64 - 8 * length).unwrap_or(0);
    let end = out.len() + 1 + usize::from(length_byte);
    out.extend_from_slice(&tagged(tag, leading));
    out.truncate(end);
}

/// The tag and the number, big-endian.
pub(crate) fn tagged(tag: u8, number: u64) -> [u8; 9] {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Negative zero is encoded as zero.
pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    let bits = normal_real(value).to_bits();
    let ordered = if bits & SIGN == 0 { bits ^ SIGN } else { !bits };
    out.extend_from_slice(&tagged(REAL, ordered));
}

/// The text must not hold U+0000.
pub fn push_text(out: &mut Vec<u8>, value: &str) {
    out.reserve(value.len() + 2);
    out.push(TEXT);
    out.extend_from_slice(value.as_bytes());
    out.push(END);
}

pub fn push_bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.reserve(value.len() + 2);
    out.push(BYTES);
    for &byte in value {
        if byte <= 1 {
            out.extend_from_slice(&[1, byte + 1]);
        } else {
            out.push(byte);
        }
    }
    out.push(END);
}

/// Microseconds since the Unix epoch.
pub fn push_timestamp(out: &mut Vec<u8>, micros: i64) {
    push_i64(out, micros);
}

pub fn push_uuid(out: &mut Vec<u8>, value: &[u8; 16]) {
    out.push(UUID);
    out.extend_from_slice(value);
}

/// The values of a key, which must have exactly these types; each may be null. Strict: only the
/// bytes that [`encode_key`] makes are read.
pub fn decode_key(bytes: &[u8], types: &[ColumnType]) -> Result<Vec<Value>, KeyError> {
    let mut reader = Reader {
        rest: bytes,
        element: 0,
    };
    let mut values = Vec::with_capacity(types.len());
    for (element, &ty) in types.iter().enumerate() {
        reader.element = element;
        values.push(reader.value(ty)?);
    }
    match reader.rest.len() {
        0 => Ok(values),
        count => Err(KeyError::Trailing { count }),
    }
}

/// The values of a prefix: as many of the types, from the first, as the bytes hold.
pub fn decode_prefix(bytes: &[u8], types: &[ColumnType]) -> Result<Vec<Value>, KeyError> {
    let mut reader = Reader {
        rest: bytes,
        element: 0,
    };
    let mut values = Vec::with_capacity(types.len());
    for (element, &ty) in types.iter().enumerate() {
        if reader.rest.is_empty() {
            break;
        }
        reader.element = element;
        values.push(reader.value(ty)?);
    }
    match reader.rest.len() {
        0 => Ok(values),
        count => Err(KeyError::Trailing { count }),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    element: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, ty: ColumnType) -> Result<Value, KeyError> {
        let tag = self.take(1)?[0];
        Ok(match (ty, tag) {
            (ColumnType::Json, _) => return Err(self.tag(ty, tag)),
            (_, NULL) => Value::Null,
            (ColumnType::Boolean, FALSE) => Value::Boolean(false),
            (ColumnType::Boolean, TRUE) => Value::Boolean(true),
            (ColumnType::Integer, _) => Value::Integer(self.integer(ty, tag)?),
            (ColumnType::Timestamp, _) => Value::Timestamp(self.timestamp(tag)?),
            (ColumnType::Real, REAL) => Value::Real(self.real()?),
            (ColumnType::Text, TEXT) => Value::Text(self.text()?.to_owned()),
            (ColumnType::Bytes, BYTES) => Value::Bytes(self.bytes()?),
            (ColumnType::Uuid, UUID) => {
                Value::Uuid(self.take(16)?.try_into().expect("16 bytes were taken"))
            }
            _ => return Err(self.tag(ty, tag)),
        })
    }

    fn integer(&mut self, expected: ColumnType, tag: u8) -> Result<i64, KeyError> {
        let length = usize::from(tag.abs_diff(ZERO));
        if length > 8 {
            return Err(self.tag(expected, tag));
        }
        let negative = tag < ZERO;
        let mut bytes = [0; 8];
        bytes[8 - length..].copy_from_slice(self.take(length)?);
        if negative {
            bytes[8 - length..]
                .iter_mut()
                .for_each(|byte| *byte = !*byte);
        }
        if length > 0 && bytes[8 - length] == 0 {
            return Err(self.malformed("the integer is longer than it need be"));
        }
        let magnitude = u64::from_be_bytes(bytes);
        let value = if negative {
            0i64.checked_sub_unsigned(magnitude)
        } else {
            i64::try_from(magnitude).ok()
        };
        value.ok_or_else(|| self.malformed("the integer is outside 64 bits"))
    }

    fn timestamp(&mut self, tag: u8) -> Result<i64, KeyError> {
        let micros = self.integer(ColumnType::Timestamp, tag)?;
        match crate::value::check_timestamp("", micros) {
            Ok(()) => Ok(micros),
            Err(_) => Err(self.malformed("the timestamp is outside the years 1 to 9999")),
        }
    }

    fn real(&mut self) -> Result<f64, KeyError> {
        let ordered = u64::from_be_bytes(self.take(8)?.try_into().expect("8 bytes were taken"));
        let bits = if ordered & SIGN == 0 {
            !ordered
        } else {
            ordered ^ SIGN
        };
        let value = f64::from_bits(bits);
        if !value.is_finite() {
            return Err(self.malformed("the real is not finite"));
        }
        if bits == SIGN {
            return Err(self.malformed("the real is a negative zero"));
        }
        Ok(value)
    }

    fn text(&mut self) -> Result<&'a str, KeyError> {
        let content = self.terminated()?;
        std::str::from_utf8(content).map_err(|_| self.malformed("the text is not UTF-8"))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, KeyError> {
        let content = self.terminated()?;
        let mut value = Vec::with_capacity(content.len());
        let mut escaped = false;
        for &byte in content {
            match byte {
                1 | 2 if escaped => {
                    value.push(byte - 1);
                    escaped = false;
                }
                _ if escaped => return Err(self.malformed("a byte is escaped that need not be")),
                1 => escaped = true,
                _ => value.push(byte),
            }
        }
        if escaped {
            Err(self.malformed("the bytes end in an escape"))
        } else {
            Ok(value)
        }
    }

    fn terminated(&mut self) -> Result<&'a [u8], KeyError> {
        let end = self.rest.iter().position(|&byte| byte == END);
        let end = end.ok_or(KeyError::Truncated {
            element: self.element,
        })?;
        let content = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(content)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], KeyError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(KeyError::Truncated {
                element: self.element,
            })?;
        self.rest = rest;
        Ok(taken)
    }

    fn tag(&self, expected: ColumnType, tag: u8) -> KeyError {
        KeyError::Tag {
            element: self.element,
            expected,
            tag,
        }
    }

    fn malformed(&self, reason: &'static str) -> KeyError {
        KeyError::Malformed {
            element: self.element,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::samples::{order, value_of};
    use proptest::prelude::*;

    const KEY_TYPES: [ColumnType; 7] = [
        ColumnType::Boolean,
        ColumnType::Integer,
        ColumnType::Real,
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Timestamp,
        ColumnType::Uuid,
    ];

    /// Types of a tuple, and two tuples of those types.
    fn two_tuples() -> impl Strategy<Value = (Vec<ColumnType>, Vec<Value>, Vec<Value>)> {
        let types = prop::collection::vec(prop::sample::select(KEY_TYPES.to_vec()), 1..4);
        types.prop_flat_map(|types| {
            let tuple: Vec<_> = types.iter().map(|&ty| value_of(ty, true)).collect();
            (Just(types), tuple.clone(), tuple)
        })
    }

    fn order_of(a: &[Value], b: &[Value]) -> Ordering {
        a.iter()
            .zip(b)
            .map(|(a, b)| order(a, b))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    proptest! {
        #[test]
        fn order_of_keys_is_order_of_values((_, a, b) in two_tuples()) {
            prop_assert_eq!(encode_key(&a).cmp(&encode_key(&b)), order_of(&a, &b));
        }

        #[test]
        fn round_trip((types, a, _) in two_tuples()) {
            prop_assert_eq!(decode_key(&encode_key(&a), &types), Ok(a));
        }

        #[test]
        fn no_element_begins_another((_, a, b) in two_tuples()) {
            let (one, other) = (encode_key(&a[..1]), encode_key(&b[..1]));
            prop_assert_eq!(other.starts_with(&one), one == other);
        }

        #[test]
        fn only_what_was_encoded_is_read(
            ty in prop::sample::select(KEY_TYPES.to_vec()),
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0), Just(1), Just(2), Just(0x13), Just(0x15), Just(0x21)],
                0..12,
            ),
        ) {
            if let Ok(values) = decode_key(&bytes, &[ty]) {
                prop_assert_eq!(encode_key(&values), bytes);
            }
        }

        #[test]
        fn a_cut_key_is_refused((types, a, _) in two_tuples(), cut: prop::sample::Index) {
            let key = encode_key(&a);
            prop_assert!(decode_key(&key[..cut.index(key.len())], &types).is_err());
        }

        #[test]
        fn a_prefix_is_read((types, a, _) in two_tuples(), count: prop::sample::Index) {
            let count = count.index(a.len() + 1);
            let prefix = encode_key(&a[..count]);
            prop_assert_eq!(decode_prefix(&prefix, &types), Ok(a[..count].to_vec()));
        }
    }

    #[test]
    fn known_keys() {
        let key = encode_key(&[
            Value::Text("a\u{1}".into()),
            Value::Bytes(vec![0, 1, 2]),
            Value::Integer(256),
            Value::Integer(-1),
            Value::Integer(0),
            Value::Null,
            Value::Boolean(true),
            Value::Real(-0.0),
        ]);
        let expected = b"\x02a\x01\x00\x01\x01\x01\x01\x02\x02\x00\x16\x01\x00\x13\xfe\x14\x00\x27\
            \x21\x80\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(key, expected);
    }

    #[test]
    fn integers_sort_at_every_length() {
        let mut values = vec![i64::MIN, i64::MIN + 1, i64::MAX, -1, 0, 1];
        for bits in 1..63 {
            let power = 1i64 << bits;
            values.extend([power - 1, power, power + 1, -power + 1, -power, -power - 1]);
        }
        values.sort_unstable();
        values.dedup();
        let keys: Vec<_> = values
            .iter()
            .map(|&v| encode_key(&[Value::Integer(v)]))
            .collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        for (value, key) in values.into_iter().zip(keys) {
            assert_eq!(
                decode_key(&key, &[ColumnType::Integer]),
                Ok(vec![Value::Integer(value)])
            );
        }
    }

    #[test]
    fn malformed_keys_are_refused() {
        use ColumnType::{Boolean, Bytes, Integer, Json, Real, Text, Timestamp};
        let cases: [(&[u8], ColumnType, &str); 14] = [
            (b"", Text, "ends within element 0"),
            (b"\x02ab", Text, "ends within element 0"),
            (b"\x02\xff\x00", Text, "not UTF-8"),
            (b"\x02a\x00\x00", Text, "1 bytes more"),
            (b"\x14", Text, "expected text, found tag 0x14"),
            (b"\x16\x00\x01", Integer, "longer than it need be"),
            (b"\x13\xff", Integer, "longer than it need be"),
            (
                b"\x1c\xff\xff\xff\xff\xff\xff\xff\xff",
                Integer,
                "outside 64 bits",
            ),
            (b"\x1d", Integer, "expected integer"),
            (
                b"\x1c\x7f\xff\xff\xff\xff\xff\xff\xff",
                Timestamp,
                "outside the years",
            ),
            (
                b"\x21\x7f\xff\xff\xff\xff\xff\xff\xff",
                Real,
                "negative zero",
            ),
            (b"\x21\xff\xf0\x00\x00\x00\x00\x00\x00", Real, "not finite"),
            (b"\x01\x01\x05\x00", Bytes, "need not be"),
            (b"\x00", Json, "expected json"),
        ];
        for (bytes, ty, message) in cases {
            let error = decode_key(bytes, &[ty]).expect_err(message).to_string();
            assert!(error.contains(message), "{error} should say {message}");
        }
        assert!(decode_key(b"\x26\x28", &[Boolean, Boolean]).is_err());
    }
}
