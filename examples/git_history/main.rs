//! The history of a git repository, retold: turns `git log` into events, folds them into the current
//! tree, then adds statistics with a second version beside the first.
//!
//! ```text
//! cargo build && cargo run --example git_history              # this repository
//! cargo run --example git_history -- path/to/repository
//! cargo run --example git_history -- --events path/to/repository > events.ndjson
//! ```

#[path = "../steps/mod.rs"]
mod steps;

mod history;
mod tree;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use steps::{Steps, explain, note};

fn main() -> Result<()> {
    let mut events_only = false;
    let mut repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for argument in std::env::args_os().skip(1) {
        if argument == "--events" {
            events_only = true;
        } else if argument.to_string_lossy().starts_with('-') {
            bail!("usage: git_history [--events] [REPOSITORY]");
        } else {
            repository = PathBuf::from(argument);
        }
    }
    if events_only {
        let mut out = BufWriter::new(std::io::stdout().lock());
        history::write_events(&repository, &mut out)?;
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let steps = Steps::new(&scratch.path().join("retell-data"))?;
    walk_through(&steps, &repository)
}

fn walk_through(steps: &Steps, repository: &Path) -> Result<()> {
    explain("Every change of every file in the repository's history becomes an event.");
    append_history(steps, repository)?;

    explain("Version 1 retells them into the current tree.");
    let module = steps.build("git_tree_v1")?;
    steps.run(&["deploy".as_ref(), module.as_os_str(), "--promote".as_ref()])?;
    steps.run(&[
        "query",
        "git_tree",
        "select path, author, datetime(time / 1000000, 'unixepoch') as changed from file order by time desc, path limit 5",
    ])?;

    explain("That table must be what git itself says of HEAD, file by file.");
    let files = compare_with_git(steps, repository)?;
    note(&format!("equal to `git ls-tree -r HEAD`: {files} files"));

    explain("Version 2 also counts. It replays the same events beside version 1, then takes over.");
    let module = steps.build("git_tree_v2")?;
    steps.run(&["deploy".as_ref(), module.as_os_str(), "--promote".as_ref()])?;
    steps.run(&[
        "query",
        "git_tree",
        "select name, commits, added, modified, renamed, deleted from author order by commits desc, name limit 5",
    ])?;
    steps.run(&[
        "query",
        "git_tree",
        "select path, changes, authors from file order by changes desc, path limit 5",
    ])?;
    steps.run(&[
        "query",
        "git_tree",
        "select path, step, name from former_name order by path, step limit 5",
    ])?;
    let files = compare_with_git(steps, repository)?;
    note(&format!(
        "still equal to `git ls-tree -r HEAD`: {files} files"
    ));
    steps.run(&["status"])
}

/// Pipes the history into `retell append`, which reads standard input as `-`.
fn append_history(steps: &Steps, repository: &Path) -> Result<()> {
    note("$ git log --first-parent --raw … | retell append -");
    let started = Instant::now();
    let mut append = steps
        .command()
        .args(["append", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let input = append.stdin.take().context("retell has no input")?;
    let mut input = BufWriter::new(input);
    let written = history::write_events(repository, &mut input)?;
    input.flush()?;
    drop(input);
    if !append.wait()?.success() {
        bail!("retell append failed");
    }
    let seconds = started.elapsed().as_secs_f64();
    note(&format!(
        "{} events of {} commits in {seconds:.1} s",
        written.events, written.commits
    ));
    Ok(())
}

/// Compares mode, blob and name of every file, and returns how many there are.
fn compare_with_git(steps: &Steps, repository: &Path) -> Result<usize> {
    let rows = steps.ask(&["--json", "query", "git_tree", tree::SQL])?;
    let retold = tree::of_rows(&rows)?;
    let expected = tree::of_git(repository)?;
    let difference = retold
        .iter()
        .zip(&expected)
        .find(|(left, right)| left != right);
    if let Some((left, right)) = difference {
        bail!("retell has {left}, and git has {right}");
    }
    if retold.len() != expected.len() {
        bail!(
            "retell has {} files, and git {}",
            retold.len(),
            expected.len()
        );
    }
    Ok(expected.len())
}
