//! Importing newline-delimited JSON: one event a line, in batches, with a memory that does not grow
//! with the input.
//!
//! Lines are parsed and sealed on a thread of their own, one or two batches ahead of the one that is being
//! appended. A bad line stops the import at the last batch before it. Empty lines are skipped; a
//! byte order mark and carriage returns do no harm.

use std::io::{ErrorKind, Read, Seek as _, Write as _};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::source::{LineError, Lines};
use super::{Appended, EventLog, ImportPlan, ImportProgress, LogError, SealedEvent, line};
use crate::event::Position;
use crate::limits::{IMPORT_BATCH_BYTES, IMPORT_BATCH_LINES, IMPORT_LINE_BYTES_MAX};

pub use super::line::{Problem, read_line};
pub use super::source::Input;

/// Of a stream at a time, on its way into a file.
const SPOOL_BYTES: usize = 256 << 10;
/// Batches that wait to be appended.
const BATCHES_AHEAD: usize = 1;
/// After how much silence a stream's lines are appended without waiting for more.
const STREAM_PATIENCE: Duration = Duration::from_millis(100);

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes and lines of the input that are dealt with.
    pub bytes: u64,
    pub lines: u64,
    /// Lines that an interrupted import had appended before; `None` if this one began anew.
    pub resumed_after: Option<u64>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lowest and highest position of the input's events, as far as this run met them.
    pub first: Option<Position>,
    pub last: Option<Position>,
    pub appended: u64,
    /// Events that were in the log already, by their ids.
    pub already_there: u64,
    pub resumed_after: Option<u64>,
}

/// Why an import stopped. The batches before it are in the log, unless the import was atomic.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("line {line}: {problem}")]
    Line {
        line: u64,
        problem: Problem,
        kept: Kept,
    },
    #[error("line {line} was refused")]
    Refused {
        line: u64,
        kept: Kept,
        source: LogError,
    },
    #[error("can't read the input after line {line}")]
    Read {
        line: u64,
        kept: Kept,
        source: std::io::Error,
    },
    /// An import that is to be all or nothing, of what an interrupted one has begun.
    #[error("lines 1 to {lines} of it are in the log already, from an import that was interrupted")]
    Begun { lines: u64 },
    #[error("the log did not take what came next")]
    Log { kept: Kept, source: LogError },
    /// An import of a stream that is to be all or nothing.
    #[error("the input can't be kept in a temporary file until it has ended")]
    Spool { source: std::io::Error },
}

/// What of a stopped import is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Every line up to this one; 0: nothing.
    pub lines: u64,
    /// Whether the same import goes on there when it is run again.
    pub resumable: bool,
}

/// Appends the events of an input, line by line. Blocking.
pub fn import(
    log: &dyn EventLog,
    input: Input,
    atomic: bool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let is_file = matches!(input, Input::File(_));
    let mut kept = Kept {
        lines: 0,
        resumable: is_file && !atomic,
    };
    let not_read = move |source| ImportError::Read {
        line: 0,
        kept,
        source,
    };
    let input = match input {
        Input::Stream(stream) if atomic => spooled(stream, not_read)?,
        input => input,
    };
    let mut lines = Lines::new(input);
    let (mut resume, mut interrupted) = (None, Vec::new());
    if is_file {
        interrupted = log
            .interrupted_imports()
            .map_err(|source| ImportError::Log { kept, source })?;
        resume = lines.skip_imported(interrupted.clone()).map_err(not_read)?;
    }
    let mut beginning = lines.beginning().map_err(not_read)?;
    if let Some(begun) = resume.as_ref().filter(|_| atomic) {
        return Err(ImportError::Begun { lines: begun.lines });
    }
    let mut imported = Imported {
        resumed_after: resume.as_ref().map(|progress| progress.lines),
        ..Imported::default()
    };
    let resumed_after = imported.resumed_after;
    let mut report = |bytes, lines| {
        on_progress(Progress {
            bytes,
            lines,
            resumed_after,
        });
    };
    if let Some(from) = &resume {
        kept.lines = from.lines;
        report(from.bytes, from.lines);
    }
    let mut is_fresh = kept.resumable && resume.is_none();
    let plan = ImportPlan { atomic, resume };
    let mut target = log
        .import(plan)
        .map_err(|source| ImportError::Log { kept, source })?;

    let (sender, batches) = sync_channel(BATCHES_AHEAD);
    std::thread::spawn(move || Parser { lines, sender }.run());
    for batch in batches {
        let batch = batch.map_err(|stop| stop.explain(kept))?;
        let failed = |source| blame(source, &batch.line_numbers, kept);
        if batch.is_last {
            let appended = target.finish(batch.events).map_err(failed)?;
            imported.count(&appended);
            report(batch.bytes, batch.lines);
            return Ok(imported);
        }
        if std::mem::take(&mut is_fresh)
            && let Some(beginning) = &mut beginning
        {
            // With the log in hand: the same import may have begun elsewhere since this one looked.
            let mut others = target.others().map_err(failed)?;
            others.retain(|it| !interrupted.contains(it));
            for other in others {
                if beginning.is_of(&other).map_err(not_read)? {
                    return Err(failed(LogError::ImportTaken));
                }
            }
        }
        let appended = target
            .append(batch.events, batch.progress)
            .map_err(failed)?;
        imported.count(&appended);
        if !atomic {
            kept.lines = batch.lines;
        }
        report(batch.bytes, batch.lines);
    }
    Err(ImportError::Read {
        line: kept.lines,
        kept,
        source: std::io::Error::other("the thread that parses stopped"),
    })
}

