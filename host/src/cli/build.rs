//! `retell build`: a projection crate becomes one `.wasm` file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::Context;
use super::printer::Failed;
use crate::build::{self, BuildError, Built, Request};
use crate::wasm::{Engine, Module};

/// Compile a projection crate into a component that `retell deploy` takes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The crate is a Rust library with `crate-type = [\"cdylib\", \"rlib\"]` that depends on retell-sdk and
has one #[projection] function. It is compiled for wasm32-unknown-unknown, optimised and without
WASI, by the first of these that works:
  1. the Rust compiler on the PATH, if it has that target
  2. the same, after `rustup target add wasm32-unknown-unknown`
  3. Debian's packages rustc-web, cargo-web and rust-web-src

Examples:
  retell build                              the crate around the working directory
  retell build projections/articles_v1      writes ./articles_v1.wasm
  retell build my/crate -o out/mine.wasm

The result is checked as `deploy` checks it: its manifest must make sense to this host.

With --json: {\"file\",\"digest\",\"bytes\",\"package\",\"projection\",\"version\"}, where digest is the
SHA-256 of the file, by which a host knows the module.")]
pub(crate) struct Args {
    /// The crate's folder [default: the crate around the working directory]
    path: Option<PathBuf>,
    /// Where to write the component [default: ./<package>.wasm]
    #[arg(short, long = "output", value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    digest: &'a str,
    bytes: usize,
    package: &'a str,
    projection: &'a str,
    version: &'a str,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let request = Request {
        path: args.path,
        quiet: context.printer.quiet,
    };
    let (built, module) = tokio::task::spawn_blocking(move || {
        let built = build::build(&request).map_err(explain)?;
        let module = check(&built)?;
        anyhow::Ok((built, module))
    })
    .await??;
    let file = args.out.unwrap_or_else(|| built.default_file());
    built.write(&file).map_err(explain)?;
    report(&built, &module, &file, context)
}

fn explain(error: BuildError) -> anyhow::Error {
    let hint = error.hint();
    anyhow::Error::from(error).context(Failed {
        message: "no component was built".to_owned(),
        hint,
    })
}

/// A module that this host would refuse is better refused now, before it is a file.
fn check(built: &Built) -> anyhow::Result<Module> {
    // The compiled code is not worth keeping: the next build has another.
    let nowhere = tempfile::tempdir().context("no temporary folder")?;
    let engine = Engine::new(nowhere.path())?;
    Module::load(&engine, &built.component).map_err(|error| {
        let hint = Some(error.hint().to_owned());
        anyhow::Error::from(error).context(Failed {
            message: format!("package `{}` makes no module that can run", built.package),
            hint,
        })
    })
}

fn report(built: &Built, module: &Module, file: &Path, context: &Context) -> anyhow::Result<()> {
    let printer = context.printer;
    let manifest = module.manifest();
    if printer.json {
        return printer.json(&Report {
            file: file.display().to_string(),
            digest: module.digest(),
            bytes: built.component.len(),
            package: &built.package,
            projection: &manifest.name,
            version: &manifest.version,
        });
    }
    printer.data(file.display())?;
    printer.say(format_args!(
        "  {} {}, {} KiB, sha256 {}…",
        manifest.name,
        manifest.version,
        built.component.len().div_ceil(1024),
        &module.digest()[..12],
    ));
    printer.say(format_args!("  next: retell deploy {}", file.display()));
    Ok(())
}
