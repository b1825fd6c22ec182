//! The error of a projection function: why one event cannot be applied.

use std::fmt;

/// What projection functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an event cannot be applied. Its message reaches the user together with the event's position
/// and type, so it need not repeat them.
///
/// Made by [`bail!`](crate::bail) and [`ensure!`](crate::ensure), of a text by
/// [`Error::new`], and by `?` of any `std::error::Error`.
///
/// ```
/// # use retell_sdk::prelude::*;
/// fn percent(text: &str) -> Result<i64> {
///     let percent: i64 = text.parse()?;
///     ensure!((0..=100).contains(&percent), "{percent} is no percentage");
///     Ok(percent)
/// }
/// assert_eq!(percent("x").unwrap_err().message(), "invalid digit found in string");
/// assert_eq!(percent("101").unwrap_err().message(), "101 is no percentage");
/// ```
#[derive(PartialEq, Eq, Clone)]
pub struct Error {
    /// Behind a pointer: events rarely fail, and results are handed on for each of them.
    cause: Box<Cause>,
}

#[derive(PartialEq, Eq, Clone)]
struct Cause {
    message: String,
}

impl Error {
    #[cold]
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            cause: Box::new(Cause { message }),
        }
    }

    pub fn message(&self) -> &str {
        &self.cause.message
    }

    /// The message with what it is about in front: `field `title`: too long`.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self::new(format!("{context}: {}", self.message()))
    }
}

// `Error` itself is no `std::error::Error`, or this would clash with `From<T> for T`.
impl<E: std::error::Error> From<E> for Error {
    #[cold]
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// Returns an [`Error`](crate::Error) with a formatted message.
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => {
        return ::core::result::Result::Err($crate::Error::new(::std::format!($($message)+)))
    };
}

/// Returns an [`Error`](crate::Error) unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($($message)+);
        }
    };
}
