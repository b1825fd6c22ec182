//! Turns the core module that rustc links into a component, and stamps it with the version of the
//! contract it was built for, so that a host can tell before it compiles anything.

use std::borrow::Cow;

use retell_contract::STAMP_SECTION;
use serde::Deserialize;
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// The imports that a projection may have: the contract's. `[export]` and `$root` are the component
/// model's own.
const IMPORTS_ALLOWED: [&str; 3] = ["retell:projection/", "[export]", "$root"];

/// Why a core module does not become a projection.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("the module carries no contract stamp: does the crate use #[projection]?")]
    NoStamp,
    #[error("the module's contract stamp is not readable")]
    Stamp(#[source] serde_json::Error),
    #[error("it asks for WASI, which a projection never gets: {}", .imports.join(", "))]
    Wasi { imports: Vec<String> },
    #[error("it asks for imports that no retell host has: {}", .imports.join(", "))]
    Imports { imports: Vec<String> },
    #[error("cargo did not produce a WebAssembly module")]
    Parse(#[source] wasmparser::BinaryReaderError),
    #[error("the module does not fit the component model: {message}")]
    Encode { message: String },
}

impl ComponentError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoStamp | Self::Stamp(_) => Some(
                "put #[projection(name = \"…\", version = \"…\", tables(…))] on one function, and depend on retell-sdk"
                    .to_owned(),
            ),
            Self::Wasi { .. } | Self::Imports { .. } => Some(
                "find the dependency with `cargo tree --target wasm32-unknown-unknown`: a projection has no clock, randomness, files or network"
                    .to_owned(),
            ),
            Self::Parse(_) | Self::Encode { .. } => None,
        }
    }
}

/// What the SDK writes into the stamp.
#[derive(Deserialize)]
struct Stamp {
    #[serde(rename = "contract")]
    _contract: String,
    #[serde(rename = "sdk")]
    _sdk: String,
}

/// Wraps a core module into a stamped and validated component.
pub fn componentize(core: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let found = read_core(core)?;
    if !found.wasi.is_empty() {
        return Err(ComponentError::Wasi {
            imports: found.wasi,
        });
    }
    if !found.foreign.is_empty() {
        return Err(ComponentError::Imports {
            imports: found.foreign,
        });
    }
    let stamp = found.stamp.ok_or(ComponentError::NoStamp)?;
    serde_json::from_slice::<Stamp>(stamp).map_err(ComponentError::Stamp)?;
    let mut encoder = ComponentEncoder::default();
    let mut component = encoder
        .validate(true)
        .module(core)
        .and_then(ComponentEncoder::encode)
        .map_err(|error| ComponentError::Encode {
            message: format!("{error:#}"),
        })?;
    CustomSection {
        name: Cow::Borrowed(STAMP_SECTION),
        data: Cow::Borrowed(stamp),
    }
    .append_to_component(&mut component);
    Ok(component)
}

#[derive(Default)]
struct Found<'a> {
    stamp: Option<&'a [u8]>,
    wasi: Vec<String>,
    foreign: Vec<String>,
}

fn read_core(core: &[u8]) -> Result<Found<'_>, ComponentError> {
    let mut found = Found::default();
    for payload in Parser::new(0).parse_all(core) {
        match payload.map_err(ComponentError::Parse)? {
            Payload::CustomSection(section) if section.name() == STAMP_SECTION => {
                found.stamp = Some(section.data());
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(ComponentError::Parse)?;
                    let name = format!("{} {}", import.module, import.name);
                    if import.module.starts_with("wasi") {
                        found.wasi.push(name);
                    } else if !IMPORTS_ALLOWED.iter().any(|a| import.module.starts_with(a)) {
                        found.foreign.push(name);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_stamp_is_told_about_the_attribute() {
        let core = wat::parse_str("(module)").unwrap();
        let error = componentize(&core).unwrap_err();
        assert!(error.to_string().contains("#[projection]"), "{error}");
    }

    #[test]
    fn wasi_imports_are_named() {
        let core = wat::parse_str(
            r#"(module (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32))))"#,
        )
        .unwrap();
        let error = componentize(&core).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it asks for WASI, which a projection never gets: wasi_snapshot_preview1 random_get"
        );
    }

    #[test]
    fn foreign_imports_are_named() {
        let core = wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap();
        let error = componentize(&core).unwrap_err();
        assert!(error.to_string().ends_with("env now"), "{error}");
        assert!(error.hint().unwrap().contains("cargo tree"));
    }
}
