//! `retell backup`: a copy of the instance while it runs.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::printer::{Failed, Refused};
use super::session;
use crate::config::LogPlace;
use crate::event::Position;
use crate::lifecycle::{BackupError, back_up};
use crate::log::OpenMode;

/// Copy log, catalog and read models into a folder, while everything runs
///
/// The copy is an instance of its own: `retell --data DIR status` looks at it, and restoring is copying it
/// back. No read model in it is ahead of its log. Read models on a server stay there. A log on a server
/// is backed up with that server's own tools, and what is built from it can be replayed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell backup /backups/2026-11-26\n\n\
    With --json: {\"folder\",\"position\",\"read_models\",\"elsewhere\"}, the first list of \
    {\"version\",\"position\"}, the second of {\"version\",\"location\"}")]
pub(crate) struct Args {
    /// A folder that is absent or empty
    folder: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    folder: PathBuf,
    /// Of the log.
    position: Position,
    read_models: Vec<Copied>,
    elsewhere: Vec<Elsewhere>,
}

#[derive(Debug, Serialize)]
struct Copied {
    version: String,
    position: Position,
}

#[derive(Debug, Serialize)]
struct Elsewhere {
    version: String,
    location: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let LogPlace::File(log_file) = &context.config.log else {
        return Err(Refused {
            message: "this log is on a server, whose own tools back it up".to_owned(),
            hint: Some(
                "`pg_dump --schema retell` or `pg_basebackup`; read models can be replayed"
                    .to_owned(),
            ),
        }
        .into());
    };
    let host = session::open_host(context, OpenMode::Existing).await?;
    let folder = args.folder;
    let backup = back_up(&host, log_file, &folder).await.map_err(explain)?;
    if context.printer.json {
        return context.printer.json(&Report {
            folder,
            position: backup.position,
            read_models: (backup.read_models.into_iter())
                .map(|it| Copied {
                    version: it.name,
                    position: it.position,
                })
                .collect(),
            elsewhere: (backup.elsewhere.into_iter())
                .map(|(version, location)| Elsewhere { version, location })
                .collect(),
        });
    }
    let printer = context.printer;
    printer.say(format_args!(
        "{}: the log up to {}, and {} read models; `retell --data {0} status` looks at it",
        folder.display(),
        backup.position,
        backup.read_models.len()
    ));
    for (version, location) in backup.elsewhere {
        printer.say(format_args!(
            "{version} is at {location} and was not copied"
        ));
    }
    Ok(())
}

fn explain(error: BackupError) -> anyhow::Error {
    match error {
        BackupError::NotEmpty { .. } => Refused {
            message: error.to_string(),
            hint: Some("name a folder that is absent or empty".to_owned()),
        }
        .into(),
        BackupError::Log(error) => error.into(),
        BackupError::ReadModel(error) => session::explain_read_model(error),
        error => {
            let message = crate::error_chain(&error);
            let hint = Some("run it again, on a disk with room for the whole instance".to_owned());
            anyhow::Error::new(error).context(Failed { message, hint })
        }
    }
}
