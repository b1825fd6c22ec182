//! What the walk-throughs share: each step is a sentence, the command that does it, and what the
//! command printed. The commands are those a user would type.

#![expect(
    clippy::print_stdout,
    reason = "a walk-through is there to be read on stdout"
)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One instance of retell, driven through its binary.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    retell: PathBuf,
    data: PathBuf,
}

impl Steps {
    /// The binary is found beside the example: cargo puts examples into a folder below it.
    pub(crate) fn new(data: &Path) -> Result<Self> {
        let here = std::env::current_exe().context("cannot tell where this example is")?;
        let retell = here
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("retell"))
            .find(|file| file.is_file())
            .context("there is no `retell` beside this example: run `cargo build` first")?;
        Ok(Self {
            retell,
            data: data.to_path_buf(),
        })
    }

    /// `retell` on this instance, for steps that need more than [`Self::run`].
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.retell);
        command.arg("--data").arg(&self.data);
        command
    }

    /// Shows the command, runs it, and lets it print.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<()> {
        show(arguments);
        let status = self.command().args(arguments).status()?;
        if !status.success() {
            bail!("that command failed ({status})");
        }
        Ok(())
    }

    /// Runs the command out of sight and returns what it printed.
    pub(crate) fn ask<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self
            .command()
            .args(arguments)
            .stderr(Stdio::piped())
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Builds one of the projections that ship with retell and returns the module.
    pub(crate) fn build(&self, projection: &str) -> Result<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("projections")
            .join(projection);
        let module = self.data.with_extension("modules").join(projection);
        let module = module.with_extension("wasm");
        if let Some(folder) = module.parent() {
            std::fs::create_dir_all(folder)?;
        }
        println!("  $ retell build projections/{projection}");
        let output = Command::new(&self.retell)
            .args(["--quiet", "build", "-o"])
            .arg(&module)
            .arg(&source)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(module)
    }
}

/// A sentence on what comes next.
pub(crate) fn explain(sentence: &str) {
    println!("\n# {sentence}");
}

/// Something that was seen.
pub(crate) fn note(line: &str) {
    println!("  {line}");
}

/// Prints the command as a user would type it.
fn show<S: AsRef<OsStr>>(arguments: &[S]) {
    let mut line = String::from("  $ retell");
    for argument in arguments {
        let argument = argument.as_ref().to_string_lossy();
        let shown = match Path::new(argument.as_ref()).file_name() {
            Some(name) if argument.ends_with(".wasm") => name.to_string_lossy(),
            _ => argument,
        };
        line.push(' ');
        if shown.contains([' ', '*', '(', '\'']) {
            line.push('"');
            line.push_str(&shown);
            line.push('"');
        } else {
            line.push_str(&shown);
        }
    }
    println!("{line}");
}
