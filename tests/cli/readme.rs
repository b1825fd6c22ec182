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
