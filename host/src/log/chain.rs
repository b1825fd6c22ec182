//! The hash chain: every event's hash covers the event and the hash before it, so that a log that
//! was changed, cut, or restored and continued another way can't be mistaken for the same log.
//!
//! Bytes of format 1, in this order:
//!
//! | part | bytes |
//! |---|---|
//! | format | one byte, 1 |
//! | previous hash | 32 |
//! | position | length 8, then u64 big-endian |
//! | stream | length, then UTF-8 |
//! | revision | length 8, then u64 big-endian |
//! | id | length, then UTF-8 |
//! | type | length, then UTF-8 |
//! | occurred_at | length 8, then i64 big-endian, microseconds since the Unix epoch |
//! | recorded_at | the same |
//! | subject | length, then UTF-8 |
//! | key_id | length, then UTF-8 |
//! | payload digest | SHA-256 of salt and payload, 32 |
//! | metadata digest | SHA-256 of salt and metadata, 32; of the salt alone where there is none |
//!
//! A length is a u32, big-endian; a part that is absent is the length `0xFFFFFFFF` and nothing
//! after it. The hash of an event is the SHA-256 of these bytes. The hash before the first event is
//! the SHA-256 of the log's id as a lower-case UUID text. Payload and metadata enter through salted
//! digests so that they, and the salt with them, can be erased without breaking the chain.
//!
//! `tests/fixtures/hash_chain.json` holds examples for every implementation, in any language.

use sha2::{Digest, Sha256};

use crate::event::Hash;

/// The only format there is.
pub const FORMAT: u8 = 1;
/// Random bytes that make a digest say nothing about a short payload.
pub const SALT_BYTES: usize = 16;

const ABSENT: u32 = u32::MAX;

/// What the hash of an event covers, beside the previous hash.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    pub position: u64,
    pub stream: &'a str,
    pub revision: u64,
    pub id: &'a str,
    pub event_type: &'a str,
    pub occurred_at: Option<i64>,
    pub recorded_at: i64,
    pub subject: Option<&'a str>,
    pub key_id: Option<&'a str>,
    pub payload_digest: &'a Hash,
    pub metadata_digest: &'a Hash,
}

/// The hash before the first event of a log.
pub fn first_previous(log_id: &str) -> Hash {
    Sha256::digest(log_id.as_bytes()).into()
}

/// The digest through which a payload or metadata enters the chain.
pub fn content_digest(salt: &[u8], content: Option<&str>) -> Hash {
    Sha256::new()
        .chain_update(salt)
        .chain_update(content.unwrap_or_default())
        .finalize()
        .into()
}

/// The hash of an event that follows `previous`. `buffer` is scratch space, reused between calls.
pub fn link(previous: &Hash, event: &Link<'_>, buffer: &mut Vec<u8>) -> Hash {
    buffer.clear();
    buffer.push(FORMAT);
    buffer.extend_from_slice(previous);
    part(buffer, Some(&event.position.to_be_bytes()));
    part(buffer, Some(event.stream.as_bytes()));
    part(buffer, Some(&event.revision.to_be_bytes()));
    part(buffer, Some(event.id.as_bytes()));
    part(buffer, Some(event.event_type.as_bytes()));
    part(
        buffer,
        event
            .occurred_at
            .map(i64::to_be_bytes)
            .as_ref()
            .map(<[u8; 8]>::as_slice),
    );
    part(buffer, Some(&event.recorded_at.to_be_bytes()));
    part(buffer, event.subject.map(str::as_bytes));
    part(buffer, event.key_id.map(str::as_bytes));
    buffer.extend_from_slice(event.payload_digest);
    buffer.extend_from_slice(event.metadata_digest);
    Sha256::digest(buffer.as_slice()).into()
}

fn part(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(ABSENT, |bytes| {
        u32::try_from(bytes.len()).expect("names of events are short")
    });
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const VECTORS: &str = include_str!("../../../tests/fixtures/hash_chain.json");

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn every_vector_holds() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let mut seen = 0;
        for log in vectors["logs"].as_array().unwrap() {
            let mut previous = first_previous(log["log_id"].as_str().unwrap());
            assert_eq!(hex(&previous), log["first_previous_hash"]);
            for event in log["events"].as_array().unwrap() {
                let salt = unhex(event["salt"].as_str().unwrap());
                let payload_digest = content_digest(&salt, event["payload"].as_str());
                let metadata_digest = content_digest(&salt, event["metadata"].as_str());
                assert_eq!(hex(&payload_digest), event["payload_digest"]);
                assert_eq!(hex(&metadata_digest), event["metadata_digest"]);
                let link_of = Link {
                    position: event["position"].as_u64().unwrap(),
                    stream: event["stream"].as_str().unwrap(),
                    revision: event["revision"].as_u64().unwrap(),
                    id: event["id"].as_str().unwrap(),
                    event_type: event["type"].as_str().unwrap(),
                    occurred_at: event["occurred_at"].as_i64(),
                    recorded_at: event["recorded_at"].as_i64().unwrap(),
                    subject: event["subject"].as_str(),
                    key_id: event["key_id"].as_str(),
                    payload_digest: &payload_digest,
                    metadata_digest: &metadata_digest,
                };
                let mut buffer = Vec::new();
                previous = link(&previous, &link_of, &mut buffer);
                assert_eq!(hex(&buffer), event["hashed_bytes"]);
                assert_eq!(hex(&previous), event["hash"]);
                seen += 1;
            }
        }
        assert!(seen >= 5, "the fixture lost its events");
    }

    #[test]
    fn a_part_can_not_move_into_its_neighbour() {
        let digest = [7; 32];
        let event = |stream, id| Link {
            position: 1,
            stream,
            revision: 1,
            id,
            event_type: "T",
            occurred_at: None,
            recorded_at: 0,
            subject: None,
            key_id: None,
            payload_digest: &digest,
            metadata_digest: &digest,
        };
        let mut buffer = Vec::new();
        assert_ne!(
            link(&[0; 32], &event("ab", "c"), &mut buffer),
            link(&[0; 32], &event("a", "bc"), &mut buffer),
        );
    }
}
