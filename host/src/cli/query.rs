//! `retell query`: read-only SQL on one read model.

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::ops::ControlFlow;

use super::Context;
use super::printer::{Failed, Stdout, Usage, printable};
use crate::limits;
use crate::read_model::ReadModelPlace;
use crate::read_model::query::{Cell, QueryLimits, RowSink};

/// Run read-only SQL on one read model
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The SQL is one SELECT (or WITH, VALUES, EXPLAIN QUERY PLAN, or a PRAGMA that tells about tables) in
SQLite's dialect. Anything that would write is refused. Timestamps are integers, microseconds since
the Unix epoch, UTC: datetime(c / 1000000, 'unixepoch') makes them readable.

What is printed:
  on a terminal   a table of the first 1,000 rows
  elsewhere       a line of column names and a line per row, separated by tabs; backslash, tab, line
                  feed and carriage return within values are written \\\\ \\t \\n \\r, null is empty
  --csv           the same as CSV (RFC 4180); null is empty
  --json          one document: a list with an object per row, its keys the column names
Bytes are written as SQL does: x'00ff'.

Examples:
  retell query articles 'SELECT title, likes FROM article ORDER BY likes DESC LIMIT 5'
  retell query articles@2 --csv 'SELECT * FROM author' > authors.csv
  retell query articles@2.1.0 --json - < report.sql
  retell query articles \"SELECT name, sql FROM sqlite_schema WHERE type = 'table'\"")]
pub(crate) struct Args {
    /// NAME for the live version, NAME@2 for the lasting name of major 2, NAME@2.1.0 for one version
    name: String,
    /// The SQL; `-` reads it from standard input
    sql: String,
    /// Print CSV
    #[arg(long)]
    csv: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let format = match (args.csv, context.printer.json) {
        (true, true) => {
            return Err(Usage {
                message: "--csv and --json exclude each other".to_owned(),
                hint: Some("give one of them".to_owned()),
            }
            .into());
        }
        (true, false) => Format::Csv,
        (false, true) => Format::Json,
        (false, false) if io::stdout().is_terminal() => Format::Table,
        (false, false) => Format::Tabs,
    };
    let sql = match args.sql.as_str() {
        // One byte more than allowed, so that what is too long is seen to be.
        "-" => io::read_to_string(io::stdin().take(limits::QUERY_SQL_BYTES_MAX as u64 + 1))?,
        _ => args.sql,
    };
    if sql.len() as u64 > limits::QUERY_SQL_BYTES_MAX as u64 {
        return Err(Usage {
            message: format!(
                "the SQL takes more than {} bytes",
                limits::QUERY_SQL_BYTES_MAX
            ),
            hint: Some("a query is one statement; give long lists as a join".to_owned()),
        }
        .into());
    }
    let mut located = super::session::locate(context, &args.name).await?;
    loop {
        let asked = Asked {
            place: located.place.clone(),
            version: format!("{}@{}", located.projection, located.version),
            sql: sql.clone(),
            format,
        };
        let (ended, wrote) = tokio::task::spawn_blocking(move || asked.print()).await?;
        let error = match ended {
            Ok(cut) => {
                if cut {
                    context.printer.say(format_args!(
                        "only the first {} rows are shown; --csv and --json print all",
                        limits::QUERY_TABLE_ROWS_MAX
                    ));
                }
                return Ok(());
            }
            Err(error) => error,
        };
        // The name may have been given to another read model, and this one dropped, between
        // looking it up and opening it. Readers must not notice.
        let now = super::session::locate(context, &args.name).await?;
        if wrote || now.place.to_string() == located.place.to_string() {
            return Err(error);
        }
        located = now;
    }
}

/// A query on its way to one read model.
struct Asked {
    place: ReadModelPlace,
    /// For advice.
    version: String,
    sql: String,
    format: Format,
}

impl Asked {
    /// Prints the rows on stdout. Says whether rows were left out, and whether anything was written.
    fn print(self) -> (anyhow::Result<bool>, bool) {
        let mut out = Counting {
            out: BufWriter::new(Stdout::lock()),
            bytes: 0,
        };
        let printed = print(&self.place, &self.sql, self.format, &mut out)
            .map_err(|(error, hint)| {
                // The read model itself doesn't know by what name it was asked for.
                let hint = hint.map(|hint| hint.replace("NAME@VERSION", &self.version));
                let message = error.to_string();
                error.context(Failed { message, hint })
            })
            .and_then(|cut| out.flush().map(|()| cut).map_err(Into::into));
        (printed, out.bytes > 0)
    }
}

/// Knows how much went through it.
struct Counting<W> {
    out: W,
    bytes: usize,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Tabs,
    Csv,
    Json,
}

