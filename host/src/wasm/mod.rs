//! Projection modules: loading them, and calling them under limits. The only part of the host that
//! knows wasmtime. It decides no data: what a module returns is handed on as it is.

mod bindings;
mod engine;
mod instance;
mod limits;
mod loaded;
mod module;
mod trap;

pub use bindings::{ChangeSet, EventBatch, PackedRows};
pub use engine::{Engine, EngineError};
pub use instance::{Instance, RowSource, RowSourceError};
pub use limits::{BadLimit, ChangedLimits, Limit, Limits};
pub use module::{Module, ModuleError, Stamp, digest_of, read_stamp};
pub use trap::CallError;
