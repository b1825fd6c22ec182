use proptest::prelude::*;

use super::*;
use crate::key::encode_key;
use crate::samples::value_of;

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
