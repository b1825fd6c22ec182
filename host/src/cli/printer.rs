//! What the user sees: data on stdout, talk on stderr, errors as message, causes and a hint.

use std::io::{ErrorKind, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::catalog::CatalogError;
use crate::log::LogError;

/// Refused because of the state things are in (exit code 3): nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) message: String,
    /// What to do next, with a command where there is one.
    pub(crate) hint: Option<String>,
}

/// Wrong use of a command that clap could not see (exit code 2).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Usage {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A failure (exit code 1) with advice; wrap it around the cause with `anyhow::Context`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Exit code after Ctrl-C or SIGTERM.
pub(crate) const INTERRUPTED: u8 = 130;

/// Ctrl-C or SIGTERM ended the command (exit code 130); what was done is kept.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; what was done is kept, and the same command goes on from there")]
pub(crate) struct Interrupted;

/// What was waited for did not happen in time (exit code 4).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct TimedOut {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Without what would move a terminal's cursor or change its colours.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The same, for one line of a table.
pub(crate) fn on_one_line(text: &str) -> String {
    printable(text).replace('\n', " ")
}

/// Writes data and talk where they belong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether stdout is a terminal: tables and colours only there.
    pub(crate) fn stdout_is_terminal() -> bool {
        std::io::stdout().is_terminal()
    }

    /// Whether progress bars make sense.
    pub(crate) fn shows_progress(self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// A line of data.
    pub(crate) fn data(self, line: impl std::fmt::Display) -> std::io::Result<()> {
        writeln!(Stdout::lock(), "{line}")
    }

    /// One JSON document, on one line.
    pub(crate) fn json<T: Serialize>(self, value: &T) -> anyhow::Result<()> {
        let mut out = Stdout::lock();
        // As it came from there, so that a reader who is gone is told from other failures.
        serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    /// A line of talk, unless the user asked for quiet.
    pub(crate) fn say(self, line: impl std::fmt::Display) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }

    /// Prints the error with its causes and hint, and says which exit code it deserves.
    pub(crate) fn fail(self, error: &anyhow::Error) -> ExitCode {
        if has_no_reader(error) {
            return ExitCode::SUCCESS;
        }
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "error: {error}");
        let mut last = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Wrappers often repeat their cause's text; once is enough.
            if !last.contains(&cause) {
                let _ = writeln!(err, "  caused by: {cause}");
            }
            last = cause;
        }
        let (hint, code) = judge(error);
        if let Some(hint) = hint {
            let _ = writeln!(err, "  hint: {hint}");
        }
        ExitCode::from(code)
    }
}

/// The hint, if the error carries one, and the exit code.
fn judge(error: &anyhow::Error) -> (Option<String>, u8) {
    // anyhow finds these as causes and as contexts.
    if let Some(refused) = error.downcast_ref::<Refused>() {
        (refused.hint.clone(), 3)
    } else if let Some(usage) = error.downcast_ref::<Usage>() {
        (usage.hint.clone(), 2)
    } else if let Some(late) = error.downcast_ref::<TimedOut>() {
        (late.hint.clone(), 4)
    } else if error.is::<Interrupted>() {
        (None, INTERRUPTED)
    } else {
        let log = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<LogError>());
        let code = if log.is_some_and(LogError::is_refusal) {
            3
        } else {
            1
        };
        let advice = error
            .downcast_ref::<Failed>()
            .and_then(|it| it.hint.clone());
        let catalog = || {
            let mut causes = error.chain();
            causes.find_map(|cause| cause.downcast_ref::<CatalogError>()?.hint())
        };
        let hint = advice.or_else(|| log.and_then(LogError::hint));
        (hint.or_else(catalog), code)
    }
}

/// Standard output. That nobody reads from it any more is said by an error of its own.
pub(crate) struct Stdout(StdoutLock<'static>);

/// Whoever read standard output has had enough.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads what is printed")]
struct NoReader;

impl Stdout {
    pub(crate) fn lock() -> Self {
        Self(std::io::stdout().lock())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(of_stdout)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().map_err(of_stdout)
    }
}

pub(super) fn of_stdout(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        kind @ ErrorKind::BrokenPipe => std::io::Error::new(kind, NoReader),
        _ => error,
    }
}

/// A reader that had enough (`retell events | head`) is no failure; a server that hung up is.
pub(super) fn has_no_reader(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.and_then(std::io::Error::get_ref)
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<NoReader>)
    })
}

/// Sends tracing to stderr, at the level asked for.
pub(crate) fn install_tracing(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "retell=warn,error",
        (false, 1) => "retell=info,warn",
        (false, 2) => "retell=debug,info",
        (false, _) => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_hung_up_is_not_taken_for_a_reader_that_had_enough() {
        let hung_up = || std::io::Error::from(ErrorKind::BrokenPipe);
        let failed = |source| anyhow::Error::new(source).context("can't read the catalog");
        assert!(!has_no_reader(&failed(sqlx::Error::Io(hung_up()))));
        assert!(has_no_reader(&failed(sqlx::Error::Io(
            of_stdout(hung_up())
        ))));
    }
}
