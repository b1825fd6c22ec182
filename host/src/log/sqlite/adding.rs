//! Adding events inside a transaction: what is there already, which revision is next, and the hash
//! that ties each event to the one before.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension};
use uuid::Uuid;

use super::errors::explain;
use crate::event::{Hash, NewEvent, Position};
use crate::log::check::Content;
use crate::log::ids::EventIds;
use crate::log::{Appended, Head, LogError, SealedEvent, chain};

/// `OR FAIL` spares SQLite a journal for each statement: see the migration.
const INSERT: &str = "INSERT OR FAIL INTO events
    (position, stream, revision, id, type, occurred_at, recorded_at, salt, hash, metadata, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const FIND: &str =
    "SELECT position, stream, type, payload, metadata, occurred_at FROM events WHERE id = ?1";
const REVISION: &str = "SELECT max(revision) FROM events WHERE stream = ?1";

/// Streams whose last revision is remembered.
const REVISIONS_MAX: usize = 65_536;

/// The end of the log as the transaction sees it.
pub(super) struct Tail {
    pub(super) head: Head,
    /// Of every event of this transaction: the clock, but never less than the last event's.
    pub(super) recorded_at: i64,
}

/// Last revisions of streams, kept from one transaction to the next while nobody else appends.
#[derive(Default)]
pub(super) struct Revisions {
    last: HashMap<String, u64>,
    /// The hash of the log that they are true of.
    true_at: Option<Hash>,
}

/// Adds events to the writer's open transaction.
pub(super) struct Adding<'w> {
    connection: &'w Connection,
    insert: CachedStatement<'w>,
    find: CachedStatement<'w>,
    revision: CachedStatement<'w>,
    path: &'w Path,
    tail: &'w mut Tail,
    revisions: &'w mut Revisions,
    ids: &'w mut EventIds,
    buffer: &'w mut Vec<u8>,
    /// Whether the last event was there already: then the next one probably is, too.
    met_known: bool,
}

/// An event that is there already, as far as it is compared.
struct Found {
    position: Position,
    difference: Option<&'static str>,
}

impl<'w> Adding<'w> {
    pub(super) fn prepare(
        connection: &'w Connection,
        path: &'w Path,
        tail: &'w mut Tail,
        revisions: &'w mut Revisions,
        ids: &'w mut EventIds,
        buffer: &'w mut Vec<u8>,
    ) -> Result<Self, LogError> {
        let prepare = |sql| {
            connection
                .prepare_cached(sql)
                .map_err(|error| explain(path, "preparing to append", error))
        };
        Ok(Self {
            connection,
            insert: prepare(INSERT)?,
            find: prepare(FIND)?,
            revision: prepare(REVISION)?,
            path,
            tail,
            revisions,
            ids,
            buffer,
            met_known: false,
        })
    }

    /// Whether each of the events is in the log already.
    pub(super) fn all_there(&mut self, events: &[SealedEvent]) -> Result<bool, LogError> {
        let mut all = !events.is_empty();
        for (index, sealed) in events.iter().enumerate() {
            // Each is looked for, as one further on may have an id that is taken.
            all &= self.known(&sealed.event, index)?.is_some();
        }
        Ok(all)
    }

    /// The last revision of a stream; 0 if it is new.
    pub(super) fn revision(&mut self, stream: &str) -> Result<u64, LogError> {
        self.last_revision(stream)
            .map_err(|error| explain(self.path, "looking up a stream", error))
    }

    /// [`add`](Self::add), of which a refusal leaves no trace in the transaction.
    pub(super) fn add_whole(&mut self, events: &[SealedEvent]) -> Result<Appended, LogError> {
        if events.len() <= 1 {
            return self.add(events);
        }
        let before = self.tail.head;
        self.savepoint("SAVEPOINT request")?;
        let added = self.add(events);
        match &added {
            Ok(_) => self.savepoint("RELEASE request")?,
            Err(error) if error.is_refusal() => {
                self.savepoint("ROLLBACK TO request")?;
                self.savepoint("RELEASE request")?;
                self.tail.head = before;
                self.revisions.forget();
            }
            // The transaction goes as a whole.
            Err(_) => {}
        }
        added
    }

