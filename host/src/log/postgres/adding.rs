//! Adding events inside a transaction: what is there already, which revision is next, and the hash
//! that ties each event to the one before. What the database knows is asked once for all requests of
//! a group, and what they add is inserted at once.

use std::collections::HashMap;

use uuid::Uuid;

use super::Place;
use super::rows::{find_known, insert, learn_revisions};
use super::writer::Tail;
use crate::event::{Hash, NewEvent, Position};
use crate::log::check::{Admitted, Content};
use crate::log::group_commit::Answer;
use crate::log::ids::EventIds;
use crate::log::{Appended, LogError, SealedEvent, chain};
use crate::postgres::Session;

/// Streams whose last revision is remembered.
const REVISIONS_MAX: usize = 65_536;

/// Last revisions of streams, kept from one transaction to the next while nobody else appends.
#[derive(Default)]
pub(super) struct Revisions {
    last: HashMap<String, u64>,
    /// The hash of the log that they are true of.
    true_at: Option<Hash>,
}

/// Adds events to the writer's open transaction.
pub(super) struct Adding<'w> {
    pub(super) session: &'w mut Session,
    pub(super) place: &'w Place,
    pub(super) tail: &'w mut Tail,
    pub(super) revisions: &'w mut Revisions,
    pub(super) ids: &'w mut EventIds,
}

/// A request, however it came.
#[derive(Clone, Copy)]
pub(super) struct Request<'r> {
    pub(super) events: &'r [SealedEvent],
    pub(super) expected: &'r [(String, u64)],
}

impl<'r> From<&'r Admitted> for Request<'r> {
    fn from(admitted: &'r Admitted) -> Self {
        Self {
            events: &admitted.events,
            expected: &admitted.expected,
        }
    }
}

/// An event that is in the log already, or will be.
pub(super) struct Known<'r> {
    pub(super) position: Position,
    pub(super) event: KnownEvent<'r>,
}

pub(super) enum KnownEvent<'r> {
    Stored {
        stream: String,
        event_type: String,
        /// None: erased.
        data: Option<String>,
        metadata: Option<String>,
        occurred_at: Option<i64>,
    },
    /// Of this transaction.
    New(&'r NewEvent),
}

/// A row to insert.
pub(super) struct NewRow<'r> {
    pub(super) sealed: &'r SealedEvent,
    pub(super) position: Position,
    pub(super) revision: u64,
    pub(super) id: String,
    pub(super) hash: Hash,
}

/// Requests being answered, one after the other.
struct Answering<'a, 'r> {
    tail: &'a mut Tail,
    revisions: &'a mut Revisions,
    ids: &'a mut EventIds,
    known: HashMap<String, Known<'r>>,
    rows: Vec<NewRow<'r>>,
    /// Scratch space for the hash chain.
    buffer: Vec<u8>,
}

