//! Finds the one event to blame. When a batch fails it is cut and tried again, each part in a fresh
//! instance, down to the single event: only what the module says of one event, alone, counts.

use std::fmt;
use std::ops::Range;

use super::applier::Applier;
use super::parsers::Parser;
use crate::error_chain;
use crate::event::Position;
use crate::log::EventChunk;
use crate::wasm::CallError;

/// What a module is to blame for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// It can't apply this event.
    Event {
        position: Position,
        event_type: String,
        reason: String,
        backtrace: Vec<String>,
    },
    /// It runs into a limit on this event alone.
    Limit {
        position: Position,
        event_type: String,
        reason: String,
    },
    /// It broke the contract somewhere between these positions; no event is to blame.
    Contract {
        first: Position,
        last: Position,
        message: String,
    },
}

impl Blame {
    /// Everything before this position is applied.
    pub fn position(&self) -> Position {
        match self {
            Self::Event { position, .. } | Self::Limit { position, .. } => *position,
            Self::Contract { first, .. } => *first,
        }
    }

    /// What the module said, and where it was.
    pub(super) fn said(&self) -> (&str, &[String]) {
        match self {
            Self::Event {
                reason, backtrace, ..
            } => (reason, backtrace),
            Self::Limit { reason, .. } => (reason, &[]),
            Self::Contract { message, .. } => (message, &[]),
        }
    }

    /// The deployer allowed no more such events.
    pub(super) fn say_limit_reached(&mut self) {
        if let Self::Event { reason, .. } = self {
            reason.push_str(
                "; as many events as `--dead-letters-max` allows are skipped or parked already",
            );
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event {
                position,
                event_type,
                reason,
                backtrace,
            } => {
                write!(f, "event {position}, `{event_type}`: {reason}")?;
                for frame in backtrace.iter().take(8) {
                    write!(f, "\n    in {frame}")?;
                }
                Ok(())
            }
            Self::Limit {
                position,
                event_type,
                reason,
            } => {
                write!(f, "event {position}, `{event_type}`: {reason}")
            }
            Self::Contract {
                first,
                last,
                message,
            } if last > first => {
                write!(f, "events {first} to {last}: {message}")
            }
            // After the last event there is none to name: the module's SQL, for one, runs then.
            Self::Contract {
                first,
                last,
                message,
            } if last < first => write!(f, "{message}"),
            Self::Contract { first, message, .. } => write!(f, "event {first}: {message}"),
        }
    }
}

/// Why a chunk was not applied whole. What came before the blamed event was.
pub(super) enum Stopped {
    Host(Box<dyn std::error::Error + Send + Sync>),
    Module(Box<Blame>),
}

/// A failure names its event, which saves the search; but a module may name anything.
const NAMED_CUTS_MAX: u32 = 8;

/// Applies the events of a chunk, in order, but for those that are set aside (by index; empty: none
/// is).
pub(super) fn apply(
    applier: &mut Applier,
    parser: &mut Parser,
    chunk: &EventChunk,
    aside: &[bool],
) -> Result<(), Stopped> {
    // Ranges still to be applied, the next one last.
    let mut todo = around(aside, chunk.len());
    let mut named_cuts_left = NAMED_CUTS_MAX;
    let mut was_cut = false;
    while let Some(range) = todo.pop() {
        if range.is_empty() {
            continue;
        }
        if was_cut {
            applier.renew();
        }
        let parsed = parser.parse(chunk, range.clone()).pop();
        let parsed = parsed.expect("one batch for one module");
        if !parsed.sources.is_empty()
            && let Err(error) = applier.apply(&parsed.batch)
        {
            let mut named = blamed_source(&error, &parsed.sources);
            if named.is_some() {
                named = named.filter(|_| named_cuts_left > 0);
                named_cuts_left = named_cuts_left.saturating_sub(1);
            }
            stop_if_single(chunk, error, &parsed.sources)?;
            was_cut = true;
            let end = parsed.misfit.as_ref().map_or(range.end, |misfit| misfit.at);
            // What does not fit is reported only after the events before it are applied.
            todo.push(end..range.end);
            todo.extend(cut(range.start..end, named, &parsed.sources));
            continue;
        }
        if let Some(misfit) = parsed.misfit {
            return Err(Stopped::Module(Box::new(Blame::Event {
                position: chunk.positions[misfit.at],
                event_type: chunk.type_name(misfit.at).to_owned(),
                reason: misfit.error.to_string(),
                backtrace: Vec::new(),
            })));
        }
    }
    Ok(())
}

/// The ranges between what is set aside, the first one last.
fn around(aside: &[bool], events: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut end = events;
    for at in (0..aside.len()).rev().filter(|&at| aside[at]) {
        ranges.push(at + 1..end);
        end = at;
    }
    ranges.push(0..end);
    ranges
}

/// Index in the chunk of the event that the module names, if it names one that exists.
fn blamed_source(error: &CallError, sources: &[usize]) -> Option<usize> {
    match error {
        CallError::Failure { event, .. } => {
            let event = usize::try_from(*event).unwrap_or(usize::MAX);
            sources.get(event).copied()
        }
        _ => None,
    }
}

/// An error that no smaller batch can tell more about.
fn stop_if_single(chunk: &EventChunk, error: CallError, sources: &[usize]) -> Result<(), Stopped> {
    let (first, last) = (sources[0], sources[sources.len() - 1]);
    match error {
        CallError::Host { source } => Err(Stopped::Host(source)),
        CallError::Contract { message } => Err(Stopped::Module(Box::new(Blame::Contract {
            first: chunk.positions[first],
            last: chunk.positions[last],
            message,
        }))),
        error if sources.len() == 1 => {
            Err(Stopped::Module(Box::new(blame_one(chunk, first, error))))
        }
        CallError::Failure { .. } | CallError::Trap { .. } | CallError::Limit { .. } => Ok(()),
    }
}

/// The parts of a range that failed as a whole, the first one last: around the event that was
/// named, or halves.
fn cut(range: Range<usize>, named: Option<usize>, sources: &[usize]) -> [Range<usize>; 3] {
    match named {
        Some(at) => [at + 1..range.end, at..at + 1, range.start..at],
        None => {
            let middle = sources[sources.len() / 2];
            [range.end..range.end, middle..range.end, range.start..middle]
        }
    }
}

fn blame_one(chunk: &EventChunk, at: usize, error: CallError) -> Blame {
    let (position, event_type) = (chunk.positions[at], chunk.type_name(at).to_owned());
    match error {
        CallError::Trap { message, backtrace } => Blame::Event {
            position,
            event_type,
            reason: message,
            backtrace,
        },
        error @ CallError::Limit { .. } => Blame::Limit {
            position,
            event_type,
            reason: error_chain(&error),
        },
        error => Blame::Event {
            position,
            event_type,
            reason: error_chain(&error),
            backtrace: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_around_what_is_set_aside() {
        let ranges = |aside: &[bool], events| {
            let mut ranges = around(aside, events);
            ranges.retain(|it| !it.is_empty());
            ranges.reverse();
            let ends: Vec<(usize, usize)> = ranges.iter().map(|it| (it.start, it.end)).collect();
            ends
        };
        assert_eq!(ranges(&[], 3), [(0, 3)]);
        assert_eq!(ranges(&[false, true, false], 3), [(0, 1), (2, 3)]);
        assert_eq!(ranges(&[true, true, false], 3), [(2, 3)]);
        assert_eq!(ranges(&[true], 1), []);
    }
}
