//! The event: what the log holds, before and after it got its place there.

/// Place in the whole log, from 1, gapless. 0 means "before the first event".
pub type Position = u64;

/// SHA-256 of the log up to and including an event.
pub type Hash = [u8; 32];

/// An event that wants to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewEvent {
    pub stream: String,
    pub event_type: String,
    /// Compact JSON.
    pub data: String,
    /// Compact JSON, if any.
    pub metadata: Option<String>,
    /// A UUIDv7 is made where there is none.
    pub id: Option<String>,
    /// The writer's time, microseconds since the Unix epoch, UTC.
    pub occurred_at: Option<i64>,
}

impl NewEvent {
    /// Bytes of all its texts.
    pub(crate) fn bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.stream.len()
            + self.event_type.len()
            + self.data.len()
            + optional(&self.metadata)
            + optional(&self.id)
    }
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub position: Position,
    pub stream: String,
    /// Place in its stream, from 1.
    pub revision: u64,
    pub id: String,
    pub event_type: String,
    /// Compact JSON.
    pub data: String,
    /// Compact JSON, if any.
    pub metadata: Option<String>,
    /// The writer's time, microseconds since the Unix epoch, UTC.
    pub occurred_at: Option<i64>,
    /// The host's time, microseconds since the Unix epoch, UTC; never decreases along the log.
    pub recorded_at: i64,
    pub hash: Hash,
}
