//! The life of a version, as a pure state machine. Every change of state, role or halt is decided
//! here; storage applies it to the state it finds in the same transaction. No input or output.

use std::fmt;

pub use crate::read_model::Role;

/// How far a version has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Registered; nothing replayed yet.
    Created,
    /// Being built from position 1.
    Replaying,
    /// Replayed, indexes built, following the tail.
    Ready,
    /// Its read model is gone; the module is kept.
    Retired,
}

/// Why a version does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    None,
    Paused,
    Failed { reason: String },
}

/// The three words that describe a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    pub role: Role,
    pub halt: Halt,
}

/// What can happen to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its replay begins.
    Start,
    /// Its read model is complete.
    BecomeReady,
    /// Queries get it from now on. `even_halted`: the operator accepts a version that stands still.
    GoLive {
        even_halted: bool,
    },
    /// Another version became live.
    BeDisplaced,
    /// Another version became the previous one.
    BecomePlain,
    Pause,
    Resume,
    Fail {
        reason: String,
    },
    Retire,
    /// Deployed again after it was retired.
    Revive,
}

/// Why a change is not possible now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is not ready: it is still {0}")]
    NotReady(State),
    #[error("it failed before it was ready")]
    FailedEarly,
    #[error("it is live already")]
    AlreadyLive,
    #[error("it is halted, so it would fall behind")]
    Halted,
    #[error("it is live, and the live version is never retired")]
    LiveIsKept,
    #[error("it is retired")]
    Retired,
    #[error("it is retired already")]
    AlreadyRetired,
    #[error("it is neither paused nor failed")]
    NotHalted,
    #[error("it is paused already")]
    AlreadyPaused,
    #[error("a version that is {0} can't do that")]
    Senseless(State),
}

impl Status {
    /// What a newly registered version is.
    pub fn created() -> Self {
        Self {
            state: State::Created,
            role: Role::None,
            halt: Halt::None,
        }
    }

    /// The status after `change`, or why there is none.
    pub fn after(&self, change: &Change) -> Result<Self, Refusal> {
        let mut next = self.clone();
        let retired = self.state == State::Retired;
        match change {
            Change::Start => match self.state {
                State::Created | State::Replaying => next.state = State::Replaying,
                State::Ready => return Err(Refusal::Senseless(self.state)),
                State::Retired => return Err(Refusal::Retired),
            },
            Change::BecomeReady => match self.state {
                State::Replaying | State::Ready => next.state = State::Ready,
                State::Created => return Err(Refusal::Senseless(self.state)),
                State::Retired => return Err(Refusal::Retired),
            },
            Change::GoLive { even_halted } => match (self.state, self.role) {
                (State::Ready, Role::Live) => return Err(Refusal::AlreadyLive),
                (State::Ready, _) if self.halt != Halt::None && !even_halted => {
                    return Err(Refusal::Halted);
                }
                (State::Ready, _) => next.role = Role::Live,
                (State::Retired, _) => return Err(Refusal::Retired),
                _ if self.halt.reason().is_some() => return Err(Refusal::FailedEarly),
                (state, _) => return Err(Refusal::NotReady(state)),
            },
            Change::BeDisplaced => next.role = Role::Previous,
            Change::BecomePlain => next.role = Role::None,
            Change::Pause if retired => return Err(Refusal::Retired),
            Change::Pause if self.halt == Halt::Paused => return Err(Refusal::AlreadyPaused),
            Change::Pause => next.halt = Halt::Paused,
            Change::Resume if retired => return Err(Refusal::Retired),
            Change::Resume if self.halt == Halt::None => return Err(Refusal::NotHalted),
            Change::Resume => next.halt = Halt::None,
            Change::Fail { .. } if retired => return Err(Refusal::Retired),
            Change::Fail { reason } => {
                next.halt = Halt::Failed {
                    reason: reason.clone(),
                }
            }
            Change::Retire if retired => return Err(Refusal::AlreadyRetired),
            Change::Retire if self.role == Role::Live => return Err(Refusal::LiveIsKept),
            Change::Retire => {
                next = Self {
                    state: State::Retired,
                    role: Role::None,
                    halt: Halt::None,
                };
            }
            Change::Revive if retired => next = Self::created(),
            Change::Revive => return Err(Refusal::Senseless(self.state)),
        }
        Ok(next)
    }

