//! The journal of a running build: which events are set aside and why, and what the deployer's policy
//! makes of one more. Pure; the engine writes what changed with its next flush.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::event::Position;
use crate::limits;
use crate::read_model::journal::{Decision, ErrorPolicy, JournalEntry, OnError};

/// What becomes of an event that can't be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The build stops before it.
    Stop,
    /// It stops only because there are as many as the deployer allows.
    StopAtLimit,
    Skip,
    Park,
}

/// Why nothing was decided about an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    #[error("event {position} is not among the dead letters")]
    NoDeadLetter { position: Position },
    #[error("event {position} is skipped already")]
    Skipped { position: Position },
    #[error("event {position} was retried after position {after}, and is applied")]
    Applied { position: Position, after: Position },
    #[error("event {position} is parked behind event {first} of its stream, which goes first")]
    Behind { position: Position, first: Position },
}

/// Everything decided about this build's events, by position.
#[derive(Debug)]
pub(super) struct Journal {
    policy: ErrorPolicy,
    entries: BTreeMap<Position, JournalEntry>,
    /// Positions of what is parked, by stream.
    parked: BTreeMap<String, BTreeSet<Position>>,
    parked_count: usize,
    /// Events that are missing from the read model.
    open_count: u64,
    /// Events that were left out because they could not be applied.
    set_aside_count: u64,
    /// What no flush has taken yet.
    changed: BTreeSet<Position>,
    /// The next retry's number.
    next_number: u64,
}

impl Journal {
    pub(super) fn new(stored: Vec<JournalEntry>, policy: ErrorPolicy) -> Self {
        let mut journal = Self {
            policy,
            entries: BTreeMap::new(),
            parked: BTreeMap::new(),
            parked_count: 0,
            open_count: 0,
            set_aside_count: 0,
            changed: BTreeSet::new(),
            next_number: 1,
        };
        for entry in stored {
            journal.note(entry);
        }
        journal.changed.clear();
        journal
    }

    /// Whether the streams of events matter, now or once one can't be applied.
    pub(super) fn asks_for_streams(&self) -> bool {
        self.policy.on_error == OnError::ParkStream || self.has_parked()
    }

    /// Whether events that are yet to come are parked.
    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Whether events behind one that is parked are parked, too, of this stream.
    pub(super) fn parks(&self, stream: &str) -> bool {
        self.parked.contains_key(stream)
    }

