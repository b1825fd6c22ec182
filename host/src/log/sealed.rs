//! Sealing an event: what its place in the hash chain needs that does not depend on the place. It
//! costs as much as the rest of the hashing, and nobody has to wait for the log meanwhile.

use super::chain::{self, SALT_BYTES};
use crate::event::{Hash, NewEvent};

/// An event with the salted digests through which its content enters the hash chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedEvent {
    pub(super) event: NewEvent,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) payload_digest: Hash,
    pub(super) metadata_digest: Hash,
}

impl SealedEvent {
    /// Seals an event whose JSON was checked and compacted.
    pub fn seal(event: NewEvent) -> Self {
        let salt: [u8; SALT_BYTES] = rand::random();
        Self {
            payload_digest: chain::content_digest(&salt, Some(&event.data)),
            metadata_digest: chain::content_digest(&salt, event.metadata.as_deref()),
            salt,
            event,
        }
    }

    /// Bytes that it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.event.bytes()
    }
}
