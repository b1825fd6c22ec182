//! Reading the log in bulk: binary COPY, a window of positions at a time, straight into a chunk.
//! Each statement has a snapshot of its own, which ends with it.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use super::Shared;
use super::copy::{Fields, Rows};
use crate::event::{Hash, Position};
use crate::log::type_names::TypeNames;
use crate::log::{EnvelopeParts, EventChunk, Head, LogError, LogReader, TypeFilter};
use crate::postgres::{Session, Timestamp};

/// Positions looked at in one read, so that a snapshot never lasts long.
const WINDOW_MAX: u64 = 65_536;
/// Bytes of events that came and found no room. With more, another connection takes the place of this
/// one: there is no other way to tell the server to stop.
const SURPLUS_BYTES_MAX: usize = 16 << 20;
/// What an event is expected to take before any was seen, in bytes.
const EVENT_BYTES_FIRST: usize = 4 << 10;

pub(super) struct PgReader {
    shared: Arc<Shared>,
    /// Opened by the first read, and after a failure by the next.
    session: Option<Session>,
    /// None: all.
    types: Option<Vec<String>>,
    names: TypeNames,
    parts: EnvelopeParts,
    /// Mean size of the payloads that came last.
    event_bytes: usize,
}

/// How a read ended.
enum Read {
    Done(Hash),
    /// The log ends before where it was read up to.
    Short(Position),
    TooManyTypes,
}

/// One COPY and what becomes of its rows.
struct Copying<'r> {
    names: &'r mut TypeNames,
    parts: EnvelopeParts,
    chunk: &'r mut EventChunk,
    rows: u64,
    is_full: bool,
    surplus_bytes: usize,
}

impl PgReader {
    pub(super) fn new(shared: Arc<Shared>, types: TypeFilter, parts: EnvelopeParts) -> Self {
        let types = match types {
            TypeFilter::All => None,
            TypeFilter::Only(mut names) => {
                names.sort_unstable();
                names.dedup();
                Some(names)
            }
        };
        Self {
            names: TypeNames::new(types.as_deref()),
            shared,
            session: None,
            types,
            parts,
            event_bytes: EVENT_BYTES_FIRST,
        }
    }

    fn read_chunk(
        &mut self,
        after: Position,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> Result<Read, sqlx::Error> {
        let first_previous = self.shared.first_previous;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match self.connect(after, chunk)? {
                Ok(session) => session,
                Err(short) => return Ok(short),
            },
        };
        // Without a filter, positions tell how many events come.
        let rows_max = self.rows_max(chunk);
        let window = match self.types {
            None => rows_max,
            Some(_) => WINDOW_MAX,
        };
        let up_to = up_to.min(after.saturating_add(window));
        let bound = session.run(async |it| last_up_to(it, up_to, first_previous).await)?;
        if bound.position < after.min(up_to) {
            return Ok(Read::Short(bound.position));
        }
        let mut copying = Copying {
            names: &mut self.names,
            parts: self.parts,
            chunk,
            rows: 0,
            is_full: false,
            surplus_bytes: 0,
        };
        let wants_none = self.types.as_ref().is_some_and(Vec::is_empty);
        if bound.position > after && !wants_none {
            let types = self.types.as_deref();
            let sql = copy_out(self.parts, types, after, bound.position, rows_max);
            session.run(async |it| copying.run(it, &sql).await)?;
        }
        let (rows, is_full, surplus_bytes) = (copying.rows, copying.is_full, copying.surplus_bytes);
        if surplus_bytes > SURPLUS_BYTES_MAX {
            session = match self.connect(after, chunk)? {
                Ok(session) => session,
                Err(short) => return Ok(short),
            };
        }
        if self.names.overflowed() {
            return Ok(Read::TooManyTypes);
        }
        if !chunk.is_empty() {
            self.event_bytes = chunk.payloads.bytes.len() / chunk.len();
        }
        chunk.reached = bound.position.max(after);
        let mut hash = (bound.position >= after).then_some(bound.hash);
        if is_full || rows == rows_max {
            chunk.reached = chunk.positions.last().copied().unwrap_or(after);
            hash = (chunk.reached == bound.position).then_some(bound.hash);
        }
        let hash = match hash {
            Some(hash) => hash,
            None => {
                let reached = chunk.reached;
                let at = session.run(async |it| last_up_to(it, reached, first_previous).await)?;
                if at.position != reached {
                    return Ok(Read::Short(at.position));
                }
                at.hash
            }
        };
        self.session = Some(session);
        Ok(Read::Done(hash))
    }

    /// The server may be another one than before, or restored: the chunk says of which log it is.
    fn connect(
        &self,
        after: Position,
        chunk: &mut EventChunk,
    ) -> Result<Result<Session, Read>, sqlx::Error> {
        let mut session = Session::open(&self.shared.place.url)?;
        let first_previous = self.shared.first_previous;
        let at = session.run(async |it| last_up_to(it, after, first_previous).await)?;
        if at.position < after {
            return Ok(Err(Read::Short(at.position)));
        }
        chunk.joined_hash = Some(at.hash);
        Ok(Ok(session))
    }

