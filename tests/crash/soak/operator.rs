//! An operator: deploys, promotes, rolls back, retires, and all the rest, in no sensible order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::check::GUESTS;
use crate::instance::{Dice, Instance, file_of, text};

pub(super) struct Operator {
    dice: Dice,
    /// How often each command ended in each way.
    ends: BTreeMap<(String, String), u32>,
}

impl Operator {
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            dice,
            ends: BTreeMap::new(),
        }
    }

    pub(super) fn operate(&mut self, instance: &Instance, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let args = self.command(instance);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let doom = super::doom(&mut self.dice, instance);
            let command = instance.start_doomed(&args, doom);
            let ended = if self.dice.one_in(4) {
                self.dice.pause(Duration::from_millis(400));
                command.kill()
            } else {
                command.wait()
            };
            ended.assert_explains_itself(&args.join(" "));
            let end = match ended.code {
                Some(1) => {
                    let why = ended.stderr.lines().find(|it| it.starts_with("error:"));
                    let why: String = why.unwrap_or_default().chars().take(100).collect();
                    format!("1, {}", why.replace(char::is_numeric, "#"))
                }
                Some(code) => code.to_string(),
                None => "killed".to_owned(),
            };
            *self.ends.entry((args[0].to_owned(), end)).or_default() += 1;
            instance.assert_sane();
        }
    }

    fn command(&mut self, instance: &Instance) -> Vec<String> {
        let versions = instance.status();
        let version = &versions[self.dice.below(versions.len())];
        let projection = text(version, "projection").to_owned();
        let name = format!("{projection}@{}", text(version, "version"));
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        match self.dice.below(20) {
            0..=5 => self.deploy(),
            6..=8 => words(&["promote", &name, "--accept-dead-letters"]),
            9 | 10 => words(&["rollback", &projection]),
            11 | 12 => words(&["retire", &name]),
            13 | 14 => words(&["replay", &name]),
            15 => words(&["pause", &name]),
            16 | 17 => words(&["resume", &name]),
            18 => words(&["verify", &name]),
            _ => self
                .about_a_dead_letter(instance)
                .unwrap_or_else(|| words(&["catch-up"])),
        }
    }

    fn deploy(&mut self) -> Vec<String> {
        let guest = GUESTS[self.dice.below(GUESTS.len())].0;
        let mut args = vec!["deploy".to_owned(), file_of(guest)];
        if guest == "brittle" {
            args.extend(["--on-error", "park-stream"].map(str::to_owned));
        }
        for (flag, one_in) in [("--promote", 2), ("--verify", 4), ("--no-wait", 4)] {
            if self.dice.one_in(one_in) {
                args.push(flag.to_owned());
            }
        }
        args
    }

    fn about_a_dead_letter(&mut self, instance: &Instance) -> Option<Vec<String>> {
        let listed = instance.run(&["dead-letters", "notes@1.0.0", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).ok()?;
        let listed = listed.as_array().filter(|it| !it.is_empty())?;
        let position = listed[self.dice.below(listed.len())]["position"].to_string();
        let what = ["retry", "skip"][self.dice.below(2)];
        let args = ["dead-letters", "notes@1.0.0", what, &position];
        Some(args.map(str::to_owned).to_vec())
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((command, end), count) in &self.ends {
            writeln!(f, "  {count:>4} × {command}: {end}")?;
        }
        Ok(())
    }
}
