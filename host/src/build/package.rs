//! What cargo knows about a crate, and having cargo compile it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use super::toolchain::{TARGET, Toolchain};

/// Why cargo could not compile the crate.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("there is no crate at {}: no Cargo.toml there", path.display())]
    NoManifest { path: PathBuf },
    #[error("{} is a workspace, and no package of its own", manifest.display())]
    Workspace {
        manifest: PathBuf,
        /// Folders of packages in it that make a cdylib.
        candidates: Vec<PathBuf>,
    },
    #[error("package `{package}` makes no cdylib, so cargo would not link a module for it")]
    NoCdylib {
        package: String,
        /// Folders of other packages in its workspace that make one.
        candidates: Vec<PathBuf>,
    },
    #[error("cargo could not read the crate: {message}")]
    Metadata { message: String },
    #[error("package `{package}` does not compile; cargo says why above")]
    Compile { package: String },
    #[error("cannot read what cargo built at {}", file.display())]
    Artifact {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cargo says that package `{package}` was built, but named no module")]
    NoArtifact { package: String },
    #[error("cannot run cargo")]
    Run(#[source] std::io::Error),
}

impl PackageError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoManifest { .. } => {
                Some("name the crate's folder: `retell build PATH`".to_owned())
            }
            Self::Workspace { candidates, .. } | Self::NoCdylib { candidates, .. }
                if let Some(folder) = candidates.first() =>
            {
                let folder = folder.display();
                Some(format!(
                    "name a package that makes one: `retell build {folder}`"
                ))
            }
            Self::Workspace { .. } => {
                Some("none of its packages makes a module; name another folder".to_owned())
            }
            Self::NoCdylib { .. } => {
                Some("add to its Cargo.toml: [lib] crate-type = [\"cdylib\", \"rlib\"]".to_owned())
            }
            _ => None,
        }
    }
}

/// The crate's `Cargo.toml`, absolute. Without a path it is looked for upwards, as cargo does.
pub(super) fn find_manifest(path: Option<&Path>) -> Result<PathBuf, PackageError> {
    let Some(path) = path else {
        let here = std::env::current_dir().map_err(PackageError::Run)?;
        return here
            .ancestors()
            .map(|folder| folder.join("Cargo.toml"))
            .find(|manifest| manifest.is_file())
            .ok_or(PackageError::NoManifest { path: here });
    };
    let manifest = if path.is_dir() {
        path.join("Cargo.toml")
    } else {
        path.to_path_buf()
    };
    let named = manifest
        .file_name()
        .is_some_and(|name| name == "Cargo.toml");
    match manifest.canonicalize() {
        Ok(manifest) if named => Ok(manifest),
        _ => Err(PackageError::NoManifest {
            path: path.to_path_buf(),
        }),
    }
}

/// One package, ready to be compiled.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    id: String,
    manifest: PathBuf,
    target: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageMetadata>,
    workspace_members: Vec<String>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct PackageMetadata {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<TargetMetadata>,
}

#[derive(Deserialize)]
struct TargetMetadata {
    kind: Vec<String>,
}

impl PackageMetadata {
    fn makes_cdylib(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|kind| kind == "cdylib"))
    }
}

impl Package {
    pub(super) fn load(toolchain: &Toolchain, manifest: &Path) -> Result<Self, PackageError> {
        let output = toolchain
            .cargo()
            .args([
                "metadata",
                "--format-version=1",
                "--filter-platform",
                TARGET,
            ])
            .arg("--manifest-path")
            .arg(manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(PackageError::Run)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let message = said.trim().trim_start_matches("error: ").to_owned();
            return Err(PackageError::Metadata { message });
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| PackageError::Metadata {
                message: error.to_string(),
            })?;
        let ours = metadata.packages.iter().find(|package| {
            package.manifest_path == manifest
                || package
                    .manifest_path
                    .canonicalize()
                    .is_ok_and(|path| path == manifest)
        });
        let Some(ours) = ours else {
            return Err(PackageError::Workspace {
                manifest: manifest.to_path_buf(),
                candidates: candidates(&metadata),
            });
        };
        if !ours.makes_cdylib() {
            return Err(PackageError::NoCdylib {
                package: ours.name.clone(),
                candidates: candidates(&metadata),
            });
        }
        Ok(Self {
            name: ours.name.clone(),
            id: ours.id.clone(),
            manifest: manifest.to_path_buf(),
            // A folder of its own: cargo locks a target folder, and `cargo test` holds that lock.
            target: metadata.target_directory.join("retell-guests"),
        })
    }

