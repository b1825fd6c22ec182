//! One line of input: an event as JSON, in the log's own form or as a CloudEvent.

use std::borrow::Cow;
use std::fmt;

use retell_contract::time;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::check::{check_event, compact, one_line};
use super::cloudevents;
use crate::event::NewEvent;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

/// The members of an object, values unparsed, so that numbers keep their texts.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Reads a line, which must not be empty.
pub fn read_line(line: &[u8]) -> Result<NewEvent, Problem> {
    let line = std::str::from_utf8(line).map_err(|error| {
        Problem::new(format!(
            "it is not UTF-8, from byte {} of the line on",
            error.valid_up_to() + 1
        ))
    })?;
    let Members(fields) = serde_json::from_str(line).map_err(|error| explain(line, &error))?;
    let event = if cloudevents::is_cloud_event(&fields) {
        cloudevents::read(&fields)?
    } else {
        read_event(&fields)?
    };
    check_event(&event).map_err(Problem::new)?;
    Ok(event)
}

fn read_event(fields: &Fields<'_>) -> Result<NewEvent, Problem> {
    let (mut stream, mut event_type, mut data) = (None, None, None);
    let mut event = NewEvent::default();
    for (name, value) in fields {
        match name.as_ref() {
            "stream" => stream = Some(as_text(name, value)?.into_owned()),
            "type" => event_type = Some(as_text(name, value)?.into_owned()),
            "data" => data = Some(as_compact(name, value)?.into_owned()),
            "metadata" => event.metadata = as_object(name, value)?,
            "id" => event.id = as_optional_text(name, value)?,
            "occurred_at" => event.occurred_at = as_time(name, value)?,
            // What `events` prints can be appended to another log, which has its own of these.
            "position" | "revision" | "recorded_at" | "hash" => {}
            other => {
                return Err(Problem::new(format!(
                    "`{other}` is no key of an event: those are stream, type, data, id, metadata \
                     and occurred_at"
                )));
            }
        }
    }
    let missing = |name: &str| Problem::new(format!("`{name}` is missing"));
    event.stream = stream.ok_or_else(|| missing("stream"))?;
    event.event_type = event_type.ok_or_else(|| missing("type"))?;
    event.data = data.ok_or_else(|| missing("data"))?;
    Ok(event)
}

/// A text, borrowed where it holds no escapes.
pub(super) fn as_text<'a>(name: &str, value: &'a RawValue) -> Result<Cow<'a, str>, Problem> {
    match serde_json::from_str::<Text<'a>>(value.get()) {
        Ok(Text(text)) => Ok(text),
        Err(error) if error.is_data() => Err(Problem::new(format!(
            "`{name}` must be a text, found {}",
            kind(value)
        ))),
        Err(error) => Err(Problem::new(format!(
            "`{name}` is not valid JSON: {}",
            one_line(&error.to_string())
        ))),
    }
}

fn as_optional_text(name: &str, value: &RawValue) -> Result<Option<String>, Problem> {
    if value.get() == "null" {
        return Ok(None);
    }
    as_text(name, value).map(|text| Some(text.into_owned()))
}

/// A time in RFC 3339, or none.
pub(super) fn as_time(name: &str, value: &RawValue) -> Result<Option<i64>, Problem> {
    if value.get() == "null" {
        return Ok(None);
    }
    let text = as_text(name, value)?;
    time::parse_rfc3339(&text)
        .map(Some)
        .map_err(|error| Problem::new(format!("`{name}` is {error}")))
}

/// Any JSON, checked and compacted.
pub(super) fn as_compact<'a>(name: &str, value: &'a RawValue) -> Result<Cow<'a, str>, Problem> {
    compact(name, value.get())
        .map(Cow::Owned)
        .map_err(Problem::new)
}

