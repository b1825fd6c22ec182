//! The journal of a read model: which events its version could not apply, and what was decided about
//! each. A read model is the fold of the log under its journal: what was skipped or parked is left
//! out, and what was retried is applied after the position that its entry names.

use std::fmt;

use crate::event::Position;

/// What becomes of an event that could not be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The version stands before it.
    Waiting,
    /// It is left out.
    Skipped,
    /// It is left out for now, and so is everything later of its stream.
    Parked,
    /// It was applied after this position. `number` orders those of one position.
    Retried { after: Position, number: u64 },
}

impl Decision {
    /// The word in the journal and in what is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Skipped => "skipped",
            Self::Parked => "parked",
            Self::Retried { .. } => "retried",
        }
    }

    /// The decision that a word and the columns beside it name, if any.
    pub(super) fn from_words(
        word: &str,
        after: Option<Position>,
        number: Option<u64>,
    ) -> Option<Self> {
        match (word, after, number) {
            ("waiting", None, None) => Some(Self::Waiting),
            ("skipped", None, None) => Some(Self::Skipped),
            ("parked", None, None) => Some(Self::Parked),
            ("retried", Some(after), Some(number)) => Some(Self::Retried { after, number }),
            _ => None,
        }
    }

    /// After which position it was applied, and as which of those.
    pub(crate) fn retried(self) -> Option<(Position, u64)> {
        match self {
            Self::Retried { after, number } => Some((after, number)),
            _ => None,
        }
    }

    /// After which position it was applied, if it was retried.
    pub fn retried_after(self) -> Option<Position> {
        self.retried().map(|(after, _)| after)
    }

    /// Whether the event is missing from the read model.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Retried { .. })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retried { after, .. } => write!(f, "retried after {after}"),
            other => f.write_str(other.word()),
        }
    }
}

/// Why an event could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What the module said.
    pub reason: String,
    /// Functions of the module, innermost first.
    pub backtrace: Vec<String>,
    /// How the event's payload begins.
    pub excerpt: String,
}

/// One event's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    pub position: Position,
    pub stream: String,
    pub event_type: String,
    pub decision: Decision,
    /// None where the event only stood behind another of its stream.
    pub dead_letter: Option<DeadLetter>,
}

/// What a version does when it can't apply an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It stops before the event.
    #[default]
    Pause,
    /// It leaves the event out.
    Skip,
    /// It leaves out the event and everything later of the event's stream.
    ParkStream,
}

impl OnError {
    /// The word in the catalog and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Skip => "skip",
            Self::ParkStream => "park-stream",
        }
    }

    /// The reverse of [`OnError::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Pause, Self::Skip, Self::ParkStream]
            .into_iter()
            .find(|it| it.word() == word)
    }
}

/// What the deployer of a version wants done about events that it can't apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPolicy {
    pub on_error: OnError,
    /// So many events are skipped or parked for their own sake; before one more it stops.
    pub dead_letters_max: u64,
}

impl Default for ErrorPolicy {
    fn default() -> Self {
        Self {
            on_error: OnError::default(),
            dead_letters_max: crate::limits::DEAD_LETTERS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        let retried = Decision::Retried {
            after: 7,
            number: 1,
        };
        for decision in [
            Decision::Waiting,
            Decision::Skipped,
            Decision::Parked,
            retried,
        ] {
            let (after, number) = decision.retried().unzip();
            assert_eq!(
                Decision::from_words(decision.word(), after, number),
                Some(decision)
            );
        }
        assert_eq!(Decision::from_words("retried", Some(1), None), None);
        assert_eq!(Decision::from_words("skipped", Some(1), Some(1)), None);
        for it in [OnError::Pause, OnError::Skip, OnError::ParkStream] {
            assert_eq!(OnError::from_word(it.word()), Some(it));
        }
    }
}