    /// Rows to ask for, so that a chunk is filled and hardly ever more comes.
    fn rows_max(&self, chunk: &EventChunk) -> u64 {
        let fitting = chunk.limit_bytes / self.event_bytes.max(1);
        chunk.limit_events.min(fitting.saturating_add(1)).max(1) as u64
    }
}

impl Copying<'_> {
    async fn run(&mut self, connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
        let mut messages = connection.copy_out_raw(sql).await?;
        let mut rows = Rows::default();
        while let Some(message) = messages.try_next().await? {
            let Some(fields) = rows.of(&message)? else {
                continue;
            };
            self.rows += 1;
            if self.is_full {
                self.surplus_bytes += message.len();
                if self.surplus_bytes > SURPLUS_BYTES_MAX {
                    return Ok(());
                }
                continue;
            }
            self.take(fields)?;
        }
        Ok(())
    }

    /// The fields, in the order of [`copy_out`].
    fn take(&mut self, mut fields: Fields<'_>) -> Result<(), std::io::Error> {
        let Self {
            names,
            parts,
            chunk,
            ..
        } = self;
        let position = u64::from_be_bytes(fields.eight()?.unwrap_or_default());
        let name = fields.next()?.unwrap_or_default();
        let code = names
            .code(name, chunk)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        // The server looked at the type, so this one has too many others before it.
        let Some(code) = code else { return Ok(()) };
        let payload = fields.text()?;
        let bytes = chunk.payloads.bytes.len() + payload.len();
        if !chunk.is_empty() && bytes > chunk.limit_bytes {
            self.is_full = true;
            return Ok(());
        }
        chunk.positions.push(position);
        chunk.types.push(code);
        chunk.payloads.push(payload);
        if parts.revision {
            let revision = fields.eight()?.unwrap_or_default();
            chunk.revisions.push(u64::from_be_bytes(revision));
        }
        if parts.occurred_at {
            let time = fields.eight()?.map(|bytes| Timestamp::from_bytes(bytes).0);
            chunk.occurred_at.push(time);
        }
        if parts.recorded_at {
            let time = Timestamp::from_bytes(fields.eight()?.unwrap_or_default());
            chunk.recorded_at.push(time.0);
        }
        if parts.stream {
            chunk.streams.push(fields.text()?);
        }
        if parts.id {
            chunk.ids.push(fields.text()?);
        }
        if parts.metadata {
            chunk.metadata.push(fields.text()?);
        }
        self.is_full = chunk.len() >= chunk.limit_events || bytes >= chunk.limit_bytes;
        Ok(())
    }
}

/// The last event at or before a position.
async fn last_up_to(
    connection: &mut PgConnection,
    position: Position,
    first_previous: Hash,
) -> Result<Head, sqlx::Error> {
    let last: Option<(i64, Hash)> = sqlx::query_as(
        "SELECT position, hash FROM retell.events WHERE position <= $1
         ORDER BY position DESC LIMIT 1",
    )
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await?;
    Ok(last.map_or(
        Head {
            position: 0,
            hash: first_previous,
        },
        |(position, hash)| Head {
            position: position.cast_unsigned(),
            hash,
        },
    ))
}

/// COPY takes no parameters, so they are written out.
fn copy_out(
    parts: EnvelopeParts,
    types: Option<&[String]>,
    after: Position,
    up_to: Position,
    rows_max: u64,
) -> String {
    let mut sql = "COPY (SELECT position, type, payload".to_owned();
    for (asked, column) in [
        (parts.revision, ", revision"),
        (parts.occurred_at, ", occurred_at"),
        (parts.recorded_at, ", recorded_at"),
        (parts.stream, ", stream"),
        (parts.id, ", id"),
        (parts.metadata, ", metadata"),
    ] {
        if asked {
            sql.push_str(column);
        }
    }
    let types = types.map_or(String::new(), |types| {
        let types: Vec<String> = types.iter().map(|name| literal(name)).collect();
        format!(" AND type IN ({})", types.join(", "))
    });
    format!(
        "{sql} FROM retell.events WHERE position > {after} AND position <= {up_to}{types}
         ORDER BY position LIMIT {rows_max}) TO STDOUT (FORMAT binary)"
    )
}

/// A text as SQL writes it, whatever the server's setting for backslashes is.
fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

impl LogReader for PgReader {
    fn read(
        &mut self,
        after: Position,
        up_to: Position,
        chunk: &mut EventChunk,
    ) -> Result<(), LogError> {
        chunk.clear();
        self.names.agree_with(chunk);
        let read = self
            .read_chunk(after, up_to, chunk)
            .map_err(|error| self.shared.place.explain("reading events", error))?;
        match read {
            Read::Done(hash) => {
                chunk.reached_hash = hash;
                Ok(())
            }
            Read::Short(head) => Err(LogError::Shorter {
                log: self.shared.place.name.clone(),
                head,
                seen: after,
            }),
            Read::TooManyTypes => Err(LogError::TooManyTypes {
                log: self.shared.place.name.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_can_not_leave_their_quotes() {
        assert_eq!(literal("T"), "E'T'");
        assert_eq!(literal(r"it's \' odd"), r"E'it''s \\'' odd'");
    }
}
