//! What the bench says: a table on the terminal and as Markdown, and the ratios as JSON.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, Table, TableStyle};
use serde::Serialize;

use crate::run::Times;

/// A ratio that was measured, and what it must not exceed.
#[derive(Debug, Serialize)]
struct Verdict {
    workload: String,
    against: String,
    ratio: f64,
    target: f64,
    met: bool,
}

/// Gathers what the workloads say.
#[derive(Debug, Default)]
pub(crate) struct Report {
    verdicts: Vec<Verdict>,
    /// Workload, contender, median, range, ratio, target, met.
    lines: Vec<[String; 7]>,
    /// Paragraphs that fit no table.
    notes: Vec<String>,
}

const HEADER: [&str; 7] = [
    "workload",
    "what",
    "median",
    "min to max",
    "ratio",
    "at most",
    "met",
];

impl Report {
    /// A line without a ratio.
    pub(crate) fn times(&mut self, workload: &str, times: &Times) {
        self.line(workload, times, &[]);
    }

    /// The ratio of the first one's time to the second one's.
    pub(crate) fn against(
        &mut self,
        workload: &str,
        ours: &Times,
        theirs: &Times,
        target: Option<f64>,
    ) {
        let ratio = ours.median() / theirs.median();
        let verdict = self.judge(workload, &theirs.contender, ratio, target);
        self.line(workload, theirs, &verdict);
    }

    /// Any value with a target, such as MiB.
    pub(crate) fn value(&mut self, workload: &str, what: &str, value: f64, target: Option<f64>) {
        let verdict = self.judge(workload, what, value, target);
        let mut line = [workload, what, &shown(value), "", "", "", ""].map(str::to_owned);
        line[5..].clone_from_slice(&verdict[1..]);
        self.lines.push(line);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn judge(
        &mut self,
        workload: &str,
        against: &str,
        ratio: f64,
        target: Option<f64>,
    ) -> [String; 3] {
        let Some(target) = target else {
            return [shown(ratio), String::new(), String::new()];
        };
        let met = ratio <= target;
        self.verdicts.push(Verdict {
            workload: workload.to_owned(),
            against: against.to_owned(),
            ratio,
            target,
            met,
        });
        [
            shown(ratio),
            target.to_string(),
            if met { "yes" } else { "no" }.to_owned(),
        ]
    }

    fn line(&mut self, workload: &str, times: &Times, verdict: &[String]) {
        let mut line = [
            workload.to_owned(),
            times.contender.clone(),
            seconds(times.median()),
            format!("{} to {}", seconds(times.min()), seconds(times.max())),
            String::new(),
            String::new(),
            String::new(),
        ];
        line[4..4 + verdict.len()].clone_from_slice(verdict);
        self.lines.push(line);
    }

    pub(crate) fn table(&self) -> String {
        self.table_as(UTF8_FULL_CONDENSED)
    }

    fn table_as(&self, style: TableStyle) -> String {
        let mut table = Table::new();
        table.load_style(style).set_header(HEADER);
        table.add_rows(&self.lines);
        for column in 2..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes the ratios that have a target.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(
            path,
            serde_json::to_string_pretty(&self.verdicts)? + "\n",
        )?)
    }

    /// Writes everything as one page.
    pub(crate) fn write_markdown(&self, path: &Path, introduction: &str) -> anyhow::Result<()> {
        let mut page = format!("{introduction}\n{}\n", self.table_as(ASCII_MARKDOWN));
        for note in &self.notes {
            write!(page, "\n{note}\n")?;
        }
        Ok(std::fs::write(path, page)?)
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 1e-6 {
        format!("{:.1} ns", seconds * 1e9)
    } else if seconds < 1e-3 {
        format!("{:.2} µs", seconds * 1e6)
    } else if seconds < 0.1 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.3} s")
    }
}

fn shown(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}
