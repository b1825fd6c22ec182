//! The quick start of the README, as a reader would type it.

use std::path::Path;
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
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let promises = std::fs::read_to_string(root.join("TRUST.md")).expect("it can be read");
    let mut count = 0;
    for command in promises.split('`').filter(|it| it.starts_with("--")) {
        let words: Vec<&str> = command.split(' ').collect();
        let (folder, filter) = match words[..] {
            ["--lib", filter] => (root.join("host/src"), filter),
            ["--test", test, filter] => (root.join("tests").join(test), filter),
            _ => panic!("what is `{command}`?"),
        };
        let is_there = sources(&folder).iter().any(|path| {
            let module = path.file_stem().expect("a name").to_string_lossy();
            let source = std::fs::read_to_string(path).expect("a text");
            let mut lines = source.lines().map(str::trim_start);
            let named = |line: &str| line.starts_with("fn ") && line.contains(filter);
            let in_folder = path.components().any(|it| it.as_os_str() == filter);
            module == filter
                || in_folder
                || lines.any(|it| named(it.trim_start_matches("pub(crate) ")))
        });
        assert!(is_there, "`{command}` names no test");
        count += 1;
    }
    assert!(count > 15, "{count}");
}

fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
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
        .collect()
}
