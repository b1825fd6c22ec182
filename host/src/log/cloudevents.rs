//! CloudEvents 1.0 in their JSON format, as events of the log.
//!
//! `subject` is the stream, `type` the type, `time` the writer's time, `data` the payload. The id is
//! made of `source` and `id`, which together name one event: `source` with `%` and spaces
//! percent-encoded, a space, `id`. Since no encoded source holds a space, two pairs never make the
//! same id. `data_base64` becomes a payload that is that text, marked by `"data_base64":true` in the
//! metadata; an event without data has the payload `null`. Every other attribute, extensions
//! included, goes to the metadata as it stands, so nothing is lost.

use std::borrow::Cow;

use super::line::{Fields, Problem, as_compact, as_text, as_time};
use crate::event::NewEvent;

/// Whether an object is a CloudEvent: the attribute that every one has, and no event of ours.
pub(super) fn is_cloud_event(fields: &Fields<'_>) -> bool {
    fields.iter().any(|(name, _)| name == "specversion")
}

/// Reads a CloudEvent.
pub(super) fn read(fields: &Fields<'_>) -> Result<NewEvent, Problem> {
    let mut event = NewEvent::default();
    let (mut source, mut id, mut stream, mut event_type) = (None, None, None, None);
    let (mut data, mut encoded) = (None, None);
    let mut rest: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for (name, value) in fields {
        match name.as_ref() {
            "subject" => stream = Some(as_text(name, value)?.into_owned()),
            "type" => event_type = Some(as_text(name, value)?.into_owned()),
            "time" => event.occurred_at = as_time(name, value)?,
            "data" => data = Some(as_compact(name, value)?),
            "data_base64" => {
                as_text(name, value)?;
                encoded = Some(as_compact(name, value)?);
            }
            "specversion" if as_text(name, value)? != "1.0" => {
                return Err(Problem::new(format!(
                    "`specversion` is {value}, only CloudEvents \"1.0\" are understood"
                )));
            }
            _ => {
                check_attribute_name(name)?;
                match name.as_ref() {
                    "source" => source = Some(as_text(name, value)?),
                    "id" => id = Some(as_text(name, value)?),
                    _ => {}
                }
                set(&mut rest, name, as_compact(name, value)?);
            }
        }
    }
    let missing = |name: &str| Problem::new(format!("the CloudEvent has no `{name}`"));
    event.event_type = event_type.ok_or_else(|| missing("type"))?;
    event.stream = stream.ok_or_else(|| {
        Problem::new("the CloudEvent has no `subject`, which names the stream".to_owned())
    })?;
    let source = source.ok_or_else(|| missing("source"))?;
    let id = id.ok_or_else(|| missing("id"))?;
    if source.is_empty() || id.is_empty() {
        return Err(Problem::new(
            "the CloudEvent's `source` and `id` must not be empty".to_owned(),
        ));
    }
    event.id = Some(event_id(&source, &id));
    event.data = match (data, encoded) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                "the CloudEvent has both `data` and `data_base64`".to_owned(),
            ));
        }
        (Some(data), None) => data.into_owned(),
        (None, Some(encoded)) => {
            set(&mut rest, "data_base64", Cow::Borrowed("true"));
            encoded.into_owned()
        }
        (None, None) => "null".to_owned(),
    };
    event.metadata = Some(object(&rest));
    Ok(event)
}

/// An injective function of source and id.
fn event_id(source: &str, id: &str) -> String {
    let source = source.replace('%', "%25").replace(' ', "%20");
    format!("{source} {id}")
}

/// CloudEvents names attributes in lower-case letters and digits; anything else is a slip.
fn check_attribute_name(name: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name.is_empty() && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Problem::new(format!(
        "`{name}` is no name of a CloudEvents attribute: lower-case letters and digits only"
    )))
}

/// Of an attribute that comes twice, the last one wins.
fn set<'a>(rest: &mut Vec<(&'a str, Cow<'a, str>)>, name: &'a str, value: Cow<'a, str>) {
    rest.retain(|(known, _)| *known != name);
    rest.push((name, value));
}

fn object(attributes: &[(&str, Cow<'_, str>)]) -> String {
    let mut text = String::from("{");
    for (i, (name, value)) in attributes.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::super::line::read_line;
    use super::*;
    use proptest::prelude::*;

    fn event(text: &str) -> NewEvent {
        read_line(text.as_bytes()).unwrap()
    }

    fn problem(text: &str) -> String {
        read_line(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_event_keeps_everything() {
        let event = event(
            r#"{"specversion":"1.0","id":"A 1","source":"/my shop%","type":"com.example.Sold",
               "subject":"order-7","time":"2026-01-02T03:04:05Z","datacontenttype":"application/json",
               "traceparent":"00-1","sampledrate":10,"data":{"b":1.50, "a":[1]}}"#,
        );
        assert_eq!(event.stream, "order-7");
        assert_eq!(event.event_type, "com.example.Sold");
        assert_eq!(event.id.as_deref(), Some("/my%20shop%25 A 1"));
        assert_eq!(event.data, r#"{"b":1.50,"a":[1]}"#);
        assert_eq!(event.occurred_at, Some(1_767_323_045_000_000));
        assert_eq!(
            event.metadata.as_deref(),
            Some(
                r#"{"specversion":"1.0","id":"A 1","source":"/my shop%","datacontenttype":"application/json","traceparent":"00-1","sampledrate":10}"#
            )
        );
    }

    #[test]
    fn binary_data_and_no_data() {
        let binary = event(
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x","data_base64":"AAE="}"#,
        );
        assert_eq!(binary.data, r#""AAE=""#);
        assert!(binary.metadata.unwrap().ends_with(r#""data_base64":true}"#));
        let none = event(r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x"}"#);
        assert_eq!(none.data, "null");
    }

    #[test]
    fn what_is_not_a_cloud_event_is_refused() {
        let texts = [
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t","subject":"x"}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#,
            r#"{"specversion":"1.0","source":"s","type":"t","subject":"x"}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x","Bad-Name":1}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x","data":1,"data_base64":""}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x","time":"yesterday"}"#,
        ];
        insta::assert_snapshot!(texts.map(problem).join("\n"), @r#"
        `specversion` is "0.3", only CloudEvents "1.0" are understood
        the CloudEvent has no `subject`, which names the stream
        the CloudEvent has no `id`
        `Bad-Name` is no name of a CloudEvents attribute: lower-case letters and digits only
        the CloudEvent has both `data` and `data_base64`
        `time` is not an RFC 3339 timestamp such as 2026-01-31T12:00:00Z: the 'year' component could not be parsed
        "#);
    }

    proptest! {
        #[test]
        fn ids_are_injective(a in "[a% ]{1,4}", b in "[a% ]{1,4}", c in "[a% ]{1,4}", d in "[a% ]{1,4}") {
            prop_assert_eq!((&a, &b) == (&c, &d), event_id(&a, &b) == event_id(&c, &d));
        }
    }
}
