//! The settings under which all guests run: deterministic, synchronous, no threads, and a ticking
//! epoch that lets the host interrupt a guest that does not return.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::Config;

use super::loaded::LoadedModules;

/// How often a running guest's clock is looked at.
const EPOCH_TICK: Duration = Duration::from_millis(10);
const GUEST_STACK_BYTES_MAX: usize = 1 << 20;

/// Compiles and runs modules. Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    cache: PathBuf,
    loaded: Arc<LoadedModules>,
    _ticker: Arc<Ticker>,
}

/// The WebAssembly engine can't run on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine can't start: {message}")]
pub struct EngineError {
    message: String,
}

impl Engine {
    /// `cache`: a folder of this host's own for compiled code, made when it is first needed.
    pub fn new(cache: &Path) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false)
            .epoch_interruption(true)
            .max_wasm_stack(GUEST_STACK_BYTES_MAX);
        let engine = wasmtime::Engine::new(&config).map_err(|error| EngineError {
            message: format!("{error:#}"),
        })?;
        let ticker = Arc::new(Ticker::start(&engine));
        Ok(Self {
            inner: engine,
            cache: cache.to_owned(),
            loaded: Arc::default(),
            _ticker: ticker,
        })
    }

    pub(super) fn inner(&self) -> &wasmtime::Engine {
        &self.inner
    }

    pub(super) fn loaded(&self) -> &LoadedModules {
        &self.loaded
    }

    /// Where the compiled code of a module is kept. The name holds all that the code depends on.
    pub(super) fn cached_code(&self, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.inner.precompile_compatibility_hash().hash(&mut hasher);
        self.cache
            .join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// The thread that moves the epoch on; it ends with the engine.
struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    fn start(engine: &wasmtime::Engine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (weak, stopped) = (engine.weak(), stop.clone());
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(EPOCH_TICK);
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
            }
        };
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(run)
            .expect("a process that can't start a thread can't go on");
        Self { stop }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
