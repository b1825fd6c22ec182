//! A writer: batches of events, each sent again until it is acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::content::{Content, seeded};
use crate::instance::{Dice, Instance};

/// After so many events the same contents come again, in other events.
const CONTENTS: usize = 3_000;
/// Numbers of one writer's events.
const NUMBERS: usize = 1_000_000;

pub(super) struct Writer {
    number: usize,
    dice: Dice,
    contents: Vec<Content>,
    /// Events that were sent, each acknowledged but those of the last batch, perhaps.
    sent: usize,
    acknowledged: usize,
}

impl Writer {
    pub(super) fn new(number: usize, dice: Dice) -> Self {
        let contents = seeded(dice.seed, CONTENTS);
        Self {
            number,
            dice,
            contents,
            sent: 0,
            acknowledged: 0,
        }
    }

    pub(super) fn write(&mut self, instance: &Instance, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let first = self.acknowledged;
            self.sent = first + 1 + self.dice.below(60);
            let lines: String = (first..self.sent).map(|at| self.line(at)).collect();
            loop {
                let doom = super::doom(&mut self.dice, instance);
                let append = instance.start_append_doomed(&lines, doom);
                let ended = if self.dice.one_in(5) {
                    self.dice.pause(Duration::from_millis(200));
                    append.kill()
                } else {
                    append.wait()
                };
                ended.assert_explains_itself("append");
                if ended.code == Some(0) {
                    self.acknowledged = self.sent;
                    break;
                }
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
            self.dice.pause(Duration::from_millis(150));
        }
    }

    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Ids of all events that must be in the log, and of those that may be.
    pub(super) fn ids(&self) -> (Vec<String>, Vec<String>) {
        let ids = |events: std::ops::Range<usize>| events.map(|at| self.id(at)).collect();
        (ids(0..self.acknowledged), ids(self.acknowledged..self.sent))
    }

    /// The event of an id, if it is one of this writer's.
    pub(super) fn event(&self, id: &str) -> Option<usize> {
        let number: usize = id.strip_prefix("event-")?.parse().ok()?;
        (number / NUMBERS == self.number).then_some(number % NUMBERS)
    }

    fn id(&self, at: usize) -> String {
        format!("event-{}", self.number * NUMBERS + at)
    }

    /// None: it is a note.
    pub(super) fn content(&self, at: usize) -> Option<&Content> {
        (at % 10 != 9).then(|| &self.contents[at % CONTENTS])
    }

    /// As it is appended: mostly contents, and sometimes a note, or an event that notes can't do with.
    pub(super) fn line(&self, at: usize) -> String {
        if let Some(content) = self.content(at) {
            return content.line(self.number * NUMBERS + at);
        }
        let id = at % 70;
        let (event_type, data) = match at % 4 {
            0 => ("Misbehaved", json!({ "how": format!("needs {id}") })),
            1 if at.is_multiple_of(3) => ("Misbehaved", json!({ "how": "fly" })),
            _ => (
                "NoteAdded",
                json!({ "id": id.to_string(), "title": "T", "stars": at }),
            ),
        };
        let stream = format!("notes-{}", at % 5);
        let line = json!({ "id": self.id(at), "stream": stream, "type": event_type, "data": data });
        format!("{line}\n")
    }
}
