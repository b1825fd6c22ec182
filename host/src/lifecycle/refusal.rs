//! What the state does not allow, in words that say what to do instead.

use super::LifecycleError;
use super::state::{Refusal, State};
use crate::catalog::CatalogError;

/// A change that the state machine refuses, with what to do instead.
pub(super) fn refused(error: CatalogError) -> LifecycleError {
    match error {
        CatalogError::Refused {
            projection,
            version,
            source,
        } => {
            let name = format!("{projection}@{version}");
            let hint = match source {
                Refusal::NotReady(State::Created) => {
                    format!("`retell serve` builds it, or `retell catch-up {name}` once")
                }
                Refusal::FailedEarly => format!("see why: `retell status {name}`"),
                Refusal::NotReady(_) => {
                    format!(
                        "watch it get ready: `retell status {projection} --watch`; where no host serves, \
                         `retell catch-up {name}` works on it"
                    )
                }
                Refusal::AlreadyLive => format!("`retell status {projection}` shows all versions"),
                Refusal::Halted => format!(
                    "let it go on with `retell resume {name}`, or take it as it is with --accept-older"
                ),
                Refusal::LiveIsKept => {
                    format!("promote another version first: `retell promote {projection}@VERSION`")
                }
                Refusal::Retired | Refusal::AlreadyRetired => {
                    format!("build it again: `retell replay {name}`")
                }
                Refusal::NotHalted | Refusal::AlreadyPaused | Refusal::Senseless(_) => {
                    format!("`retell status {projection}` shows what it is doing")
                }
            };
            LifecycleError::Refused {
                message: format!("{name}: {source}"),
                hint,
            }
        }
        CatalogError::SuccessorExists {
            projection,
            version,
        } => LifecycleError::Refused {
            message: format!("{projection}@{version} is being replayed already"),
            hint: format!("watch it: `retell status {projection} --watch`"),
        },
        CatalogError::NoVersion {
            projection,
            version,
        } => LifecycleError::Refused {
            message: format!("there is no {projection}@{version}"),
            hint: format!("`retell status {projection}` lists its versions"),
        },
        error => error.into(),
    }
}
