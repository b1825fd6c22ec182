//! How fast a replay is, from gapless positions.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::event::Position;

/// The rate is taken over about this time.
const WINDOW: Duration = Duration::from_secs(5);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Positions a second over the last few seconds.
#[derive(Debug)]
pub struct Rate {
    watch: Stopwatch,
    /// (since the start, position), oldest first.
    samples: VecDeque<(Duration, Position)>,
}

impl Rate {
    pub fn new(position: Position) -> Self {
        Self {
            watch: Stopwatch::start(),
            samples: VecDeque::from([(Duration::ZERO, position)]),
        }
    }

    /// Notes how far it got.
    pub fn reached(&mut self, position: Position) {
        self.note(self.watch.elapsed(), position);
    }

    /// Goes on from a position. A rest that was long counts for nothing.
    pub fn goes_on(&mut self, position: Position) {
        self.go_on(self.watch.elapsed(), position);
    }

    fn go_on(&mut self, now: Duration, position: Position) {
        let newest = self.samples.back();
        if newest.is_none_or(|it| now.saturating_sub(it.0) > WINDOW) {
            self.samples = VecDeque::from([(now, position)]);
        }
    }

    fn note(&mut self, now: Duration, position: Position) {
        // The newest sample moves along until it is old enough to stay.
        let settled = self.samples.len() < 2
            || self
                .samples
                .iter()
                .rev()
                .nth(1)
                .is_some_and(|it| now.saturating_sub(it.0) >= SAMPLE_INTERVAL);
        if settled {
            self.samples.push_back((now, position));
        } else if let Some(newest) = self.samples.back_mut() {
            *newest = (now, position);
        }
        while self.samples.len() > 2 && now.saturating_sub(self.samples[1].0) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// Events a second; 0 until two moments are known.
    pub fn events_per_s(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let seconds = last.0.saturating_sub(first.0).as_secs_f64();
        if seconds <= 0.0 {
            0.0
        } else {
            (last.1 - first.1) as f64 / seconds
        }
    }
}

/// Seconds until the lag is gone at this rate; none while nothing moves.
pub fn eta_s(lag: u64, events_per_s: f64) -> Option<f64> {
    (events_per_s > 0.0).then(|| lag as f64 / events_per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_seconds_only() {
        let mut rate = Rate::new(0);
        for tenth in 1..=100_u64 {
            rate.note(Duration::from_millis(tenth * 100), tenth * 10);
        }
        assert!(
            (rate.events_per_s() - 100.0).abs() < 1.0,
            "{}",
            rate.events_per_s()
        );
        for tenth in 1..=100_u64 {
            rate.note(
                Duration::from_millis(10_000 + tenth * 100),
                1_000 + tenth * 1_000,
            );
        }
        assert!(
            (rate.events_per_s() - 10_000.0).abs() < 100.0,
            "{}",
            rate.events_per_s()
        );
        assert!(rate.samples.len() < 60);
    }

    #[test]
    fn nothing_known_is_no_rate() {
        let fresh = Rate::new(7).events_per_s();
        assert!(fresh.abs() < f64::EPSILON);
        assert_eq!(eta_s(10, 0.0), None);
        assert_eq!(eta_s(10, 5.0), Some(2.0));
    }

    #[test]
    fn a_long_rest_counts_for_nothing_and_a_short_one_for_what_it_is() {
        let mut rate = Rate::new(0);
        for second in 1..=3 {
            rate.go_on(Duration::from_secs(second), (second - 1) * 1_000);
            rate.note(Duration::from_secs(second), second * 1_000);
        }
        assert!((rate.events_per_s() - 1_000.0).abs() < 1.0);
        let hour = Duration::from_hours(1);
        rate.go_on(hour, 3_000);
        rate.note(hour + Duration::from_millis(500), 53_000);
        assert!((rate.events_per_s() - 100_000.0).abs() < 1.0);
    }
}
