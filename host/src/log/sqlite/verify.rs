//! Recomputing the hash chain.

use rusqlite::Connection;

use super::Shared;
use super::connection::open_reader;
use super::errors::explain;
use crate::event::Position;
use crate::log::{Head, LogError, chain};

/// Walks the whole log. `Err(position)` is the first event whose position, revision order or hash
/// does not follow from what came before.
pub(super) fn verify_chain(shared: &Shared) -> Result<Result<Head, Position>, LogError> {
    let walk = || walk(shared, &open_reader(&shared.path)?);
    walk().map_err(|error| explain(&shared.path, "verifying the hash chain", error))
}

fn walk(shared: &Shared, connection: &Connection) -> rusqlite::Result<Result<Head, Position>> {
    let mut statement = connection.prepare(
        "SELECT position, stream, revision, id, type, occurred_at, recorded_at, subject, key_id,
                salt, metadata, payload, hash
         FROM events ORDER BY position",
    )?;
    let mut rows = statement.query([])?;
    let mut buffer = Vec::new();
    let mut head = Head {
        position: 0,
        hash: shared.first_previous,
    };
    while let Some(row) = rows.next()? {
        let salt: [u8; chain::SALT_BYTES] = row.get(9)?;
        let expected = head.position + 1;
        let link = chain::Link {
            position: row.get(0)?,
            stream: row.get_ref(1)?.as_str()?,
            revision: row.get(2)?,
            id: row.get_ref(3)?.as_str()?,
            event_type: row.get_ref(4)?.as_str()?,
            occurred_at: row.get(5)?,
            recorded_at: row.get(6)?,
            subject: row.get_ref(7)?.as_str_or_null()?,
            key_id: row.get_ref(8)?.as_str_or_null()?,
            metadata_digest: &chain::content_digest(&salt, row.get_ref(10)?.as_str_or_null()?),
            payload_digest: &chain::content_digest(&salt, row.get_ref(11)?.as_str_or_null()?),
        };
        let hash = chain::link(&head.hash, &link, &mut buffer);
        if link.position != expected || hash != row.get::<_, [u8; 32]>(12)? {
            return Ok(Err(expected));
        }
        head = Head {
            position: expected,
            hash,
        };
    }
    Ok(Ok(head))
}
