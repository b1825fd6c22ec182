//! A module: read and refused with reasons before anything is compiled, then compiled once and
//! kept in the cache under its digest.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use retell_contract::manifest::{self, Manifest, ManifestError};
use retell_contract::{CONTRACT_VERSION, STAMP_SECTION};
use sha2::{Digest, Sha256};
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};
use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{ChangeSet, PackedRows, Projection, ProjectionPre};
use super::engine::Engine;
use super::instance::{Instance, RowSource, RowSourceError, State};
use super::limits::{Limit, Limits};
use super::trap::CallError;

/// Stack of the compiler's thread: deeply nested code takes much of it.
const COMPILER_STACK_BYTES: usize = 16 << 20;

/// Why a file is no module that this host can run.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("it is {bytes} bytes long, and a module may have at most {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("it is not a WebAssembly file: it does not begin with `\\0asm`")]
    NotWasm,
    #[error("it is a core WebAssembly module, not a component")]
    CoreModule,
    #[error("it is damaged or cut off: {message}")]
    Malformed { message: String },
    #[error(
        "it imports {imports}, and a projection may import nothing but retell's read-model interface"
    )]
    ForeignImports { imports: String, wasi: bool },
    #[error("it is a component of another world: it does not export {missing}")]
    OtherWorld { missing: String },
    #[error("its exports are not those of the contract: {message}")]
    OtherTypes { message: String },
    #[error("it has no contract stamp")]
    NoStamp,
    #[error("its contract stamp can't be read: {message}")]
    BadStamp { message: String },
    #[error("it was built for contract {found}, and this host supports {supported}")]
    OtherContract {
        found: String,
        supported: &'static str,
    },
    #[error("it can't be compiled: {message}")]
    Compile { message: String },
    #[error("compiling it takes longer than {seconds} s")]
    TooSlow { seconds: f64 },
    #[error("it could not be asked what it is")]
    Describe { source: CallError },
    #[error("its manifest makes no sense: {source}")]
    Manifest { source: ManifestError },
}

impl ModuleError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => {
                "build it in release mode: `retell build PATH`; `retell deploy FILE --limit \
                 module-size=VALUE` allows more"
            }
            Self::TooSlow { .. } => "`retell deploy FILE --limit compile-time=VALUE` allows more",
            Self::NotWasm => {
                "build the crate with `retell build PATH` and deploy the `.wasm` file it names"
            }
            Self::CoreModule => "`retell build PATH` makes the component out of a projection crate",
            Self::Malformed { .. } => {
                "copy the file again, or build it again with `retell build PATH`"
            }
            Self::ForeignImports { wasi: true, .. } => {
                "build with `retell build PATH`, which targets wasm32-unknown-unknown and needs no WASI"
            }
            Self::ForeignImports { .. } | Self::OtherWorld { .. } | Self::OtherTypes { .. } => {
                "write the projection against retell-sdk with `#[projection(...)]` and build it with `retell build PATH`"
            }
            Self::NoStamp | Self::BadStamp { .. } => {
                "build it with `retell build PATH`, which stamps the contract's version"
            }
            Self::OtherContract { .. } => {
                "use a retell that supports that contract, or rebuild the projection with this one's SDK"
            }
            Self::Compile { .. } | Self::Describe { .. } => {
                "run the projection's own tests: `cargo test`"
            }
            Self::Manifest { .. } => {
                "correct the projection's declaration and run `retell build PATH` again"
            }
        }
    }
}

/// What is stamped into a module: which contract and which SDK it was built with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    pub contract: String,
    pub sdk: String,
}

/// A compiled module, ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Parts>);

struct Parts {
    engine: Engine,
    pre: ProjectionPre<State>,
    digest: String,
    stamp: Stamp,
    manifest: Manifest,
}

/// A module, as long as somebody else keeps it.
pub(super) struct WeakModule(Weak<Parts>);

/// SHA-256, lower-case hex: by what a module is known.
pub fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