fn as_object(name: &str, value: &RawValue) -> Result<Option<String>, Problem> {
    match kind(value) {
        "null" => Ok(None),
        "an object" => as_compact(name, value).map(|text| Some(text.into_owned())),
        other => Err(Problem::new(format!(
            "`{name}` must be an object, found {other}"
        ))),
    }
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// serde_json counts lines and columns; here there is one line, and people see what it is.
fn explain(line: &str, error: &serde_json::Error) -> Problem {
    if error.is_eof() {
        return Problem::new("it ends in the middle of its JSON: it was cut off".to_owned());
    }
    if error.is_data() {
        let found = match line.trim_start().as_bytes().first() {
            Some(b'[') => "a list",
            Some(b'"') => "a text",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        };
        return Problem::new(format!(
            "an event is a JSON object with stream, type and data; this is {found}"
        ));
    }
    Problem::new(format!(
        "it is not valid JSON: {}",
        one_line(&error.to_string())
    ))
}

struct Members<'a>(Fields<'a>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Members(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A text that borrows from the input if it can. (`Cow` alone always copies.)
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_in_full() {
        let event = read_line(
            br#"{"position":9,"stream":"a\n1","revision":2,"id":"x","type":"T","data":{"n": 1.0,"n":2},
                "metadata":{ },"occurred_at":"1970-01-01T00:00:01+00:00","recorded_at":7,"hash":null}"#,
        );
        assert_eq!(
            event.unwrap(),
            NewEvent {
                stream: "a\n1".to_owned(),
                event_type: "T".to_owned(),
                data: r#"{"n":1.0,"n":2}"#.to_owned(),
                metadata: Some("{}".to_owned()),
                id: Some("x".to_owned()),
                occurred_at: Some(1_000_000),
            }
        );
    }

    #[test]
    fn nulls_are_absent() {
        let event = read_line(
            br#"{"stream":"s","type":"T","data":null,"id":null,"metadata":null,"occurred_at":null}"#,
        )
        .unwrap();
        assert_eq!(event.data, "null");
        assert_eq!(
            (event.id, event.metadata, event.occurred_at),
            (None, None, None)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!(r#"{{"stream":"{}","type":"T","data":1}}"#, "x".repeat(513));
        let large = format!(
            r#"{{"stream":"s","type":"T","data":"{}"}}"#,
            "x".repeat(crate::limits::EVENT_BYTES_MAX)
        );
        let lines: [&[u8]; 19] = [
            b"not json",
            b"[]",
            br#"{"stream":"s","type":"T","data":{"title":"He"#,
            br#"{"stream":"s","type":"T","data":1} x"#,
            b"{\"stream\":\"s\xff\",\"type\":\"T\",\"data\":1}",
            br#"{"type":"T","data":1}"#,
            br#"{"stream":"s","data":1}"#,
            br#"{"stream":"s","type":"T"}"#,
            br#"{"stream":7,"type":"T","data":1}"#,
            br#"{"stream":"","type":"T","data":1}"#,
            br#"{"stream":"a\u0000b","type":"T","data":1}"#,
            br#"{"stream":"s","type":"T","payload":1}"#,
            br#"{"stream":"s","type":"T","data":1e999}"#,
            br#"{"stream":"s","type":"T","data":"\ud800"}"#,
            br#"{"stream":"s","type":"T","data":1,"metadata":[]}"#,
            br#"{"stream":"s","type":"T","data":1,"occurred_at":"2026-02-30T00:00:00Z"}"#,
            br#"{"stream":"s","type":"T","data":1,"id":5}"#,
            long.as_bytes(),
            large.as_bytes(),
        ];
        let problems = lines.map(|line| read_line(line).unwrap_err().to_string());
        insta::assert_snapshot!(problems.join("\n"), @r"
        it is not valid JSON: expected ident, at byte 2
        an event is a JSON object with stream, type and data; this is a list
        it ends in the middle of its JSON: it was cut off
        it is not valid JSON: trailing characters, at byte 36
        it is not UTF-8, from byte 13 of the line on
        `stream` is missing
        `type` is missing
        `data` is missing
        `stream` must be a text, found a number
        `stream` is empty
        `stream` holds the character U+0000, which no name may
        `payload` is no key of an event: those are stream, type, data, id, metadata and occurred_at
        `data` is not valid JSON: number out of range, at byte 5
        `data` is not valid JSON: unexpected end of hex escape, at byte 8
        `metadata` must be an object, found a list
        `occurred_at` is not an RFC 3339 timestamp such as 2026-01-31T12:00:00Z: day was not in range
        `id` must be a text, found a number
        `stream` is 513 bytes long, it may be 512
        the event's data and metadata take 1048578 bytes, an event may take 1048576
        ");
    }

    /// JSON texts as people write them, white space included.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            Just("1.50E+3".to_owned()),
            "[^\\\\\"\u{0}-\u{1f}]{0,8}".prop_map(|text| format!("\"{text}\"")),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3)
                    .prop_map(|items| format!("[ {} ]", items.join(" , "))),
                (inner.clone(), inner)
                    .prop_map(|(a, b)| format!("{{ \"a\" : {a} ,\t\"a\": {b} }}")),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            stream in "[^\u{0}]{1,20}",
            event_type in "[^\u{0}]{1,20}",
            id in prop::option::of("[^\u{0}]{1,20}"),
            data in json(),
            by in prop::option::of(json()),
            occurred_at in prop::option::of(0..4_000_000_000_000_000_i64),
        ) {
            let text = |text: &str| serde_json::to_string(text).unwrap();
            let metadata = by.map(|by| format!("{{\"by\" : {by}}}"));
            let line = format!(
                "{{\"type\":{},\"data\":{data},\"stream\":{},\"id\":{},\"occurred_at\":{},\"metadata\":{}}}",
                text(&event_type),
                text(&stream),
                id.as_deref().map_or("null".to_owned(), text),
                occurred_at.map_or("null".to_owned(), |at| text(&time::format_rfc3339(at))),
                metadata.as_deref().unwrap_or("null"),
            );
            let compacted = |json: String| compact("", &json).unwrap();
            let expected = NewEvent {
                stream,
                event_type,
                data: compacted(data),
                metadata: metadata.map(compacted),
                id,
                occurred_at,
            };
            prop_assert_eq!(read_line(line.as_bytes()), Ok(expected));
        }
    }
}
