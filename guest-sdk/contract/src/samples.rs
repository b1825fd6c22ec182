//! Values for property tests, and their order as it was specified rather than as it is encoded.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::json;

use crate::time::{TIMESTAMP_MAX, TIMESTAMP_MIN};
use crate::value::{ColumnType, Value, normal_real};

/// Texts that sit near the edges of the encodings: U+0001, empty, prefixes of each other.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\x01\\x02a\u{7f}\u{80}\u{10ffff}]{0,4}",
        "[a-c]{0,3}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -300..300i64,
        (0..64u32).prop_map(|bits| i64::MIN >> bits)
    ]
}

pub(crate) fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|v| json!(v)),
        any::<i64>().prop_map(|v| json!(v)),
        any::<u64>().prop_map(|v| json!(v)),
        prop::num::f64::NORMAL.prop_map(|v| json!(v)),
        (-1e6..1e6).prop_map(|v: f64| json!(v.trunc())),
        text().prop_map(|v| json!(v)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| json!(v)),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|v| json!(v)),
        ]
    })
}

/// A value that a column of this type holds.
pub(crate) fn value_of(ty: ColumnType, nullable: bool) -> BoxedStrategy<Value> {
    let value = match ty {
        ColumnType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        ColumnType::Integer => integer().prop_map(Value::Integer).boxed(),
        ColumnType::Real => {
            let real = prop_oneof![
                prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
                (-3..3i32).prop_map(f64::from),
            ];
            real.prop_map(|v| Value::Real(normal_real(v))).boxed()
        }
        ColumnType::Text => text().prop_map(Value::Text).boxed(),
        ColumnType::Bytes => {
            let byte = prop_oneof![Just(0), Just(1), Just(2), Just(255), any::<u8>()];
            prop::collection::vec(byte, 0..5)
                .prop_map(Value::Bytes)
                .boxed()
        }
        ColumnType::Timestamp => {
            let micros = prop_oneof![TIMESTAMP_MIN..=TIMESTAMP_MAX, -300..300i64];
            micros.prop_map(Value::Timestamp).boxed()
        }
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        ColumnType::Json => json_value()
            .prop_map(|value| Value::Json(crate::json::canonical_value(&value).expect("JSON")))
            .boxed(),
    };
    if nullable {
        prop_oneof![1 => Just(Value::Null), 5 => value].boxed()
    } else {
        value
    }
}

/// The order of two values of one column.
pub(crate) fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Integer(a), Value::Integer(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => {
            a.cmp(b)
        }
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(b).expect("finite"),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        _ => panic!("{a:?} and {b:?} are not of one type"),
    }
}
