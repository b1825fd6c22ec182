//! From what wasmtime reports to whose fault it is.

use super::limits::{Limit, Limits};

/// Why a call into a module gave no result. Each kind says whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The module refuses an event of the batch, and says why.
    #[error("{message}")]
    Failure { event: u32, message: String },
    /// The module crashed.
    #[error("the module crashed: {message}")]
    Trap {
        message: String,
        backtrace: Vec<String>,
    },
    /// The module hit a limit.
    #[error(
        "the module hit the limit of {limit}: {}; `retell deploy FILE --limit {}=VALUE` changes it",
        limit.shown(*value),
        limit.name()
    )]
    Limit { limit: Limit, value: u64 },
    /// The module broke the contract; no event is to blame.
    #[error("the module broke the contract: {message}")]
    Contract { message: String },
    /// The host could not serve an import; the module is not to blame.
    #[error("the host could not serve the module")]
    Host {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A limit that the store's limiter or an import ran into, on its way through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("limit of {limit}: {value}")]
pub(super) struct LimitHit {
    pub(super) limit: Limit,
    pub(super) value: u64,
}

/// An import call that made no sense, on its way through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct BrokenContract {
    pub(super) message: String,
}

/// A staged change that can't stand, on its way through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct RefusedEvent {
    pub(super) event: u32,
    pub(super) message: String,
}

/// A fault of the host inside an import, on its way through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("the host could not serve an import")]
pub(super) struct HostFault {
    pub(super) source: Box<dyn std::error::Error + Send + Sync>,
}

/// Sorts out an error of wasmtime. `last_words`: what the guest logged as an error before it, which
/// is where the SDK's panic hook leaves message and place.
pub(super) fn judge(
    error: wasmtime::Error,
    last_words: Option<String>,
    limits: &Limits,
) -> CallError {
    let limit = |limit: Limit| CallError::Limit {
        limit,
        value: limits.get(limit),
    };
    let error = match error.downcast::<HostFault>() {
        Ok(fault) => {
            return CallError::Host {
                source: fault.source,
            };
        }
        Err(error) => error,
    };
    if let Some(hit) = error.downcast_ref::<LimitHit>() {
        return CallError::Limit {
            limit: hit.limit,
            value: hit.value,
        };
    }
    if let Some(refused) = error.downcast_ref::<RefusedEvent>() {
        return CallError::Failure {
            event: refused.event,
            message: refused.message.clone(),
        };
    }
    if let Some(broken) = error.downcast_ref::<BrokenContract>() {
        return CallError::Contract {
            message: broken.message.clone(),
        };
    }
    let backtrace = error
        .downcast_ref::<wasmtime::WasmBacktrace>()
        .map(|trace| {
            let name = |frame: &wasmtime::FrameInfo| {
                frame
                    .func_name()
                    .map_or_else(|| "(unnamed)".to_owned(), demangle)
            };
            let names = trace.frames().iter().map(name);
            names
                .filter(|name| !is_frame_of_the_machinery(name))
                .collect()
        })
        .unwrap_or_default();
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::Interrupt) => limit(Limit::BatchTime),
        // A panic, which has said why.
        Some(wasmtime::Trap::UnreachableCodeReached) if last_words.is_some() => CallError::Trap {
            message: last_words.unwrap_or_default(),
            backtrace,
        },
        Some(trap) => {
            let mut message = match trap {
                wasmtime::Trap::StackOverflow => "call stack exhausted".to_owned(),
                trap => trap.to_string(),
            };
            if let Some(last_words) = last_words {
                message = format!("{message}; the last error it logged: {last_words}");
            }
            CallError::Trap { message, backtrace }
        }
        // No trap of the guest's code: lifting its result or lowering its arguments failed.
        None => {
            let message = format!("{error:#}");
            if message.contains("hostcall") {
                limit(Limit::CallBytes)
            } else {
                CallError::Contract { message }
            }
        }
    }
}

/// The name as written in the source, or as it stands there where it is none of Rust's.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// Functions that tell nobody anything: what Rust runs between a panic and its trap, whose message
/// has the place, what of the SDK calls a projection, and the exports by which the host called.
fn is_frame_of_the_machinery(function: &str) -> bool {
    let paths = [
        "__rustc::",
        "std::panicking::",
        "std::sys::",
        "core::panicking::",
    ];
    matches!(function, "apply" | "describe")
        || function.starts_with("retell_sdk::")
        || paths.iter().any(|path| function.contains(path))
}
