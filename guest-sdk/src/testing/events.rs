//! Events for tests, and the batches made of them.

use std::collections::HashMap;
use std::ops::Range;

use retell_contract::columns::{Blocks, TextColumn};
use retell_contract::manifest::{Field, Manifest, Shape, Wanted};
use retell_contract::{FitTo, Fitter, Located, json};
use serde::Serialize;

use super::Failure;
use crate::batch::{Batch, Cells};
use crate::types::Timestamp;

/// 2026-01-01T00:00:00Z; the test's log records one event a second from here on.
const FIRST_RECORDED_AT_MICROS: i64 = 1_767_225_600_000_000;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// An event for a test; see [`event`].
#[allow(clippy::struct_field_names, reason = "the vocabulary says event type")]
#[derive(Debug, Clone)]
pub struct Event {
    event_type: String,
    payload: String,
    stream: String,
    id: Option<String>,
    occurred_at: Option<Timestamp>,
    recorded_at: Option<Timestamp>,
    metadata: String,
}

/// An event with a payload, such as `json!({"id": "a"})`.
///
/// # Panics
/// When the payload cannot be written as JSON.
pub fn event(event_type: impl Into<String>, payload: impl Serialize) -> Event {
    let payload = serde_json::to_string(&payload).expect("the payload is JSON");
    event_json(event_type, &payload)
}

fn event_json(event_type: impl Into<String>, payload: &str) -> Event {
    Event {
        event_type: event_type.into(),
        payload: json::compact(payload.as_bytes()).expect("the payload is JSON"),
        stream: "stream".to_owned(),
        id: None,
        occurred_at: None,
        recorded_at: None,
        metadata: "null".to_owned(),
    }
}

impl Event {
    /// The event's stream; `stream` if not given.
    #[must_use]
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.stream = stream.into();
        self
    }

    /// The event's id; `event-1` for the first and so on if not given.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The writer's time (`occurred_at`), in RFC 3339.
    ///
    /// # Panics
    /// When it is no such time.
    #[must_use]
    pub fn at(mut self, time: &str) -> Self {
        self.occurred_at = Some(time.parse().expect("an RFC 3339 timestamp"));
        self
    }

    /// The time at which the log recorded it, in RFC 3339; a second after the one before if not
    /// given.
    ///
    /// # Panics
    /// When it is no such time.
    #[must_use]
    pub fn recorded_at(mut self, time: &str) -> Self {
        self.recorded_at = Some(time.parse().expect("an RFC 3339 timestamp"));
        self
    }

    /// The writer's metadata.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Serialize) -> Self {
        self.metadata = serde_json::to_string(&metadata).expect("the metadata is JSON");
        self
    }
}

/// The events of a test with the numbers that a log gives them.
pub(super) struct Log {
    events: Vec<Event>,
    revisions: Vec<u64>,
    recorded_at: Vec<i64>,
}

