//! How one group of members reads: what of the log it wants, and how much of it makes a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;
use crate::log::EventChunk;
use crate::replay::parsers::Asks;

/// Fixed-point unit of the densities.
const ONE: u64 = 1 << 20;

/// See the module's documentation.
pub(super) struct Plan {
    pub(super) id: u64,
    pub(super) members: Vec<u64>,
    pub(super) asks: Vec<Arc<Asks>>,
    /// Wanted events for each position, in 1/2^20.
    events_density: AtomicU64,
    /// Bytes of payload for each position, in 1/2^20.
    bytes_density: AtomicU64,
}

impl Plan {
    pub(super) fn new(id: u64, members: Vec<u64>, asks: Vec<Arc<Asks>>) -> Self {
        Self {
            id,
            members,
            asks,
            events_density: AtomicU64::new(ONE),
            bytes_density: AtomicU64::new(0),
        }
    }

    /// Positions of the next window, so that it fills a batch and hardly ever more.
    pub(super) fn width(&self, events_max: usize, bytes_max: usize) -> u64 {
        let fitting = |max: usize, density: u64| {
            // Room for what is denser than the last windows.
            let room = max as u64 * ONE / 5 * 4;
            room.checked_div(density).unwrap_or(u64::MAX)
        };
        let events = self.events_density.load(Ordering::Relaxed);
        let by_events = if events * 2 > ONE {
            // Never more events than positions.
            events_max as u64
        } else {
            fitting(events_max, events)
        };
        let by_bytes = fitting(bytes_max, self.bytes_density.load(Ordering::Relaxed));
        by_events
            .min(by_bytes)
            .clamp(1, limits::FEED_WINDOW_POSITIONS_MAX)
    }

    /// Learns from a window of so many positions.
    pub(super) fn learn(&self, chunk: &EventChunk, positions: u64) {
        let positions = positions.max(1);
        let mix = |density: &AtomicU64, now: usize| {
            let now = (now as u64).saturating_mul(ONE) / positions;
            let before = density.load(Ordering::Relaxed);
            density.store(before - before / 4 + now / 4, Ordering::Relaxed);
        };
        mix(&self.events_density, chunk.len());
        mix(&self.bytes_density, chunk.payloads.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::TextColumn;

    fn chunk(events: u64, bytes: usize) -> EventChunk {
        let mut chunk = EventChunk::new(1_000, 1 << 20);
        chunk.positions = (1..=events).collect();
        chunk.payloads = TextColumn {
            ends: Vec::new(),
            bytes: vec![b' '; bytes],
        };
        chunk
    }

    #[test]
    fn windows_fill_a_batch_whether_events_are_dense_sparse_or_large() {
        let width = |events: u64, bytes: usize, positions: u64| {
            let plan = Plan::new(1, vec![], vec![]);
            (0..40).for_each(|_| plan.learn(&chunk(events, bytes), positions));
            plan.width(1_000, 1 << 20)
        };
        assert_eq!(width(1_000, 200_000, 1_000), 1_000);
        assert_eq!(width(920, 200_000, 1_000), 1_000);
        let sparse = width(20, 5_000, 1_000);
        assert!((35_000..=45_000).contains(&sparse), "{sparse}");
        let large = width(100, 1 << 20, 100);
        assert!((75..=85).contains(&large), "{large}");
        assert_eq!(width(0, 0, 1_000), limits::FEED_WINDOW_POSITIONS_MAX);
    }
}
