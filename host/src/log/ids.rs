//! Ids for events that come without one: UUIDv7, which grow with time and so sit together at the
//! end of the index on ids.

use uuid::Uuid;

/// Random bits of a UUIDv7.
const RANDOM_BITS: u32 = 74;

/// Makes ids; each is greater than the one before while the clock does not go back.
#[derive(Debug, Default)]
pub(super) struct EventIds {
    millis: u64,
    random: u128,
}

impl EventIds {
    pub(super) fn next(&mut self, now_us: i64) -> Uuid {
        let millis = u64::try_from(now_us / 1000).unwrap_or(0);
        if millis == self.millis {
            // Within a millisecond they count up, in steps nobody can guess (RFC 9562, 6.2).
            self.random += 1 + u128::from(rand::random::<u32>());
        } else {
            self.millis = millis;
            // The topmost bit stays free for counting.
            self.random = rand::random::<u128>() >> (128 - RANDOM_BITS + 1);
        }
        // 12 bits beside the version, 62 behind the variant.
        let below = self.random & ((1 << 62) - 1);
        let above = self.random >> 62;
        let value = (u128::from(millis) << 80) | (above << 64) | below;
        uuid::Builder::from_u128(value)
            .with_version(uuid::Version::SortRand)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_are_of_version_7() {
        let mut ids = EventIds::default();
        let mut last = Uuid::nil();
        for i in 0..100_000_i64 {
            let id = ids.next(1_767_225_600_000_000 + i * 10);
            assert!(id > last);
            assert_eq!(
                (id.get_version_num(), id.get_variant()),
                (7, uuid::Variant::RFC4122)
            );
            last = id;
        }
    }
}
