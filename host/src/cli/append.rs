//! `retell append`: events into the log, from flags, a file or standard input.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use retell_contract::time::parse_rfc3339;
use serde::Serialize;

use super::Context;
use super::printer::{Failed, Printer, Refused, Usage};
use super::session;
use crate::event::{NewEvent, Position};
use crate::log::ndjson::{self, ImportError, Imported, Input, Kept, Progress};
use crate::log::{AppendRequest, EventLog};

/// Append events to the log: one from flags, or many from a file or standard input
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "retell append [OPTIONS] [FILE|-]\n       \
                      retell append [OPTIONS] --stream STREAM --type TYPE --data JSON",
    after_help = "\
A file holds one event a line, as JSON:
  {\"stream\":\"article-1\",\"type\":\"ArticleCreated\",\"data\":{\"id\":\"1\",\"title\":\"Hello\"}}
with optional \"id\", \"metadata\" (an object) and \"occurred_at\" (RFC 3339). What `retell events` prints
is understood too: \"position\", \"revision\", \"recorded_at\" and \"hash\" are ignored. So are CloudEvents
1.0 in JSON: `subject` is the stream, `source` and `id` together make the id, other attributes go to
the metadata.

Events with an id are appended once: the same line again is counted as already there, and an id that
comes with other content is refused. Events without one are appended again with a file that was appended
to its end before. Files are appended in batches of 10,000 lines or 16 MiB. A bad
line stops the import and is named; the batches before it stay. Run the same command again after a
crash or a correction: it goes on where it stopped. With --atomic it is all lines or none; standard input
is kept in a temporary file then, until it ends, so that nobody waits for it.

The first append creates the log if there is none.

Examples:
  retell append events.ndjson
  zcat events.ndjson.gz | retell append -
  retell events | retell --data /backup append -
  retell append --stream article-1 --type ArticleLiked --data '{\"article\":\"1\",\"author\":\"a7\"}'
  retell append --stream order-9 --type Placed --data '{}' --expect-revision 0

With --json: {\"first\",\"last\",\"appended\",\"already_there\"}, positions of the first and last event (null
if there was none) and how many were appended and how many were there already."
)]
pub(crate) struct Args {
    /// A file with one event a line; `-` is standard input
    #[arg(conflicts_with_all = ["stream", "event_type", "data", "id", "metadata", "occurred_at", "expect_revision"])]
    file: Option<PathBuf>,
    /// Append all lines in one transaction, or none
    #[arg(long, conflicts_with = "stream")]
    atomic: bool,
    /// Stream of the event
    #[arg(long, requires_all = ["event_type", "data"])]
    stream: Option<String>,
    /// Type of the event
    #[arg(long = "type", value_name = "TYPE", requires = "stream")]
    event_type: Option<String>,
    /// Payload of the event
    #[arg(long, value_name = "JSON", requires = "stream")]
    data: Option<String>,
    /// Id of the event; the same id is appended once [default: a new UUID]
    #[arg(long, requires = "stream")]
    id: Option<String>,
    /// What else to keep with the event: a JSON object
    #[arg(long, value_name = "JSON", requires = "stream")]
    metadata: Option<String>,
    /// When it happened, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", requires = "stream")]
    occurred_at: Option<String>,
    /// Refuse unless the stream has so many events; 0: it is new
    #[arg(long, value_name = "N", requires = "stream")]
    expect_revision: Option<u64>,
}

#[derive(Serialize)]
struct Output {
    first: Option<Position>,
    last: Option<Position>,
    appended: u64,
    already_there: u64,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let output = match (&args.stream, &args.file) {
        (Some(stream), _) => append_one(stream.clone(), &args, context).await?,
        (None, Some(file)) => append_file(file.clone(), args.atomic, context).await?,
        (None, None) if !std::io::stdin().is_terminal() => {
            append_file(PathBuf::from("-"), args.atomic, context).await?
        }
        (None, None) => {
            return Err(Usage {
                message: "nothing to append".to_owned(),
                hint: Some(
                    "name a file, or give --stream, --type and --data: see `retell append --help`"
                        .to_owned(),
                ),
            }
            .into());
        }
    };
    if context.printer.json {
        return context.printer.json(&output);
    }
    context.printer.data(describe(&output))?;
    Ok(())
}

