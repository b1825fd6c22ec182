use super::*;
use crate::replay::feed::Read;

const SETTINGS: FeedSettings = FeedSettings {
    threads: 2,
    batch_events_max: 100,
    batch_bytes_max: 1 << 20,
    distance_min: 1,
};

fn asks() -> Arc<Asks> {
    Asks::new(&crate::read_model::conformance::people())
}

fn join(members: &mut Members, after: Position, limit: Position) -> u64 {
    let member = members.join(asks(), after, false, Arc::default());
    assert!(!matches!(members.next(member, limit), Next::Window(_)));
    member
}

/// Who got the window, and where it is. The reader is free again at once.
fn claim(members: &mut Members) -> Option<(Vec<u64>, Position, Position)> {
    let claim = members.claim(&SETTINGS)?;
    members.end_claim();
    Some((claim.plan.members.clone(), claim.after, claim.end))
}

/// A window that takes so much memory, or as little as one takes.
fn window(end: Position, bytes: usize) -> Window {
    let batch = crate::replay::parsers::Parser::new(&[asks()])
        .parse(&crate::log::EventChunk::new(1, 1), 0..0)
        .pop()
        .expect("one module")
        .batch;
    Window {
        end,
        read: Some(Box::new(Read {
            batch,
            reached: end,
            reached_hash: [0; 32],
            joined_hash: None,
            bytes: bytes.saturating_sub(size_of::<Window>() + size_of::<Read>()),
        })),
    }
}

fn fetch(members: &mut Members, member: u64, limit: Position) -> Option<Position> {
    match members.next(member, limit) {
        Next::Window(window) => Some(window.end),
        Next::Wait | Next::Nothing => None,
    }
}

#[test]
fn windows_come_in_order_though_they_are_read_in_any() {
    let mut members = Members::new();
    let one = join(&mut members, 0, 250);
    for expected in [(0, 100), (100, 200), (200, 250)] {
        let (who, after, end) = claim(&mut members).expect("there is more to read");
        assert_eq!((who, (after, end)), (vec![one], expected));
    }
    assert!(claim(&mut members).is_none());
    members.deliver(one, window(200, 1));
    assert_eq!(fetch(&mut members, one, 250), None);
    members.deliver(one, window(100, 1));
    assert_eq!(fetch(&mut members, one, 250), Some(100));
    assert_eq!(fetch(&mut members, one, 250), Some(200));
    assert!(matches!(members.next(one, 250), Next::Wait));
    members.deliver(one, window(250, 1));
    assert_eq!(fetch(&mut members, one, 250), Some(250));
    assert!(matches!(members.next(one, 250), Next::Nothing));
}

#[test]
fn a_queue_that_was_full_is_filled_again_once_half_of_it_is_gone() {
    let windows_max = limits::FEED_QUEUE_WINDOWS_MAX;
    let bytes_max = limits::FEED_QUEUE_BYTES_MAX;
    for (bytes, full) in [(1, windows_max), (bytes_max / 16, 16)] {
        let mut members = Members::new();
        let one = join(&mut members, 0, Position::MAX);
        let fill = |members: &mut Members| {
            let mut claims = 0;
            while let Some((_, _, end)) = claim(members) {
                members.deliver(one, window(end, bytes));
                claims += 1;
            }
            claims
        };
        assert_eq!(fill(&mut members), full);
        for _ in 1..full / 2 {
            fetch(&mut members, one, Position::MAX).expect("the queue is full");
            assert!(!members.needs_reader());
        }
        fetch(&mut members, one, Position::MAX).expect("half of it is there");
        assert!(members.needs_reader());
        assert_eq!(fill(&mut members), full / 2);
    }
}

#[test]
fn for_a_member_that_has_plenty_one_thread_reads() {
    let mut members = Members::new();
    let one = join(&mut members, 0, Position::MAX);
    for _ in 0..PLENTY {
        members.claim(&SETTINGS).expect("every thread may read");
    }
    assert!(members.claim(&SETTINGS).is_none(), "it has plenty");
    (0..PLENTY).for_each(|_| members.end_claim());
    members.claim(&SETTINGS).expect("one thread may read");
    assert!(members.claim(&SETTINGS).is_none(), "and no other");

    // Others may read for somebody else.
    let far = 10 * MEETING_DISTANCE;
    let other = join(&mut members, far, Position::MAX);
    let claim = members.claim(&SETTINGS).expect("the other has nothing");
    assert_eq!(claim.plan.members, [other]);
    members.leave(other);

    // Who waits is called later than who reads stops.
    let queued: Vec<Position> = members.all[&one].queue.iter().map(|it| it.end).collect();
    for end in queued {
        members.deliver(one, window(end, 1));
    }
    while members.all[&one].queue.len() >= PLENTY / 2 {
        assert!(!members.needs_reader());
        fetch(&mut members, one, Position::MAX).expect("it was delivered");
    }
    assert!(members.needs_reader());
}

