//! The quick start of the README, as a reader would type it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{guest_target, retell};

/// The shell blocks below a heading, up to the next one.
fn blocks(readme: &str, heading: &str) -> Vec<String> {
    let section = readme.split("\n## ").find(|it| it.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the README has a section {heading}"));
    section
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_quick_start_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = blocks(&readme, "Quick start");
    let (install, commands) = blocks.split_first().unwrap();
    assert!(install.contains("cargo install --path ."), "{install}");
    assert!(commands.len() >= 2, "{commands:?}");

    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root.join("projections"), folder.path().join("projections"))
        .unwrap();
    let installed = Path::new(retell().get_program())
        .parent()
        .unwrap()
        .to_owned();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-euc", &commands.concat()])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", installed.display()))
        .env("CARGO_TARGET_DIR", guest_target())
        .env_remove("RETELL_DATA")
        .env_remove("RETELL_LOG")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1\tNotes\tOn the engine\tAda\t1"), "{said}");
    assert!(said.contains("1\tAda\t1\t1\t1"), "{said}");
    assert!(folder.path().join("retell-data/log.db").exists());
}

/// A table of promises whose tests are gone would be worse than none.
#[test]
fn every_test_that_the_promises_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promises = std::fs::read_to_string(root.join("TRUST.md")).expect("it can be read");
    let mut count = 0;
    for command in promises.split('`').filter(|it| it.starts_with("--")) {
        let words: Vec<&str> = command.split(' ').collect();
        let (folder, filter) = match words[..] {
            ["--lib", filter] => (root.join("host/src"), filter),
            ["--test", test, filter] => (root.join("tests").join(test), filter),
            _ => panic!("what is `{command}`?"),
        };
        let tests = tests_in(&folder);
        assert!(
            tests.iter().any(|name| name.contains(filter)),
            "`{command}` names no test"
        );
        count += 1;
    }
    assert!(count > 15, "{count}");
}

/// The names of the tests of a crate, as `cargo test` filters them: modules, then the function. Modules
/// within a file are left out.
fn tests_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for path in sources(folder) {
        let source = std::fs::read_to_string(&path).expect("a text");
        let module = path.strip_prefix(folder).expect("it is in there");
        let module = module.with_extension("");
        let parts = module.iter().map(|it| it.to_string_lossy());
        let parts: Vec<_> = parts.filter(|it| it != "mod" && it != "main").collect();
        let mut functions = functions_behind_test(&source);
        if source.contains("\nconformance_tests!(") {
            functions.extend(rules_of_a_suite(&folder.join(&*parts[0])));
        }
        names.extend(
            functions
                .iter()
                .map(|it| format!("{}::{it}", parts.join("::"))),
        );
    }
    names
}

/// Functions with the attribute `#[test]` or `#[tokio::test]`.
fn functions_behind_test(source: &str) -> Vec<String> {
    let mut functions = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(function) = line.trim_start_matches("async ").strip_prefix("fn ")
            && std::mem::take(&mut is_test)
        {
            let end = function.find(['(', '<']).expect("it has arguments");
            functions.push(function[..end].to_owned());
        }
    }
    functions
}

/// The rules that the macro `conformance_tests` of a backend's trait makes tests of.
fn rules_of_a_suite(folder: &Path) -> Vec<String> {
    let files = ["conformance.rs", "conformance/mod.rs"].map(|it| folder.join(it));
    let suite = files.iter().find_map(|it| std::fs::read_to_string(it).ok());
    let suite = suite.expect("a suite of rules");
    let rules = suite.split("conformance_tests!($new_place =>").nth(1);
    let rules = rules.and_then(|it| it.split(')').next());
    let rules = rules.expect("a list of rules").split_whitespace();
    rules.map(str::to_owned).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of tests");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .collect()
}
