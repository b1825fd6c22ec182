//! `make demo`: the main job, step by step. A read model is built from a log of generated events; a
//! second and a third version are deployed beside it, promoted and rolled back, while a loop in the
//! background keeps asking the live one and counts what fails.
//!
//! ```text
//! make demo
//! cargo run --example demo -- 1000000            # with more events
//! cargo run --example demo -- 1000000 FOLDER     # which is emptied first
//! ```

#[path = "../steps/mod.rs"]
mod steps;

mod content;
mod readers;

use std::ffi::{OsStr, OsString};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use readers::Readers;
use steps::{Steps, explain, note};

const SEED: u64 = 1;

fn main() -> Result<()> {
    let events = match std::env::args().nth(1) {
        None => 100_000,
        Some(text) => text.parse().context("usage: demo [EVENTS [FOLDER]]")?,
    };
    let data = fresh_folder(std::env::args_os().nth(2))?;
    let steps = Steps::new(&data)?;
    append_content(&steps, events)?;
    let (figures, readers) = versions_of_articles(&steps)?;
    git_history()?;

    explain("The figures.");
    for (version, taken) in figures {
        let rate = to_f64(events) / taken.as_secs_f64();
        note(&format!(
            "{version}: {events} events replayed in {:.2} s, {rate:.0} events/s, process and promotion included",
            taken.as_secs_f64()
        ));
    }
    note(&format!(
        "queries on the live version meanwhile: {} answered, slowest {} ms",
        readers.answered,
        readers.slowest.as_millis()
    ));
    note(&format!("failed queries: {}", readers.failed));
    if let Some(failure) = readers.first_failure {
        bail!("a query failed: {failure}");
    }
    try_next(&data);
    Ok(())
}

/// The whole life of a projection. Returns how long each replay took, and what the readers saw.
fn versions_of_articles(steps: &Steps) -> Result<(Vec<(&'static str, Duration)>, readers::Seen)> {
    let mut figures = Vec::new();

    explain("A projection is a Rust crate; `retell build` compiles it to one WebAssembly file.");
    let v1 = steps.build("articles_v1")?;
    let v2 = steps.build("articles_v2")?;
    let v3 = steps.build("articles_v3")?;

    explain("Deployed, it replays the log into tables of its own; the first version goes live.");
    figures.push(("articles 1.0.0", deploy(steps, &v1, &["--promote"])?));
    explain("Its tables are plain SQL.");
    steps.run(&[
        "query",
        "articles",
        "select id, title, author, likes from article order by likes desc, id limit 3",
    ])?;

    explain("From here on, a loop in the background asks the live version, again and again.");
    let readers = Readers::start(steps);

    explain(
        "Version 2 has other tables: authors with counts, a full-text index. No migration: it replays beside version 1.",
    );
    figures.push(("articles 2.0.0", deploy(steps, &v2, &[])?));
    explain("Both can be asked, side by side.");
    steps.run(&[
        "query",
        "articles",
        "select count(*) as articles from article",
    ])?;
    steps.run(&[
        "query",
        "articles@2",
        "select name, articles, likes from author order by likes desc, id limit 3",
    ])?;

    explain(
        "One atomic switch makes version 2 live. Back is the same switch, and so is forth again.",
    );
    steps.run(&["promote", "articles@2.0.0"])?;
    steps.run(&["rollback", "articles"])?;
    steps.run(&["promote", "articles@2.0.0"])?;
    steps.run(&[
        "query",
        "articles",
        "select a.id, a.title, a.author_name from article_search s join article a on a.id = s.id where article_search match 'lantern' order by rank, a.id limit 3",
    ])?;

    explain(
        "Version 1 erased deleted articles. The log did not, so version 3 has them again, marked.",
    );
    figures.push(("articles 3.0.0", deploy(steps, &v3, &["--promote"])?));
    steps.run(&[
        "query",
        "articles",
        "select id, title, author_name, datetime(deleted_at / 1000000, 'unixepoch') as deleted_at from article where deleted order by deleted_at limit 3",
    ])?;

    explain("Nobody needs version 1 any more: retiring it drops its tables.");
    steps.run(&["retire", "articles@1.0.0"])?;
    steps.run(&["status"])?;
    Ok((figures, readers.stop()))
}

fn deploy(steps: &Steps, module: &Path, flags: &[&str]) -> Result<Duration> {
    let mut arguments = vec![OsStr::new("deploy"), module.as_os_str()];
    arguments.extend(flags.iter().map(OsStr::new));
    let started = Instant::now();
    steps.run(&arguments)?;
    Ok(started.elapsed())
}

fn append_content(steps: &Steps, events: u64) -> Result<()> {
    explain("A log of generated events of a social site: authors, articles, comments, likes.");
    note(&format!("$ generate_content {events} | retell append -"));
    let started = Instant::now();
    let mut append = steps
        .command()
        .args(["append", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    let input = append.stdin.take().context("retell has no input")?;
    let mut input = BufWriter::new(input);
    content::write_events(events, SEED, &mut input)?;
    input.flush()?;
    drop(input);
    if !append.wait()?.success() {
        bail!("retell append failed");
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = to_f64(events) / seconds;
    note(&format!(
        "{events} events appended in {seconds:.1} s, {rate:.0} events/s"
    ));
    steps.run(&["events", "--limit", "2"])
}

/// The same cycle on real input, in an example of its own that lies beside this one.
fn git_history() -> Result<()> {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() {
        explain("This is no git repository, so its history is left out (examples/git_history).");
        return Ok(());
    }
    explain("The same on real input: the history of this repository (examples/git_history).");
    let here = std::env::current_exe()?;
    let status = Command::new(here.with_file_name("git_history"))
        .status()
        .context("cannot run the example git_history: build it with `cargo build --examples`")?;
    if !status.success() {
        bail!("the git history example failed");
    }
    Ok(())
}

/// By default the instance stays in the target folder, so that it can be looked at afterwards.
fn fresh_folder(chosen: Option<OsString>) -> Result<PathBuf> {
    let folder = match chosen {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?
            .ancestors()
            .nth(3)
            .context("this example is not in a target folder")?
            .join("demo"),
    };
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join("retell-data"))
}

fn try_next(data: &Path) {
    let here = std::env::current_dir().unwrap_or_default();
    let data = data.strip_prefix(&here).unwrap_or(data).display();
    explain("What to try next (the instance is still there):");
    note(&format!("export RETELL_DATA={data}"));
    note("cargo install --path .                     # the `retell` binary");
    note("retell query articles 'select * from author order by likes desc limit 5'");
    note("retell rollback articles                   # back to version 2, at once");
    note("retell build projections/discussions_v1 && retell deploy discussions_v1.wasm --promote");
    note("retell serve                               # keeps every version up to date");
    note("cargo run --example git_history -- PATH    # the history of any repository");
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is shown, and rounded anyway"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}
