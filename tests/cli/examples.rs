//! The examples run, and say what they promise.

use std::path::Path;
use std::process::{Command, Output};

use crate::repository;
use crate::support::guest_target;

/// An example that `cargo test` built beside the binary.
fn example(name: &str) -> Command {
    let file = Path::new(env!("CARGO_BIN_EXE_retell"))
        .with_file_name("examples")
        .join(name);
    assert!(
        file.exists(),
        "examples are built by `cargo test` or `cargo build --examples`, and not by `cargo test --test cli`"
    );
    let mut command = Command::new(file);
    // Guests are compiled where those of other tests are.
    command.env("CARGO_TARGET_DIR", guest_target());
    command
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn the_demo_goes_through_with_no_query_failing() {
    let folder = tempfile::tempdir().unwrap();
    let output = example("demo")
        .arg("3000")
        .arg(folder.path().join("demo"))
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("failed queries: 0"), "{said}");
    assert!(said.contains("What to try next"), "{said}");
    assert!(said.contains("retell promote articles@2.0.0"), "{said}");
}

#[test]
fn the_git_history_example_retells_any_repository() {
    let repository = repository::generated(42, 25);
    let output = example("git_history")
        .arg(repository.path())
        .output()
        .unwrap();
    let said = said(&output);
    assert!(
        said.contains("still equal to `git ls-tree -r HEAD`"),
        "{said}"
    );
}

#[test]
fn generated_content_is_the_same_every_time() {
    let once = example("generate_content")
        .args(["500", "3"])
        .output()
        .unwrap();
    let again = example("generate_content")
        .args(["500", "3"])
        .output()
        .unwrap();
    let other = example("generate_content")
        .args(["500", "4"])
        .output()
        .unwrap();
    assert_eq!(said(&once).lines().count(), 500);
    assert_eq!(once.stdout, again.stdout);
    assert_ne!(once.stdout, other.stdout);
}
