//! `retell events`: the log as lines of JSON.

use std::io::Write;
use std::time::Duration;

use retell_contract::time::format_rfc3339;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Context;
use super::printer::Stdout;
use super::session;
use crate::event::{Position, StoredEvent};
use crate::log::{EventFilter, OpenMode};

/// Events of one page.
const PAGE_EVENTS: usize = 1_000;
/// How long a follower waits before it looks whether it should stop.
const FOLLOW_WAIT: Duration = Duration::from_millis(250);

/// Print the events of the log, one a line, as JSON that `append` accepts again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line is an object with the keys position, stream, revision, id, type, data, metadata,
occurred_at, recorded_at and hash, in this order. Times are RFC 3339 in UTC; metadata and occurred_at
are null where the writer gave none; hash is the SHA-256 of the log up to and including the event, in
hexadecimal.

Examples:
  retell events --limit 10
  retell events --stream article-1
  retell events --type ArticleCreated --after 5000
  retell events --follow | jq .data
  retell events > backup.ndjson")]
pub(crate) struct Args {
    /// Only events after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: Position,
    /// Only events of this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Stop after so many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on with new events as they are appended, until interrupted
    #[arg(long)]
    follow: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    position: Position,
    stream: &'a str,
    revision: u64,
    id: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    data: &'a RawValue,
    metadata: Option<&'a RawValue>,
    occurred_at: Option<String>,
    recorded_at: String,
    hash: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let log = session::open_log(context, OpenMode::Existing).await?.log;
    let mut watch = args.follow.then(|| log.watch()).transpose()?;
    let filter = EventFilter {
        stream: args.stream,
        event_type: args.event_type,
    };
    let mut after = args.after;
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        // Everything up to here is either printed below or of no interest.
        let head = log.head().await?.position;
        loop {
            let limit = usize::try_from(left).unwrap_or(usize::MAX).min(PAGE_EVENTS);
            if limit == 0 {
                return Ok(());
            }
            let events = log.events(&filter, after, limit).await?;
            let Some(last) = events.last() else { break };
            after = last.position;
            left -= events.len() as u64;
            print(&events)?;
        }
        let Some(mut waiting) = watch.take() else {
            return Ok(());
        };
        after = after.max(head);
        let (waiting, woken) = tokio::task::spawn_blocking(move || {
            let woken = waiting.wait(after, FOLLOW_WAIT);
            (waiting, woken)
        })
        .await?;
        woken?;
        watch = Some(waiting);
    }
    Ok(())
}

fn print(events: &[StoredEvent]) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(Stdout::lock());
    for event in events {
        let line = Line {
            position: event.position,
            stream: &event.stream,
            revision: event.revision,
            id: &event.id,
            event_type: &event.event_type,
            data: serde_json::from_str(&event.data)?,
            metadata: event
                .metadata
                .as_deref()
                .map(serde_json::from_str)
                .transpose()?,
            occurred_at: event.occurred_at.map(format_rfc3339),
            recorded_at: format_rfc3339(event.recorded_at),
            hash: hex(&event.hash),
        };
        serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
