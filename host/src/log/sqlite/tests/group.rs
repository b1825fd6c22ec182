//! Requests that share a transaction.

use super::{Folder, SqliteLog};
use crate::event::NewEvent;
use crate::log::EventLog as _;
use crate::log::check::{Admitted, admit};
use crate::log::conformance::{event, everything, with_id};
use crate::log::group_commit::AppendGroup;
use crate::log::{AppendRequest, LogError, OpenMode};

fn request(events: &[NewEvent], expected: &[(&str, u64)]) -> Admitted {
    admit(AppendRequest {
        events: events.to_vec(),
        expected: expected
            .iter()
            .map(|(stream, revision)| ((*stream).to_owned(), *revision))
            .collect(),
    })
    .expect("good events")
}

#[tokio::test]
async fn a_refused_request_leaves_no_trace_in_its_group() {
    let folder = Folder::new();
    let log = SqliteLog::open(folder.path(), OpenMode::CreateIfMissing)
        .await
        .unwrap();
    let x = with_id("x", event("a", "T", "1"));
    let y = with_id("y", event("a", "T", "2"));
    let group = [
        request(std::slice::from_ref(&x), &[("a", 0)]),
        // Its first event is in the log by the time its second one is refused.
        request(
            &[event("b", "T", "0"), with_id("x", event("a", "T", "0"))],
            &[],
        ),
        request(&[event("b", "T", "3"), event("b", "T", "4")], &[("b", 0)]),
        request(&[event("a", "T", "0")], &[("a", 0)]),
        request(std::slice::from_ref(&y), &[("a", 1), ("b", 2)]),
        request(&[x, y], &[("a", 0)]),
    ];
    let answers = log.shared.append_group(&group, &mut Vec::new).unwrap();
    let positions = |n: usize| answers[n].as_ref().unwrap().positions.clone();
    assert_eq!(positions(0), [1]);
    assert!(
        matches!(&answers[1], Err(LogError::IdTaken { id, position: 1, index: 1, .. }) if id == "x"),
        "{:?}",
        answers[1]
    );
    assert_eq!(positions(2), [2, 3]);
    assert!(
        matches!(&answers[3], Err(LogError::Revision { actual: 1, .. })),
        "{:?}",
        answers[3]
    );
    assert_eq!(positions(4), [4]);
    assert_eq!(positions(5), [1, 4]);
    assert_eq!(answers[5].as_ref().unwrap().already_there, 2);
    // And in the next one everybody counts on from there.
    let next = [request(
        &[event("b", "T", "5"), event("a", "T", "6")],
        &[("a", 2), ("b", 2)],
    )];
    assert!(log.shared.append_group(&next, &mut Vec::new).unwrap()[0].is_ok());
    let stored: Vec<_> = everything(&log)
        .await
        .into_iter()
        .map(|event| (event.stream, event.revision, event.data))
        .collect();
    let expected = [
        ("a", 1, "1"),
        ("b", 1, "3"),
        ("b", 2, "4"),
        ("a", 2, "2"),
        ("b", 3, "5"),
        ("a", 3, "6"),
    ];
    assert_eq!(
        stored,
        expected.map(|(s, r, d)| (s.to_owned(), r, d.to_owned()))
    );
    assert_eq!(
        log.check_chain(crate::log::unwatched())
            .await
            .unwrap()
            .into_result()
            .unwrap()
            .position,
        6
    );
}
