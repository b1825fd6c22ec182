//! `retell build`: a projection crate becomes one `.wasm` file.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::printer::Failed;
use crate::build::{self, Request};

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

With --json: {\"file\",\"digest\",\"bytes\",\"package\"}, where digest is the SHA-256 of the file, by
which a host knows the module.")]
pub(crate) struct Args {
    /// The crate's folder [default: the crate around the working directory]
    path: Option<PathBuf>,
    /// Where to write the component [default: ./<package>.wasm]
    #[arg(short, long = "output", value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Output<'a> {
    file: &'a std::path::Path,
    digest: &'a str,
    bytes: u64,
    package: &'a str,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let request = Request {
        path: args.path,
        out: args.out,
        quiet: context.printer.quiet,
    };
    let built = tokio::task::spawn_blocking(move || build::build(&request))
        .await?
        .map_err(|error| {
            let hint = error.hint();
            anyhow::Error::from(error).context(Failed {
                message: "no component was built".to_owned(),
                hint,
            })
        })?;
    if context.printer.json {
        return context.printer.json(&Output {
            file: &built.file,
            digest: &built.digest,
            bytes: built.bytes,
            package: &built.package,
        });
    }
    context.printer.data(built.file.display())?;
    context.printer.say(format_args!(
        "  built package {}: {} KiB, sha256 {}…",
        built.package,
        built.bytes.div_ceil(1024),
        &built.digest[..12],
    ));
    context.printer.say(format_args!(
        "  next: retell deploy {}",
        built.file.display()
    ));
    Ok(())
}
