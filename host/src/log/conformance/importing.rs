//! Rules of importing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek, Write as _};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Place, blocking, event, everything, open};
use crate::limits::{IMPORT_BATCH_LINES, IMPORT_LINE_BYTES_MAX};
use crate::log::ndjson::{ImportError, Imported, Input, Kept, import, read_line};
use crate::log::{EventLog, ImportPlan, ImportProgress, LogError, SealedEvent};

const BATCH: u64 = IMPORT_BATCH_LINES as u64;

/// Lines without ids: appended twice they would be there twice.
fn lines(count: u64) -> String {
    (1..=count).fold(String::new(), |mut text, i| {
        let _ = writeln!(
            text,
            "{{\"stream\":\"s{}\",\"type\":\"T\",\"data\":{i}}}",
            i % 10
        );
        text
    })
}

fn file(content: impl AsRef<[u8]>) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(content.as_ref()).expect("it can be written");
    file.rewind().expect("it can be read from the start");
    file
}

async fn run(log: &Arc<dyn EventLog>, input: Input, atomic: bool) -> Result<Imported, ImportError> {
    let log = Arc::clone(log);
    tokio::task::spawn_blocking(move || import(&*log, input, atomic, &mut |_| {}))
        .await
        .expect("the import does not panic")
}

/// Every line's number once and in order.
async fn holds_each_line_once(log: &dyn EventLog, count: u64) {
    let stored = everything(log).await;
    assert!(
        stored
            .iter()
            .map(|e| e.data.clone())
            .eq((1..=count).map(|i| i.to_string()))
    );
}

pub(crate) async fn an_interrupted_import_goes_on_where_it_stopped(place: &dyn Place) {
    let log = open(place).await;
    let count = 2 * BATCH + 17;
    let text = lines(count);
    // The third batch has a bad line, and so the import stops there.
    let broken = format!("{text}not json\n");
    let stopped = run(&log, Input::File(file(&broken)), false)
        .await
        .unwrap_err();
    let kept = Kept {
        lines: 2 * BATCH,
        resumable: true,
    };
    assert!(
        matches!(stopped, ImportError::Line { line, kept: found, .. } if line == count + 1 && found == kept),
        "{stopped}"
    );
    holds_each_line_once(&*log, 2 * BATCH).await;
    // Another file that begins differently has nothing to do with it.
    let other = run(&log, Input::File(file("\n\n")), false).await.unwrap();
    assert_eq!(other, Imported::default());
    // Corrected, it goes on, in another process too.
    let again = open(place).await;
    let imported = run(&again, Input::File(file(&text)), false).await.unwrap();
    assert_eq!(imported.resumed_after, Some(2 * BATCH));
    assert_eq!(
        (imported.first, imported.last),
        (Some(2 * BATCH + 1), Some(count))
    );
    assert_eq!((imported.appended, imported.already_there), (17, 0));
    holds_each_line_once(&*log, count).await;
    // Done is done: the next run of the command is another import.
    assert_eq!(blocking(|| log.interrupted_imports()).unwrap(), []);
    let whole = run(&log, Input::File(file("")), false).await.unwrap();
    assert_eq!(whole, Imported::default());
    assert_eq!(
        place.verify_chain().await.unwrap(),
        log.head().await.unwrap()
    );
}

pub(crate) async fn two_imports_of_one_input_do_not_double_it(place: &dyn Place) {
    let log = open(place).await;
    let other = open(place).await;
    let progress = |n: u8| ImportProgress {
        digest: [n; 32],
        bytes: u64::from(n),
        lines: u64::from(n),
    };
    let events = || vec![SealedEvent::seal(event("s", "T", "1"))];
    blocking(|| {
        // Both began at the same time.
        let mut first = log.import(ImportPlan::default()).unwrap();
        let mut second = other.import(ImportPlan::default()).unwrap();
        first.append(events(), Some(progress(1))).unwrap();
        let error = second.append(events(), Some(progress(1))).unwrap_err();
        assert!(matches!(error, LogError::ImportTaken) && error.is_refusal());
        // The second comes back and takes over; now the first must notice.
        let resume = log.interrupted_imports().unwrap().pop();
        assert_eq!(resume, Some(progress(1)));
        let mut second = other
            .import(ImportPlan {
                atomic: false,
                resume,
            })
            .unwrap();
        second.append(events(), Some(progress(2))).unwrap();
        let error = first.append(events(), Some(progress(2))).unwrap_err();
        assert!(matches!(error, LogError::ImportTaken));
        let error = first.finish(events()).unwrap_err();
        assert!(matches!(error, LogError::ImportTaken));
        second.finish(vec![]).unwrap();
    });
    assert_eq!(log.head().await.unwrap().position, 2);
    assert_eq!(blocking(|| log.interrupted_imports()).unwrap(), []);
}

