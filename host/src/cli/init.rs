//! `retell init`: an empty log, and roles that may use it.

use serde::Serialize;

use super::Context;
use super::printer::Usage;
use super::session::{self, OpenLog};
use crate::config::LogPlace;
use crate::log::{OpenMode, RoleKind};

/// Create the event log of an instance; harmless where there is one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Creates the folder named by --data with an empty log.db in it. The first `append` does the same by
itself; `init` is for scripts that want to say so, and for programs that wait for the log to be there.

In PostgreSQL it makes the schema `retell`, which belongs to the role in the URL; only that role can
ever change it. It takes CREATE on the database. Everyday work needs less:
  --host-role ROLE  runs retell: appends, reads, keeps the catalog, and can change no event
  --app-role ROLE   is an application's: calls retell.append, inserts into retell.inbox, sees nothing
A role that does not exist is made, which takes CREATEROLE; where that is not to be had, as on many
managed servers, have it made beforehand. Without --host-role the owner runs the host: then the
log's triggers still refuse every change of an event, but their owner could drop them.

Examples:
  retell init
  retell --data /var/lib/retell init
  retell --log postgres://owner@db.example/shop init --host-role retell --app-role shop

With --json: {\"log\",\"log_id\",\"created\"}: the file or URL, the log's own id, and whether it is new.")]
pub(crate) struct Args {
    /// Let this role run the host (PostgreSQL)
    #[arg(long, value_name = "ROLE")]
    host_role: Vec<String>,
    /// Let this role append (PostgreSQL)
    #[arg(long, value_name = "ROLE")]
    app_role: Vec<String>,
}

#[derive(Serialize)]
struct Output<'a> {
    log: String,
    log_id: &'a str,
    created: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let place = &context.config.log;
    let roles: Vec<(&String, RoleKind)> = (args.host_role.iter().map(|it| (it, RoleKind::Host)))
        .chain(args.app_role.iter().map(|it| (it, RoleKind::Application)))
        .collect();
    if matches!(place, LogPlace::File(_)) && !roles.is_empty() {
        return Err(Usage {
            message: "an SQLite log has no roles: whoever may write the file may append".to_owned(),
            hint: Some("--host-role and --app-role are for logs in PostgreSQL".to_owned()),
        }
        .into());
    }
    let OpenLog { log, changed } = session::open_log(context, OpenMode::CreateIfMissing).await?;
    if let LogPlace::Server(url) = place {
        for (role, kind) in roles {
            let made = session::admit_role(url, role, kind).await?;
            context.printer.say(if made {
                format!("made the role {role}; give it a way to log in, such as a password")
            } else {
                format!("let the role {role} in")
            });
        }
    }
    if context.printer.json {
        return context.printer.json(&Output {
            log: place.to_string(),
            log_id: log.log_id(),
            created: changed,
        });
    }
    context.printer.data(if changed {
        format!("created the event log {place}")
    } else {
        format!("the event log {place} is there already")
    })?;
    Ok(())
}
