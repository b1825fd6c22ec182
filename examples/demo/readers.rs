//! Asks the live version over and over, as an application would, and counts what goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::steps::Steps;

/// Between two queries; the loop is to disturb, not to be a benchmark.
const PAUSE: Duration = Duration::from_millis(10);

/// The loop, until it is stopped.
#[derive(Debug)]
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What the loop saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) slowest: Duration,
    pub(crate) first_failure: Option<String>,
}

impl Readers {
    pub(crate) fn start(steps: &Steps) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (stop, steps) = (Arc::clone(&stop), steps.clone());
            std::thread::spawn(move || {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    seen.ask(&steps);
                    std::thread::sleep(PAUSE);
                }
                seen
            })
        };
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the loop does not panic")
    }
}

impl Seen {
    fn ask(&mut self, steps: &Steps) {
        let started = Instant::now();
        let answer = steps.ask(&[
            "--json",
            "query",
            "articles",
            "select id, title, likes from article order by id limit 1",
        ]);
        self.slowest = self.slowest.max(started.elapsed());
        let failure = match answer {
            Ok(rows) if rows.contains("title") => {
                self.answered += 1;
                return;
            }
            Ok(rows) => format!("no row in {rows:?}"),
            Err(error) => format!("{error:#}"),
        };
        self.failed += 1;
        self.first_failure.get_or_insert(failure);
    }
}
