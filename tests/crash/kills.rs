//! One kind of work at a time, killed again and again and begun again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use retell::crash_point::CrashPoint;

use crate::appender::append_with_kills;
use crate::content;
use crate::instance::{Dice, Doom, Instance, Seen, file_of, name_of, text, timed};
use crate::waiting::StopOnDrop;

const GUESTS: [&str; 4] = [
    "articles_v1",
    "articles_v2",
    "articles_v3",
    "discussions_v1",
];
const VERSIONS: [&str; 2] = ["articles@1.0.0", "articles@2.0.0"];

/// An instance with events and a live version, how long that took to build, and the events.
fn with_live_version(dice: &Dice, events: usize) -> (Instance, Vec<content::Content>, Duration) {
    let instance = Instance::new();
    let events = content::seeded(dice.seed, events);
    instance.append(&events, 0);
    let ((), took) = timed(|| instance.deploy("articles_v1"));
    instance.run(&["promote", VERSIONS[0]]).ok();
    (instance, events, took)
}

#[test]
fn deploy() {
    let mut dice = Dice::new();
    let (instance, events, took) = with_live_version(&dice, 12_000);
    for guest in &GUESTS[1..] {
        for _ in 0..4 {
            let deploy = instance.start(&["deploy", &file_of(guest)]);
            dice.pause(took);
            if dice.one_in(4) {
                let code = deploy.terminate().code;
                assert!(matches!(code, None | Some(0 | 130)), "{code:?}");
            } else {
                deploy.kill();
            }
            instance.assert_sane();
        }
        instance.deploy(guest);
    }
    instance.assert_as_undisturbed(&events, &GUESTS);
}

#[test]
fn serve_while_events_come_and_versions_are_deployed() {
    let mut dice = Dice::new();
    let instance = Instance::new();
    let events = content::seeded(dice.seed, 3_000);
    instance.append(&events[..1_500], 0);
    let ((), took) = timed(|| instance.deploy("articles_v1"));
    let stop = AtomicBool::new(false);
    let appended = std::thread::scope(|scope| {
        let appender = scope.spawn(|| append_with_kills(&instance, &events, 1_500, &stop));
        let stopper = StopOnDrop(&stop);
        let mut deploys = Vec::new();
        for round in 0..8 {
            let serve = instance.serve();
            let guest = file_of(GUESTS[round % GUESTS.len()]);
            let deploy = instance.start(&["deploy", &guest, "--promote"]);
            dice.pause(took * 2);
            serve.kill();
            if dice.one_in(2) {
                deploy.kill();
            } else {
                // Its host is gone; it goes on by itself.
                deploys.push(deploy);
            }
            instance.assert_sane();
        }
        for deploy in deploys {
            deploy.wait().ok();
        }
        drop(stopper);
        appender.join().expect("the appender met no fault")
    });
    let serve = instance.serve();
    for guest in GUESTS {
        instance.deploy(guest);
    }
    instance.run(&["catch-up"]).ok();
    serve.terminate().ok();
    instance.assert_as_undisturbed(&events[..appended], &GUESTS);
}

#[test]
fn promote_and_rollback() {
    let mut dice = Dice::new();
    let (instance, mut events, _) = with_live_version(&dice, 300);
    instance.deploy("articles_v2");
    let (_, took) = timed(|| instance.run(&["promote", VERSIONS[1]]).ok());
    let more = content::seeded(dice.seed.wrapping_add(1), 200);
    let live = || {
        let versions = VERSIONS.map(|name| instance.version(name).expect("it is deployed"));
        usize::from(versions[1]["role"] == "live")
    };
    let stop = AtomicBool::new(false);
    let path = instance.live();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                seen.look(&path).expect("live.db is always there");
            }
            seen
        });
        let stopper = StopOnDrop(&stop);
        for turn in 0..14 {
            for _ in 0..=dice.below(5) {
                let event = more[events.len() % more.len()].clone();
                instance.append(std::slice::from_ref(&event), events.len());
                events.push(event);
            }
            // What a killed command asked for is forgotten with it, or it would be done now.
            let serve = (turn % 2 == 1).then(|| instance.serve());
            let before = live();
            let other = VERSIONS[1 - before];
            let ways = [["promote", other], ["rollback", "articles"]];
            let command = instance.start(&ways[dice.below(2)]);
            dice.pause(took * 2);
            match serve {
                // The host is gone, and the command ends what it asked for, once.
                Some(serve) if dice.one_in(2) => {
                    serve.kill();
                    command.wait().ok();
                    assert_eq!(live(), 1 - before, "turn {turn}");
                }
                serve => {
                    command.kill();
                    drop(serve);
                }
            }
            instance.assert_sane();
        }
        drop(stopper);
        let seen = reader.join().expect("the reader saw no fault");
        assert!(seen.reads > 14, "{seen:?}");
    });
    instance.run(&["catch-up"]).ok();
    instance.assert_as_undisturbed(&events, &GUESTS[..2]);
}