impl Module {
    /// Reads, compiles (or takes from the cache) and asks the module what it is.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, ModuleError> {
        Self::load_within(engine, bytes, Limits::default())
    }

    /// The same under limits that a deployer changed.
    pub fn load_within(engine: &Engine, bytes: &[u8], limits: Limits) -> Result<Self, ModuleError> {
        let stamp = read_stamp(bytes, limits)?;
        let digest = digest_of(bytes);
        let component = compile_cached(engine, &digest, bytes, limits)?;
        let mut linker = Linker::<State>::new(engine.inner());
        let failed = |error: wasmtime::Error| ModuleError::Compile {
            message: format!("{error:#}"),
        };
        Projection::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(failed)?;
        let pre = linker.instantiate_pre(&component).map_err(failed)?;
        let pre = ProjectionPre::new(pre).map_err(|error| ModuleError::OtherTypes {
            message: format!("{error:#}"),
        })?;
        let nothing: Arc<Mutex<dyn RowSource>> = Arc::new(Mutex::new(NoRows));
        let described = Instance::start(engine, &pre, &digest, nothing, limits)
            .and_then(|mut instance| instance.describe())
            .map_err(|source| ModuleError::Describe { source })?;
        let manifest = Manifest::from(described);
        manifest::check(&manifest).map_err(|source| ModuleError::Manifest { source })?;
        let module = Self(Arc::new(Parts {
            engine: engine.clone(),
            pre,
            digest,
            stamp,
            manifest,
        }));
        engine.loaded().add(&module);
        Ok(module)
    }

    /// One that this engine has loaded and that is in use, by its digest.
    pub fn in_use(engine: &Engine, digest: &str) -> Option<Self> {
        engine.loaded().get(digest)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// SHA-256 of the file, lower-case hex.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    pub fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }

    /// `articles@1.0.0`
    pub fn name(&self) -> String {
        format!("{}@{}", self.manifest().name, self.manifest().version)
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(super) fn pre(&self) -> &ProjectionPre<State> {
        &self.0.pre
    }

    pub(super) fn downgrade(&self) -> WeakModule {
        WeakModule(Arc::downgrade(&self.0))
    }
}

impl WeakModule {
    pub(super) fn upgrade(&self) -> Option<Module> {
        self.0.upgrade().map(Module)
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

/// Reads a module without compiling it: is it a component, of this contract, importing nothing
/// else?
pub fn read_stamp(bytes: &[u8], limits: Limits) -> Result<Stamp, ModuleError> {
    let bytes_max = limits.size(Limit::ModuleSize);
    if bytes.len() > bytes_max {
        return Err(ModuleError::TooLarge {
            bytes: bytes.len(),
            bytes_max,
        });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(ModuleError::NotWasm);
    }
    let outline = Outline::read(bytes)?;
    if !outline.foreign_imports.is_empty() {
        let wasi = outline
            .foreign_imports
            .iter()
            .any(|it| it.starts_with("wasi:"));
        return Err(ModuleError::ForeignImports {
            imports: outline.foreign_imports.join(", "),
            wasi,
        });
    }
    // The stamp goes before the exports: a later contract may export other things.
    if let Some(stamp) = outline.stamp {
        let stamp: Stamp =
            serde_json::from_slice(stamp).map_err(|error| ModuleError::BadStamp {
                message: error.to_string(),
            })?;
        if !supports(&stamp.contract) {
            return Err(ModuleError::OtherContract {
                found: stamp.contract,
                supported: CONTRACT_VERSION,
            });
        }
        return outline.missing_export().map_or(Ok(stamp), Err);
    }
    Err(outline.missing_export().unwrap_or(ModuleError::NoStamp))
}

/// Contracts are compatible within a minor while the major is 0.
fn supports(contract: &str) -> bool {
    let minor = |text: &str| {
        semver::Version::parse(text)
            .ok()
            .map(|it| (it.major, it.minor))
    };
    minor(contract).is_some() && minor(contract) == minor(CONTRACT_VERSION)
}

/// What stands at the top level of a component.
#[derive(Default)]
struct Outline<'a> {
    stamp: Option<&'a [u8]>,
    foreign_imports: Vec<String>,
    exports: Vec<String>,
}

impl<'a> Outline<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ModuleError> {
        let malformed = |error: wasmparser::BinaryReaderError| ModuleError::Malformed {
            message: error.to_string(),
        };
        let mut outline = Self::default();
        let mut depth = 0_usize;
        let mut finished = false;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(malformed)? {
                Payload::Version {
                    encoding: Encoding::Module,
                    ..
                } if depth == 0 => {
                    return Err(ModuleError::CoreModule);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) if depth > 0 => depth -= 1,
                Payload::End(_) => finished = true,
                Payload::CustomSection(section)
                    if depth == 0 && section.name() == STAMP_SECTION =>
                {
                    outline.stamp = Some(section.data());
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(malformed)?;
                        // Names of types are no way out of the sandbox.
                        let is_type = matches!(import.ty, ComponentTypeRef::Type(_));
                        let name = import.name.name;
                        if !is_type && !name.starts_with("retell:projection/") {
                            outline.foreign_imports.push(name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline
                            .exports
                            .push(export.map_err(malformed)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        if finished {
            Ok(outline)
        } else {
            Err(ModuleError::Malformed {
                message: "it ends too early".into(),
            })
        }
    }

    fn missing_export(&self) -> Option<ModuleError> {
        let missing: Vec<&str> = ["describe", "apply"]
            .into_iter()
            .filter(|wanted| !self.exports.iter().any(|it| it == wanted))
            .collect();
        (!missing.is_empty()).then(|| ModuleError::OtherWorld {
            missing: missing.join(" and "),
        })
    }
}

/// Compiled code from the cache, or compiled now and put there. A cache that can't be written is
/// only slower.
fn compile_cached(
    engine: &Engine,
    digest: &str,
    bytes: &[u8],
    limits: Limits,
) -> Result<Component, ModuleError> {
    let path = engine.cached_code(digest);
    if let Some(component) = read_cached(engine, &path) {
        return Ok(component);
    }
    let component = compile(engine, bytes, limits.time(Limit::CompileTime))?;
    match component
        .serialize()
        .map_err(|error| error.to_string())
        .and_then(|code| write_cached(&path, &code).map_err(|error| error.to_string()))
    {
        Ok(()) => {}
        Err(error) => tracing::info!("compiled code is not kept in {}: {error}", path.display()),
    }
    Ok(component)
}

/// Compiles on a thread of its own. The compiler can't be interrupted: what takes too long goes on there,
/// and nobody waits for it.
fn compile(engine: &Engine, bytes: &[u8], time_max: Duration) -> Result<Component, ModuleError> {
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    let (engine, bytes) = (engine.clone(), bytes.to_vec());
    std::thread::Builder::new()
        .name("retell-compile".to_owned())
        .stack_size(COMPILER_STACK_BYTES)
        .spawn(move || {
            // Nobody may be waiting any more.
            let _ = done.send(Component::new(engine.inner(), &bytes));
        })
        .expect("a process that can't start a thread can't go on");
    match ended.recv_timeout(time_max) {
        Ok(compiled) => compiled.map_err(|error| ModuleError::Compile {
            message: format!("{error:#}"),
        }),
        Err(RecvTimeoutError::Timeout) => Err(ModuleError::TooSlow {
            seconds: time_max.as_secs_f64(),
        }),
        Err(RecvTimeoutError::Disconnected) => Err(ModuleError::Compile {
            message: "the compiler panicked over it".to_owned(),
        }),
    }
}

/// The file is the code followed by its SHA-256: wasmtime trusts what it loads, so a file that was
/// cut off or changed must not reach it.
fn read_cached(engine: &Engine, path: &Path) -> Option<Component> {
    let file = std::fs::read(path).ok()?;
    let (code, sum) = file.split_last_chunk::<32>()?;
    if Sha256::digest(code).as_slice() != sum {
        tracing::warn!(
            "compiled code in {} is damaged and is made again",
            path.display()
        );
        return None;
    }
    #[allow(
        unsafe_code,
        reason = "loading compiled code is what a code cache is for"
    )]
    // SAFETY: the file is one that this host wrote into its own cache folder with the same engine
    // settings (they are part of its name), and its checksum holds.
    let component = unsafe { Component::deserialize(engine.inner(), code) };
    component.ok()
}

fn write_cached(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a cached file has a folder");
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(code)?;
    file.write_all(&Sha256::digest(code))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// `describe` may not read anything.
struct NoRows;

impl RowSource for NoRows {
    fn get_many(&mut self, _: u16, _: &[u8], _: &[u32]) -> Result<PackedRows, RowSourceError> {
        Err(senseless())
    }

    fn scan(
        &mut self,
        _: u16,
        _: u16,
        _: &[u8],
        _: Option<&[u8]>,
        _: u32,
    ) -> Result<PackedRows, RowSourceError> {
        Err(senseless())
    }

    fn stage(&mut self, _: ChangeSet) -> Result<(), RowSourceError> {
        Err(senseless())
    }
}

fn senseless() -> RowSourceError {
    RowSourceError::Contract {
        message: "`describe` reads or writes rows".into(),
    }
}