/// All of a stream, in a file without a name: whoever writes it may be slow, and nobody else appends
/// while an import that is all or nothing has the log.
fn spooled(
    mut stream: Box<dyn Read + Send>,
    not_read: impl Fn(std::io::Error) -> ImportError,
) -> Result<Input, ImportError> {
    let spool = |source| ImportError::Spool { source };
    let mut file = tempfile::tempfile().map_err(spool)?;
    let mut piece = vec![0; SPOOL_BYTES];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => file.write_all(&piece[..read]).map_err(spool)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(not_read(error)),
        }
    }
    file.rewind().map_err(spool)?;
    Ok(Input::Stream(Box::new(file)))
}

impl Imported {
    fn count(&mut self, appended: &Appended) {
        self.first = self.first.into_iter().chain(appended.first()).min();
        self.last = self.last.max(appended.last());
        self.already_there += appended.already_there;
        self.appended += appended.positions.len() as u64 - appended.already_there;
    }
}

/// Says which line a refusal is about, where it is about one event.
fn blame(source: LogError, line_numbers: &[u64], kept: Kept) -> ImportError {
    let (LogError::IdTaken { index, .. } | LogError::BadEvent { index, .. }) = &source else {
        return ImportError::Log { kept, source };
    };
    match line_numbers.get(*index) {
        Some(line) => ImportError::Refused {
            line: *line,
            kept,
            source,
        },
        None => ImportError::Log { kept, source },
    }
}

/// Parsed lines that are appended together.
#[derive(Default)]
struct Batch {
    events: Vec<SealedEvent>,
    /// The line of each event.
    line_numbers: Vec<u64>,
    /// Bytes and lines of the input up to the end of the batch.
    bytes: u64,
    lines: u64,
    progress: Option<ImportProgress>,
    is_last: bool,
}

/// Why there is no further batch.
enum Stop {
    Line { line: u64, problem: Problem },
    Read { line: u64, source: std::io::Error },
}

impl Stop {
    fn explain(self, kept: Kept) -> ImportError {
        match self {
            Self::Line { line, problem } => ImportError::Line {
                line,
                problem,
                kept,
            },
            Self::Read { line, source } => ImportError::Read { line, kept, source },
        }
    }
}

/// Turns lines into batches, ahead of what is being appended.
struct Parser {
    lines: Lines,
    sender: SyncSender<Result<Batch, Stop>>,
}

impl Parser {
    fn run(mut self) {
        loop {
            let batch = self.next_batch();
            let over = batch.as_ref().map_or(true, |batch| batch.is_last);
            // Nobody listens any more once appending has failed.
            if self.sender.send(batch).is_err() || over {
                return;
            }
        }
    }

    fn next_batch(&mut self) -> Result<Batch, Stop> {
        let mut batch = Batch::default();
        let (began_line, began_byte) = (self.lines.line(), self.lines.bytes());
        let mut text = Vec::new();
        loop {
            if !batch.events.is_empty() && self.lines.pauses(STREAM_PATIENCE) {
                break;
            }
            self.read_line(&mut text)?;
            if text.is_empty() {
                batch.is_last = true;
                break;
            }
            let line = text.trim_ascii();
            if !line.is_empty() {
                let event = line::read_line(line).map_err(|problem| Stop::Line {
                    line: self.lines.line(),
                    problem,
                })?;
                batch.events.push(SealedEvent::seal(event));
                batch.line_numbers.push(self.lines.line());
            }
            if self.lines.line() - began_line >= IMPORT_BATCH_LINES as u64
                || self.lines.bytes() - began_byte >= IMPORT_BATCH_BYTES as u64
            {
                batch.is_last = self
                    .lines
                    .is_at_end()
                    .map_err(|source| self.unread(source))?;
                break;
            }
        }
        batch.bytes = self.lines.bytes();
        batch.lines = self.lines.line();
        batch.progress = self.lines.progress();
        Ok(batch)
    }

    fn read_line(&mut self, text: &mut Vec<u8>) -> Result<(), Stop> {
        self.lines.read(text).map_err(|error| match error {
            LineError::Read(source) => self.unread(source),
            LineError::TooLong => Stop::Line {
                line: self.lines.line(),
                problem: Problem::new(format!(
                    "it is longer than {} MiB, the longest a line may be; nothing behind its \
                     beginning was read",
                    IMPORT_LINE_BYTES_MAX >> 20
                )),
            },
        })
    }

    fn unread(&self, source: std::io::Error) -> Stop {
        Stop::Read {
            line: self.lines.line(),
            source,
        }
    }
}
