//! JSON texts: the compact form that the log holds and the canonical form that columns hold.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many lists and objects may stand inside one another: serde_json reads no deeper, so what is
/// deeper could be stored and never read back.
pub const DEPTH_MAX: usize = 127;

/// A text that is not JSON, or JSON that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not valid JSON: {reason}")]
    Syntax { reason: String },
    #[error("JSON texts must not hold U+0000")]
    Nul,
    #[error("JSON is {found} levels deep, and at most {DEPTH_MAX} are allowed")]
    Depth { found: usize },
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax {
            reason: error.to_string(),
        }
    }
}

/// The one text of a JSON value: no white space, keys sorted by their bytes, of duplicate keys the
/// last one, integral numbers within 64 bits as integers, every other number as the shortest text
/// of its `f64`.
///
/// Two texts that PostgreSQL's `jsonb` takes for equal have the same canonical text, and the text
/// survives a trip through `jsonb` when it is made canonical again.
pub fn canonical(text: &str) -> Result<String, JsonError> {
    let value: Value = serde_json::from_str(text)?;
    canonical_value(&value)
}

/// [`canonical`] of a value that is parsed already.
pub fn canonical_value(value: &Value) -> Result<String, JsonError> {
    let mut out = String::new();
    write_value(&mut out, value, DEPTH_MAX)?;
    Ok(out)
}

/// Checks that the bytes are JSON as serde_json accepts it (which refuses lone surrogates and
/// numbers that no `f64` holds), and drops insignificant white space. The order of keys and the
/// texts of numbers and strings stay.
pub fn compact(text: &[u8]) -> Result<String, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| JsonError::Syntax {
        reason: format!("not UTF-8: {error}"),
    })?;
    check(text)?;
    Ok(without_white_space(text))
}

/// Checks that a text is JSON as serde_json accepts it, without keeping anything of it.
pub fn check(text: &str) -> Result<(), JsonError> {
    serde_json::from_str::<Checked>(text)?;
    Ok(())
}

/// `levels`: how many lists and objects may still be opened.
fn write_value(out: &mut String, value: &Value, levels: usize) -> Result<(), JsonError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text)?,
        Value::Array(_) | Value::Object(_) if levels == 0 => {
            let found = DEPTH_MAX + depth(value);
            return Err(JsonError::Depth { found });
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item, levels - 1)?;
            }
            out.push(']');
        }
        Value::Object(map) => write_object(out, map, levels - 1)?,
    }
    Ok(())
}

/// How many lists and objects stand inside one another. A call for each might need more stack than
/// there is.
fn depth(value: &Value) -> usize {
    let inner = |value: &&Value| matches!(value, Value::Array(_) | Value::Object(_));
    let mut depth = 0;
    let mut level: Vec<&Value> = std::iter::once(value).filter(inner).collect();
    while !level.is_empty() {
        depth += 1;
        let below = level.iter().flat_map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        });
        level = below.filter(inner).collect();
    }
    depth
}

fn write_object(
    out: &mut String,
    map: &Map<String, Value>,
    levels: usize,
) -> Result<(), JsonError> {
    // Sorted here although serde_json's map is, unless some crate of the build asks it to keep
    // the order of insertion.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.as_bytes());
    out.push('{');
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_text(out, key)?;
        out.push(':');
        write_value(out, value, levels)?;
    }
    out.push('}');
    Ok(())
}

fn write_number(out: &mut String, number: &Number) {
    /// The range of `i64`, whose upper end is the first `f64` beyond it.
    const RANGE: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;

    let real = match number.as_i64() {
        Some(integer) => return out.push_str(&integer.to_string()),
        None => number
            .as_f64()
            .expect("a JSON number that is not an integer is an f64"),
    };
    if real.fract() == 0.0 && RANGE.contains(&real) {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "integral and in range, so it is exact"
        )]
        let integer = real as i64;
        out.push_str(&integer.to_string());
    } else {
        let shortest = Number::from_f64(real).expect("JSON numbers are finite");
        out.push_str(&shortest.to_string());
    }
}

