//! `retell inspect`: what a module says of itself.

use std::path::PathBuf;

use anyhow::Context as _;
use retell_contract::manifest::{Manifest, Table};
use serde::Serialize;

use super::Context;
use crate::wasm::{Engine, Module};

/// Show a module's manifest, digest, size, contract and tables
///
/// Nothing is registered, and no log is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  retell inspect articles.wasm\n\n\
    With --json: {\"file\",\"digest\",\"bytes\",\"contract\",\"sdk\",\"manifest\"}")]
pub(crate) struct Args {
    /// The module, as `retell build` made it
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    digest: &'a str,
    bytes: usize,
    contract: &'a str,
    sdk: &'a str,
    manifest: &'a Manifest,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let bytes = super::deploy::read_module(&args.file)?;
    // Nothing is written: looking at a file must not make a data folder.
    let nowhere = tempfile::tempdir().context("no temporary folder")?;
    let engine = Engine::new(nowhere.path())?;
    let module = Module::load(&engine, &bytes)
        .map_err(|error| super::deploy::bad_module(&args.file, error))?;
    let (manifest, stamp) = (module.manifest(), module.stamp());
    let printer = context.printer;
    if printer.json {
        return printer.json(&Report {
            file: args.file.display().to_string(),
            digest: module.digest(),
            bytes: bytes.len(),
            contract: &stamp.contract,
            sdk: &stamp.sdk,
            manifest,
        });
    }
    printer.data(format_args!("{} ({} bytes)", module.name(), bytes.len()))?;
    printer.data(format_args!("digest    {}", module.digest()))?;
    printer.data(format_args!(
        "contract  {} (built with retell-sdk {})",
        stamp.contract, stamp.sdk
    ))?;
    printer.data("events")?;
    for shape in &manifest.shapes {
        let fields: Vec<String> = shape.fields.iter().map(field).collect();
        printer.data(format_args!(
            "  {} {{ {} }}",
            shape.event_type,
            fields.join(", ")
        ))?;
    }
    for table in &manifest.tables {
        print_table(context, table)?;
    }
    for sql in &manifest.after_replay {
        printer.data(format_args!("after the replay ({:?})", sql.dialect))?;
        for line in sql.sql.trim().lines() {
            printer.data(format_args!("  {line}"))?;
        }
    }
    Ok(())
}

fn field(field: &retell_contract::manifest::Field) -> String {
    let optional = if field.optional { "?" } else { "" };
    let wanted = format!("{:?}", field.wants).to_lowercase();
    format!("{}{optional}: {wanted}", field.paths.join("|"))
}

fn print_table(context: &Context, table: &Table) -> anyhow::Result<()> {
    let printer = context.printer;
    printer.data(format_args!("table {}", table.name))?;
    for (number, column) in table.columns.iter().enumerate() {
        let in_key = table.key.iter().any(|it| usize::from(*it) == number);
        let key = if in_key { "  key" } else { "" };
        let null = if column.nullable { " or null" } else { "" };
        printer.data(format_args!(
            "  {:<24} {}{null}{key}",
            column.name, column.kind
        ))?;
    }
    for index in &table.indexes {
        let names: Vec<&str> = index
            .columns
            .iter()
            .map(|it| table.columns[usize::from(*it)].name.as_str())
            .collect();
        let unique = if index.unique {
            "unique index"
        } else {
            "index"
        };
        printer.data(format_args!(
            "  {unique} {} ({})",
            index.name,
            names.join(", ")
        ))?;
    }
    Ok(())
}