    /// Has cargo compile the package, and returns the core module that it made.
    pub(super) fn compile(
        &self,
        toolchain: &Toolchain,
        quiet: bool,
    ) -> Result<PathBuf, PackageError> {
        let mut cargo = toolchain.cargo();
        cargo
            .args(["build", "--release", "--lib", "--target", TARGET])
            .arg("--message-format=json-render-diagnostics")
            .arg("--manifest-path")
            .arg(&self.manifest)
            .args(["--package", &self.id])
            .arg("--target-dir")
            .arg(&self.target)
            .args(toolchain.build_arguments())
            // One profile for all guests, whatever the crate says of native builds: it decides how
            // fast a replay is, and that a module is the same wherever it is built.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_LTO", "true")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            // A count that overflows must fail that event, in the module as in `cargo test`.
            .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
            // Function names stay: the backtrace of a panic is made of them.
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
            // Flags meant for native code (a linker, a processor) would break a guest.
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(toolchain))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if quiet {
            cargo.arg("--quiet");
        }
        let mut child = cargo.spawn().map_err(PackageError::Run)?;
        let stdout = child.stdout.take().expect("stdout was asked to be piped");
        let artifact = find_artifact(BufReader::new(stdout), &self.id);
        let status = child.wait().map_err(PackageError::Run)?;
        if !status.success() {
            return Err(PackageError::Compile {
                package: self.name.clone(),
            });
        }
        artifact
            .map_err(PackageError::Run)?
            .ok_or_else(|| PackageError::NoArtifact {
                package: self.name.clone(),
            })
    }
}

/// Panic messages carry source paths. Where this machine keeps its crates is nobody's business,
/// and would change the module's digest from machine to machine.
fn rust_flags(toolchain: &Toolchain) -> OsString {
    let sources = sources();
    let sources = sources.iter().map(|path| (path.as_path(), "/crates"));
    let mut flags = OsString::new();
    for (from, to) in sources.chain(toolchain.remapped()) {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

fn candidates(metadata: &Metadata) -> Vec<PathBuf> {
    metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .filter(|package| package.makes_cdylib())
        .filter_map(|package| package.manifest_path.parent())
        .map(Path::to_path_buf)
        .collect()
}

/// Where cargo unpacks what comes from registries and repositories. The same for every crate, whatever it depends
/// on: other flags would mean building the standard library again.
fn sources() -> Vec<PathBuf> {
    let Some(home) = crate::config::cargo_home() else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(home.join("registry/src"));
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.push(home.join("git/checkouts"));
    found.sort();
    found
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The module among cargo's messages. Reads them all: cargo must not block on a full pipe.
fn find_artifact(messages: impl BufRead, package: &str) -> std::io::Result<Option<PathBuf>> {
    let mut found = None;
    for line in messages.lines() {
        let line = line?;
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            continue;
        };
        if message.reason == "compiler-artifact" && message.package_id == package {
            let module = message
                .filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|kind| kind == "wasm"));
            found = module.or(found);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_among_other_artifacts() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"dep","filenames":["/t/dep.wasm"]}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","package_id":"us","filenames":["/t/us.rlib","/t/us.wasm"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = find_artifact(messages.as_bytes(), "us").unwrap();
        assert_eq!(found, Some(PathBuf::from("/t/us.wasm")));
    }

    #[test]
    fn a_folder_without_a_crate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = find_manifest(Some(folder.path())).unwrap_err();
        assert!(error.to_string().contains("no Cargo.toml there"), "{error}");
        assert!(error.hint().unwrap().contains("retell build PATH"));
    }
}
