//! The command line: one file per command, this root, and the printer. Arguments are parsed only here.

mod build;
pub(crate) mod printer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Flags};
use printer::Printer;

/// Rebuild read models from an event log, beside the ones in use, and switch when they have caught up
#[derive(Debug, Parser)]
#[command(name = "retell", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Say less on stderr
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more on stderr (-vv for all)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
}

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) printer: Printer,
}

/// Parses the arguments, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer::new(cli.json, cli.quiet, cli.verbose);
    printer::install_tracing(cli.verbose, cli.quiet);
    let ran = Config::new(&cli.flags)
        .map_err(anyhow::Error::from)
        .and_then(|config| {
            let context = Context { config, printer };
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(cli.command, &context))
        });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => printer.fail(&error),
    }
}

async fn run(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Build(args) => build::run(args, context).await,
    }
}
