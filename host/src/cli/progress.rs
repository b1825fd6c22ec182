//! The progress of a build on stderr: a bar on a terminal, a line now and then elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::printer::Printer;
use crate::clock::Stopwatch;
use crate::event::Position;
use crate::lifecycle::{Phase, Progress};
use crate::replay::eta_s;

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Shows one build on its way.
#[derive(Debug)]
pub(crate) struct BuildBar {
    printer: Printer,
    name: String,
    bar: Option<ProgressBar>,
    since_line: Stopwatch,
    trouble: Option<String>,
}

impl BuildBar {
    pub(crate) fn new(printer: Printer, name: &str) -> Self {
        let bar = printer.shows_progress().then(|| bar(name));
        let name = name.to_owned();
        Self {
            printer,
            name,
            bar,
            since_line: Stopwatch::start(),
            trouble: None,
        }
    }

    /// Shows where it is on its way to `goal`.
    pub(crate) fn show(&mut self, progress: &Progress, goal: Position) {
        let words = describe(progress, goal);
        let position = match progress.phase {
            Phase::Verifying { position, .. } => position,
            _ => progress.applied.min(goal),
        };
        if let Some(bar) = &self.bar {
            bar.set_length(goal);
            bar.set_position(position);
            bar.set_message(words);
        } else if self.since_line.elapsed() >= LINE_INTERVAL {
            self.since_line = Stopwatch::start();
            self.printer
                .say(format_args!("{}: {position} of {goal}, {words}", self.name));
        }
    }

    /// Says once why the host can't go on for now.
    pub(crate) fn tell_trouble(&mut self, trouble: Option<&str>) {
        if self.trouble.as_deref() == trouble {
            return;
        }
        self.trouble = trouble.map(str::to_owned);
        let Some(trouble) = trouble else { return };
        let line = format!(
            "{} can't go on for now, and is tried again: {trouble}",
            self.name
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.printer.say(line),
        }
    }

    /// Takes the bar away; what comes next says how it ended.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows how far a version is verified.
#[derive(Debug, Clone)]
pub(crate) struct VerifyBar(Option<ProgressBar>);

impl VerifyBar {
    pub(crate) fn new(printer: Printer, name: &str) -> Self {
        Self(printer.shows_progress().then(|| bar(name)))
    }

    pub(crate) fn show(&self, what: &str, position: Position, end: Position) {
        if let Some(bar) = &self.0 {
            bar.set_length(end);
            bar.set_position(position);
            bar.set_message(what.to_owned());
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix} {wide_bar:.cyan/dim} {percent:>3}%  {human_pos}/{human_len}  {msg}",
    )
    .expect("the template is correct");
    let bar = ProgressBar::new(0)
        .with_style(style)
        .with_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn describe(progress: &Progress, goal: Position) -> String {
    match &progress.phase {
        Phase::Verifying { what, .. } => format!("verifying, {what}"),
        Phase::Opening => "compiling the module".to_owned(),
        Phase::Indexing => "building indexes".to_owned(),
        _ => {
            let rate = progress.events_per_s;
            let lag = goal.saturating_sub(progress.applied);
            match eta_s(lag, rate) {
                Some(eta) if lag > 0 => {
                    format!("{} events/s, {} left", thousands(rate), duration(eta))
                }
                _ => format!("{} events/s", thousands(rate)),
            }
        }
    }
}

/// `1234567.8` as `1,234,568`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as `42 s`, `3 min 20 s` or `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round();
    let (hours, minutes, rest) = (
        (whole / 3600.0).floor(),
        (whole % 3600.0 / 60.0).floor(),
        whole % 60.0,
    );
    if hours > 0.0 {
        format!("{hours:.0} h {minutes:.0} min")
    } else if minutes > 0.0 {
        format!("{minutes:.0} min {rest:.0} s")
    } else {
        format!("{rest:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_easily() {
        assert_eq!(thousands(0.0), "0");
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_234_567.8), "1,234,568");
        assert_eq!(duration(42.2), "42 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7_500.0), "2 h 5 min");
    }
}
