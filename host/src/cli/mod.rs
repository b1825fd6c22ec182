//! The command line: one file per command, this root, and the printer. Arguments are parsed only here.

mod append;
mod backup;
mod build;
mod check;
mod dead_letters;
mod deploy;
mod digest;
mod events;
mod init;
mod inspect;
mod migrate;
pub(crate) mod printer;
mod progress;
mod query;
mod replay;
mod serve;
mod session;
mod status;
mod switch;
mod verify;
mod wait;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Flags};
use printer::{Interrupted, Printer, Stdout};

/// Options that every command has are listed apart.
const GLOBAL: &str = "Options of every command";

/// Rebuild read models from an event log, beside the ones in use, and switch when they have caught up
#[derive(Debug, Parser)]
#[command(name = "retell", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// Print data as JSON
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Say less on stderr
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    quiet: bool,
    /// Say more on stderr (-vv for all)
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Migrate(migrate::Args),
    Append(append::Args),
    Backup(backup::Args),
    Events(events::Args),
    Build(build::Args),
    CatchUp(replay::CatchUp),
    Check(check::Args),
    Completions(Completions),
    DeadLetters(dead_letters::Args),
    Deploy(deploy::Args),
    Digest(digest::Args),
    Inspect(inspect::Args),
    Move(replay::Move),
    Pause(switch::Pause),
    Promote(switch::Promote),
    Query(query::Args),
    Replay(replay::Replay),
    Resume(switch::Resume),
    Retire(switch::Retire),
    Rollback(switch::Rollback),
    Serve(serve::Args),
    Status(status::Args),
    Verify(verify::Args),
    Wait(wait::Args),
}

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  retell completions bash > ~/.local/share/bash-completion/completions/retell"
)]
struct Completions {
    shell: clap_complete::Shell,
}

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) printer: Printer,
}

/// `--data DIR` behind the command.
const DATA_BEHIND: &str = "data_behind";

/// What may be written. `--data DIR` may stand before the command or behind it, except behind
/// `append`, whose own `--data` is the payload; a global flag of clap's can't make exceptions.
fn grammar() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        if command.get_name() == "append" {
            return command;
        }
        command.arg(
            Arg::new(DATA_BEHIND)
                .long("data")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Folder of the instance: `log.db`, `read-models/` and `cache/`"),
        )
    })
}

fn parse() -> Cli {
    let matches = grammar().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some((_, command)) = matches.subcommand()
        && let Ok(Some(folder)) = command.try_get_one::<PathBuf>(DATA_BEHIND)
    {
        cli.flags.data.clone_from(folder);
    }
    cli
}

/// Parses the arguments, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = parse();
    let printer = Printer::new(cli.json, cli.quiet);
    printer::install_tracing(cli.verbose, cli.quiet);
    let ran = Config::new(&cli.flags)
        .map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let message = error.to_string();
            printer::Usage { message, hint }.into()
        })
        .and_then(|config| {
            let context = Context { config, printer };
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            let ran = runtime.block_on(run(cli.command, &context));
            if ran.as_ref().is_err_and(anyhow::Error::is::<Interrupted>) {
                // What threads still compute is of no use to anybody.
                runtime.shutdown_background();
            }
            ran
        });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => printer.fail(&error),
    }
}

async fn run(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(args, context).await,
        Command::Migrate(args) => migrate::run(args, context).await,
        Command::Append(args) => append::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Backup(args) => backup::run(args, context).await,
        Command::Build(args) => build::run(args, context).await,
        Command::CatchUp(args) => replay::catch_up(args, context).await,
        Command::Check(args) => check::run(args, context).await,
        Command::Completions(args) => {
            let (mut command, mut script) = (grammar(), Vec::new());
            // It takes a failure to write for impossible.
            clap_complete::generate(args.shell, &mut command, "retell", &mut script);
            Ok(Stdout::lock().write_all(&script)?)
        }
        Command::DeadLetters(args) => dead_letters::run(args, context).await,
        Command::Deploy(args) => deploy::run(args, context).await,
        Command::Digest(args) => digest::run(args, context).await,
        Command::Inspect(args) => inspect::run(&args, context),
        Command::Pause(args) => switch::pause(args, context).await,
        Command::Promote(args) => switch::promote(args, context).await,
        Command::Query(args) => query::run(args, context).await,
        Command::Replay(args) => replay::replay(args, context).await,
        Command::Move(args) => replay::move_version(args, context).await,
        Command::Resume(args) => switch::resume(args, context).await,
        Command::Retire(args) => switch::retire(args, context).await,
        Command::Rollback(args) => switch::rollback(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
        Command::Wait(args) => wait::run(args, context).await,
    }
}

/// Runs until it is done, or until Ctrl-C or SIGTERM. A second signal ends the process at once: what
/// is committed is kept, as after any crash.
async fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done,
        () = signals.next() => {
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(i32::from(printer::INTERRUPTED));
            });
            Err(Interrupted.into())
        }
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
