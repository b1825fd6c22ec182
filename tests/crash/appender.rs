//! A writer that is killed, too: it appends batch after batch, and after a kill the same batch again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::content::Content;
use crate::instance::{Dice, Instance};

/// Appends `events` from `first` on until told to stop or nothing is left, and says how many events
/// the log has then: all that were acknowledged, since each batch was in the end.
pub(crate) fn append_with_kills(
    instance: &Instance,
    events: &[Content],
    first: usize,
    stop: &AtomicBool,
) -> usize {
    let mut dice = Dice::new();
    let mut done = first;
    while done < events.len() && !stop.load(Ordering::Relaxed) {
        let end = events.len().min(done + 1 + dice.below(40));
        let lines: String = (done..end).map(|n| events[n].line(n)).collect();
        loop {
            let append = instance.start_append(&lines);
            let ended = if dice.one_in(4) {
                dice.pause(Duration::from_millis(150));
                append.kill()
            } else {
                append.wait()
            };
            match ended.code {
                Some(0) => break,
                None => {}
                Some(_) => panic!("{ended:?}"),
            }
        }
        done = end;
    }
    done
}
