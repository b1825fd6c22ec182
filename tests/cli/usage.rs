//! Help that teaches, completions, and wrong usage (exit code 2).

use crate::instance::Instance;

const COMMANDS: [&str; 25] = [
    "append",
    "backup",
    "build",
    "catch-up",
    "check",
    "completions",
    "dead-letters",
    "deploy",
    "digest",
    "events",
    "init",
    "inspect",
    "migrate",
    "move",
    "pause",
    "promote",
    "query",
    "replay",
    "resume",
    "retire",
    "rollback",
    "serve",
    "status",
    "verify",
    "wait",
];

#[test]
fn all_commands_are_listed() {
    let it = Instance::new();
    insta::assert_snapshot!(it.ok(&["--help"]), @r#"
    Rebuild read models from an event log, beside the ones in use, and switch when they have caught up

    Usage: retell [OPTIONS] <COMMAND>

    Commands:
      init          Create the event log of an instance; harmless where there is one
      migrate       Bring the schema of an older log up to date with this retell
      append        Append events to the log: one from flags, or many from a file or standard input
      backup        Copy log, catalog and read models into a folder, while everything runs
      events        Print the events of the log, one a line, as JSON that `append` accepts again
      build         Compile a projection crate into a component that `retell deploy` takes
      catch-up      Bring versions to the head of the log, then return
      check         Check that the log is whole: walk along its hash chain, event by event
      completions   Print a completion script for a shell
      dead-letters  Show the events that a version could not apply, or decide about one of them
      deploy        Deploy a module: register it, replay the log into a fresh read model, and switch if asked to
      digest        Print the position of a read model and the digest of its tables' content
      inspect       Show a module's manifest, digest, size, contract and tables
      move          Bring a version to another server or folder
      pause         Stop working on a version; queries go on with what it has
      promote       Make a version live: queries get it from now on
      query         Run read-only SQL on one read model
      replay        Build a version again from position 1, beside its read model, and swap it in when it is ready
      resume        Let a paused or failed version go on
      retire        Drop a version's read model; the module is kept, so it can be built again
      rollback      Make the version live again that was live before
      serve         Run the host: keep all versions up to date until SIGINT or SIGTERM
      status        Show projections, versions, and how far they are
      verify        Replay a copy of a version with other cuts into batches, and compare
      wait          Wait until a read model has everything up to a position
      help          Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Options of every command:
          --data <DIR>         Folder of the instance: `log.db`, `read-models/` and `cache/` [env: RETELL_DATA=] [default: ./retell-data]
          --log <URL>          Another event log: `sqlite:///path/to/log.db` or `postgres://ROLE@SERVER/DATABASE` [env: RETELL_LOG=]
          --read-models <URL>  Where new versions get their read models: a folder, or `postgres://ROLE@SERVER/DATABASE` [env: RETELL_READ_MODELS=]
          --threads <N>        Threads that read ahead for replays, 0 for none [default: one per core] [env: RETELL_THREADS=]
          --json               Print data as JSON
      -q, --quiet              Say less on stderr
      -v, --verbose...         Say more on stderr (-vv for all)
    "#);
}

#[test]
fn every_command_teaches() {
    let it = Instance::new();
    for command in COMMANDS {
        let help = it.ok(&[command, "--help"]);
        assert!(
            help.contains("Example"),
            "{command} has no example:\n{help}"
        );
        assert!(
            help.contains(&format!("  retell {command}")) || help.contains(&format!(" {command}")),
            "{command}: the example shows another command:\n{help}"
        );
        // What prints data has --json, and its keys stand beside it.
        if !matches!(command, "completions" | "serve" | "events" | "query") {
            assert!(
                help.contains("With --json"),
                "{command} does not say what --json prints:\n{help}"
            );
        }
    }
    assert!(!it.path("retell-data").exists());
}

#[test]
fn help_of_the_lifecycle() {
    let it = Instance::new();
    insta::assert_snapshot!(it.ok(&["deploy", "--help"]), @r#"
    Deploy a module: register it, replay the log into a fresh read model, and switch if asked to

    The read model is built beside whatever is live; nothing that readers use is touched before the switch. While `retell serve` runs, it does the work and this command watches; otherwise this command does the work itself.

    Usage: retell deploy [OPTIONS] <FILE>

    Arguments:
      <FILE>
              The module, as `retell build` made it

    Options:
          --promote
              Make it the live version as soon as it is ready

          --no-wait
              Return as soon as it is registered

          --until <POSITION>
              Build it as of this position, and no further

          --on-error <WHAT>
              What to do about an event that the module can't apply: stop before it, leave it out, or leave out everything of its stream from there on [default: pause]
              
              [possible values: pause, skip, park-stream]

          --dead-letters-max <N>
              Stop after all once so many events are skipped or parked for their own sake [default: 1000]

          --limit <NAME=VALUE>
              Change what the module may use, as in memory=512MiB or batch-time=10s; can be given several times

          --verify[=<YES>]
              Replay it a second time with other cuts into batches, as `retell verify` does, and let it become ready only where both come to the same rows
              
              [possible values: true, false]

          --accept-dead-letters
              Promote it even if events are missing from it

          --data <DIR>
              Folder of the instance: `log.db`, `read-models/` and `cache/`

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Options of every command:
          --log <URL>
              Another event log: `sqlite:///path/to/log.db` or `postgres://ROLE@SERVER/DATABASE`
              
              [env: RETELL_LOG=]

          --read-models <URL>
              Where new versions get their read models: a folder, or `postgres://ROLE@SERVER/DATABASE`
              
              [env: RETELL_READ_MODELS=]

          --threads <N>
              Threads that read ahead for replays, 0 for none [default: one per core]
              
              [env: RETELL_THREADS=]

          --json
              Print data as JSON

      -q, --quiet
              Say less on stderr

      -v, --verbose...
              Say more on stderr (-vv for all)

    Examples:
      retell deploy articles.wasm              build it, and say how to make it live
      retell deploy articles.wasm --promote    make it live as soon as it is ready
      retell deploy articles.wasm --no-wait    leave the work to `retell serve`

    With --json: {"projection","version","digest","registered","state","role","position","events","seconds","events_per_s"}
    "#);
    insta::assert_snapshot!(it.ok(&["promote", "-h"]), @r#"
    Make a version live: queries get it from now on

    Usage: retell promote [OPTIONS] <NAME>

    Arguments:
      <NAME>  The version, as in articles@2.0.0

    Options:
          --accept-older         Accept a version that is behind and can't catch up; readers may go back in time
          --accept-dead-letters  Accept a version from which events are missing that it could not apply
          --data <DIR>           Folder of the instance: `log.db`, `read-models/` and `cache/`
      -h, --help                 Print help (see more with '--help')
      -V, --version              Print version

    Options of every command:
          --log <URL>          Another event log: `sqlite:///path/to/log.db` or `postgres://ROLE@SERVER/DATABASE` [env: RETELL_LOG=]
          --read-models <URL>  Where new versions get their read models: a folder, or `postgres://ROLE@SERVER/DATABASE` [env: RETELL_READ_MODELS=]
          --threads <N>        Threads that read ahead for replays, 0 for none [default: one per core] [env: RETELL_THREADS=]
          --json               Print data as JSON
      -q, --quiet              Say less on stderr
      -v, --verbose...         Say more on stderr (-vv for all)

    Example:
      retell promote articles@2.0.0

    With --json: {"projection","from","to","position"}
    "#);
    insta::assert_snapshot!(it.ok(&["wait", "-h"]), @r#"
    Wait until a read model has everything up to a position

    Usage: retell wait [OPTIONS] --position <POSITION> <NAME>

    Arguments:
      <NAME>  The projection (its live version), or a version of it

    Options:
          --position <POSITION>  The position that the read model must have reached
          --timeout-ms <N>       Give up after this long, in milliseconds [default: 30000]
          --data <DIR>           Folder of the instance: `log.db`, `read-models/` and `cache/`
      -h, --help                 Print help (see more with '--help')
      -V, --version              Print version

    Options of every command:
          --log <URL>          Another event log: `sqlite:///path/to/log.db` or `postgres://ROLE@SERVER/DATABASE` [env: RETELL_LOG=]
          --read-models <URL>  Where new versions get their read models: a folder, or `postgres://ROLE@SERVER/DATABASE` [env: RETELL_READ_MODELS=]
          --threads <N>        Threads that read ahead for replays, 0 for none [default: one per core] [env: RETELL_THREADS=]
          --json               Print data as JSON
      -q, --quiet              Say less on stderr
      -v, --verbose...         Say more on stderr (-vv for all)

    Example:
      retell wait articles --position 1042 --timeout-ms 2000

    With --json: {"projection","version","position","missing"}
    Exit code 4: not in time
    "#);
}

#[test]
fn the_help_lists_every_command() {
    let it = Instance::new();
    let help = it.ok(&["--help"]);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    let mut listed = listed;
    listed.sort_unstable();
    assert_eq!(
        listed, COMMANDS,
        "a new command needs a place in these tests"
    );
}

#[test]
fn completions_of_shells() {
    let it = Instance::new();
    let script = it.ok(&["completions", "bash"]);
    for word in COMMANDS
        .iter()
        .chain(&["--read-models", "--promote", "--accept-older"])
    {
        assert!(script.contains(word), "{word} is not completed");
    }
    let checked = it
        .shell("\"$@\" completions bash | bash -n", &[])
        .output()
        .expect("sh runs");
    assert!(checked.status.success(), "{checked:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(it.ok(&["completions", shell]).contains("retell"));
    }
    insta::assert_snapshot!(it.shows(&["completions", "csh"]), @r#"
    exit 2
    error: invalid value 'csh' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

      tip: a similar value exists: 'zsh'

    For more information, try '--help'.
    "#);
}

#[test]
fn wrong_usage() {
    let it = Instance::new();
    insta::assert_snapshot!(it.shows(&["deploi", "x.wasm"]), @r#"
    exit 2
    error: unrecognized subcommand 'deploi'

      tip: a similar subcommand exists: 'deploy'

    Usage: retell [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(it.shows(&["deploy"]), @r#"
    exit 2
    error: the following required arguments were not provided:
      <FILE>

    Usage: retell deploy <FILE>

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(it.shows(&["deploy", "x.wasm", "--until", "yesterday"]), @r#"
    exit 2
    error: invalid value 'yesterday' for '--until <POSITION>': invalid digit found in string

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(it.shows(&["promote", "articles@two"]), @r#"
    exit 2
    error: `articles@two` is not a name: write articles (the live version), articles@2 (its major 2) or articles@2.1.0 (one version)
      hint: `retell status` lists all names
    "#);
    insta::assert_snapshot!(it.shows(&["status", "\"; drop table"]), @r#"
    exit 1
    error: there is no event log at ./retell-data/log.db
      hint: create one with `retell init`, or name another folder with --data
    "#);
    insta::assert_snapshot!(it.shows(&["--log", "log.db", "status"]), @r#"
    exit 2
    error: the log URL `log.db` is neither sqlite:///path/to/log.db nor postgres://ROLE@SERVER/DATABASE
    "#);
    assert!(!it.path("retell-data").exists());
}

#[test]
fn its_version() {
    let it = Instance::new();
    let version = format!("retell {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(it.ok(&["--version"]), version);
    assert_eq!(
        it.ok(&["deploy", "--version"]).split(' ').next_back(),
        version.split(' ').next_back()
    );
}