pub(crate) async fn an_import_that_waits_for_the_same_one_does_not_double_it(place: &dyn Place) {
    let (log, other) = (open(place).await, open(place).await);
    let count = 3 * BATCH;
    let text = lines(count);
    let begins = text.lines().take(usize::try_from(2 * BATCH).unwrap());
    let bytes = begins.clone().map(|line| line.len() + 1).sum::<usize>();
    let progress = ImportProgress {
        digest: Sha256::digest(&text.as_bytes()[..bytes]).into(),
        bytes: bytes as u64,
        lines: 2 * BATCH,
    };
    let events = begins.map(|line| SealedEvent::seal(read_line(line.as_bytes()).unwrap()));
    let events: Vec<_> = events.collect();
    let mut first = blocking(|| log.import(ImportPlan::default())).unwrap();
    // The first one has the log in hand, the second one waits for it …
    assert_eq!(blocking(|| first.others()).unwrap(), []);
    let input = Input::File(file(&text));
    let second = tokio::spawn(async move { run(&other, input, false).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    // … and finds it further on than with its own first batch.
    blocking(|| first.append(events, Some(progress))).unwrap();
    match second.await.unwrap() {
        Err(ImportError::Log { source, .. }) => {
            assert!(matches!(source, LogError::ImportTaken), "{source}");
            holds_each_line_once(&*log, 2 * BATCH).await;
        }
        // It was so late that it found the first one's progress.
        Ok(imported) => {
            assert_eq!(imported.resumed_after, Some(2 * BATCH));
            holds_each_line_once(&*log, count).await;
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn an_atomic_import_is_all_or_nothing(place: &dyn Place) {
    let log = open(place).await;
    let count = BATCH + 5;
    let broken = format!("{}{{\"stream\":\"s\",\"type\":", lines(count));
    let stopped = run(&log, Input::File(file(&broken)), true)
        .await
        .unwrap_err();
    assert!(
        matches!(
            stopped,
            ImportError::Line {
                kept: Kept {
                    lines: 0,
                    resumable: false
                },
                ..
            }
        ),
        "{stopped}"
    );
    assert_eq!(log.head().await.unwrap().position, 0);
    assert_eq!(blocking(|| log.interrupted_imports()).unwrap(), []);
    let imported = run(&log, Input::File(file(lines(count))), true)
        .await
        .unwrap();
    assert_eq!(imported.appended, count);
    holds_each_line_once(&*log, count).await;
    // What was begun batch by batch is not there as a whole any more.
    let begun = format!("{}not json\n", lines(2 * BATCH).replace(":\"s", ":\"t"));
    let stopped = run(&log, Input::File(file(&begun)), false).await;
    stopped.unwrap_err();
    let whole = begun.replace("not json\n", "");
    let refused = run(&log, Input::File(file(&whole)), true).await;
    assert!(
        matches!(refused, Err(ImportError::Begun { lines }) if lines == 2 * BATCH),
        "{refused:?}"
    );
    let resumed = run(&log, Input::File(file(&whole)), false).await.unwrap();
    assert_eq!(resumed.resumed_after, Some(2 * BATCH));
    assert_eq!(log.head().await.unwrap().position, count + 2 * BATCH);
}

pub(crate) async fn a_bad_line_keeps_the_batches_before_it(place: &dyn Place) {
    let log = open(place).await;
    // A taken id is about a line as well; blank lines, a byte order mark and carriage returns count
    // as lines and do nothing.
    let taken = "\u{feff}{\"stream\":\"s\",\"type\":\"T\",\"data\":1,\"id\":\"x\"}\r\n\r\n \n\
                 {\"stream\":\"s\",\"type\":\"T\",\"data\":2,\"id\":\"x\"}\n";
    let stopped = run(&log, Input::File(file(taken)), false)
        .await
        .unwrap_err();
    assert!(
        matches!(
            stopped,
            ImportError::Refused {
                line: 4,
                kept: Kept { lines: 0, .. },
                ..
            }
        ),
        "{stopped}"
    );
    assert_eq!(log.head().await.unwrap().position, 0);
    let fine = taken.replace("2,\"id\":\"x\"", "2,\"id\":\"y\"");
    let imported = run(&log, Input::File(file(fine.trim_end())), false)
        .await
        .unwrap();
    assert_eq!(imported.appended, 2);
    // A line longer than any event is refused without being read to its end.
    let mut long = lines(BATCH).into_bytes();
    long.resize(long.len() + IMPORT_LINE_BYTES_MAX + 1, b' ');
    let stopped = run(&log, Input::File(file(long)), false).await.unwrap_err();
    assert!(
        matches!(&stopped, ImportError::Line { line, kept, .. } if *line == BATCH + 1 && kept.lines == BATCH),
        "{stopped}"
    );
    assert_eq!(log.head().await.unwrap().position, BATCH + 2);
}

pub(crate) async fn a_stream_is_imported_while_it_is_still_written(place: &dyn Place) {
    let log = open(place).await;
    let (read, mut write) = std::io::pipe().expect("a pipe");
    let importing = {
        let log = Arc::clone(&log);
        tokio::spawn(async move { run(&log, Input::Stream(Box::new(read)), false).await })
    };
    let mut watch = blocking(|| log.watch()).unwrap();
    for (seen, text) in (0..).zip(lines(3).lines()) {
        // A line in two pieces, and no end of the input in sight.
        let (head, tail) = text.split_at(9);
        write.write_all(head.as_bytes()).unwrap();
        write.write_all(format!("{tail}\n").as_bytes()).unwrap();
        let (woken, back) = tokio::task::spawn_blocking(move || {
            (watch.wait(seen, std::time::Duration::from_secs(30)), watch)
        })
        .await
        .unwrap();
        watch = back;
        assert_eq!(woken.unwrap(), seen + 1, "the line was not appended");
    }
    drop(write);
    assert_eq!(importing.await.unwrap().unwrap().appended, 3);
    assert_eq!(blocking(|| log.interrupted_imports()).unwrap(), []);
}
