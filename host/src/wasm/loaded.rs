//! The modules that are loaded and in use: whoever wants one of them, too, has not to read, check and
//! map its code again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::module::{Module, WeakModule};

/// By digest.
#[derive(Default)]
pub(super) struct LoadedModules(Mutex<HashMap<String, WeakModule>>);

impl LoadedModules {
    pub(super) fn get(&self, digest: &str) -> Option<Module> {
        self.lock().get(digest)?.upgrade()
    }

    pub(super) fn add(&self, module: &Module) {
        let mut all = self.lock();
        all.retain(|_, it| it.is_in_use());
        all.insert(module.digest().to_owned(), module.downgrade());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, WeakModule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
