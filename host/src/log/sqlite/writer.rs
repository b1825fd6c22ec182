//! The one way into the tables: a connection that appends, transaction by transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::connection::open_writer;
use super::errors::explain;
use crate::event::{Hash, NewEvent, Position};
use crate::log::ids::EventIds;
use crate::log::{Appended, Head, LogError, chain};

/// `OR FAIL` spares SQLite a journal for each statement: see the migration.
const INSERT: &str = "INSERT OR FAIL INTO events
    (position, stream, revision, id, type, occurred_at, recorded_at, salt, hash, metadata, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const FIND: &str =
    "SELECT position, stream, type, payload, metadata, occurred_at FROM events WHERE id = ?1";
const REVISION: &str = "SELECT max(revision) FROM events WHERE stream = ?1";

/// Appends; between [`begin`](Self::begin) and [`commit`](Self::commit) nobody else can.
pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    first_previous: Hash,
    ids: EventIds,
    /// Scratch space for the hash chain.
    buffer: Vec<u8>,
    open: Option<Open>,
}

/// What the writer knows inside its transaction.
struct Open {
    head: Head,
    /// Where the head was when the transaction began.
    began: Position,
    /// Of every event of this transaction: the clock, but never less than the last event's.
    recorded_at: i64,
    /// Last revisions of the streams met in this transaction.
    revisions: HashMap<String, u64>,
}

/// An event that is there already, as far as it is compared.
struct Found {
    position: Position,
    difference: Option<&'static str>,
}

