use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, PoisonError};
use std::task::{Context, Waker};

use super::super::AppendRequest;
use super::super::check::admit;
use super::super::conformance::event;
use super::*;

/// A writer that stops before each group until it is let go on, and keeps what it wrote.
#[derive(Default)]
struct Gate {
    /// How many groups may be written.
    open: Mutex<u64>,
    opened: Condvar,
    groups: Mutex<Vec<Vec<String>>>,
    written: AtomicU64,
    /// Stops once more, for those who came meanwhile.
    takes_latecomers: AtomicBool,
}

impl Gate {
    fn let_pass(&self, groups: u64) {
        *self.open.lock().unwrap() += groups;
        self.opened.notify_all();
    }

    fn groups(&self) -> Vec<Vec<String>> {
        self.groups.lock().unwrap().clone()
    }
}

impl Gate {
    /// Notes who comes to the gate, and waits there.
    fn stop(&self, requests: &[Admitted]) -> Vec<String> {
        let streams = |request: &Admitted| request.events[0].event.stream.clone();
        let group: Vec<String> = requests.iter().map(streams).collect();
        self.groups.lock().unwrap().push(group.clone());
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.opened.wait_while(open, |open| *open == 0).unwrap();
        *open -= 1;
        group
    }
}

impl AppendGroup for Gate {
    fn append_group(
        &self,
        group: &[Admitted],
        latecomers: &mut dyn FnMut() -> Vec<Admitted>,
    ) -> Result<Vec<Answer>, LogError> {
        let mut group = self.stop(group);
        if self.takes_latecomers.load(Ordering::SeqCst) {
            group.extend(self.stop(&latecomers()));
        }
        assert!(!group.contains(&"panic".to_owned()), "as it was told to");
        if group.contains(&"fail".to_owned()) {
            return Err(LogError::Full {
                log: std::path::Path::new("log").into(),
                source: std::io::Error::other("no room").into(),
            });
        }
        let append = |_: &String| {
            Ok(Appended {
                positions: vec![self.written.fetch_add(1, Ordering::SeqCst) + 1],
                already_there: 0,
            })
        };
        Ok(group.iter().map(append).collect())
    }
}

type Pending = Pin<Box<dyn Future<Output = Option<Answer>> + Send>>;

/// Appends one event of `bytes` to a stream, and gets as far as the queue with it.
fn appending(commit: &GroupCommit<Gate>, stream: &str, bytes: usize) -> Pending {
    let data = format!("\"{}\"", "x".repeat(bytes));
    let request = AppendRequest {
        events: vec![event(stream, "T", &data)],
        expected: Vec::new(),
    };
    let request = admit(request).expect("a good event");
    let commit = commit.clone();
    let mut future: Pending = Box::pin(async move { commit.append(request).await });
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "nothing was let pass yet");
    future
}

fn position(answer: Option<Answer>) -> u64 {
    answer
        .expect("an answer")
        .expect("it was appended")
        .positions[0]
}