fn describe(output: &Output) -> String {
    let there = match output.already_there {
        0 => String::new(),
        n => format!(", {n} already there"),
    };
    match (output.first, output.last) {
        (Some(first), Some(last)) if first == last => {
            format!(
                "appended {} at position {first}{there}",
                count(output.appended)
            )
        }
        (Some(first), Some(last)) => format!(
            "appended {} at positions {first} to {last}{there}",
            count(output.appended)
        ),
        _ => "appended 0 events".to_owned(),
    }
}

fn count(events: u64) -> String {
    match events {
        1 => "1 event".to_owned(),
        n => format!("{n} events"),
    }
}

async fn open(context: &Context) -> anyhow::Result<Arc<dyn EventLog>> {
    let opened = session::open_log(context, session::writing_mode(context)).await?;
    if opened.changed {
        let log = &context.config.log;
        context
            .printer
            .say(format_args!("created the event log {log}"));
    }
    Ok(opened.log)
}

async fn append_one(stream: String, args: &Args, context: &Context) -> anyhow::Result<Output> {
    let occurred_at = args
        .occurred_at
        .as_deref()
        .map(parse_rfc3339)
        .transpose()
        .map_err(|error| Usage {
            message: format!("--occurred-at is {error}"),
            hint: Some("write it as 2026-01-31T12:00:00Z".to_owned()),
        })?;
    if let Some(metadata) = &args.metadata
        && !metadata.trim_start().starts_with('{')
    {
        return Err(Usage {
            message: "--metadata must be a JSON object".to_owned(),
            hint: Some("for example --metadata '{\"user\":\"ada\"}'".to_owned()),
        }
        .into());
    }
    let event = NewEvent {
        stream: stream.clone(),
        event_type: args.event_type.clone().unwrap_or_default(),
        data: args.data.clone().unwrap_or_default(),
        metadata: args.metadata.clone(),
        id: args.id.clone(),
        occurred_at,
    };
    let request = AppendRequest {
        events: vec![event],
        expected: args
            .expect_revision
            .map(|n| (stream, n))
            .into_iter()
            .collect(),
    };
    let log = open(context).await?;
    let appended = log.append(request).await?;
    Ok(Output {
        first: appended.first(),
        last: appended.last(),
        appended: appended.positions.len() as u64 - appended.already_there,
        already_there: appended.already_there,
    })
}

async fn append_file(path: PathBuf, atomic: bool, context: &Context) -> anyhow::Result<Output> {
    let (input, bytes) = open_input(&path)?;
    let log = open(context).await?;
    let mut display = Display::new(context.printer, bytes, &path);
    let (done, display) = tokio::task::spawn_blocking(move || {
        let done = ndjson::import(&*log, input, atomic, &mut |progress| display.show(progress));
        (done, display)
    })
    .await?;
    display.end();
    let imported = done.map_err(|error| stopped(error, &path))?;
    Ok(output(imported))
}

fn output(imported: Imported) -> Output {
    Output {
        first: imported.first,
        last: imported.last,
        appended: imported.appended,
        already_there: imported.already_there,
    }
}

/// The input, and its size where it has one.
fn open_input(path: &Path) -> anyhow::Result<(Input, Option<u64>)> {
    if path.as_os_str() == "-" {
        let stdin: Box<dyn Read + Send> = Box::new(std::io::stdin());
        return Ok((Input::Stream(stdin), None));
    }
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.with_context(|| Failed {
        message: format!("can't open {}", path.display()),
        hint: Some("name a file with one event a line, or `-` for standard input".to_owned()),
    })?;
    if metadata.is_dir() {
        return Err(Usage {
            message: format!("{} is a folder", path.display()),
            hint: Some("name a file with one event a line".to_owned()),
        }
        .into());
    }
    Ok(if metadata.is_file() {
        (Input::File(file), Some(metadata.len()))
    } else {
        (Input::Stream(Box::new(file)), None)
    })
}