/// Prints the rows as they come. Says whether there were more than were printed, or what is wrong and
/// what to do about it.
fn print(
    place: &ReadModelPlace,
    sql: &str,
    format: Format,
    out: &mut dyn Write,
) -> Result<bool, (anyhow::Error, Option<String>)> {
    let mut writer: Box<dyn Writer + '_> = match format {
        Format::Table => Box::new(Table::new(out)),
        Format::Tabs => Box::new(Tabs {
            out,
            line: String::new(),
        }),
        Format::Csv => Box::new(Csv {
            out: csv::Writer::from_writer(out),
        }),
        Format::Json => Box::new(Json {
            out,
            keys: Vec::new(),
            rows: 0,
        }),
    };
    let asked = place.query(sql, QueryLimits::default(), &mut *writer);
    match asked {
        Ok(()) => writer.finish().map_err(|error| (error.into(), None)),
        Err(error) => {
            let _ = writer.abandon();
            let hint = error.hint();
            Err((error.into(), hint))
        }
    }
}

/// In less, a table would be one column of letters.
const TABLE_WIDTH_MIN: u16 = 20;

trait Writer: RowSink {
    /// After the last row. Says whether rows were left out.
    fn finish(&mut self) -> io::Result<bool>;
    /// After an error: what was written already should be seen.
    fn abandon(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A table that fits the terminal. It holds its rows to align them, so their number is limited.
struct Table<'a> {
    out: &'a mut dyn Write,
    grid: comfy_table::Table,
    rows: usize,
    cut: bool,
}

impl<'a> Table<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        let mut grid = comfy_table::Table::new();
        grid.load_style(comfy_table::presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        // Some terminals (those of scripts, mostly) say that they are no columns wide.
        if grid.width().is_some_and(|width| width < TABLE_WIDTH_MIN) {
            grid.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        }
        Self {
            out,
            grid,
            rows: 0,
            cut: false,
        }
    }
}

impl RowSink for Table<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.grid
            .set_header(names.iter().map(|name| printable(name)));
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<ControlFlow<()>> {
        if self.rows == limits::QUERY_TABLE_ROWS_MAX {
            self.cut = true;
            return Ok(ControlFlow::Break(()));
        }
        self.rows += 1;
        self.grid.add_row(cells.iter().map(|cell| {
            let text = match cell {
                Cell::Null => "NULL".to_owned(),
                cell => printable(&text(cell)),
            };
            let shown = comfy_table::Cell::new(text);
            match cell {
                Cell::Integer(_) | Cell::Real(_) => {
                    shown.set_alignment(comfy_table::CellAlignment::Right)
                }
                _ => shown,
            }
        }));
        Ok(ControlFlow::Continue(()))
    }
}

impl Writer for Table<'_> {
    fn finish(&mut self) -> io::Result<bool> {
        writeln!(self.out, "{}", self.grid)?;
        Ok(self.cut)
    }
}

struct Tabs<'a> {
    out: &'a mut dyn Write,
    line: String,
}

impl Tabs<'_> {
    fn value(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.line.push_str("\\\\"),
                '\t' => self.line.push_str("\\t"),
                '\n' => self.line.push_str("\\n"),
                '\r' => self.line.push_str("\\r"),
                c => self.line.push(c),
            }
        }
        self.line.push('\t');
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.pop();
        writeln!(self.out, "{}", self.line)?;
        self.line.clear();
        Ok(())
    }
}

impl RowSink for Tabs<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        for name in names {
            self.value(name);
        }
        self.end_line()
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<ControlFlow<()>> {
        for cell in cells {
            self.value(&text(cell));
        }
        self.end_line().map(ControlFlow::Continue)
    }
}

impl Writer for Tabs<'_> {
    fn finish(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// What went wrong underneath, where that is it.
fn of_csv(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

struct Csv<'a> {
    out: csv::Writer<&'a mut dyn Write>,
}

impl RowSink for Csv<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.out.write_record(names).map_err(of_csv)
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<ControlFlow<()>> {
        self.out
            .write_record(cells.iter().map(text))
            .map_err(of_csv)?;
        Ok(ControlFlow::Continue(()))
    }
}

impl Writer for Csv<'_> {
    fn finish(&mut self) -> io::Result<bool> {
        self.out.flush()?;
        Ok(false)
    }

    fn abandon(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One JSON document, row by row.
struct Json<'a> {
    out: &'a mut dyn Write,
    /// The column names as JSON texts with their colons.
    keys: Vec<String>,
    rows: u64,
}

