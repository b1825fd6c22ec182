//! A copy of a read model as it is at one moment, beside whoever writes it.

use std::fs::{self, File};
use std::path::Path;

use super::fault::{Doing, fault, io_fault};
use super::{open, provenance};
use crate::read_model::{Checkpoint, ReadModelError};

/// Copies the read model into a file that must not exist, durably, and returns where it stood.
pub(super) fn copy(path: &Path, to: &Path) -> Result<Checkpoint, ReadModelError> {
    let io = |error| io_fault(to, Doing::Create, error);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    let text = to.to_string_lossy();
    open::connect_read_only(path)?
        .execute("VACUUM INTO ?1", [&*text])
        .map_err(|error| fault(to, Doing::Create, error))?;
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(io)?;
    let copied = open::snapshot(to)?;
    Ok(provenance::read(&copied, to)?.status.checkpoint)
}
