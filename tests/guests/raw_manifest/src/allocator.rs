//! An allocator that, once it is told to, calls the host when memory is given back: what a module
//! returned is freed by the module, after its function is over.

use core::sync::atomic::{AtomicBool, Ordering};
use std::alloc::{GlobalAlloc, Layout, System};

use crate::read_model;

struct Talkative;

#[global_allocator]
static ALLOCATOR: Talkative = Talkative;

static TALKS: AtomicBool = AtomicBool::new(false);

/// From now on.
pub(crate) fn log_when_freeing() {
    TALKS.store(true, Ordering::Relaxed);
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Talkative {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller said.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if TALKS.load(Ordering::Relaxed) {
            read_model::log(3, "still here");
        }
        // SAFETY: as the caller said.
        unsafe { System.dealloc(memory, layout) }
    }
}