    /// Whether a host should be working on it.
    pub fn runs(&self) -> bool {
        self.state != State::Retired && self.halt == Halt::None
    }
}

/// Gives an enum its stored and printed word, and the way back.
macro_rules! words {
    ($type:ident { $($variant:ident => $word:literal),+ }) => {
        impl $type {
            /// The word in the catalog, in `status` and in the docs.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The variant that `word` names, if any.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}
words!(State { Created => "created", Replaying => "replaying", Ready => "ready", Retired => "retired" });

impl Halt {
    /// The word in the catalog, in `status` and in the docs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Paused => "paused",
            Self::Failed { .. } => "failed",
        }
    }

    /// Why it failed, if it did.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason } => Some(reason),
            _ => None,
        }
    }

    /// The halt that `word` and `reason` name, if any.
    pub fn from_words(word: &str, reason: Option<String>) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            "paused" => Some(Self::Paused),
            "failed" => Some(Self::Failed {
                reason: reason.unwrap_or_default(),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, role: Role) -> Status {
        Status {
            state,
            role,
            halt: Halt::None,
        }
    }

    #[test]
    fn a_version_lives_from_created_to_retired_and_back() {
        let mut it = Status::created();
        for change in [
            Change::Start,
            Change::BecomeReady,
            Change::GoLive { even_halted: false },
            Change::BeDisplaced,
            Change::BecomePlain,
            Change::Retire,
        ] {
            it = it.after(&change).expect("an ordinary life");
        }
        assert_eq!(it.state, State::Retired);
        assert_eq!(it.after(&Change::Revive), Ok(Status::created()));
    }

    #[test]
    fn only_a_ready_version_goes_live() {
        let live = Change::GoLive { even_halted: false };
        for state in [State::Created, State::Replaying] {
            assert_eq!(
                status(state, Role::None).after(&live),
                Err(Refusal::NotReady(state))
            );
        }
        assert_eq!(
            status(State::Retired, Role::None).after(&live),
            Err(Refusal::Retired)
        );
        assert_eq!(
            status(State::Ready, Role::Live).after(&live),
            Err(Refusal::AlreadyLive)
        );
        let halted = Status {
            halt: Halt::Paused,
            ..status(State::Ready, Role::None)
        };
        assert_eq!(halted.after(&live), Err(Refusal::Halted));
        let accepted = halted.after(&Change::GoLive { even_halted: true });
        assert_eq!(accepted.map(|it| it.role), Ok(Role::Live));
    }

    #[test]
    fn the_live_version_is_never_retired_but_the_previous_one_may_be() {
        let retire = Change::Retire;
        assert_eq!(
            status(State::Ready, Role::Live).after(&retire),
            Err(Refusal::LiveIsKept)
        );
        let gone = status(State::Ready, Role::Previous)
            .after(&retire)
            .expect("may be retired");
        assert_eq!(gone, status(State::Retired, Role::None));
        assert_eq!(gone.after(&retire), Err(Refusal::AlreadyRetired));
    }

    #[test]
    fn a_halt_keeps_state_and_role() {
        let live = status(State::Ready, Role::Live);
        let failed = live
            .after(&Change::Fail {
                reason: "event 7".into(),
            })
            .expect("can fail");
        assert_eq!((failed.state, failed.role), (State::Ready, Role::Live));
        assert!(!failed.runs());
        assert_eq!(failed.after(&Change::Resume), Ok(live.clone()));
        assert_eq!(live.after(&Change::Resume), Err(Refusal::NotHalted));
    }

    #[test]
    fn words_read_back() {
        for state in [
            State::Created,
            State::Replaying,
            State::Ready,
            State::Retired,
        ] {
            assert_eq!(State::from_word(state.word()), Some(state));
        }
        assert_eq!(Halt::from_words("senseless", None), None);
    }
}
