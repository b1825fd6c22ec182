//! What a read model says of its origin, and whether that is what was expected.

use super::{ModelName, ReadModelError};

/// What a read model says of its origin. It is written once and compared at every open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub projection: String,
    /// Semver of the module's manifest.
    pub version: String,
    /// The catalog's number of the build that this is.
    pub build: i64,
    /// SHA-256 of the module, hexadecimal.
    pub module_digest: String,
    /// Version of the SDK the module was built with.
    pub sdk: String,
    /// Version of the contract the module was built for.
    pub contract: String,
    pub log_id: String,
}

impl Provenance {
    /// Refuses a read model of another build, module or log, and says which.
    pub(super) fn check(&self, expected: &Self, model: ModelName) -> Result<(), ReadModelError> {
        let build = [self.build.to_string(), expected.build.to_string()];
        let fields: [(&'static str, &str, &str); 5] = [
            ("projection", &self.projection, &expected.projection),
            ("version", &self.version, &expected.version),
            ("build", &build[0], &build[1]),
            ("module", &self.module_digest, &expected.module_digest),
            ("log", &self.log_id, &expected.log_id),
        ];
        match fields
            .into_iter()
            .find(|(_, found, wanted)| found != wanted)
        {
            None => Ok(()),
            Some((what, found, wanted)) => Err(ReadModelError::Other {
                model,
                what,
                found: found.to_owned(),
                expected: wanted.to_owned(),
            }),
        }
    }

    /// Whether it is of this log: read models of others may lie beside ours, under the same names.
    pub(super) fn check_log(&self, log_id: &str, model: ModelName) -> Result<(), ReadModelError> {
        let expected = Self {
            log_id: log_id.to_owned(),
            ..self.clone()
        };
        self.check(&expected, model)
    }
}