impl Adding<'_> {
    /// Answers requests in order; each sees those before it, and a refused one leaves no trace.
    pub(super) fn answer_all(&mut self, requests: &[Request<'_>]) -> Result<Vec<Answer>, LogError> {
        let looking = |error| self.place.explain("looking up what is there", error);
        let (answers, rows) = self.answer(requests).map_err(looking)?;
        if !rows.is_empty() {
            let recorded_at = self.tail.recorded_at;
            self.session
                .run(async |it| insert(it, &rows, recorded_at, None).await)
                .map_err(|error| self.place.explain("appending events", error))?;
        }
        Ok(answers)
    }

    /// Answers requests outside of a transaction, with one statement that does nothing unless the log
    /// still ends where it was when the answers were found. With the answers comes whether it did: if
    /// not, they may be wrong.
    pub(super) fn answer_at_once(
        &mut self,
        requests: &[Request<'_>],
    ) -> Result<(Vec<Answer>, Result<bool, sqlx::Error>), sqlx::Error> {
        let head = self.tail.head;
        let (answers, rows) = self.answer(requests)?;
        if rows.is_empty() {
            return Ok((answers, Ok(false)));
        }
        let recorded_at = self.tail.recorded_at;
        let inserted = self
            .session
            .run(async |it| insert(it, &rows, recorded_at, Some(head)).await);
        Ok((answers, inserted.map(|count| count == rows.len() as u64)))
    }

    /// The answers, and the rows that make them true.
    fn answer<'r>(
        &mut self,
        requests: &[Request<'r>],
    ) -> Result<(Vec<Answer>, Vec<NewRow<'r>>), sqlx::Error> {
        let known = find_known(self.session, requests)?;
        self.revisions.make_room();
        learn_revisions(self.session, self.revisions, requests)?;
        let mut answering = Answering {
            tail: self.tail,
            revisions: self.revisions,
            ids: self.ids,
            known,
            rows: Vec::new(),
            buffer: Vec::new(),
        };
        let answers = requests.iter().map(|it| answering.answer(it)).collect();
        Ok((answers, answering.rows))
    }

    /// Adds the events of one request that expects nothing.
    pub(super) fn add(&mut self, events: &[SealedEvent]) -> Result<Appended, LogError> {
        let request = Request {
            events,
            expected: &[],
        };
        let mut answers = self.answer_all(&[request])?;
        answers.pop().expect("one request has one answer")
    }
}

impl<'r> Answering<'_, 'r> {
    /// Ids first, then expected revisions, then the events.
    fn answer(&mut self, request: &Request<'r>) -> Answer {
        if !request.expected.is_empty() && !self.all_there(request.events)? {
            for (stream, expected) in request.expected {
                let actual = self.revisions.of(stream);
                if actual != *expected {
                    return Err(LogError::Revision {
                        stream: stream.clone(),
                        expected: *expected,
                        actual,
                    });
                }
            }
        }
        let (rows, head) = (self.rows.len(), self.tail.head);
        let added = self.add(request.events);
        if added.is_err() {
            for row in self.rows.drain(rows..).rev() {
                self.revisions
                    .set(&row.sealed.event.stream, row.revision - 1);
                self.known.remove(&row.id);
            }
            self.tail.head = head;
        }
        added
    }

    fn all_there(&self, events: &[SealedEvent]) -> Result<bool, LogError> {
        let mut all = !events.is_empty();
        for (index, sealed) in events.iter().enumerate() {
            // Each is looked for, as one further on may have an id that is taken.
            all &= self.known(&sealed.event, index)?.is_some();
        }
        Ok(all)
    }

    fn add(&mut self, events: &'r [SealedEvent]) -> Answer {
        let mut appended = Appended {
            positions: Vec::with_capacity(events.len()),
            already_there: 0,
        };
        for (index, sealed) in events.iter().enumerate() {
            // One by one, so that an id that comes twice in one request is found too.
            let position = match self.known(&sealed.event, index)? {
                Some(position) => {
                    appended.already_there += 1;
                    position
                }
                None => self.add_one(sealed),
            };
            appended.positions.push(position);
        }
        Ok(appended)
    }

    /// The position of an event that is in the log already.
    fn known(&self, event: &NewEvent, index: usize) -> Result<Option<Position>, LogError> {
        let Some(id) = &event.id else {
            return Ok(None);
        };
        let Some(known) = self.known.get(id) else {
            return Ok(None);
        };
        match known.event.content().difference(event) {
            None => Ok(Some(known.position)),
            Some(difference) => Err(LogError::IdTaken {
                id: id.clone(),
                position: known.position,
                difference,
                index,
            }),
        }
    }

    fn add_one(&mut self, sealed: &'r SealedEvent) -> Position {
        let event = &sealed.event;
        let revision = self.revisions.of(&event.stream) + 1;
        let Tail {
            head, recorded_at, ..
        } = self.tail;
        let position = head.position + 1;
        let id = match &event.id {
            Some(id) => id.clone(),
            None => self
                .ids
                .next(*recorded_at)
                .hyphenated()
                .encode_lower(&mut Uuid::encode_buffer())
                .to_owned(),
        };
        let link = chain::Link {
            position,
            stream: &event.stream,
            revision,
            id: &id,
            event_type: &event.event_type,
            occurred_at: event.occurred_at,
            recorded_at: *recorded_at,
            subject: None,
            key_id: None,
            payload_digest: &sealed.payload_digest,
            metadata_digest: &sealed.metadata_digest,
        };
        let hash = chain::link(&head.hash, &link, &mut self.buffer);
        head.position = position;
        head.hash = hash;
        self.revisions.set(&event.stream, revision);
        if event.id.is_some() {
            let known = Known {
                position,
                event: KnownEvent::New(event),
            };
            self.known.insert(id.clone(), known);
        }
        self.rows.push(NewRow {
            sealed,
            position,
            revision,
            id,
            hash,
        });
        position
    }
}

impl KnownEvent<'_> {
    fn content(&self) -> Content<'_> {
        match self {
            Self::Stored {
                stream,
                event_type,
                data,
                metadata,
                occurred_at,
            } => Content {
                stream,
                event_type,
                data: data.as_deref(),
                metadata: metadata.as_deref(),
                occurred_at: *occurred_at,
            },
            Self::New(new) => Content {
                stream: &new.stream,
                event_type: &new.event_type,
                data: Some(&new.data),
                metadata: new.metadata.as_deref(),
                occurred_at: new.occurred_at,
            },
        }
    }
}

impl Revisions {
    /// At the start of a transaction, given the hash of the log.
    pub(super) fn begin(&mut self, hash: Hash) {
        if self.true_at != Some(hash) {
            self.last.clear();
        }
        // What follows may be rolled back.
        self.true_at = None;
    }

    /// Before those of the next requests are learned. A transaction may have any number of them.
    fn make_room(&mut self) {
        if self.last.len() >= REVISIONS_MAX {
            self.last.clear();
        }
    }

    pub(super) fn committed(&mut self, hash: Hash) {
        self.true_at = Some(hash);
    }

    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    pub(super) fn knows(&self, stream: &str) -> bool {
        self.last.contains_key(stream)
    }

    /// Of a stream that was asked for when the transaction began.
    fn of(&self, stream: &str) -> u64 {
        self.last.get(stream).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, stream: &str, revision: u64) {
        match self.last.get_mut(stream) {
            Some(last) => *last = revision,
            None => {
                self.last.insert(stream.to_owned(), revision);
            }
        }
    }
}
