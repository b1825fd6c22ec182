//! What every backend of the log must do, as tests that each backend binds with
//! `conformance_tests!`.

mod appending;
mod importing;
mod reading;
mod together;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::{AppendRequest, Appended, EventFilter, EventLog, Head, LogError};
use crate::clock::Clock;
use crate::event::{NewEvent, Position, StoredEvent};

pub(crate) use appending::*;
pub(crate) use importing::*;
pub(crate) use reading::*;
pub(crate) use together::*;

/// One place that can hold one log.
#[async_trait]
pub(crate) trait Place: Send + Sync {
    /// Another handle on the log, as another process would have it; the first one creates it.
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn EventLog>;
    /// Recomputes the hash chain from what is stored.
    async fn verify_chain(&self) -> Result<Head, Position>;
}

/// Makes one test of each rule for a backend, given how it makes places.
macro_rules! conformance_tests {
    ($new_place:expr) => {
        crate::log::conformance::conformance_tests!($new_place =>
            positions_have_no_gaps_and_streams_count_for_themselves
            a_request_is_appended_whole_or_not_at_all
            an_id_is_appended_once
            an_id_with_other_content_is_refused
            ids_are_checked_before_expected_revisions
            expected_revisions_are_those_before_the_request
            a_mixed_request_appends_what_is_new
            bad_events_are_refused
            json_is_compacted_and_otherwise_kept
            recorded_times_never_decrease
            hashes_name_the_log_and_its_history
            several_writers_leave_no_gap
            appends_at_once_get_each_its_own_answer
            a_dropped_append_is_whole_or_absent_and_harms_nobody
            pages_of_events_by_stream_and_type
            any_limits_give_the_same_events
            events_that_are_larger_than_any_before_are_read
            a_chunk_says_how_far_it_looked
            a_chunk_brings_the_parts_asked_for
            a_reader_ahead_of_the_log_is_told
            a_watch_wakes_up_for_every_writer
            an_interrupted_import_goes_on_where_it_stopped
            two_imports_of_one_input_do_not_double_it
            an_import_that_waits_for_the_same_one_does_not_double_it
            an_atomic_import_is_all_or_nothing
            a_bad_line_keeps_the_batches_before_it
            a_stream_is_imported_while_it_is_still_written
        );
    };
    ($new_place:expr => $($rule:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            crate::log::conformance::$rule(&$new_place).await;
        })*
    };
}
pub(crate) use conformance_tests;

/// A clock that is set by hand.
pub(crate) struct Hand(pub(crate) AtomicI64);

impl Clock for Hand {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) async fn open(place: &dyn Place) -> Arc<dyn EventLog> {
    place.open(crate::clock::system()).await
}

/// Does what blocks, as a thread of its own would.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

pub(crate) fn event(stream: &str, event_type: &str, data: &str) -> NewEvent {
    NewEvent {
        stream: stream.to_owned(),
        event_type: event_type.to_owned(),
        data: data.to_owned(),
        ..NewEvent::default()
    }
}

pub(crate) fn with_id(id: &str, event: NewEvent) -> NewEvent {
    NewEvent {
        id: Some(id.to_owned()),
        ..event
    }
}

pub(crate) async fn append(log: &dyn EventLog, events: &[NewEvent]) -> Result<Appended, LogError> {
    expecting(log, events, &[]).await
}

pub(crate) async fn expecting(
    log: &dyn EventLog,
    events: &[NewEvent],
    expected: &[(&str, u64)],
) -> Result<Appended, LogError> {
    log.append(AppendRequest {
        events: events.to_vec(),
        expected: expected
            .iter()
            .map(|(stream, revision)| ((*stream).to_owned(), *revision))
            .collect(),
    })
    .await
}

pub(crate) async fn everything(log: &dyn EventLog) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event.position);
        let page = log
            .events(&EventFilter::default(), after, 1_000)
            .await
            .expect("the log can be read");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}