#[test]
fn retire() {
    let mut dice = Dice::new();
    let (instance, events, _) = with_live_version(&dice, 300);
    instance.deploy("articles_v2");
    let (_, took) = timed(|| instance.run(&["retire", VERSIONS[1]]).ok());
    for round in 0..8 {
        instance.deploy("articles_v2");
        let retire = instance.start(&["retire", VERSIONS[1]]);
        dice.pause(took);
        retire.kill();
        instance.assert_sane();
        // Refused if the first one came that far; even then the rest is done.
        let code = instance.run(&["retire", VERSIONS[1]]).code;
        assert!(matches!(code, Some(0 | 3)), "round {round}: {code:?}");
        let version = instance
            .version(VERSIONS[1])
            .expect("it is kept in the catalog");
        assert_eq!(text(&version, "state"), "retired");
        instance.assert_no_orphans();
    }
    instance.deploy("articles_v2");
    instance.assert_as_undisturbed(&events, &GUESTS[..2]);
}

#[test]
fn replay_of_the_live_version() {
    let mut dice = Dice::new();
    let (instance, events, _) = with_live_version(&dice, 2_000);
    let name = name_of("articles_v1");
    let (_, took) = timed(|| instance.run(&["replay", name]).ok());
    let stop = AtomicBool::new(false);
    let path = instance.live();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = seen.look(&path) {
                    // It followed the link just before the old build was dropped.
                    assert!(is_gone(&error), "{error}");
                }
            }
            seen
        });
        let stopper = StopOnDrop(&stop);
        for _ in 0..8 {
            let replay = instance.start(&["replay", name]);
            dice.pause(took);
            replay.kill();
            instance.assert_sane();
        }
        instance.run(&["replay", name]).ok();
        drop(stopper);
        let seen = reader.join().expect("the reader saw no other fault");
        assert!(seen.position == events.len() as u64, "{seen:?}");
    });
    // The next to take the lease sweeps up what the reader left of builds that were dropped.
    instance.run(&["catch-up"]).ok();
    instance.assert_as_undisturbed(&events, &GUESTS[..1]);
}

/// Nobody has read it, and the log has everything.
#[test]
fn a_damaged_file_that_was_never_ready_is_begun_anew() {
    let dice = Dice::new();
    let instance = Instance::new();
    let events = content::seeded(dice.seed, 300);
    instance.append(&events, 0);
    let deploy = ["deploy", &file_of(GUESTS[0])];
    let doom = Doom::CrashPoint(CrashPoint::ReadModelMade);
    instance.start_doomed(&deploy, Some(doom)).wait();
    let version = instance.version(VERSIONS[0]).expect("it is registered");
    assert_eq!(text(&version, "state"), "replaying");

    let file = instance.location(VERSIONS[0]);
    let mut bytes = std::fs::read(&file).expect("reads");
    // The first page says where tables are, and stays whole.
    bytes[8_192..].fill(0xff);
    std::fs::write(&file, bytes).expect("writes");
    let caught_up = instance.start(&["catch-up"]).wait();
    assert!(
        caught_up.stderr.contains("replaying it anew"),
        "{caught_up:?}"
    );
    caught_up.ok();
    instance.run(&["promote", VERSIONS[0]]).ok();
    instance.assert_as_undisturbed(&events, &GUESTS[..1]);
}

pub(crate) fn is_gone(error: &str) -> bool {
    ["no such table", "unable to open", "disk I/O error"]
        .iter()
        .any(|it| error.contains(it))
}
