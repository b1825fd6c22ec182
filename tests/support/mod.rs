//! What integration tests share: guests built on demand, and the binary under test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

/// The `retell` binary that cargo built for this test run.
pub(crate) fn retell() -> Command {
    Command::new(env!("CARGO_BIN_EXE_retell"))
}

/// Where the sources of guests are.
const GUESTS: [&str; 3] = ["projections", "tests/guests", "tests/bench/projections"];

/// The component of the guest of this name, built now if its sources changed.
/// Tests in other processes wait for the one that builds.
pub(crate) fn guest(name: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    // A test that failed while it held the lock must not fail the others.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built
        .entry(name.to_owned())
        .or_insert_with(|| build_guest(name))
        .clone()
}

/// Cargo's target folder, for guests too, so that the standard library is built at most once.
pub(crate) fn guest_target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo puts its tmp into the target folder")
}

fn build_guest(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = GUESTS
        .iter()
        .map(|folder| root.join(folder).join(name))
        .find(|folder| folder.join("Cargo.toml").exists())
        .unwrap_or_else(|| panic!("there is no guest `{name}` in {GUESTS:?}"));
    let target = guest_target();
    let folder = target.join("guests");
    std::fs::create_dir_all(&folder).expect("target/guests can be made");
    let lock = std::fs::File::create(folder.join(".lock")).expect("the lock file can be made");
    lock.lock().expect("the lock can be taken");

    let file = folder.join(format!("{name}.wasm"));
    // What it is made of, and what makes it: the same list is in `.ci/guest`. The guests that only tests
    // need are in workspaces of their own.
    let mut sources = vec![source.clone()];
    sources.extend(
        ["guest-sdk", "host/src/build", "Cargo.toml", "Cargo.lock"].map(|it| root.join(it)),
    );
    let own = ["Cargo.toml", "Cargo.lock"].map(|it| source.with_file_name(it));
    sources.extend(own.into_iter().filter(|it| it.exists()));
    if modified(&file).is_some_and(|built| sources.iter().all(|path| !newer(path, built))) {
        return file;
    }
    let output = retell()
        .arg("build")
        .arg(&source)
        .arg("-o")
        .arg(&file)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("retell runs");
    assert!(
        output.status.success(),
        "guest `{name}` does not build; run `make setup` if a compiler is missing\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    file
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|found| found.modified()).ok()
}

/// Whether the file, or any file in the folder, changed after `built`.
fn newer(path: &Path, built: SystemTime) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else {
        return modified(path).is_none_or(|changed| changed > built);
    };
    entries.flatten().any(|entry| newer(&entry.path(), built))
}