    /// Whether no more events may be parked behind others.
    pub(super) fn is_full(&self) -> bool {
        self.parked_count >= limits::PARKED_EVENTS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the event is left out where it stands in the log.
    pub(super) fn sets_aside(&self, position: Position) -> bool {
        let entry = self.entries.get(&position);
        entry.is_some_and(|it| it.decision != Decision::Waiting)
    }

    /// Whether anything is decided about any of these positions.
    pub(super) fn knows_any(&self, positions: RangeInclusive<Position>) -> bool {
        self.entries.range(positions).next().is_some()
    }

    /// The event that the build stands before, if it stands before one.
    pub(super) fn waiting(&self) -> Option<&JournalEntry> {
        // Nothing is decided about what comes later.
        let (_, last) = self.entries.last_key_value()?;
        (last.decision == Decision::Waiting).then_some(last)
    }

    pub(super) fn entry(&self, position: Position) -> Option<&JournalEntry> {
        self.entries.get(&position)
    }

    /// What the policy makes of one more event that can't be applied.
    pub(super) fn verdict(&self) -> Verdict {
        let verdict = match self.policy.on_error {
            OnError::Pause => return Verdict::Stop,
            OnError::Skip => Verdict::Skip,
            OnError::ParkStream => Verdict::Park,
        };
        if self.set_aside_count >= self.policy.dead_letters_max {
            return Verdict::StopAtLimit;
        }
        verdict
    }

    /// Writes an entry in the place of the one of the same position.
    pub(super) fn note(&mut self, entry: JournalEntry) {
        let position = entry.position;
        if entry.decision == Decision::Parked {
            let stream = self.parked.entry(entry.stream.clone()).or_default();
            if stream.insert(position) {
                self.parked_count += 1;
            }
        } else if let Some(stream) = self.parked.get_mut(&entry.stream) {
            if stream.remove(&position) {
                self.parked_count -= 1;
            }
            if stream.is_empty() {
                self.parked.remove(&entry.stream);
            }
        }
        if let Some((_, number)) = entry.decision.retried() {
            self.next_number = self.next_number.max(number + 1);
        }
        self.insert(entry);
        self.changed.insert(position);
    }

    fn insert(&mut self, entry: JournalEntry) {
        self.open_count += u64::from(entry.decision.is_open());
        self.set_aside_count += u64::from(is_set_aside(&entry));
        if let Some(before) = self.entries.insert(entry.position, entry) {
            self.open_count -= u64::from(before.decision.is_open());
            self.set_aside_count -= u64::from(is_set_aside(&before));
        }
    }

    /// Takes over an entry that another build decided: what it parked it parked one by one.
    pub(super) fn take_over(&mut self, entry: JournalEntry) {
        self.changed.insert(entry.position);
        self.insert(entry);
    }

    /// Notes that an event is applied after a position.
    pub(super) fn note_retried(&mut self, position: Position, after: Position) {
        if let Some(entry) = self.entries.get(&position) {
            let number = self.next_number;
            let decision = Decision::Retried { after, number };
            let entry = entry.clone();
            self.note(JournalEntry { decision, ..entry });
        }
    }

    /// What may be tried again with this event: itself, and what is parked behind it.
    pub(super) fn retriable(&self, position: Position) -> Result<Vec<Position>, Undecided> {
        let entry = self
            .entry(position)
            .ok_or(Undecided::NoDeadLetter { position })?;
        match entry.decision {
            Decision::Waiting | Decision::Skipped => Ok(vec![position]),
            Decision::Retried { after, .. } => Err(Undecided::Applied { position, after }),
            Decision::Parked => {
                let stream = &self.parked[&entry.stream];
                match stream.first() {
                    Some(&first) if first < position => Err(Undecided::Behind { position, first }),
                    _ => Ok(stream.iter().copied().collect()),
                }
            }
        }
    }

    /// Leaves an event out for good, and returns what was parked behind it and may be tried now.
    pub(super) fn skip(&mut self, position: Position) -> Result<Vec<Position>, Undecided> {
        let entry = self
            .entry(position)
            .ok_or(Undecided::NoDeadLetter { position })?;
        let entry = entry.clone();
        let freed = match entry.decision {
            Decision::Skipped => return Err(Undecided::Skipped { position }),
            Decision::Retried { after, .. } => return Err(Undecided::Applied { position, after }),
            Decision::Waiting => Vec::new(),
            Decision::Parked => {
                let stream = &self.parked[&entry.stream];
                if stream.first() == Some(&position) {
                    stream.iter().copied().skip(1).collect()
                } else {
                    Vec::new()
                }
            }
        };
        self.note(JournalEntry {
            decision: Decision::Skipped,
            ..entry
        });
        Ok(freed)
    }

    /// How many events are missing from the read model.
    pub(super) fn open_count(&self) -> u64 {
        self.open_count
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The entries that changed since the last call, for a flush.
    pub(super) fn take_changed(&mut self) -> Vec<JournalEntry> {
        let changed = std::mem::take(&mut self.changed);
        let entries = changed
            .iter()
            .map(|position| self.entries[position].clone());
        entries.collect()
    }
}

/// Whether it was left out because it could not be applied.
fn is_set_aside(entry: &JournalEntry) -> bool {
    entry.dead_letter.is_some() && matches!(entry.decision, Decision::Skipped | Decision::Parked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_model::journal::DeadLetter;

    fn entry(position: Position, stream: &str, decision: Decision, failed: bool) -> JournalEntry {
        JournalEntry {
            position,
            stream: stream.to_owned(),
            event_type: "T".to_owned(),
            decision,
            dead_letter: failed.then(|| DeadLetter {
                reason: "no".to_owned(),
                backtrace: Vec::new(),
                excerpt: "{}".to_owned(),
            }),
        }
    }

    fn policy(on_error: OnError, dead_letters_max: u64) -> ErrorPolicy {
        ErrorPolicy {
            on_error,
            dead_letters_max,
        }
    }

    #[test]
    fn a_stream_is_parked_until_its_first_event_is_decided() {
        let mut it = Journal::new(Vec::new(), policy(OnError::ParkStream, 10));
        it.note(entry(3, "a", Decision::Parked, true));
        it.note(entry(5, "a", Decision::Parked, false));
        it.note(entry(6, "b", Decision::Parked, true));
        assert!(it.parks("a") && it.sets_aside(5));
        assert_eq!(
            it.retriable(5),
            Err(Undecided::Behind {
                position: 5,
                first: 3
            })
        );
        assert_eq!(it.retriable(3), Ok(vec![3, 5]));
        assert_eq!(it.skip(3), Ok(vec![5]));
        it.note_retried(5, 8);
        assert!(!it.parks("a") && it.parks("b"));
        assert!(it.sets_aside(3) && it.sets_aside(5));
        assert_eq!(
            it.skip(5),
            Err(Undecided::Applied {
                position: 5,
                after: 8
            })
        );
        assert_eq!(it.skip(3), Err(Undecided::Skipped { position: 3 }));
        assert_eq!(it.skip(4), Err(Undecided::NoDeadLetter { position: 4 }));
        let changed: Vec<_> = it.take_changed().iter().map(|it| it.position).collect();
        assert_eq!(changed, [3, 5, 6]);
        assert!(!it.has_changed());
    }

    #[test]
    fn the_limit_counts_what_failed_itself_and_is_still_missing() {
        let stored = vec![
            entry(1, "a", Decision::Parked, true),
            entry(2, "a", Decision::Parked, false),
            entry(
                3,
                "b",
                Decision::Retried {
                    after: 2,
                    number: 4,
                },
                true,
            ),
        ];
        let it = Journal::new(stored.clone(), policy(OnError::Skip, 2));
        assert_eq!(it.verdict(), Verdict::Skip);
        assert!(!it.has_changed());
        let it = Journal::new(stored.clone(), policy(OnError::ParkStream, 1));
        assert_eq!(it.verdict(), Verdict::StopAtLimit);
        let mut it = Journal::new(stored, policy(OnError::Pause, 0));
        assert_eq!(it.verdict(), Verdict::Stop);
        it.note_retried(1, 9);
        let entry = it.entry(1).expect("it is there");
        assert_eq!(
            entry.decision,
            Decision::Retried {
                after: 9,
                number: 5
            }
        );
    }

    #[test]
    fn what_waits_is_not_set_aside() {
        let stored = vec![
            entry(1, "a", Decision::Skipped, true),
            entry(7, "a", Decision::Waiting, true),
        ];
        let it = Journal::new(stored, ErrorPolicy::default());
        assert_eq!(it.waiting().map(|it| it.position), Some(7));
        assert!(!it.sets_aside(7) && it.sets_aside(1));
        assert!(it.knows_any(5..=7) && !it.knows_any(2..=6));
    }
}
