//! What is stored, made sense of, and what follows from it: the part of a catalog that is the same
//! whatever database it is in.

use super::{CatalogError, Rules};
use crate::lifecycle::state::{Halt, Role, State, Status};
use crate::read_model::journal::{ErrorPolicy, OnError};
use crate::wasm::ChangedLimits;

pub(super) fn damaged(what: impl std::fmt::Display) -> CatalogError {
    CatalogError::Damaged {
        what: what.to_string(),
    }
}

pub(super) fn parse_version(text: &str) -> Result<semver::Version, CatalogError> {
    semver::Version::parse(text).map_err(|error| damaged(format!("version `{text}`: {error}")))
}

/// The status that stands in a row of versions.
pub(super) fn parse_status(
    state: &str,
    role: &str,
    halt: &str,
    halt_reason: Option<String>,
) -> Result<Status, CatalogError> {
    let parsed = (|| {
        Some(Status {
            state: State::from_word(state)?,
            role: Role::parse(role)?,
            halt: Halt::from_words(halt, halt_reason)?,
        })
    })();
    parsed.ok_or_else(|| damaged(format!("the status {state}/{role}/{halt} makes no sense")))
}

/// The rules that stand in a row of versions.
pub(super) fn parse_rules(
    on_error: &str,
    dead_letters_max: i64,
    limits: &str,
    verify: bool,
) -> Result<Rules, CatalogError> {
    let on_error = OnError::from_word(on_error)
        .ok_or_else(|| damaged(format!("`{on_error}` is nothing to do about errors")))?;
    let limits = serde_json::from_str(limits)
        .map_err(|error| damaged(format!("the limits {limits}: {error}")))?;
    Ok(Rules {
        errors: ErrorPolicy {
            on_error,
            dead_letters_max: u64::try_from(dead_letters_max).unwrap_or(0),
        },
        limits,
        verify,
    })
}

/// As they stand in a row of versions: the word, and how many.
pub(super) fn stored_errors(errors: ErrorPolicy) -> (&'static str, i64) {
    let most = i64::try_from(errors.dead_letters_max).unwrap_or(i64::MAX);
    (errors.on_error.word(), most)
}

/// As they stand in a row of versions.
pub(super) fn stored_limits(limits: &ChangedLimits) -> String {
    serde_json::to_string(limits).expect("names and numbers have a JSON form")
}

/// Semver majors beyond i64 are refused by the manifest check's length limit long before.
pub(super) fn major_of(version: &semver::Version) -> i64 {
    i64::try_from(version.major).unwrap_or(i64::MAX)
}

/// Who gets a major's name from a version that is retired: of the versions that are ready, oldest
/// first, each with whether it was ever promoted, the newest promoted one of that major, else the
/// first of it.
pub(super) fn heir(
    ready: impl IntoIterator<Item = (semver::Version, bool)>,
    major: i64,
) -> Option<semver::Version> {
    let mut first_ready = None;
    let mut newest_promoted: Option<semver::Version> = None;
    for (version, promoted) in ready {
        if major_of(&version) != major {
            continue;
        }
        if promoted && newest_promoted.as_ref().is_none_or(|it| *it < version) {
            newest_promoted = Some(version.clone());
        }
        first_ready.get_or_insert(version);
    }
    newest_promoted.or(first_ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_promoted_version_of_the_major_inherits() {
        let version = |text: &str| text.parse::<semver::Version>().expect("a version");
        let heir = |ready: &[(&str, bool)]| {
            let ready = ready
                .iter()
                .map(|(text, promoted)| (version(text), *promoted));
            super::heir(ready, 2)
        };
        assert_eq!(heir(&[]), None);
        assert_eq!(heir(&[("1.0.0", true), ("3.0.0", true)]), None);
        assert_eq!(
            heir(&[("2.2.0", false), ("2.1.0", false)]),
            Some(version("2.2.0"))
        );
        assert_eq!(
            heir(&[("2.0.0", true), ("2.1.0", true), ("2.2.0", false)]),
            Some(version("2.1.0"))
        );
    }

    #[test]
    fn words_that_make_no_status_are_damage() {
        assert!(parse_status("ready", "live", "none", None).is_ok());
        for (state, role, halt) in [
            ("gone", "live", "none"),
            ("ready", "king", "none"),
            ("ready", "live", "x"),
        ] {
            assert!(matches!(
                parse_status(state, role, halt, None),
                Err(CatalogError::Damaged { .. })
            ));
        }
    }
}
