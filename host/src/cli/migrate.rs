//! `retell migrate`: an older log, brought up to date.

use serde::Serialize;

use super::Context;
use super::printer::Refused;
use super::session;
use crate::log::OpenMode;

/// Bring the schema of an older log up to date with this retell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events are not touched. Stop every older retell that uses the log first; they refuse the newer schema
afterwards. Harmless where there is nothing to do.

Examples:
  retell migrate
  retell --data /var/lib/retell migrate
  retell --log postgres://owner@db.example/shop migrate

On a server it takes the role that prepared the log; let the host's role in again afterwards, with
`retell init --host-role ROLE`, since there may be new tables.

With --json: {\"log\",\"migrated\"}: the file or URL, and whether anything was changed.")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Output {
    log: String,
    migrated: bool,
}

pub(crate) async fn run(_args: Args, context: &Context) -> anyhow::Result<()> {
    let log = &context.config.log;
    if !session::has_log(context).await? {
        return Err(Refused {
            message: format!("there is no event log at {log}"),
            hint: Some("create one with `retell init`".to_owned()),
        }
        .into());
    }
    let migrated = session::open_log(context, OpenMode::CreateOrMigrate)
        .await?
        .changed;
    if context.printer.json {
        return context.printer.json(&Output {
            log: log.to_string(),
            migrated,
        });
    }
    context.printer.data(if migrated {
        format!("brought {log} up to date")
    } else {
        format!("{log} is up to date")
    })?;
    Ok(())
}
