//! The `retell` binary: exit codes and nothing else; the commands are in `retell::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    retell::cli::main()
}
