//! Turns the history of a git repository into events: one file added, modified, renamed or deleted,
//! with the commit, its author and time. Streams, so a history may be larger than memory.
//!
//! It follows the first parents of `HEAD`, oldest commit first, and what a merge brought in counts
//! as the merge commit's change. That is the order in which the branch itself changed, so the fold of
//! the events is exactly the tree of `HEAD`.
//!
//! File names are bytes, JSON texts are Unicode: a byte that is not part of valid UTF-8 is written
//! `\xNN`, and a backslash `\\`. All other names, spaces, quotes and newlines included, stay as they
//! are, and no two names become one.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use retell_contract::time::{TIMESTAMP_MAX, TIMESTAMP_MIN, format_rfc3339};
use serde::Serialize;

/// One line for `retell append`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    stream: &'a str,
    r#type: &'a str,
    id: String,
    occurred_at: &'a str,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<&'a str>,
    commit: &'a str,
    author: &'a str,
    time: &'a str,
}

/// What was written.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) commits: u64,
    pub(crate) events: u64,
}

/// Writes the history of the repository's `HEAD` as NDJSON.
pub(crate) fn write_events(repository: &Path, out: &mut impl Write) -> Result<Written> {
    let mut git = start_git(repository)?;
    let stdout = git.stdout.take().context("git has no output")?;
    let written = Records {
        input: BufReader::with_capacity(1 << 16, stdout),
        token: Vec::new(),
    }
    .write_all(out);
    if written.is_err() {
        // The writer failed: git would wait for ever on a full pipe.
        let _ = git.kill();
    }
    let status = git.wait()?;
    let written = written?;
    if !status.success() {
        bail!("git could not read the history of {}", repository.display());
    }
    out.flush()?;
    Ok(written)
}

/// A file name as text, one to one.
pub(crate) fn escape_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The user's git configuration may change what git prints; each of these keeps it from doing so.
fn start_git(repository: &Path) -> Result<Child> {
    Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["-c", "log.showRoot=true", "-c", "diff.renameLimit=5000"])
        .args(["log", "--first-parent", "--diff-merges=first-parent"])
        .args(["--reverse", "--raw", "-z", "--no-relative"])
        .args(["--find-renames", "--no-abbrev", "--ignore-submodules=none"])
        .args(["--no-show-signature", "--no-notes", "--no-color"])
        .args(["--no-ext-diff", "--no-mailmap", "--encoding=UTF-8"])
        .arg("--format=tformat:%x01%H%x00%an%x00%at%x00%ct")
        .args(["HEAD", "--"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run git")
}

struct Commit {
    hash: String,
    author: String,
    authored: String,
    committed: String,
    changes: u64,
}

/// Git's output: texts that end in NUL. A commit begins with byte 1 and has four; a change begins
/// with `:` and is followed by one path, or two for a rename.
struct Records {
    input: BufReader<ChildStdout>,
    token: Vec<u8>,
}

impl Records {
    fn write_all(&mut self, out: &mut impl Write) -> Result<Written> {
        let mut written = Written::default();
        let mut commit: Option<Commit> = None;
        while self.next()? {
            let record = self.token.strip_prefix(b"\n").unwrap_or(&self.token);
            if let Some(hash) = record.strip_prefix(b"\x01") {
                let hash = String::from_utf8_lossy(hash).into_owned();
                commit = Some(self.commit(hash)?);
                written.commits += 1;
            } else if let Some(change) = record.strip_prefix(b":") {
                let change = String::from_utf8_lossy(change).into_owned();
                let commit = commit
                    .as_mut()
                    .context("git names a change before a commit")?;
                self.change(&change, commit, out)?;
                written.events += 1;
            } else {
                bail!("git printed {:?}", String::from_utf8_lossy(record));
            }
        }
        Ok(written)
    }

    /// Reads up to the next NUL; false at the end.
    fn next(&mut self) -> Result<bool> {
        self.token.clear();
        if self.input.read_until(0, &mut self.token)? == 0 {
            return Ok(false);
        }
        if self.token.pop() != Some(0) {
            bail!("git's output is cut off");
        }
        Ok(true)
    }

    fn text(&mut self) -> Result<&[u8]> {
        if !self.next()? {
            bail!("git's output is cut off");
        }
        Ok(&self.token)
    }

    fn commit(&mut self, hash: String) -> Result<Commit> {
        let author = String::from_utf8_lossy(self.text()?).into_owned();
        let authored = time(self.text()?);
        let committed = time(self.text()?);
        Ok(Commit {
            hash,
            author,
            authored,
            committed,
            changes: 0,
        })
    }

    /// `OLD_MODE MODE OLD_BLOB BLOB LETTER`, then the paths.
    fn change(&mut self, change: &str, commit: &mut Commit, out: &mut impl Write) -> Result<()> {
        let parts: Vec<&str> = change.split(' ').collect();
        let [_, mode, _, blob, letter] = parts[..] else {
            bail!("git printed a change as {change:?}");
        };
        let first = escape_path(self.text()?);
        let (kind, from, path) = match letter.as_bytes().first() {
            Some(b'A') => ("FileAdded", None, first),
            // A type change, from a file to a symbolic link, is a modification too.
            Some(b'M' | b'T') => ("FileModified", None, first),
            Some(b'D') => ("FileDeleted", None, first),
            Some(b'R') => ("FileRenamed", Some(first), escape_path(self.text()?)),
            _ => bail!("git printed a change as {change:?}"),
        };
        let exists = kind != "FileDeleted";
        commit.changes += 1;
        let line = Line {
            stream: "repository",
            r#type: kind,
            // The same history appended again is recognised, and only new commits are added.
            id: format!("{}/{}", commit.hash, commit.changes),
            occurred_at: &commit.committed,
            data: Data {
                path: &path,
                from: from.as_deref(),
                mode: exists.then_some(mode),
                blob: exists.then_some(blob),
                commit: &commit.hash,
                author: &commit.author,
                time: &commit.authored,
            },
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        Ok(())
    }
}

/// Git keeps seconds, and histories exist whose seconds make no sense.
fn time(seconds: &[u8]) -> String {
    let seconds: i64 = std::str::from_utf8(seconds)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    format_rfc3339(
        seconds
            .saturating_mul(1_000_000)
            .clamp(TIMESTAMP_MIN, TIMESTAMP_MAX),
    )
}
