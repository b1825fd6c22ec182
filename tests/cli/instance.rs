//! One instance in a folder of its own, and what the binary says in it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use retell::log::sqlite::SqliteLog;
use retell::log::{EventLog as _, OpenMode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::retell;

/// A working directory; the instance is in `retell-data`, as it is for users who say nothing.
pub(crate) struct Instance(TempDir);

impl Instance {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("retell-data/log.db")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("the folder can be written to");
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.place(retell(), args)
    }

    /// The binary at the end of a line of shell, as `"$@"`.
    pub(crate) fn shell(&self, line: &str, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line, "sh"]).arg(retell().get_program());
        self.place(command, args)
    }

    fn place(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(args)
            .current_dir(self.0.path())
            .env_remove("RETELL_DATA")
            .env_remove("RETELL_LOG")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("retell runs")
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("retell runs")
    }

    /// What a user sees: the exit code, then what went to stdout and to stderr.
    pub(crate) fn says(&self, args: &[&str]) -> String {
        shown(&self.output(args))
    }

    /// The same, with something on standard input.
    pub(crate) fn says_to(&self, args: &[&str], input: impl AsRef<[u8]>) -> String {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may stop reading early; then what it says matters and not the broken pipe.
        let _ = stdin.write_all(input.as_ref());
        drop(stdin);
        shown(&child.wait_with_output().expect("retell ends"))
    }

    /// Runs a command that must succeed and gives its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", shown(&output));
        String::from_utf8(output.stdout).expect("stdout is UTF-8")
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.ok(&["events"])
            .lines()
            .map(|line| serde_json::from_str(line).expect("events prints JSON"))
            .collect()
    }

    /// Recomputes the hash chain; gives the position of the head.
    pub(crate) fn verify_chain(&self) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime can be built");
        let log = runtime
            .block_on(SqliteLog::open(self.log(), OpenMode::Existing))
            .expect("the log can be opened");
        let check = runtime.block_on(log.check_chain(retell::log::unwatched()));
        let head = check.expect("the log can be read").into_result();
        head.expect("every hash follows from the one before")
            .position
    }
}

pub(crate) fn shown(output: &Output) -> String {
    let code = output
        .status
        .code()
        .map_or_else(|| "none".to_owned(), |code| code.to_string());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "exit {code}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// A line for `append`, without an id.
pub(crate) fn line(stream: &str, n: usize) -> String {
    format!("{{\"stream\":\"{stream}\",\"type\":\"T\",\"data\":{n}}}\n")
}

pub(crate) fn lines(count: usize) -> String {
    (1..=count)
        .map(|n| line(&format!("s{}", n % 10), n))
        .collect()
}
