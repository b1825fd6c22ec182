//! Texts of JSON as any writer may write it, and the shapes of modules that read them.

use proptest::prelude::*;
use proptest::sample::select;

use crate::manifest::{Field, Shape, Wanted};

/// Few keys, so that paths often lead somewhere and objects often have a key twice.
const KEYS: [&str; 9] = ["a", "b", "ab", "0", "1", "", "a/b~", "é😀", "\"\\"];

const SCALARS: [&str; 28] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1e3",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1e308",
    "-1.7976931348623157e308",
    "1e309",
    "1e999",
    "5e-324",
    "0.1",
    "253402300799999999",
    "253402300800000000",
    "\"2026-01-31T12:00:00Z\"",
    "\"0190F3A0-7c1e-7def-8a9b-0123456789ab\"",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
];

fn space() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\n\r]{1,3}"]
}

/// A text in quotes, each character written in any of the ways that JSON has for it.
fn quoted(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, any::<u64>()).prop_map(|(text, ways)| {
        let chars = (0_u32..).zip(text.chars());
        let write = |(at, char)| write(char, ways.rotate_right(2 * (at % 32)) & 3);
        format!("\"{}\"", chars.map(write).collect::<String>())
    })
}

fn write(char: char, way: u64) -> String {
    match (char, way) {
        ('"' | '\\' | '/', 0 | 1) => format!("\\{char}"),
        ('\n', 0 | 1) => "\\n".to_owned(),
        (char, 1 | 2) if char >= ' ' && char != '"' && char != '\\' => char.to_string(),
        (char, _) => {
            let units = char.encode_utf16(&mut [0; 2]).to_vec();
            let unit = |unit: &u16| format!("\\u{unit:04x}");
            units.iter().map(unit).collect()
        }
    }
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&SCALARS[..]).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => any::<f64>().prop_filter("JSON has no others", |real| real.is_finite())
            .prop_map(|real| serde_json::Value::from(real).to_string()),
        2 => "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        2 => quoted("[\"\\\\/\n a-c{}\\[\\],:é😀\u{1}]{0,8}".prop_map(String::from)),
        1 => quoted(any::<String>()),
    ]
}

/// A text that serde_json accepts, but for numbers that no `f64` holds.
pub(super) fn json() -> impl Strategy<Value = String> {
    let inner = scalar().prop_recursive(4, 40, 6, |inner| {
        let value = (space(), inner, space()).prop_map(|(a, value, b)| a + &value + &b);
        let value = value.boxed();
        let key = quoted(select(&KEYS[..]).prop_map(str::to_owned));
        let member = (space(), key, space(), value.clone());
        let member = member.prop_map(|(a, key, b, value)| format!("{a}{key}{b}:{value}"));
        prop_oneof![
            1 => prop::collection::vec(value, 0..5)
                .prop_map(|items| format!("[{}]", items.join(","))),
            3 => prop::collection::vec(member, 0..6)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    });
    let text = (space(), inner, space()).prop_map(|(a, value, b)| a + &value + &b);
    prop_oneof![40 => text, 1 => deep(50..64)]
}

/// Twice as many levels. serde_json takes 127 of them.
fn deep(pairs: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    pairs.prop_map(|pairs| format!("{}{}", r#"{"a":["#.repeat(pairs), "]}".repeat(pairs)))
}

/// What becomes of such a text when bytes are lost, doubled or replaced.
pub(super) fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => select(&b"{}[]\",:\\ 0-.eEtu\n"[..]),
        1 => any::<u8>(),
    ];
    let change = (any::<prop::sample::Index>(), 0..4_u8, byte);
    let changes = prop::collection::vec(change, 0..5);
    let text = (json(), changes).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, how, byte) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 if at < bytes.len() => bytes[at] = byte,
                3 if byte == b't' => bytes.truncate(at),
                _ => {}
            }
        }
        bytes
    });
    prop_oneof![
        18 => text,
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => deep(60..70).prop_map(String::into_bytes),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    let keys = prop::collection::vec(select(&KEYS[..]).prop_map(escaped), 1..4);
    prop_oneof![
        1 => Just("$".to_owned()),
        12 => keys.prop_map(|keys| format!("/{}", keys.join("/"))),
        1 => (1..140_usize).prop_map(|depth| "/a/0".repeat(depth / 2) + "/a"),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    use Wanted::{Boolean, Integer, Json, Real, Text, Timestamp, Uuid};
    select(vec![
        Boolean, Integer, Json, Json, Real, Text, Timestamp, Uuid,
    ])
}

fn field() -> impl Strategy<Value = Field> {
    let paths = prop::collection::vec(path(), 1..3);
    let often = || prop::bool::weighted(0.8);
    (paths, wanted(), often(), often()).prop_map(|(paths, wants, optional, nullable)| Field {
        paths,
        wants,
        optional,
        nullable,
    })
}

/// The shapes of a module for one type of events, or for all.
pub(super) fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let name = prop_oneof![4 => Just("T"), 1 => Just("*"), 1 => Just("U")];
    let shape = (name, prop::collection::vec(field(), 0..5));
    let shape = shape.prop_map(|(name, fields)| Shape {
        event_type: name.to_owned(),
        fields,
    });
    prop::collection::vec(shape, 1..4)
}
