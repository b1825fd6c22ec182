//! Finds a way to compile for `wasm32-unknown-unknown`, whose standard library is not on every
//! machine. In this order: the rustc in use has it; rustup can fetch it; Debian's `rustc-web` builds
//! it from `rust-web-src`. It never installs a system package: it says which command would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The target of every guest. No WASI: what cannot be imported cannot be misused.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// How long rustup may take to fetch the standard library (about 20 MB).
const RUSTUP_TIMEOUT: Duration = Duration::from_mins(2);

/// The same where another way is ready: servers that never answer must not stall every build.
const RUSTUP_TIMEOUT_WITH_FALLBACK: Duration = Duration::from_secs(15);

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_STD_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
const DEBIAN_INSTALL: &str =
    "apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src";

/// Why nothing here can compile for WebAssembly.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    #[error("there is no Rust compiler: neither `rustc` nor `cargo` is on the PATH")]
    NoRust,
    #[error(
        "the Rust compiler here has no standard library for {TARGET}{}",
        .rustup.as_deref().map(|why| format!(", and rustup could not fetch it: {why}")).unwrap_or_default()
    )]
    NoStandardLibrary {
        /// Why rustup failed; none where there is no rustup.
        rustup: Option<String>,
        debian: bool,
    },
    #[error(
        "the standard library must be built from source, and there is no `rust-lld` to link with"
    )]
    NoLinker,
    #[error("cannot run `{program}`")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

impl ToolchainError {
    /// The one command to run.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRust => Some(
                "install Rust with rustup, see https://rustup.rs, and run this again".to_owned(),
            ),
            Self::NoStandardLibrary { debian: true, .. } => {
                Some(format!("as root, run `{DEBIAN_INSTALL}`"))
            }
            Self::NoStandardLibrary { .. } => Some(format!("run `rustup target add {TARGET}`")),
            Self::NoLinker => {
                Some("as root, run `apt-get install -y --no-install-recommends lld`".to_owned())
            }
            Self::Run { .. } => None,
        }
    }
}

/// A way to compile guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// `cargo` and `rustc` of the PATH have all they need.
    Plain,
    /// Debian's compiler builds the standard library from Debian's source, once per target folder.
    BuildStd {
        linker: PathBuf,
        std_source: PathBuf,
    },
}

impl Toolchain {
    /// Looks for a toolchain as seen from `folder`, where a `rust-toolchain.toml` may choose one.
    pub(super) fn find(folder: &Path) -> Result<Self, ToolchainError> {
        let rustc = rustc_answer(folder, &["--print", "target-libdir", "--target", TARGET])?;
        if rustc.as_deref().is_some_and(has_std) {
            return Ok(Self::Plain);
        }
        let fallback = [DEBIAN_STD_SOURCE, DEBIAN_RUSTC, DEBIAN_CARGO]
            .iter()
            .all(|file| Path::new(file).exists());
        let timeout = if fallback {
            RUSTUP_TIMEOUT_WITH_FALLBACK
        } else {
            RUSTUP_TIMEOUT
        };
        let rustup = match rustup_add(folder, timeout)? {
            RustupEnd::Added => return Ok(Self::Plain),
            RustupEnd::Failed(why) => Some(why),
            RustupEnd::Absent => None,
        };
        if fallback {
            return Self::debian(folder);
        }
        let debian = Path::new("/etc/debian_version").exists() && on_path("apt-get");
        if rustc.is_none() && rustup.is_none() && !debian {
            return Err(ToolchainError::NoRust);
        }
        Err(ToolchainError::NoStandardLibrary { rustup, debian })
    }

    fn debian(folder: &Path) -> Result<Self, ToolchainError> {
        let std_source = PathBuf::from(DEBIAN_STD_SOURCE)
            .ancestors()
            .nth(3)
            .map_or_else(PathBuf::new, Path::to_path_buf);
        Ok(Self::BuildStd {
            linker: linker(folder)?,
            std_source,
        })
    }

    /// The cargo to run, with the environment that makes it compile guests.
    pub(super) fn cargo(&self) -> Command {
        match self {
            Self::Plain => Command::new("cargo"),
            Self::BuildStd { linker, .. } => {
                let mut cargo = Command::new(DEBIAN_CARGO);
                cargo
                    // Debian's compiler is a stable one; building std is still an unstable feature.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                cargo
            }
        }
    }

    /// What `cargo build` needs beside the ordinary arguments.
    pub(super) fn build_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::BuildStd { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }

    /// Source folders whose place on this machine must not show in a module, with what to show.
    pub(super) fn remapped(&self) -> Option<(&Path, &'static str)> {
        match self {
            Self::Plain => None,
            Self::BuildStd { std_source, .. } => Some((std_source, "/rustc")),
        }
    }
}

/// rustup's `rust-lld`, which is a plain wasm linker when its name says so, or Debian's.
fn linker(folder: &Path) -> Result<PathBuf, ToolchainError> {
    if let Some(sysroot) = rustc_answer(folder, &["--print", "sysroot"])? {
        let libraries = Path::new(&sysroot).join("lib/rustlib");
        for target in std::fs::read_dir(libraries).into_iter().flatten().flatten() {
            let candidate = target.path().join("bin/rust-lld");
            if candidate.exists() {
                return Ok(candidate);
            }
        }
    }
    for program in ["rust-lld", "wasm-ld"] {
        if on_path(program) {
            return Ok(PathBuf::from(program));
        }
    }
    newest_debian_lld().ok_or(ToolchainError::NoLinker)
}

/// Debian installs lld by version, `/usr/lib/llvm-19/bin/wasm-ld`, not always with a link on the PATH.
fn newest_debian_lld() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix("llvm-")?.parse().ok()?;
            let linker = entry.path().join("bin/wasm-ld");
            linker.exists().then_some((version, linker))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, linker)| linker)
}

fn has_std(folder: &str) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

/// The one line that rustc answers; none where there is no rustc or it does not know the question.
fn rustc_answer(folder: &Path, arguments: &[&str]) -> Result<Option<String>, ToolchainError> {
    let output = Command::new("rustc")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(Some(
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ToolchainError::Run {
            program: "rustc".to_owned(),
            source,
        }),
    }
}

fn on_path(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

enum RustupEnd {
    Added,
    Failed(String),
    Absent,
}

/// Lets rustup fetch the standard library. Its servers may be out of reach, so it has a deadline.
fn rustup_add(folder: &Path, timeout: Duration) -> Result<RustupEnd, ToolchainError> {
    let failed = |source| ToolchainError::Run {
        program: "rustup".to_owned(),
        source,
    };
    let log = tempfile::NamedTempFile::new().map_err(failed)?;
    let child = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.reopen().map_err(failed)?)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(RustupEnd::Absent);
        }
        Err(error) => return Err(failed(error)),
    };
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if started.elapsed() > timeout {
            // It may have ended just now; either way it is gone after this.
            let _ = child.kill();
            let _ = child.wait();
            let seconds = timeout.as_secs();
            return Ok(RustupEnd::Failed(format!("it took more than {seconds} s")));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(RustupEnd::Added);
    }
    let said = std::fs::read_to_string(log.path()).unwrap_or_default();
    let why = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error: "))
        .unwrap_or("it gave no reason")
        .to_owned();
    Ok(RustupEnd::Failed(why))
}
