//! `retell verify`: whether a version is a pure function of its events, and its read model the fold of
//! the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use serde::Serialize;

use super::Context;
use super::printer::Failed;
use super::progress::VerifyBar;
use super::session::{self, explain, locate};
use crate::event::Position;
use crate::lifecycle::{Verdict, Verify};
use crate::log::OpenMode;
use crate::read_model::Provenance;

/// Replay a copy of a version with other cuts into batches, and compare
///
/// The copy is folded from the same log under the same journal, in batches of random size, in instances
/// that are thrown away after a few of them, with hardly any memory for rows. A projection that is a
/// pure function of its events comes to the same rows. Where it does not, the first position is named
/// at which the two part, and the first row that differs there. It changes nothing; the copy is made in
/// the folder for temporary files (TMPDIR).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell verify articles@2.0.0\n\n\
    With --json: {\"projection\",\"version\",\"position\",\"digest\",\"seed\",\"verdict\",\"parts_at\",\
    \"table\",\"key\",\"usual\",\"cut\",\"stored\"}, where the verdict is `same`, `depends-on-cuts`, `fails` or \
    `read-model-differs`; exit code 1 unless it is `same`")]
pub(crate) struct Args {
    /// The version, as in articles@2.0.0 (articles: the live one)
    name: String,
    /// Cut in the same places as an earlier run that printed this number
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    projection: &'a str,
    version: String,
    position: Position,
    digest: &'a str,
    seed: u64,
    verdict: &'static str,
    /// The first position at which the two folds part.
    parts_at: Option<Position>,
    table: Option<&'a str>,
    key: Option<&'a str>,
    /// The row with large batches.
    usual: Option<&'a str>,
    /// The row with the random ones.
    cut: Option<&'a str>,
    /// The row in the read model, where it is that which differs.
    stored: Option<&'a str>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let found = locate(context, &args.name).await?;
    let name = format!("{}@{}", found.projection, found.version);
    let host = session::open_host(context, OpenMode::Existing).await?;
    let module = host
        .load_module(&found.digest, &found.rules)
        .await
        .map_err(explain)?;
    let bar = VerifyBar::new(context.printer, &name);
    let watched = bar.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let verify = Verify {
        provenance: Provenance {
            projection: found.projection.clone(),
            version: found.version.to_string(),
            build: 0,
            module_digest: module.digest().to_owned(),
            sdk: module.stamp().sdk.clone(),
            contract: module.stamp().contract.clone(),
            log_id: host.log.log_id().to_owned(),
        },
        host,
        module,
        place: found.place,
        rules: found.rules,
        seed: args
            .seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>())),
        progress: Box::new(move |what, at, end| {
            watched.show(what, at, end);
            !stopped.load(Ordering::Relaxed)
        }),
    };
    let runtime = tokio::runtime::Handle::current();
    let mut work = tokio::task::spawn_blocking(move || verify.run(&runtime));
    let verified = super::interruptible(async { Ok((&mut work).await) }).await;
    bar.finish();
    let verified = match verified {
        Ok(verified) => verified.context("it was not verified")?.map_err(explain)?,
        Err(error) => {
            // Its copy goes with it.
            stop.store(true, Ordering::Relaxed);
            let _ = work.await;
            return Err(error);
        }
    };
    let (verdict, parts_at, difference) = match &verified.verdict {
        Verdict::Same => ("same", None, None),
        Verdict::DependsOnCuts {
            position,
            difference,
        } => ("depends-on-cuts", Some(*position), difference.as_ref()),
        Verdict::Fails { .. } => ("fails", None, None),
        Verdict::ReadModelDiffers { difference } => {
            ("read-model-differs", None, difference.as_ref())
        }
    };
    // What a copy with large batches is compared with.
    let [usual, cut, stored] = match (&verified.verdict, difference) {
        (Verdict::ReadModelDiffers { .. }, Some(it)) => {
            [it.other.as_deref(), None, it.one.as_deref()]
        }
        (_, Some(it)) => [it.one.as_deref(), it.other.as_deref(), None],
        (_, None) => [None; 3],
    };
    if context.printer.json {
        context.printer.json(&Report {
            projection: &found.projection,
            version: found.version.to_string(),
            position: verified.position,
            digest: &verified.digest,
            seed: verified.seed,
            verdict,
            parts_at,
            table: difference.map(|it| it.table.as_str()),
            key: difference.map(|it| it.key.as_str()),
            usual,
            cut,
            stored,
        })?;
    }
    if let Some((message, hint)) = verified.complaint(&name) {
        return Err(Failed {
            message,
            hint: Some(hint),
        }
        .into());
    }
    if !context.printer.json {
        context.printer.data(format_args!(
            "{}  {name} at {} is the same with other cuts",
            verified.digest, verified.position
        ))?;
    }
    Ok(())
}