impl Writer {
    pub(super) fn open(path: &Path, first_previous: Hash) -> Result<Self, LogError> {
        let connection =
            open_writer(path).map_err(|error| explain(path, "opening the database", error))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            first_previous,
            ids: EventIds::default(),
            buffer: Vec::new(),
            open: None,
        })
    }

    /// Takes the log for itself, waiting for other processes, and looks where it ends.
    pub(super) fn begin(&mut self, now_us: i64) -> Result<(), LogError> {
        self.step("waiting for the log", |connection| {
            connection
                .prepare_cached("BEGIN IMMEDIATE")?
                .execute([])
                .map(drop)
        })?;
        match self.read_head() {
            Ok((head, recorded_at)) => {
                self.open = Some(Open {
                    head,
                    began: head.position,
                    recorded_at: recorded_at.max(now_us),
                    revisions: HashMap::new(),
                });
                Ok(())
            }
            Err(error) => {
                self.rollback();
                Err(error)
            }
        }
    }

    /// Durable when it returns. Gives the head's position.
    pub(super) fn commit(&mut self) -> Result<Position, LogError> {
        let open = self.open.take().expect("a transaction was begun");
        let done = self.step("committing", |connection| {
            if open.head.position > open.began {
                connection
                    .prepare_cached(
                        "UPDATE log_head SET position = ?1, hash = ?2, recorded_at = ?3",
                    )?
                    .execute((open.head.position, open.head.hash, open.recorded_at))?;
            }
            connection.prepare_cached("COMMIT")?.execute([])
        });
        if let Err(error) = done {
            self.rollback();
            return Err(error);
        }
        Ok(open.head.position)
    }

    /// Forgets the transaction; harmless without one.
    pub(super) fn rollback(&mut self) {
        self.open = None;
        if !self.connection.is_autocommit() {
            // After some errors SQLite has rolled back by itself; there is nothing else to do.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Whether each of the events is in the log already.
    pub(super) fn all_there(&self, events: &[NewEvent]) -> Result<bool, LogError> {
        for (index, event) in events.iter().enumerate() {
            match &event.id {
                None => return Ok(false),
                Some(id) => match self.find(id, event)? {
                    None => return Ok(false),
                    Some(found) => same(&found, id, index)?,
                },
            }
        }
        Ok(!events.is_empty())
    }

    /// The last revision of a stream; 0 if it is new.
    pub(super) fn revision(&self, stream: &str) -> Result<u64, LogError> {
        self.step("looking up a stream", |connection| {
            let last: Option<u64> = connection
                .prepare_cached(REVISION)?
                .query_row([stream], |row| row.get(0))?;
            Ok(last.unwrap_or(0))
        })
    }

    /// Adds the events that are not there yet, inside the transaction.
    pub(super) fn add(&mut self, events: &[NewEvent]) -> Result<Appended, LogError> {
        let mut appended = Appended {
            positions: Vec::with_capacity(events.len()),
            already_there: 0,
        };
        for (index, event) in events.iter().enumerate() {
            // One by one, so that an id that comes twice in one request is found too.
            if let Some(id) = &event.id
                && let Some(found) = self.find(id, event)?
            {
                same(&found, id, index)?;
                appended.positions.push(found.position);
                appended.already_there += 1;
                continue;
            }
            appended.positions.push(self.insert(event)?);
        }
        Ok(appended)
    }

    /// Runs other statements of the same transaction.
    pub(super) fn step<T>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        run(&self.connection).map_err(|error| explain(&self.path, doing, error))
    }

    fn read_head(&self) -> Result<(Head, i64), LogError> {
        let (position, hash, recorded_at) = self.step("reading the head", |connection| {
            let last = connection
                .prepare_cached(
                    "SELECT position, hash, recorded_at FROM events ORDER BY position DESC LIMIT 1",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            Ok(last.unwrap_or((0, self.first_previous, 0)))
        })?;
        let recorded: Position = self.step("reading the head", |connection| {
            connection
                .prepare_cached("SELECT position FROM log_head")?
                .query_row([], |row| row.get(0))
        })?;
        // Appending to a log that lost its end would hide the loss for ever.
        if recorded > position {
            return Err(LogError::Shorter {
                path: self.path.clone(),
                head: position,
                seen: recorded,
            });
        }
        Ok((Head { position, hash }, recorded_at))
    }

    fn find(&self, id: &str, event: &NewEvent) -> Result<Option<Found>, LogError> {
        self.step("looking up an id", |connection| {
            connection
                .prepare_cached(FIND)?
                .query_row([id], |row| {
                    let text = |column: usize| -> rusqlite::Result<Option<&str>> {
                        Ok(row.get_ref(column)?.as_str_or_null()?)
                    };
                    let difference = if text(1)? != Some(event.stream.as_str()) {
                        Some("stream")
                    } else if text(2)? != Some(event.event_type.as_str()) {
                        Some("type")
                    } else if text(3)?.is_some_and(|data| data != event.data) {
                        // An erased payload is null and can't be compared.
                        Some("data")
                    } else if text(3)?.is_some() && text(4)? != event.metadata.as_deref() {
                        Some("metadata")
                    } else if row.get::<_, Option<i64>>(5)? != event.occurred_at {
                        Some("occurred_at")
                    } else {
                        None
                    };
                    Ok(Found {
                        position: row.get(0)?,
                        difference,
                    })
                })
                .optional()
        })
    }

    fn insert(&mut self, event: &NewEvent) -> Result<Position, LogError> {
        let open = self.open.as_ref().expect("a transaction was begun");
        let (position, previous, recorded_at) =
            (open.head.position + 1, open.head.hash, open.recorded_at);
        let revision = 1 + match open.revisions.get(&event.stream) {
            Some(last) => *last,
            None => self.revision(&event.stream)?,
        };
        let mut made = Uuid::encode_buffer();
        let id = match &event.id {
            Some(id) => id.as_str(),
            None => self
                .ids
                .next(recorded_at)
                .hyphenated()
                .encode_lower(&mut made),
        };
        let salt: [u8; chain::SALT_BYTES] = rand::random();
        let link = chain::Link {
            position,
            stream: &event.stream,
            revision,
            id,
            event_type: &event.event_type,
            occurred_at: event.occurred_at,
            recorded_at,
            subject: None,
            key_id: None,
            payload_digest: &chain::content_digest(&salt, Some(&event.data)),
            metadata_digest: &chain::content_digest(&salt, event.metadata.as_deref()),
        };
        let hash = chain::link(&previous, &link, &mut self.buffer);
        self.step("appending an event", |connection| {
            connection.prepare_cached(INSERT)?.execute((
                position,
                &event.stream,
                revision,
                id,
                &event.event_type,
                event.occurred_at,
                recorded_at,
                salt,
                hash,
                &event.metadata,
                &event.data,
            ))
        })?;
        let open = self.open.as_mut().expect("a transaction was begun");
        open.head = Head { position, hash };
        match open.revisions.get_mut(&event.stream) {
            Some(last) => *last = revision,
            None => {
                open.revisions.insert(event.stream.clone(), revision);
            }
        }
        Ok(position)
    }
}

fn same(found: &Found, id: &str, index: usize) -> Result<(), LogError> {
    match found.difference {
        None => Ok(()),
        Some(difference) => Err(LogError::IdTaken {
            id: id.to_owned(),
            position: found.position,
            difference,
            index,
        }),
    }
}
