//! `retell digest`: what a read model holds, in one number.

use anyhow::Context as _;
use serde::Serialize;

use super::Context;
use super::session::{self, locate};
use crate::event::Position;

/// Print the position of a read model and the digest of its tables' content
///
/// Equal for equal content, whatever cut, crash or backend came between: it covers the rows of the
/// projection's tables and nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell digest articles@2.0.0\n\n\
    With --json: {\"projection\",\"version\",\"position\",\"digest\"}")]
pub(crate) struct Args {
    /// The version, as in articles@2.0.0 (articles: the live one)
    name: String,
}

#[derive(Debug, Serialize)]
struct Report {
    projection: String,
    version: String,
    position: Position,
    digest: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let found = locate(context, &args.name).await?;
    let manifest = found.manifest.clone();
    let digest = tokio::task::spawn_blocking(move || found.place.digest(&manifest))
        .await
        .context("the digest was not computed")?
        .map_err(session::explain_read_model)?;
    let (position, digest) = (digest.position, digest.digest);
    if context.printer.json {
        return context.printer.json(&Report {
            projection: found.projection,
            version: found.version.to_string(),
            position,
            digest,
        });
    }
    context.printer.data(format_args!(
        "{digest}  {}@{} at {position}",
        found.projection, found.version
    ))?;
    Ok(())
}
