//! `retell init`: an empty log.

use serde::Serialize;

use super::Context;
use super::session;
use crate::log::EventLog;
use crate::log::OpenMode;

/// Create the event log of an instance; harmless where there is one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Creates the folder named by --data with an empty log.db in it. The first `append` does the same by
itself; `init` is for scripts that want to say so, and for programs that wait for the log to be there.

Examples:
  retell init
  retell --data /var/lib/retell init

With --json: {\"log\",\"log_id\",\"created\"}: the file, the log's own id, and whether it is new.")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Output<'a> {
    log: &'a std::path::Path,
    log_id: &'a str,
    created: bool,
}

pub(crate) async fn run(_args: Args, context: &Context) -> anyhow::Result<()> {
    let (log, created) = session::open_log(context, OpenMode::CreateIfMissing).await?;
    if context.printer.json {
        return context.printer.json(&Output {
            log: log.path(),
            log_id: log.log_id(),
            created,
        });
    }
    let path = log.path().display();
    context.printer.data(if created {
        format!("created the event log {path}")
    } else {
        format!("the event log {path} is there already")
    })?;
    Ok(())
}
