//! What a walk along the hash chain finds.

use super::Head;
use crate::event::{Hash, Position};

/// Events between two calls of who watches.
const EVENTS_PER_REPORT: u64 = 1_000;

/// Events that are read with one statement. A snapshot that is open for as long as the walk would keep SQLite's
/// WAL from beginning anew, and PostgreSQL from tidying what appends leave behind. So few in tests that most
/// logs take several.
pub(super) const EVENTS_AT_ONCE: i64 = if cfg!(test) { 3 } else { 100_000 };

/// Told how far a walk is; false ends it there.
pub type ChainProgress = std::sync::Arc<dyn Fn(Position) -> bool + Send + Sync>;

/// How far the log is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCheck {
    /// Up to here every event follows from the one before.
    pub whole: Head,
    /// What ends that, if not the end of the log.
    pub fault: Option<ChainFault>,
}

/// The first thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    #[error("event {position} is missing")]
    Missing { position: Position },
    #[error("event {position} does not follow from what came before: it was changed afterwards")]
    Changed { position: Position },
    #[error("event {position} can't be read: {message}")]
    Unreadable { position: Position, message: String },
    #[error("the log's own note of its end, at position {position}, names another hash")]
    Head { position: Position },
    #[error("all events are whole, but what belongs to them is damaged: {message}")]
    Storage { message: String },
    /// A trigger or an index that somebody dropped.
    #[error("all events are whole, but `{name}` is gone, by which they stay so and are found")]
    Unguarded { name: &'static str },
}

impl ChainCheck {
    /// The head, or the first position that does not fit.
    pub fn into_result(self) -> Result<Head, Position> {
        match self.fault {
            None => Ok(self.whole),
            Some(_) => Err(self.whole.position + 1),
        }
    }
}

/// Walks from event to event; a backend gives it what it reads.
pub(super) struct Walk {
    whole: Head,
    /// The end that the log noted before the walk began.
    noted: Head,
    fault: Option<ChainFault>,
    progress: ChainProgress,
}

impl Walk {
    pub(super) fn new(first_previous: Hash, noted: Head, progress: ChainProgress) -> Self {
        Self {
            whole: Head {
                position: 0,
                hash: first_previous,
            },
            noted,
            fault: None,
            progress,
        }
    }

    /// What is left does not even say which log it is.
    pub(super) fn impossible(message: String) -> ChainCheck {
        ChainCheck {
            whole: Head {
                position: 0,
                hash: [0; 32],
            },
            fault: Some(ChainFault::Unreadable {
                position: 1,
                message,
            }),
        }
    }

    /// The hash up to where it is.
    pub(super) fn hash(&self) -> &Hash {
        &self.whole.hash
    }

    /// Where to read on, as databases count. What stands before the first position is found, too.
    pub(super) fn from(&self) -> i64 {
        match self.whole.position {
            0 => i64::MIN,
            whole => (whole + 1).cast_signed(),
        }
    }

    /// The position that comes next.
    fn expected(&self) -> Position {
        self.whole.position + 1
    }

    /// Takes what came of reading the next event. False if the walk is over; what is no damage is an
    /// error.
    pub(super) fn take<E: std::fmt::Display>(
        &mut self,
        read: Result<(Position, Hash, Hash), E>,
        is_damage: impl Fn(&E) -> bool,
    ) -> Result<bool, E> {
        match read {
            Ok((position, computed, stored)) => Ok(self.step(position, computed, stored)),
            Err(error) if is_damage(&error) => {
                self.unreadable(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the next event: where it stands, the hash that follows for it, and the one it has.
    /// False if the walk is over: it does not fit, or nobody waits for the rest.
    fn step(&mut self, position: Position, computed: Hash, stored: Hash) -> bool {
        let expected = self.expected();
        if position != expected {
            self.fault = Some(ChainFault::Missing { position: expected });
        } else if computed != stored {
            self.fault = Some(ChainFault::Changed { position });
        } else {
            self.whole = Head {
                position,
                hash: stored,
            };
            if position == self.noted.position && stored != self.noted.hash {
                self.fault = Some(ChainFault::Head { position });
            }
            if position.is_multiple_of(EVENTS_PER_REPORT) && !(self.progress)(position) {
                self.noted.position = position;
                return false;
            }
        }
        self.fault.is_none()
    }

    /// The next event can't be read.
    fn unreadable(&mut self, message: String) {
        let position = self.expected();
        self.fault = Some(ChainFault::Unreadable { position, message });
    }

    /// There are no more events.
    pub(super) fn end(mut self) -> ChainCheck {
        if self.fault.is_none() && self.whole.position < self.noted.position {
            let position = self.expected();
            self.fault = Some(ChainFault::Missing { position });
        }
        ChainCheck {
            whole: self.whole,
            fault: self.fault,
        }
    }
}

/// A walk that nobody watches.
pub fn unwatched() -> ChainProgress {
    std::sync::Arc::new(|_| true)
}