/// A queue with one group at the gate, which only holds the request `first`.
async fn with_one_writing() -> (GroupCommit<Gate>, Arc<Gate>, Pending) {
    let gate = Arc::new(Gate::default());
    let commit = GroupCommit::new(Arc::clone(&gate));
    let first = appending(&commit, "first", 1);
    while gate.groups().is_empty() {
        tokio::task::yield_now().await;
    }
    (commit, gate, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_others_are_written_shares_the_next_group() {
    let (commit, gate, first) = with_one_writing().await;
    let rest = ["a", "b", "c"].map(|stream| appending(&commit, stream, 1));
    gate.let_pass(1);
    assert_eq!(position(first.await), 1);
    gate.let_pass(1);
    for (pending, expected) in rest.into_iter().zip(2..) {
        assert_eq!(position(pending.await), expected);
    }
    assert_eq!(gate.groups(), [vec!["first"], vec!["a", "b", "c"]]);
    // Nobody waits any more: the next one is written at once again.
    gate.let_pass(1);
    let alone = appending_at_once(&commit, "alone").await;
    assert_eq!(position(alone), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_a_group_is_added_to_goes_with_it() {
    let (commit, gate, first) = with_one_writing().await;
    gate.takes_latecomers.store(true, Ordering::SeqCst);
    let late = ["a", "b"].map(|stream| appending(&commit, stream, 1));
    gate.let_pass(2);
    assert_eq!(position(first.await), 1);
    for (pending, expected) in late.into_iter().zip(2..) {
        assert_eq!(position(pending.await), expected);
    }
    assert_eq!(gate.groups(), [vec!["first"], vec!["a", "b"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_a_group_happens_to_its_latecomers() {
    for what in ["fail", "panic"] {
        let (commit, gate, first) = with_one_writing().await;
        gate.takes_latecomers.store(true, Ordering::SeqCst);
        let late = [what, "a"].map(|stream| appending(&commit, stream, 1));
        gate.let_pass(2);
        for pending in std::iter::once(first).chain(late) {
            let answer = pending.await;
            let is_told = match what {
                "fail" => matches!(answer, Some(Err(LogError::Full { .. }))),
                _ => answer.is_none(),
            };
            assert!(is_told, "{what}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latecomers_find_the_room_that_is_left() {
    let gate = Arc::new(Gate::default());
    gate.takes_latecomers.store(true, Ordering::SeqCst);
    let commit = GroupCommit::new(Arc::clone(&gate));
    let quarter = APPEND_GROUP_BYTES_MAX / 4 - 2;
    let first = appending(&commit, "first", quarter);
    while gate.groups().is_empty() {
        tokio::task::yield_now().await;
    }
    let late = ["a", "b", "c"].map(|stream| appending(&commit, stream, quarter));
    gate.let_pass(4);
    position(first.await);
    for pending in late {
        position(pending.await);
    }
    assert_eq!(
        gate.groups(),
        [vec!["first"], vec!["a", "b"], vec!["c"], vec![]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_has_its_limits() {
    let (commit, gate, first) = with_one_writing().await;
    // With what belongs to them, four of these are too many for a group.
    let rest = ["a", "b", "c", "d", "e"]
        .map(|stream| appending(&commit, stream, APPEND_GROUP_BYTES_MAX / 4 - 2));
    gate.let_pass(3);
    first.await;
    for pending in rest {
        position(pending.await);
    }
    assert_eq!(gate.groups()[1..], [vec!["a", "b", "c"], vec!["d", "e"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_queue_is_not_written_and_harms_nobody() {
    let (commit, gate, first) = with_one_writing().await;
    let [a, b, c] = ["a", "b", "c"].map(|stream| appending(&commit, stream, 1));
    drop(b);
    // This one is being written already.
    drop(first);
    gate.let_pass(2);
    assert_eq!((position(a.await), position(c.await)), (2, 3));
    assert_eq!(gate.groups(), [vec!["first"], vec!["a", "c"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_everybodys_and_ends_with_its_group() {
    let (commit, gate, first) = with_one_writing().await;
    let rest = ["a", "fail", "b"].map(|stream| appending(&commit, stream, 1));
    gate.let_pass(3);
    first.await;
    for pending in rest {
        let answer = pending.await.expect("an answer");
        assert!(matches!(answer, Err(LogError::Full { .. })), "{answer:?}");
    }
    assert_eq!(position(appending_at_once(&commit, "next").await), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_leaves_nobody_waiting() {
    let (commit, gate, first) = with_one_writing().await;
    let rest = ["a", "panic", "b"].map(|stream| appending(&commit, stream, 1));
    let large = ["c", "d", "e", "f"]
        .map(|stream| appending(&commit, stream, APPEND_GROUP_BYTES_MAX / 4 - 2));
    gate.let_pass(9);
    first.await;
    for pending in rest {
        assert!(pending.await.is_none(), "nobody can say");
    }
    // Whoever was in another group does not notice.
    let [.., last] = large;
    position(last.await);
    position(appending_at_once(&commit, "next").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_lets_nobody_in() {
    let (commit, gate, first) = with_one_writing().await;
    let large = 1 << 20;
    let fit = APPEND_QUEUE_BYTES_MAX as usize / (large + 1_000);
    let mut waiting: Vec<Pending> = Vec::new();
    for n in 0..fit + 5 {
        waiting.push(appending(&commit, &format!("s{n}"), large - 2));
    }
    assert!(commit.queue.state().waiting.len() <= fit);
    gate.let_pass(fit as u64 + 9);
    position(first.await);
    for (pending, expected) in waiting.into_iter().zip(2..) {
        assert_eq!(position(pending.await), expected, "in order");
    }
}

async fn appending_at_once(commit: &GroupCommit<Gate>, stream: &str) -> Option<Answer> {
    let request = AppendRequest {
        events: vec![event(stream, "T", "1")],
        expected: Vec::new(),
    };
    commit.append(admit(request).expect("a good event")).await
}