/// An import that stopped, with what is in the log and how to go on.
fn stopped(error: ImportError, path: &Path) -> anyhow::Error {
    let (line, kept, refused) = match &error {
        ImportError::Begun { lines } => {
            let lines = *lines;
            return anyhow::Error::from(error).context(Refused {
                message: format!("{} can't be appended as a whole", path.display()),
                hint: Some(format!(
                    "run it without --atomic, and it goes on after line {lines}"
                )),
            });
        }
        ImportError::Log { kept, .. } if kept.lines > 0 && !kept.resumable => {
            let lines = kept.lines;
            return anyhow::Error::from(error).context(Failed {
                message: format!("the import stopped after line {lines}"),
                hint: Some(format!(
                    "lines 1 to {lines} are in the log: see to the cause, then append from line {} on",
                    lines + 1
                )),
            });
        }
        ImportError::Log { .. } => return unwrapped(error),
        ImportError::Spool { .. } => {
            return anyhow::Error::from(error).context(Failed {
                message: "nothing was appended".to_owned(),
                hint: Some(
                    "make room for it, name another folder with TMPDIR, or append a file"
                        .to_owned(),
                ),
            });
        }
        ImportError::Line { line, kept, .. } => (*line, *kept, false),
        ImportError::Read { line, kept, .. } => (*line, *kept, false),
        ImportError::Refused { line, kept, source } => (*line, *kept, source.is_refusal()),
    };
    let name = if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let message = format!("the import of {name} stopped at line {line}");
    let hint = Some(how_to_go_on(line, kept));
    if refused {
        anyhow::Error::from(error).context(Refused { message, hint })
    } else {
        anyhow::Error::from(error).context(Failed { message, hint })
    }
}

/// The log's own error, with its own hint.
fn unwrapped(error: ImportError) -> anyhow::Error {
    match error {
        ImportError::Log { source, .. } => source.into(),
        other => other.into(),
    }
}

fn how_to_go_on(line: u64, kept: Kept) -> String {
    match kept {
        Kept { lines: 0, .. } => {
            format!("nothing was appended: correct line {line}, then run the same command again")
        }
        Kept {
            lines,
            resumable: true,
        } => format!(
            "lines 1 to {lines} are in the log: correct line {line}, then run the same command \
             again, and it goes on after line {lines}"
        ),
        Kept { lines, .. } => format!(
            "lines 1 to {lines} are in the log: correct line {line}, then append from line {} on",
            lines + 1
        ),
    }
}

/// How far the import is: a bar on a terminal, otherwise only that it resumed.
struct Display {
    printer: Printer,
    bar: ProgressBar,
    path: PathBuf,
    began: bool,
}

impl Display {
    fn new(printer: Printer, bytes: Option<u64>, path: &Path) -> Self {
        let bar = match bytes {
            _ if !printer.shows_progress() => ProgressBar::hidden(),
            Some(bytes) => ProgressBar::new(bytes).with_style(style(
                "{bar:30} {percent:>3}%  {bytes} of {total_bytes}  {msg}  {eta} left",
            )),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {bytes}  {msg}")),
        };
        Self {
            printer,
            bar,
            path: path.to_owned(),
            began: false,
        }
    }

    fn show(&mut self, progress: Progress) {
        if !self.began {
            self.began = true;
            if let Some(lines) = progress.resumed_after {
                let path = self.path.display();
                self.bar.suspend(|| {
                    self.printer.say(format_args!(
                        "resuming: lines 1 to {lines} of {path} are in the log already, from an \
                         import that was interrupted"
                    ));
                });
                // Rates and the time left speak of what this run does.
                self.bar.reset_eta();
            }
        }
        self.bar.set_position(progress.bytes);
        self.bar.set_message(format!("{} lines", progress.lines));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well formed")
}
