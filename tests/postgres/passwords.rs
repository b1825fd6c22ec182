//! Passwords stay where they are: in the environment, in `.pgpass`, or in a URL that nobody repeats.

use std::fmt::Write as _;

use crate::cluster::cluster;
use crate::everywhere::database_of;
use crate::instance::{Instance, Where, ended};

const SECRET: &str = "hunter-2-hunter";

#[test]
fn no_output_and_no_table_has_a_password_in_it() {
    let url = cluster().new_database();
    // The cluster lets everybody in; what matters is what becomes of the password.
    let with_password = url.replacen("postgres@", &format!("postgres:{SECRET}@"), 1);
    let it = Instance::initialised(Where::Server(with_password.clone()), Where::Files);
    let mut said = String::new();
    for args in [
        &["init"][..],
        &["init", "--json"],
        &["append", "--stream", "s", "--type", "T", "--data", "1"],
        &["migrate"],
        &["-v", "status"],
        &["status", "--json"],
        &["deploy", "nothing.wasm"],
        &["deploy", "nothing.wasm", "--read-models", &with_password],
        &[
            "--log",
            &format!("{with_password}&pasword={SECRET}"),
            "status",
        ],
        &[
            "--log",
            &with_password.replacen("localhost", "localhost:1x", 1),
            "status",
        ],
        &[
            "--log",
            &with_password.replacen("test_", "no_such_", 1),
            "status",
        ],
    ] {
        let ended = it.run(args);
        let _ = writeln!(said, "{args:?}: {}{}", ended.stdout, ended.stderr);
    }
    let told: String = said
        .lines()
        .map(|line| line.split_once("]: ").map_or(line, |(_, said)| said))
        .collect();
    assert!(!told.contains(SECRET), "{said}");
    assert!(told.contains("has its password in it"), "{said}");
    assert!(said.contains("hint: leave it to ~/.pgpass"), "{said}");
    let dump = cluster().psql(
        database_of(&url),
        "SELECT coalesce(string_agg(location, ' '), '') FROM retell.builds",
    );
    assert!(!dump.contains(SECRET), "{dump}");
}

#[test]
fn a_password_is_taken_from_where_the_url_says() {
    let url = cluster().new_database();
    let named = format!("{url}&password_env=SHOP_PASSWORD");
    let it = Instance::new(Where::Server(named.clone()), Where::Server(named));
    let missing = it.run(&["status"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(
        missing.stderr.contains("`SHOP_PASSWORD`, which is not set"),
        "{missing:?}"
    );
    let with = |args: &[&str]| {
        let mut command = it.command(args);
        command.env("SHOP_PASSWORD", SECRET);
        ended(command.output().expect("retell runs"))
    };
    assert_eq!(with(&["init"]).code, Some(0));
    let file = it.scripted(&crate::scripts::manifest("ticks", "1.0.0"));
    let deployed = with(&["deploy", "-q", &file, "--promote"]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    // The catalog remembers where the password is, and not what it is.
    let location = cluster().psql(database_of(&url), "SELECT location FROM retell.builds");
    assert!(
        location.contains("password_env=SHOP_PASSWORD"),
        "{location}"
    );
}
