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

With --json: {\"log\",\"migrated\"}: the file, and whether anything was changed.")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Output<'a> {
    log: &'a std::path::Path,
    migrated: bool,
}

pub(crate) async fn run(_args: Args, context: &Context) -> anyhow::Result<()> {
    if !context.config.log_path.exists() {
        return Err(Refused {
            message: format!(
                "there is no event log at {}",
                context.config.log_path.display()
            ),
            hint: Some("create one with `retell init`".to_owned()),
        }
        .into());
    }
    let (log, migrated) = session::open_log(context, OpenMode::CreateOrMigrate).await?;
    if context.printer.json {
        return context.printer.json(&Output {
            log: log.path(),
            migrated,
        });
    }
    let path = log.path().display();
    context.printer.data(if migrated {
        format!("brought {path} up to date")
    } else {
        format!("{path} is up to date")
    })?;
    Ok(())
}
