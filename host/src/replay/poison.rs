//! Events that the module can't apply: what the policy makes of them, and what an operator decides
//! about them afterwards. Everything here ends in the journal, which commits with the checkpoint.

use std::borrow::Cow;

use super::bisect::{self, Blame, Stopped};
use super::journal::{Undecided, Verdict};
use super::{Checkpoint, Replay, ReplayError, parsers};
use crate::event::Position;
use crate::limits;
use crate::log::{EventChunk, EventFilter};
use crate::read_model::journal::{DeadLetter, Decision, JournalEntry};

/// What an operator may decide about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Apply it now, and then what is parked behind it.
    Retry,
    /// Leave it out for good, and apply what is parked behind it.
    Skip,
}

/// What came of a decision.
#[derive(Debug)]
pub struct Decided {
    /// Events that were applied.
    pub applied: u64,
    /// The one that failed again; what is parked behind it stays so.
    pub failed: Option<Box<Blame>>,
    /// The build stands before that event.
    pub stopped: bool,
}

/// Retries that were decided elsewhere.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// After which position, as which of that position, and which event; the next one last.
    retries: Vec<(Position, u64, Position)>,
}

impl Replay {
    /// Carries out what an operator decided, and flushes it. Events are applied after the position
    /// reached so far, in the order in which they stand in the log. Once `is_stopped`, those that are still to
    /// come stay as they are.
    pub fn decide(
        &mut self,
        position: Position,
        remedy: Remedy,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Result<Decided, Undecided>, ReplayError> {
        let waits = self
            .journal
            .waiting()
            .is_some_and(|it| it.position == position);
        let freed = match remedy {
            Remedy::Retry => self.journal.retriable(position),
            Remedy::Skip => self.journal.skip(position),
        };
        let freed = match freed {
            Ok(freed) => freed,
            Err(undecided) => return Ok(Err(undecided)),
        };
        let decided = if waits && remedy == Remedy::Retry {
            self.go_past(position)?
        } else {
            self.apply_late(&freed, is_stopped)?
        };
        self.flush()?;
        Ok(Ok(decided))
    }

    /// Decides as a journal says that was written before, in a read model without one: what is in it is
    /// set aside, and what was retried is applied after the positions that it names.
    pub fn follow_journal(&mut self, journal: &[JournalEntry]) {
        let mut retries = Vec::new();
        for entry in journal {
            if let Some((after, number)) = entry.decision.retried() {
                retries.push((after, number, entry.position));
            }
            if entry.decision != Decision::Waiting {
                self.journal.take_over(entry.clone());
            }
        }
        retries.sort_unstable();
        retries.reverse();
        self.script.retries = retries;
    }

    /// Carries out what the script says for the position reached, and says how far it may go before
    /// there is more.
    pub(super) fn keep_to_script(&mut self, up_to: Position) -> Result<Position, ReplayError> {
        while let Some(&(after, _, position)) = self.script.retries.last() {
            if after > self.applied.position {
                return Ok(up_to.min(after));
            }
            self.script.retries.pop();
            let decided = self.apply_late(&[position], &|| false)?;
            if let Some(blame) = decided.failed {
                return Err(ReplayError::Module(blame));
            }
        }
        Ok(up_to)
    }

    /// How many events are missing from the read model.
    pub fn dead_letters(&self) -> u64 {
        self.journal.open_count()
    }

    /// Which events of the chunk are left out where they stand; empty where none is.
    pub(super) fn set_aside(&self) -> Vec<bool> {
        if self.journal.is_empty() {
            return Vec::new();
        }
        let parks = self.journal.has_parked();
        let positions = self.chunk.positions.iter().enumerate();
        positions
            .map(|(at, &position)| {
                self.journal.sets_aside(position)
                    || parks && self.journal.parks(&stream_of(&self.chunk, at))
            })
            .collect()
    }

    /// Everything up to a checkpoint within the chunk is applied or set aside.
    pub(super) fn reach(&mut self, checkpoint: Checkpoint) {
        let before = self.applied.position;
        self.applied = checkpoint;
        if self.journal.is_empty() {
            return;
        }
        let waiting = self.journal.waiting().map(|it| it.position);
        if let Some(position) = waiting.filter(|&it| it <= checkpoint.position) {
            self.journal.note_retried(position, position - 1);
        }
        if !self.journal.has_parked() {
            return;
        }
        for (at, &position) in self.chunk.positions.iter().enumerate() {
            let is_reached = position > before && position <= checkpoint.position;
            if !is_reached || self.journal.sets_aside(position) {
                continue;
            }
            let stream = stream_of(&self.chunk, at);
            if self.journal.parks(&stream) {
                self.journal.note(JournalEntry {
                    position,
                    stream: stream.into_owned(),
                    event_type: self.chunk.type_name(at).to_owned(),
                    decision: Decision::Parked,
                    dead_letter: None,
                });
            }
        }
    }

    /// The module refused an event of the chunk, or broke a limit or the contract; what came before
    /// is applied. An error ends the build's work; without one it goes on.
    pub(super) fn refuse(&mut self, mut blame: Box<Blame>) -> Result<(), ReplayError> {
        self.reach_before(blame.position())?;
        if matches!(*blame, Blame::Event { .. }) {
            let verdict = self.journal.verdict();
            let decision = match verdict {
                Verdict::Stop | Verdict::StopAtLimit => Decision::Waiting,
                Verdict::Skip => Decision::Skipped,
                Verdict::Park => Decision::Parked,
            };
            let entry = self.entry(&blame, decision)?;
            self.journal.note(entry);
            match verdict {
                Verdict::Skip | Verdict::Park => return Ok(()),
                Verdict::Stop => {}
                Verdict::StopAtLimit => blame.say_limit_reached(),
            }
        }
        self.flush()?;
        Err(ReplayError::Module(blame))
    }

    /// No more events fit into the journal.
    pub(super) fn check_room(&self) -> Result<(), ReplayError> {
        if !self.journal.is_full() {
            return Ok(());
        }
        let position = self.applied.position + 1;
        Err(ReplayError::Module(Box::new(Blame::Contract {
            first: position,
            last: position,
            message: format!(
                "{} events are parked, and no more than that may be: decide about those that came \
                 first in their streams",
                limits::PARKED_EVENTS_MAX
            ),
        })))
    }

    /// Tries the event that the build stands before.
    fn go_past(&mut self, position: Position) -> Result<Decided, ReplayError> {
        while self.applied() < position {
            match self.advance(position) {
                Ok(()) => {}
                Err(ReplayError::Module(blame)) if self.journal.waiting().is_some() => {
                    return Ok(Decided {
                        applied: 0,
                        failed: Some(blame),
                        stopped: true,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        let entry = self.journal.entry(position);
        Ok(Decided {
            applied: u64::from(entry.is_some_and(|it| !it.decision.is_open())),
            failed: None,
            stopped: false,
        })
    }

    /// Applies events that were set aside, up to the first that fails again.
    fn apply_late(
        &mut self,
        positions: &[Position],
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Decided, ReplayError> {
        let mut decided = Decided {
            applied: 0,
            failed: None,
            stopped: false,
        };
        for &position in positions {
            if is_stopped() {
                break;
            }
            self.reader.read(position - 1, position, &mut self.chunk)?;
            if self.chunk.joined_hash.is_some() {
                let log = &self.feed.shared().log;
                let there = log.hash_at(self.applied.position);
                self.check_history(self.runtime.block_on(there)?)?;
            }
            match bisect::apply(&mut self.applier, &mut self.parser, &self.chunk, &[]) {
                Ok(()) => {
                    self.journal.note_retried(position, self.applied.position);
                    decided.applied += 1;
                    self.flush_if_due()?;
                }
                Err(Stopped::Host(source)) => return Err(ReplayError::Rows { source }),
                // Whatever it is, the version stands without this event as well as before.
                Err(Stopped::Module(blame)) => {
                    let known = self.journal.entry(position);
                    let decision = known.map_or(Decision::Parked, |it| it.decision);
                    let entry = self.entry(&blame, decision)?;
                    self.journal.note(entry);
                    decided.failed = Some(blame);
                    break;
                }
            }
        }
        Ok(decided)
    }

    /// Everything before the event is applied or set aside.
    fn reach_before(&mut self, event: Position) -> Result<(), ReplayError> {
        let position = event - 1;
        if position > self.applied.position {
            let log = &self.feed.shared().log;
            let log_hash = self
                .runtime
                .block_on(log.hash_at(position))?
                .ok_or(ReplayError::LogChanged { position })?;
            self.reach(Checkpoint { position, log_hash });
        }
        Ok(())
    }

    /// The journal's entry of an event that the module refused.
    fn entry(&self, blame: &Blame, decision: Decision) -> Result<JournalEntry, ReplayError> {
        let position = blame.position();
        let log = &self.feed.shared().log;
        let all = EventFilter::default();
        let events = self.runtime.block_on(log.events(&all, position - 1, 1))?;
        let event = events
            .into_iter()
            .find(|it| it.position == position)
            .ok_or(ReplayError::LogChanged { position })?;
        let (reason, backtrace) = blame.said();
        Ok(JournalEntry {
            position,
            stream: event.stream,
            event_type: event.event_type,
            decision,
            dead_letter: Some(DeadLetter {
                reason: beginning(reason, limits::DEAD_LETTER_REASON_BYTES),
                backtrace: backtrace
                    .iter()
                    .take(limits::DEAD_LETTER_FRAMES)
                    .cloned()
                    .collect(),
                excerpt: beginning(&event.data, limits::DEAD_LETTER_EXCERPT_BYTES),
            }),
        })
    }
}

/// The stream of a chunk's event.
fn stream_of(chunk: &EventChunk, at: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(parsers::text(&chunk.streams, at))
}

/// A text, or as much of it as fits, with a sign that it goes on.
fn beginning(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}…", &text[..end])
}
