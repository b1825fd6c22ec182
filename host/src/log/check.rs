//! What every event must satisfy, on every way into the log.

use std::collections::BTreeMap;

use retell_contract::json;
use retell_contract::time::{TIMESTAMP_MAX, TIMESTAMP_MIN};

use serde_json::value::RawValue;

use super::{AppendRequest, LogError, SealedEvent};
use crate::event::NewEvent;
use crate::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX};

/// Checks an event's names and sizes. The message says what is wrong and what would be right.
pub(super) fn check_event(event: &NewEvent) -> Result<(), String> {
    check_name("stream", &event.stream)?;
    check_name("type", &event.event_type)?;
    if let Some(id) = &event.id {
        check_name("id", id)?;
    }
    if event
        .occurred_at
        .is_some_and(|time| !(TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&time))
    {
        return Err("`occurred_at` lies outside the years 1 to 9999".to_owned());
    }
    let bytes = event.data.len() + event.metadata.as_ref().map_or(0, String::len);
    if bytes > EVENT_BYTES_MAX {
        return Err(too_large(bytes as u64));
    }
    Ok(())
}

/// What is said of an event whose data and metadata take so many bytes.
pub(super) fn too_large(bytes: u64) -> String {
    format!("the event's data and metadata take {bytes} bytes, an event may take {EVENT_BYTES_MAX}")
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("`{what}` is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "`{what}` is {} bytes long, it may be {NAME_BYTES_MAX}",
            name.len()
        ));
    }
    if name.contains('\0') {
        return Err(format!(
            "`{what}` holds the character U+0000, which no name may"
        ));
    }
    Ok(())
}

/// What of an event in the log is compared with another of the same id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) stream: &'a str,
    pub(super) event_type: &'a str,
    /// None: erased, and not to be compared any more.
    pub(super) data: Option<&'a str>,
    pub(super) metadata: Option<&'a str>,
    pub(super) occurred_at: Option<i64>,
}

impl Content<'_> {
    /// The part in which another event differs, if one does.
    pub(super) fn difference(&self, event: &NewEvent) -> Option<&'static str> {
        if self.stream != event.stream {
            Some("stream")
        } else if self.event_type != event.event_type {
            Some("type")
        } else if self.data.is_some_and(|data| data != event.data) {
            Some("data")
        } else if self.data.is_some() && is_other(self.metadata, event.metadata.as_deref()) {
            Some("metadata")
        } else if self.occurred_at != event.occurred_at {
            Some("occurred_at")
        } else {
            None
        }
    }
}

/// Whether two metadata differ. In what order their keys come is of no meaning: whoever sends a CloudEvent
/// a second time may have another one. What stands under a key is compared as it is written.
fn is_other(one: Option<&str>, other: Option<&str>) -> bool {
    if one == other {
        return false;
    }
    match (one.and_then(members), other.and_then(members)) {
        (Some(one), Some(other)) => {
            let pairs = one.iter().zip(&other);
            let mut differing = pairs.filter(|(a, b)| a.0 != b.0 || a.1.get() != b.1.get());
            one.len() != other.len() || differing.next().is_some()
        }
        _ => true,
    }
}

fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

/// A request that only the state of the log can refuse.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) events: Vec<SealedEvent>,
    pub(super) expected: Vec<(String, u64)>,
}

impl Admitted {
    /// Bytes that it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let expected = |(stream, _): &(String, u64)| size_of::<(String, u64)>() + stream.len();
        self.events.iter().map(SealedEvent::bytes).sum::<usize>()
            + self.expected.iter().map(expected).sum::<usize>()
    }
}

/// Checks a request, compacts its JSON and seals its events.
pub(super) fn admit(request: AppendRequest) -> Result<Admitted, LogError> {
    let admit = |(index, mut event): (usize, NewEvent)| {
        let bad = |problem| LogError::BadEvent { problem, index };
        event.data = compact("data", &event.data).map_err(bad)?;
        if let Some(metadata) = &event.metadata {
            event.metadata = Some(compact("metadata", metadata).map_err(bad)?);
        }
        check_event(&event).map_err(bad)?;
        Ok(SealedEvent::seal(event))
    };
    Ok(Admitted {
        events: request
            .events
            .into_iter()
            .enumerate()
            .map(admit)
            .collect::<Result<_, LogError>>()?,
        expected: request.expected,
    })
}

/// Checks that a text is JSON, and drops its white space.
pub(super) fn compact(what: &str, text: &str) -> Result<String, String> {
    json::compact(text.as_bytes())
        .map_err(|error| format!("`{what}` is {}", one_line(&error.to_string())))
}

/// serde_json counts lines and columns of the text it was given. Where that is one line, `line 1`
/// would be read as the first line of a file.
pub(super) fn one_line(error: &str) -> String {
    error.replace(" at line 1 column ", ", at byte ")
}
