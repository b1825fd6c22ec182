//! `retell serve`: the host. It keeps every version of every projection up to date, and does the
//! work that other commands ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::session;
use crate::catalog::lease::Lease;
use crate::lifecycle::{Host, Scope, Supervisor};
use crate::log::sqlite::OpenMode;

/// How often a host looks after each projection. Following the log does not wait for this.
const TICK_INTERVAL: Duration = Duration::from_millis(25);

/// Run the host: keep all versions up to date until SIGINT or SIGTERM
///
/// Other commands hand their work to it: `retell deploy` and `retell promote` then only watch.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell --data /var/lib/retell serve")]
pub(crate) struct Args {
    /// Where the HTTP API shall listen; there is none in this version
    #[arg(long, value_name = "ADDR", hide = true)]
    listen: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let host = session::open_host(context, OpenMode::CreateIfMissing).await?;
    let head = host.log.head().await?.position;
    context.printer.say(format_args!(
        "serving {} at position {head}; stop with Ctrl-C",
        context.config.log_path.display()
    ));
    if let Some(address) = args.listen {
        context.printer.say(format_args!(
            "there is no HTTP API yet: nothing listens on {address}"
        ));
    }
    let mut supervisors = BTreeMap::new();
    let ended = super::interruptible(look_after_all(&host, &mut supervisors)).await;
    for (_, supervisor) in supervisors {
        supervisor.stop().await;
    }
    context
        .printer
        .say("stopped; everything applied is in the read models");
    match ended {
        Err(error) if error.is::<super::printer::Interrupted>() => Ok(()),
        ended => ended,
    }
}

async fn look_after_all(
    host: &Arc<Host>,
    supervisors: &mut BTreeMap<String, Supervisor>,
) -> anyhow::Result<()> {
    loop {
        // A fault of one projection, or of the catalog, passes or is seen to again next time.
        if let Err(error) = take_leases(host, supervisors).await {
            tracing::warn!("{}", crate::error_chain(&*error));
        }
        for supervisor in supervisors.values_mut() {
            let mut looked_after = supervisor.tick().await;
            if looked_after.is_ok() {
                looked_after = supervisor.handle_requests().await;
            }
            if let Err(error) = looked_after {
                tracing::warn!(
                    "{}: {}",
                    supervisor.projection(),
                    crate::error_chain(&error)
                );
            }
        }
        tokio::time::sleep(TICK_INTERVAL).await;
    }
}

/// Takes the lease of each projection that nobody works on.
async fn take_leases(
    host: &Arc<Host>,
    supervisors: &mut BTreeMap<String, Supervisor>,
) -> anyhow::Result<()> {
    for projection in host.catalog.projections().await? {
        if supervisors.contains_key(&projection) {
            continue;
        }
        if let Some(lease) = Lease::try_take(&host.places.leases(), &projection)? {
            let supervisor = Supervisor::begin(host.clone(), lease, Scope::All, false).await?;
            tracing::info!("working on {projection}");
            supervisors.insert(projection, supervisor);
        }
    }
    Ok(())
}
