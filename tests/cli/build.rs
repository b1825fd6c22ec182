//! `retell build`: where it may be run, and what it says of crates that are no projections.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{guest_target, retell};

/// A crate that needs no dependency, and so compiles at once. Each has a name of its own, since they
/// share a target folder.
fn scratch_crate(name: &str, manifest: &str, source: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n{manifest}"
    );
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("src/lib.rs"), source).unwrap();
    folder
}

fn build(folder: &Path) -> Output {
    retell()
        .arg("build")
        .arg(folder)
        .args(["--quiet", "-o"])
        .arg(folder.join("out.wasm"))
        .env("CARGO_TARGET_DIR", guest_target())
        .output()
        .unwrap()
}

/// The last lines that begin with `error:`, which are retell's own, with the folder left out.
fn error_of(output: &Output, folder: &Path) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours = said.rfind("error: ").unwrap();
    let folder = folder.canonicalize().unwrap();
    said[ours..].replace(folder.to_str().unwrap(), "FOLDER")
}

const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]\n";

#[test]
fn a_projection_is_built_from_any_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("projections");
    let output = retell()
        .args(["--json", "--quiet", "build"])
        .arg(crates.join("articles_v1"))
        .env("CARGO_TARGET_DIR", guest_target())
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["file"], "articles_v1.wasm");
    assert_eq!(said["package"], "articles_v1");
    assert_eq!(said["projection"], "articles");
    assert_eq!(said["version"], "1.0.0");

    let module = std::fs::read(elsewhere.path().join("articles_v1.wasm")).unwrap();
    assert_eq!(said["bytes"], module.len());
    let mut digest = String::new();
    for byte in Sha256::digest(&module) {
        write!(digest, "{byte:02x}").unwrap();
    }
    assert_eq!(said["digest"], digest);
    let home = std::env::var("HOME").unwrap();
    assert!(
        !String::from_utf8_lossy(&module).contains(&home),
        "a module must not tell where it was built"
    );
}

#[test]
fn a_folder_without_a_crate() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(error_of(&build(folder.path()), folder.path()), @r#"
    error: no component was built
      caused by: there is no crate at FOLDER: no Cargo.toml there
      hint: name the crate's folder: `retell build PATH`
    "#);
}

#[test]
fn a_workspace_is_told_which_packages_it_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("Cargo.toml"),
        "[workspace]\nmembers = [\"one\"]\nresolver = \"3\"\n",
    )
    .unwrap();
    std::fs::create_dir_all(folder.path().join("one/src")).unwrap();
    std::fs::write(folder.path().join("one/src/lib.rs"), "").unwrap();
    std::fs::write(
        folder.path().join("one/Cargo.toml"),
        "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n",
    )
    .unwrap();
    insta::assert_snapshot!(error_of(&build(folder.path()), folder.path()), @r#"
    error: no component was built
      caused by: FOLDER/Cargo.toml is a workspace, and no package of its own
      hint: name a package that makes one: `retell build FOLDER/one`
    "#);
    // The package at the root of retell's own workspace is one, but makes no module.
    insta::assert_snapshot!(error_of(&build(root), root), @r#"
    error: no component was built
      caused by: package `retell` makes no cdylib, so cargo would not link a module for it
      hint: name a package that makes one: `retell build FOLDER/projections/articles_v1`
    "#);
}

#[test]
fn a_crate_without_a_projection() {
    let folder = scratch_crate("scratch-silent", CDYLIB, "pub fn nothing() {}");
    insta::assert_snapshot!(error_of(&build(folder.path()), folder.path()), @r#"
    error: no component was built
      caused by: package `scratch-silent` is no retell projection
      caused by: the module carries no contract stamp: does the crate use #[projection]?
      hint: put #[projection(name = "…", version = "…", tables(…))] on one function, and depend on retell-sdk
    "#);
}

#[test]
fn a_crate_that_asks_for_wasi() {
    let folder = scratch_crate(
        "scratch-wasi",
        CDYLIB,
        r#"
        #[link(wasm_import_module = "wasi_snapshot_preview1")]
        unsafe extern "C" { fn random_get(buffer: *mut u8, bytes: usize) -> u16; }
        #[unsafe(no_mangle)]
        pub extern "C" fn pick() -> u8 {
            let mut byte = 0;
            unsafe { random_get(&raw mut byte, 1) };
            byte
        }
        "#,
    );
    insta::assert_snapshot!(error_of(&build(folder.path()), folder.path()), @r#"
    error: no component was built
      caused by: package `scratch-wasi` is no retell projection
      caused by: it asks for WASI, which a projection never gets: wasi_snapshot_preview1 random_get
      hint: find the dependency with `cargo tree --target wasm32-unknown-unknown`: a projection has no clock, randomness, files or network
    "#);
}

#[test]
fn a_crate_that_does_not_compile() {
    let folder = scratch_crate("scratch-broken", CDYLIB, "fn broken( {}");
    let output = build(folder.path());
    insta::assert_snapshot!(error_of(&output, folder.path()), @r#"
    error: no component was built
      caused by: package `scratch-broken` does not compile; cargo says why above
    "#);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("src/lib.rs:1"),
        "cargo's own words are shown: {said}"
    );
    assert!(!folder.path().join("out.wasm").exists());
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused_before_it_is_a_file() {
    let folder = scratch_crate(
        "scratch-senseless",
        &format!(
            "{CDYLIB}[dependencies]\nretell-sdk = {{ path = \"{}/guest-sdk\" }}\n",
            env!("CARGO_MANIFEST_DIR")
        ),
        r#"
        use retell_sdk::prelude::*;
        #[derive(Event)]
        enum Events { Happened { id: String } }
        #[derive(Table)]
        struct Thing { #[key] id: String }
        #[projection(name = "things", version = "1.0.0-", tables(Thing))]
        fn project(event: Events, _meta: &Meta, db: &mut Db) -> Result<()> {
            let Events::Happened { id } = event;
            db.put(Thing { id })
        }
        "#,
    );
    // The same versions as everything else, so that nothing has to be fetched.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    std::fs::copy(lock, folder.path().join("Cargo.lock")).unwrap();
    insta::assert_snapshot!(error_of(&build(folder.path()), folder.path()), @r"
    error: package `scratch-senseless` makes no module that can run
      caused by: its manifest makes no sense: version `1.0.0-` is not a semantic version such as 1.0.0: empty identifier segment in pre-release identifier
      hint: correct the projection's declaration and run `retell build PATH` again
    ");
    assert!(!folder.path().join("out.wasm").exists());
}

#[test]
fn a_crate_with_a_broken_manifest() {
    let folder = scratch_crate(
        "scratch-manifest",
        "[dependencies]\nnothing = { path = \"gone\" }\n",
        "",
    );
    let said = error_of(&build(folder.path()), folder.path());
    assert!(said.contains("cargo could not read the crate"), "{said}");
    assert!(said.contains("gone"), "{said}");
}