impl RowSink for Json<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        for (number, name) in names.iter().enumerate() {
            if names[..number].contains(name) {
                return Err(io::Error::other(format!(
                    "two columns are named `{name}`, and an object can't hold both; name one otherwise with AS"
                )));
            }
            self.keys.push(format!("{}:", serde_json::to_string(name)?));
        }
        write!(self.out, "[")
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<ControlFlow<()>> {
        self.out
            .write_all(if self.rows == 0 { b"{" } else { b",\n{" })?;
        self.rows += 1;
        for (number, (key, cell)) in self.keys.iter().zip(cells).enumerate() {
            if number > 0 {
                self.out.write_all(b",")?;
            }
            self.out.write_all(key.as_bytes())?;
            match cell {
                Cell::Null => self.out.write_all(b"null")?,
                Cell::Boolean(value) => write!(self.out, "{value}")?,
                Cell::Integer(value) => write!(self.out, "{value}")?,
                // Infinite ones come out as null: JSON has no word for them.
                Cell::Real(value) => serde_json::to_writer(&mut *self.out, value)?,
                cell => serde_json::to_writer(&mut *self.out, &text(cell))?,
            }
        }
        self.out.write_all(b"}")?;
        Ok(ControlFlow::Continue(()))
    }
}

impl Writer for Json<'_> {
    fn finish(&mut self) -> io::Result<bool> {
        writeln!(self.out, "]")?;
        Ok(false)
    }
}

fn text(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        // As JSON and SQL write it: 1.0 and not 1.
        Cell::Real(value) => format!("{value:?}"),
        Cell::Text(value) => value.to_string(),
        Cell::Bytes(bytes) => {
            let mut text = String::with_capacity(bytes.len() * 2 + 3);
            text.push_str("x'");
            for byte in *bytes {
                use std::fmt::Write as _;
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\'');
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::printer::{has_no_reader, of_stdout};

    const SQL: &str = "SELECT 1 AS a, 'x\ty\n\\' AS \"b,c\", NULL AS n, 1.0 AS r, x'00ff' AS raw
        UNION ALL SELECT 2, '\u{1b}[31m\"é\"', '', -0.5, x''";

    fn file() -> (tempfile::TempDir, ReadModelPlace) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.db");
        std::fs::write(&path, "").expect("writes");
        (folder, ReadModelPlace::File(path))
    }

    fn printed(sql: &str, format: Format) -> String {
        let (_folder, path) = file();
        let mut out = Vec::new();
        print(&path, sql, format, &mut out).expect("prints");
        String::from_utf8(out).expect("prints text")
    }

    #[test]
    fn tabs() {
        assert_eq!(
            printed(SQL, Format::Tabs),
            "a\tb,c\tn\tr\traw\n1\tx\\ty\\n\\\\\t\t1.0\tx'00ff'\n2\t\u{1b}[31m\"é\"\t\t-0.5\tx''\n"
        );
    }

    #[test]
    fn csv() {
        assert_eq!(
            printed(SQL, Format::Csv),
            "a,\"b,c\",n,r,raw\n1,\"x\ty\n\\\",,1.0,x'00ff'\n2,\"\u{1b}[31m\"\"é\"\"\",,-0.5,x''\n"
        );
    }

    #[test]
    fn json() {
        let text = printed(SQL, Format::Json);
        let rows: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(rows[0]["b,c"], "x\ty\n\\");
        assert_eq!(rows[0]["n"], serde_json::Value::Null);
        assert_eq!(rows[0]["r"], 1.0);
        assert_eq!(rows[1]["n"], "");
        assert_eq!(rows[1]["raw"], "x''");
        assert_eq!(text.lines().count(), 2);
        assert_eq!(printed("SELECT 1 AS a WHERE 0", Format::Json), "[]\n");
    }

    #[test]
    fn json_refuses_two_columns_of_one_name() {
        let (_folder, path) = file();
        let (error, _) = print(
            &path,
            "SELECT 1 AS a, 2 AS a",
            Format::Json,
            &mut Vec::new(),
        )
        .expect_err("is refused");
        assert!(
            format!("{error:#}").contains("two columns are named `a`"),
            "{error:#}"
        );
    }

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let text = printed(SQL, Format::Table);
        assert!(
            text.contains("NULL") && text.contains("\\u{1b}[31m"),
            "{text}"
        );
        let widths: std::collections::HashSet<_> =
            text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 1, "{text}");
    }

    #[test]
    fn a_long_table_is_cut_and_says_so() {
        let (_folder, path) = file();
        let count = |rows: usize| {
            let sql = format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i FROM n"
            );
            print(&path, &sql, Format::Table, &mut Vec::new()).expect("prints")
        };
        assert!(!count(limits::QUERY_TABLE_ROWS_MAX));
        assert!(count(limits::QUERY_TABLE_ROWS_MAX + 1));
    }

    #[test]
    fn a_reader_that_went_away_can_be_told_from_a_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(of_stdout(io::ErrorKind::BrokenPipe.into()))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_folder, path) = file();
        for format in [Format::Tabs, Format::Json, Format::Table, Format::Csv] {
            let (error, _) = print(&path, "SELECT 1", format, &mut Gone).expect_err("can't write");
            assert!(has_no_reader(&error), "{format:?}: {error:?}");
        }
    }
}