fn write_text(out: &mut String, text: &str) -> Result<(), JsonError> {
    if text.as_bytes().contains(&0) {
        return Err(JsonError::Nul);
    }
    out.push_str(&serde_json::to_string(text).expect("a text can be written as JSON"));
    Ok(())
}

fn without_white_space(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Pieces between white space outside of strings are copied whole.
    let mut piece = 0;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            in_string = true;
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            out.push_str(&text[piece..at]);
            piece = at + 1;
        }
    }
    out.push_str(&text[piece..]);
    out
}

/// Reads any JSON value and keeps nothing: `serde::de::IgnoredAny` would skip strings and numbers
/// without looking at surrogates and ranges.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::json_value;
    use proptest::prelude::*;

    fn canon(text: &str) -> String {
        canonical(text).expect(text)
    }

    #[test]
    fn canonical_texts() {
        for (text, expected) in [
            (r#" { "b" : 1 , "a" : [ 1 , 2 ] } "#, r#"{"a":[1,2],"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"é":1,"z":2,"Z":3}"#, r#"{"Z":3,"z":2,"é":1}"#),
            ("1.0", "1"),
            ("-0.0", "0"),
            ("-0", "0"),
            ("1e2", "100"),
            ("1.50", "1.5"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775808", "9.223372036854776e18"),
            ("1000000000000000000000", "1e21"),
            ("1E400e", ""),
            (r#""\u0041\/\n\u001f\u007f""#, "\"A/\\n\\u001f\u{7f}\""),
            (r#""😀""#, r#""😀""#),
        ] {
            if expected.is_empty() {
                assert!(canonical(text).is_err(), "{text}");
            } else {
                assert_eq!(canon(text).replace("e+", "e"), expected, "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        assert_eq!(canonical(r#""\u0000""#), Err(JsonError::Nul));
        assert_eq!(canonical(r#"{"a\u0000":1}"#), Err(JsonError::Nul));
        for text in ["", "{", "1e999", r#""\ud800""#, "nul", "1 2", "[1,]"] {
            assert!(
                matches!(canonical(text), Err(JsonError::Syntax { .. })),
                "{text}"
            );
            assert!(compact(text.as_bytes()).is_err(), "{text}");
        }
        assert!(compact(b"\"\xff\"").is_err());
        assert!(compact(&b"[".repeat(100_000)).is_err());
    }

    #[test]
    fn what_could_not_be_read_back_is_refused() {
        let wraps: [fn(Value) -> Value; 2] = [
            |inner| serde_json::json!([1, inner]),
            |inner| serde_json::json!({ "a": inner }),
        ];
        for wrap in wraps {
            let deep = |levels| (0..levels).fold(Value::Null, |inner, _| wrap(inner));
            let text = canonical_value(&deep(DEPTH_MAX)).expect("as deep as is allowed");
            assert_eq!(canon(&text), text);
            for found in [DEPTH_MAX + 1, 1_000] {
                let value = deep(found);
                assert_eq!(canonical_value(&value), Err(JsonError::Depth { found }));
                assert!(canonical(&value.to_string()).is_err(), "{found}");
            }
        }
        assert_eq!(
            JsonError::Depth { found: 130 }.to_string(),
            "JSON is 130 levels deep, and at most 127 are allowed"
        );
    }

    #[test]
    fn compact_keeps_order_and_texts() {
        let text = b"\n{ \"b\" : 1.50 , \"a\\\" \" : [ 1e2 , \"x \\\\\" , true ] ,\r\t\"b\":0}\n";
        let expected = r#"{"b":1.50,"a\" ":[1e2,"x \\",true],"b":0}"#;
        assert_eq!(compact(text).as_deref(), Ok(expected));
    }

    proptest! {
        #[test]
        fn canonical_is_stable_and_keeps_the_value(value in json_value()) {
            let text = canonical(&value.to_string()).expect("JSON");
            prop_assert_eq!(&canonical(&text).expect("JSON"), &text);
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(&canonical(&pretty).expect("JSON"), &text);
        }

        #[test]
        fn compact_equals_serde_json(value in json_value()) {
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(compact(pretty.as_bytes()).expect("JSON"), value.to_string());
        }
    }
}