    fn savepoint(&self, sql: &str) -> Result<(), LogError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|error| explain(self.path, "keeping requests apart", error))
    }

    /// Adds the events that are not there yet.
    pub(super) fn add(&mut self, events: &[SealedEvent]) -> Result<Appended, LogError> {
        let mut appended = Appended {
            positions: Vec::with_capacity(events.len()),
            already_there: 0,
        };
        for (index, sealed) in events.iter().enumerate() {
            // One by one, so that an id that comes twice in one request is found too.
            let known = self.add_one(sealed, index)?;
            appended.already_there += u64::from(known.is_some());
            let added = self.tail.head.position;
            appended.positions.push(known.unwrap_or(added));
        }
        Ok(appended)
    }

    /// Adds an event as the new head, or gives its position if it is there already. The insertion
    /// itself finds a taken id: to look for it before would cost every new event a second search.
    fn add_one(
        &mut self,
        sealed: &SealedEvent,
        index: usize,
    ) -> Result<Option<Position>, LogError> {
        if self.met_known
            && let Some(position) = self.known(&sealed.event, index)?
        {
            return Ok(Some(position));
        }
        self.met_known = false;
        let Err(error) = self.insert(sealed) else {
            return Ok(None);
        };
        if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
            && let Some(position) = self.known(&sealed.event, index)?
        {
            self.met_known = true;
            return Ok(Some(position));
        }
        Err(explain(self.path, "appending an event", error))
    }

    /// The position of an event that is in the log already.
    fn known(&mut self, event: &NewEvent, index: usize) -> Result<Option<Position>, LogError> {
        let Some(id) = &event.id else {
            return Ok(None);
        };
        match self.find(id, event)? {
            None => Ok(None),
            Some(Found {
                position,
                difference: None,
            }) => Ok(Some(position)),
            Some(Found {
                position,
                difference: Some(difference),
            }) => Err(LogError::IdTaken {
                id: id.clone(),
                position,
                difference,
                index,
            }),
        }
    }

    fn find(&mut self, id: &str, event: &NewEvent) -> Result<Option<Found>, LogError> {
        self.find
            .query_row([id], |row| {
                let text = |column: usize| -> rusqlite::Result<Option<&str>> {
                    Ok(row.get_ref(column)?.as_str_or_null()?)
                };
                let there = Content {
                    stream: text(1)?.unwrap_or_default(),
                    event_type: text(2)?.unwrap_or_default(),
                    data: text(3)?,
                    metadata: text(4)?,
                    occurred_at: row.get(5)?,
                };
                let difference = there.difference(event);
                Ok(Found {
                    position: row.get(0)?,
                    difference,
                })
            })
            .optional()
            .map_err(|error| explain(self.path, "looking up an id", error))
    }

    fn last_revision(&mut self, stream: &str) -> rusqlite::Result<u64> {
        if let Some(last) = self.revisions.last.get(stream) {
            return Ok(*last);
        }
        let last: Option<u64> = self.revision.query_row([stream], |row| row.get(0))?;
        Ok(last.unwrap_or(0))
    }

    fn insert(&mut self, sealed: &SealedEvent) -> rusqlite::Result<()> {
        let event = &sealed.event;
        let revision = 1 + self.last_revision(&event.stream)?;
        let Tail { head, recorded_at } = self.tail;
        let position = head.position + 1;
        let mut made = Uuid::encode_buffer();
        let id = match &event.id {
            Some(id) => id.as_str(),
            None => self
                .ids
                .next(*recorded_at)
                .hyphenated()
                .encode_lower(&mut made),
        };
        let link = chain::Link {
            position,
            stream: &event.stream,
            revision,
            id,
            event_type: &event.event_type,
            occurred_at: event.occurred_at,
            recorded_at: *recorded_at,
            subject: None,
            key_id: None,
            payload_digest: &sealed.payload_digest,
            metadata_digest: &sealed.metadata_digest,
        };
        let hash = chain::link(&head.hash, &link, self.buffer);
        self.insert.execute((
            position,
            &event.stream,
            revision,
            id,
            &event.event_type,
            event.occurred_at,
            *recorded_at,
            sealed.salt,
            hash,
            &event.metadata,
            &event.data,
        ))?;
        *head = Head { position, hash };
        self.revisions.set(&event.stream, revision);
        Ok(())
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

    pub(super) fn committed(&mut self, hash: Hash) {
        self.true_at = Some(hash);
    }

    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    fn set(&mut self, stream: &str, revision: u64) {
        if let Some(last) = self.last.get_mut(stream) {
            *last = revision;
            return;
        }
        if self.last.len() >= REVISIONS_MAX {
            self.last.clear();
        }
        self.last.insert(stream.to_owned(), revision);
    }
}