#[test]
fn members_that_are_close_meet_and_read_together() {
    let mut members = Members::new();
    let ahead = join(&mut members, 300, 100_000);
    let behind = join(&mut members, 0, 100_000);
    for expected in [0, 100, 200] {
        let (who, after, end) = claim(&mut members).expect("there is more");
        assert_eq!((who, after), (vec![behind], expected));
        members.deliver(behind, window(end, 1));
        fetch(&mut members, behind, 100_000).expect("it was delivered");
    }
    let (who, after, _) = claim(&mut members).expect("there is more");
    assert_eq!((who, after), (vec![ahead, behind], 300));
}

#[test]
fn members_far_apart_take_turns() {
    let mut members = Members::new();
    let far = join(&mut members, 10 * MEETING_DISTANCE, Position::MAX);
    let near = join(&mut members, 0, Position::MAX);
    let mut turns: Vec<u64> = (0..4)
        .map(|_| claim(&mut members).expect("there is more").0[0])
        .collect();
    turns.sort_unstable();
    assert_eq!(turns, [far, far, near, near]);
}

#[test]
fn who_is_slow_is_left_behind_and_goes_on_by_itself() {
    let mut members = Members::new();
    let fast = join(&mut members, 0, Position::MAX);
    let slow = join(&mut members, 0, Position::MAX);
    let bytes = limits::FEED_QUEUE_BYTES_MAX / 8;
    let mut together = 0;
    let mut alone = 0;
    for _ in 0..20 {
        let (who, _, end) = claim(&mut members).expect("the fast one has room");
        for &member in &who {
            members.deliver(member, window(end, bytes));
        }
        fetch(&mut members, fast, Position::MAX).expect("it was delivered");
        if who == [fast, slow] {
            assert_eq!(alone, 0, "once left behind it is on its own");
            together += 1;
        } else {
            assert_eq!(who, [fast]);
            alone += 1;
        }
    }
    assert_eq!((together, alone), (8, 12));
    // It works off what it has, and then reads for itself from there.
    while fetch(&mut members, slow, Position::MAX).is_some() {}
    let (who, after, _) = claim(&mut members).expect("it has room again");
    assert_eq!((who, after), (vec![slow], 800));
}

#[test]
fn who_reads_along_keeps_no_end_of_windows_without_events() {
    let mut members = Members::new();
    let fast = join(&mut members, 0, Position::MAX);
    let slow = join(&mut members, 0, Position::MAX);
    let windows_max = limits::FEED_QUEUE_BYTES_MAX / size_of::<Read>();
    let mut together = 0;
    while let Some((who, _, end)) = claim(&mut members)
        && who == [fast, slow]
    {
        together += 1;
        assert!(together <= windows_max, "it is never left behind");
        members.deliver(fast, window(end, 0));
        members.deliver(slow, window(end, 0));
        fetch(&mut members, fast, Position::MAX).expect("it was delivered");
    }
    assert!(together > limits::FEED_QUEUE_WINDOWS_MAX);
}

#[test]
fn urgent_ones_go_first() {
    let mut members = Members::new();
    join(&mut members, 0, Position::MAX);
    let urgent = members.join(asks(), 10 * MEETING_DISTANCE, true, Arc::default());
    assert!(matches!(members.next(urgent, Position::MAX), Next::Wait));
    for _ in 0..3 {
        assert_eq!(claim(&mut members).expect("there is more").0, [urgent]);
    }
}

#[test]
fn who_has_left_gets_nothing_and_harms_nobody() {
    let mut members = Members::new();
    let (stays, leaves) = (join(&mut members, 0, 500), join(&mut members, 0, 500));
    let (who, _, end) = claim(&mut members).expect("there is more");
    assert_eq!(who, [stays, leaves]);
    members.leave(leaves);
    members.deliver(leaves, window(end, 1));
    members.deliver(stays, window(end, 1));
    assert_eq!(fetch(&mut members, stays, 500), Some(end));
    assert_eq!(claim(&mut members).expect("there is more").0, [stays]);
}
