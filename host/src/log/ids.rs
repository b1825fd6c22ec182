//! Ids for events that come without one: UUIDv7, which grow with time and so sit together at the
//! end of the index on ids.

use uuid::{ContextV7, Timestamp, Uuid};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Makes ids; each is greater than the one before while the clock does not go back.
pub(super) struct EventIds {
    context: ContextV7,
}

impl EventIds {
    pub(super) fn new() -> Self {
        Self {
            context: ContextV7::new(),
        }
    }

    pub(super) fn next(&self, now_us: i64) -> Uuid {
        let seconds = now_us.div_euclid(MICROS_PER_SECOND);
        let nanos = now_us.rem_euclid(MICROS_PER_SECOND) * 1000;
        Uuid::new_v7(Timestamp::from_unix(
            &self.context,
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanos).expect("less than a second"),
        ))
    }
}
