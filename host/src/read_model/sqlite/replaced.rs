//! Files that have lost their names to another one. To close the last handle on a large one is to give up
//! all that the system keeps of it in memory, for which nobody is to wait: a thread does it.

use std::thread::JoinHandle;

/// The thread, if it was needed. What is replaced next waits for it.
#[derive(Debug, Default)]
pub(super) struct Replaced(Option<JoinHandle<()>>);

impl Replaced {
    /// Closes handles by dropping what has them.
    pub(super) fn close(&mut self, handles: impl Send + 'static) {
        self.wait();
        let thread = std::thread::Builder::new()
            .name("retell-closer".to_owned())
            .spawn(move || drop(handles))
            .expect("a process that can't start a thread can't go on");
        self.0 = Some(thread);
    }

    fn wait(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Replaced {
    /// Nothing is open once the read model is closed.
    fn drop(&mut self) {
        self.wait();
    }
}
