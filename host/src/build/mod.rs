//! Compiles a projection crate into a component: finds a compiler for WebAssembly ([`toolchain`]),
//! asks cargo about the crate ([`package`]), builds it, and wraps the result ([`component`]).
//!
//! Runs the user's own tools and nothing else: it installs no system package, and all that it
//! writes is cargo's target folder and the file asked for.

mod component;
mod package;
mod toolchain;

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub use component::{ComponentError, componentize};
pub use package::PackageError;
pub use toolchain::ToolchainError;

use package::Package;
use toolchain::Toolchain;

/// What to build, and how loudly.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The crate's folder or its `Cargo.toml`; without one, the crate around the working directory.
    pub path: Option<PathBuf>,
    /// Keep cargo from saying more than errors and warnings.
    pub quiet: bool,
}

/// A component that nobody has checked or written yet.
#[derive(Debug, Clone)]
pub struct Built {
    pub package: String,
    pub component: Vec<u8>,
}

/// Why there is no component, or no file of it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    #[error("package `{package}` is no retell projection")]
    Component {
        package: String,
        #[source]
        source: ComponentError,
    },
    #[error("cannot write {}", file.display())]
    Write {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl BuildError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Package(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Component { source, .. } => source.hint(),
            Self::Write { .. } => Some("choose another place with `-o FILE`".to_owned()),
        }
    }
}

/// Builds one projection crate. Blocks for as long as cargo does, whose messages go to stderr.
pub fn build(request: &Request) -> Result<Built, BuildError> {
    let manifest = package::find_manifest(request.path.as_deref())?;
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let toolchain = Toolchain::find(folder)?;
    let package = Package::load(&toolchain, &manifest)?;
    let core_file = package.compile(&toolchain, request.quiet)?;
    let core = std::fs::read(&core_file).map_err(|source| PackageError::Artifact {
        file: core_file.clone(),
        source,
    })?;
    let component = componentize(&core).map_err(|source| BuildError::Component {
        package: package.name.clone(),
        source,
    })?;
    Ok(Built {
        package: package.name,
        component,
    })
}

impl Built {
    /// Where the component goes unless somebody says otherwise: into the working directory.
    pub fn default_file(&self) -> PathBuf {
        PathBuf::from(format!("{}.wasm", self.package))
    }

    /// Writes the component, all of it or nothing.
    pub fn write(&self, file: &Path) -> Result<(), BuildError> {
        write_whole(file, &self.component).map_err(|source| BuildError::Write {
            file: file.to_path_buf(),
            source,
        })
    }
}

/// Writes beside the file and renames, so that whoever reads it sees the old one or the new one.
fn write_whole(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".retell-build-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.persist(file)?;
    Ok(())
}