impl Log {
    pub(super) fn new(events: Vec<Event>) -> Self {
        let mut streams: HashMap<&str, u64> = HashMap::new();
        let mut revisions = Vec::new();
        let mut recorded_at = Vec::new();
        let mut last = FIRST_RECORDED_AT_MICROS - MICROS_PER_SECOND;
        for event in &events {
            let revision = streams.entry(&event.stream).or_default();
            *revision += 1;
            revisions.push(*revision);
            last = event
                .recorded_at
                .map_or(last + MICROS_PER_SECOND, Timestamp::micros);
            recorded_at.push(last);
        }
        Self {
            events,
            revisions,
            recorded_at,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn failure(&self, position: u64, message: String) -> Failure {
        let index = usize::try_from(position - 1).expect("positions of a test are small");
        Failure {
            position,
            event_type: self.events[index].event_type.clone(),
            message,
        }
    }

    /// A batch of the events in the range that the manifest subscribes to, up to the first whose
    /// payload does not fit; and that misfit.
    pub(super) fn batch(
        &self,
        manifest: &Manifest,
        range: Range<usize>,
    ) -> (Batch, Option<Failure>) {
        let fitter = Fitter::new(&[&manifest.shapes]);
        let mut located = Located::default();
        let mut blocks = Blocks::new(&manifest.shapes);
        let mut shapes = Vec::new();
        let mut taken = Vec::new();
        let mut misfit = None;
        for index in range {
            let event = &self.events[index];
            let Some(plan) = fitter.plan(&event.event_type) else {
                continue;
            };
            let payload = event.payload.as_bytes();
            fitter.locate(plan, payload, &mut located);
            match fitter.fit(plan, 0, payload, &located, &mut blocks, FitTo::AllColumns) {
                Ok(None) => {}
                Ok(Some(shape)) => {
                    shapes.push(shape);
                    taken.push(index);
                }
                Err(error) => {
                    misfit = Some(self.failure(index as u64 + 1, error.to_string()));
                    break;
                }
            }
        }
        let columns = blocks.take().into_iter();
        let blocks = columns
            .map(|block| block.into_iter().map(Cells::from).collect())
            .collect();
        let batch = Batch {
            positions: taken.iter().map(|&index| index as u64 + 1).collect(),
            shapes,
            blocks,
            ..self.envelopes(manifest, &taken)
        };
        (batch, misfit)
    }

    /// The parts of the envelope that the manifest asks for, and no others.
    fn envelopes(&self, manifest: &Manifest, taken: &[usize]) -> Batch {
        let asked = manifest.envelope;
        let texts = |asked: bool, text: fn(&Event) -> String| {
            asked.then(|| {
                let mut column = TextColumn::default();
                for &index in taken {
                    column.push(text(&self.events[index]));
                }
                column.into()
            })
        };
        let ids = asked.id.then(|| {
            let mut column = TextColumn::default();
            for &index in taken {
                let id = self.events[index].id.clone();
                column.push(id.unwrap_or_else(|| format!("event-{}", index + 1)));
            }
            column.into()
        });
        let time = |&index: &usize| {
            let occurred_at = self.events[index].occurred_at;
            occurred_at.map_or(self.recorded_at[index], Timestamp::micros)
        };
        Batch {
            revisions: asked
                .revision
                .then(|| taken.iter().map(|&i| self.revisions[i]).collect()),
            times: asked.time.then(|| taken.iter().map(time).collect()),
            recorded_at: asked
                .recorded_at
                .then(|| taken.iter().map(|&index| self.recorded_at[index]).collect()),
            occurred_at: asked.occurred_at.then(|| self.occurred_at(taken)),
            streams: texts(asked.stream, |event| event.stream.clone()),
            ids,
            metadata: texts(asked.metadata, |event| event.metadata.clone()),
            type_names: texts(asked.type_name, |event| event.event_type.clone()),
            ..Batch::default()
        }
    }

    /// The column of a field that may be missing: the same code as for payloads makes it.
    fn occurred_at(&self, taken: &[usize]) -> Cells {
        let shapes = [Shape {
            event_type: "*".to_owned(),
            fields: vec![Field {
                paths: vec!["at".to_owned()],
                wants: Wanted::Timestamp,
                optional: true,
                nullable: false,
            }],
        }];
        let fitter = Fitter::new(&[&shapes]);
        let plan = fitter.plan("T").expect("`*` takes every type");
        let mut located = Located::default();
        let mut blocks = Blocks::new(&shapes);
        for &index in taken {
            let at = self.events[index].occurred_at;
            let payload = at.map_or_else(|| "{}".to_owned(), |at| format!(r#"{{"at":"{at}"}}"#));
            fitter.locate(plan, payload.as_bytes(), &mut located);
            fitter
                .fit(
                    plan,
                    0,
                    payload.as_bytes(),
                    &located,
                    &mut blocks,
                    FitTo::AllColumns,
                )
                .expect("a timestamp fits");
        }
        blocks.take().remove(0).remove(0).into()
    }
}
