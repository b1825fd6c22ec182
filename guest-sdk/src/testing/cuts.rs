//! The ways to cut a log into batches.

use std::fmt;
use std::ops::Range;

/// Up to so many events, every cut is tried: 512 of them for ten events.
const EVENTS_CUT_EVERY_WAY: usize = 10;
/// For more events, so many cuts are tried beside batches of one.
const CUTS_SAMPLED: u64 = 24;

/// Where batches end: the numbers of events, the last one being that of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    ends: Vec<usize>,
}

impl Cut {
    /// One batch.
    pub(super) fn none(events: usize) -> Self {
        Self { ends: vec![events] }
    }

    pub(super) fn batches(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| start..end)
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, ends) = self.ends.split_last().expect("a cut has its last end");
        let ends: Vec<_> = ends.iter().map(usize::to_string).collect();
        write!(f, "cut after event {}", ends.join(", "))
    }
}

/// The cuts to try beside one batch.
pub(super) fn of(events: usize) -> Vec<Cut> {
    let Some(places) = events.checked_sub(1).filter(|&places| places > 0) else {
        return Vec::new();
    };
    if events <= EVENTS_CUT_EVERY_WAY {
        // Each bit says whether there is a cut at one place.
        return (1..1u32 << places)
            .map(|bits| cut_where(events, |place| bits & (1 << place) != 0))
            .collect();
    }
    let single = cut_where(events, |_| true);
    let sampled = (1..=CUTS_SAMPLED).map(|seed| {
        let mut random = Random(seed);
        // From cuts nearly everywhere to a few.
        let rarity = 2 + seed * seed / 8;
        cut_where(events, |_| random.next().is_multiple_of(rarity))
    });
    std::iter::once(single).chain(sampled).collect()
}

fn cut_where(events: usize, mut here: impl FnMut(usize) -> bool) -> Cut {
    let mut ends: Vec<_> = (0..events - 1)
        .filter(|&place| here(place))
        .map(|p| p + 1)
        .collect();
    ends.push(events);
    Cut { ends }
}

/// SplitMix64: a test that fails must fail again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_events_are_cut_in_every_way() {
        assert!(of(0).is_empty());
        assert!(of(1).is_empty());
        let cuts = of(4);
        assert_eq!(cuts.len(), 7);
        assert!(
            cuts.iter()
                .enumerate()
                .all(|(i, cut)| !cuts[..i].contains(cut))
        );
        assert!(cuts.contains(&Cut {
            ends: vec![1, 2, 3, 4]
        }));
    }

    #[test]
    fn batches_cover_all_events_in_order() {
        for events in [4, 10, 11, 500] {
            for cut in of(events) {
                let all: Vec<_> = cut.batches().flatten().collect();
                assert!(all.into_iter().eq(0..events), "{cut}");
            }
        }
    }
}
