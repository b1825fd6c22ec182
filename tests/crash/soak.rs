//! A soak: writers, a host, an operator and a reader on one instance, all of them killed at random,
//! told to die at crash points, or given a full disk; and at the end a look at everything.
//!
//! It lasts `RETELL_SOAK_SECONDS`, a few by default; `make soak DURATION=600` says how many.

mod check;
mod operator;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use retell::crash_point::CrashPoint;

use crate::instance::{Dice, Doom, Instance, Seen};
use crate::waiting::StopOnDrop;
use operator::Operator;
use writer::Writer;

const SECONDS: u64 = 12;
const WRITERS: usize = 3;

#[test]
#[allow(
    clippy::print_stderr,
    reason = "how far it is, for who runs it by hand"
)]
fn a_soak() {
    let seconds = std::env::var("RETELL_SOAK_SECONDS").map_or(SECONDS, |it| {
        it.parse()
            .expect("RETELL_SOAK_SECONDS is a number of seconds")
    });
    let mut dice = Dice::new();
    eprintln!(
        "a soak of {seconds} s; RETELL_SEED={} draws the same",
        dice.seed
    );
    let instance = Instance::new();
    instance.run(&["init"]).ok();
    instance.deploy("articles_v1");
    instance.run(&["promote", "articles@1.0.0"]).ok();

    let end = Instant::now() + Duration::from_secs(seconds);
    let is_over = AtomicBool::new(false);
    let (writers, operator, reads) = std::thread::scope(|scope| {
        let stopper = StopOnDrop(&is_over);
        let mut another = || dice.another();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let mut writer = Writer::new(number, another());
                let (instance, is_over) = (&instance, &is_over);
                scope.spawn(move || {
                    writer.write(instance, is_over);
                    writer
                })
            })
            .collect();
        let operator = {
            let mut operator = Operator::new(another());
            let (instance, is_over) = (&instance, &is_over);
            scope.spawn(move || {
                operator.operate(instance, is_over);
                operator
            })
        };
        let reader = scope.spawn(|| read(&instance, &is_over));
        serve(&instance, another(), end);
        drop(stopper);
        let writers: Vec<Writer> = writers
            .into_iter()
            .map(|it| it.join().expect("the writer met no fault"))
            .collect();
        let operator = operator.join().expect("the operator met no fault");
        (
            writers,
            operator,
            reader.join().expect("the reader saw no fault"),
        )
    });
    let sent: Vec<usize> = writers.iter().map(Writer::sent).collect();
    eprintln!("writers sent {sent:?} events, a reader looked {reads} times; the operator:");
    eprint!("{operator}");
    check::everything(&instance, &writers);
}

/// A host that never lives long.
fn serve(instance: &Instance, mut dice: Dice, end: Instant) {
    while Instant::now() < end {
        let mut serve = instance.start_doomed(&["serve"], doom(&mut dice, instance));
        let lives_until = end.min(Instant::now() + Duration::from_millis(dice.number(200..4_000)));
        while Instant::now() < lives_until && serve.is_alive() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = if dice.one_in(3) {
            serve.terminate()
        } else {
            serve.kill()
        };
        ended.assert_explains_itself("serve");
        if dice.one_in(3) {
            dice.pause(Duration::from_millis(500));
        }
    }
}

/// Mostly none.
fn doom(dice: &mut Dice, instance: &Instance) -> Option<Doom> {
    match dice.below(6) {
        0 => Some(Doom::CrashPoint(
            CrashPoint::ALL[dice.below(CrashPoint::ALL.len())],
        )),
        1 => {
            let log = std::fs::metadata(instance.data().join("log.db"));
            let bytes = log.expect("the log is there").len();
            Some(Doom::FullDisk {
                file_bytes_max: bytes + dice.number(0..200_000),
            })
        }
        _ => None,
    }
}

/// Programs that read the live version never see it go back. Returns how often one looked.
fn read(instance: &Instance, is_over: &AtomicBool) -> u64 {
    let path = instance.live();
    let mut seen = Seen::default();
    while !is_over.load(Ordering::Relaxed) {
        if let Err(error) = seen.look(&path) {
            // It followed the link just before a build was dropped.
            assert!(crate::kills::is_gone(&error), "{error}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    seen.reads
}
