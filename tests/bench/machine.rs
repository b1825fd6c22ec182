//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Lines of Markdown. What can't be found out is left out.
pub(crate) fn describe(folder: &Path) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("- {name}: {value}"));
        }
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name");
    line(
        "processor",
        Some(format!(
            "{}, {cores} cores",
            model.unwrap_or_else(|| "unknown".to_owned())
        )),
    );
    line("memory", memory());
    line("disk", disk(folder));
    line("system", system());
    line("compiler", output("rustc", &["--version"]));
    line(
        "retell",
        Some(format!(
            "{}, with SQLite {}",
            env!("CARGO_PKG_VERSION"),
            rusqlite::version()
        )),
    );
    lines.join("\n")
}

/// The first value of a `name: value` file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> Option<String> {
    let kib: f64 = field("/proc/meminfo", "MemTotal")?
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    Some(format!("{:.0} GiB", kib / f64::from(1 << 20)))
}

/// The file system that holds the folder.
fn disk(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let (device, _, kind) = mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            Some((parts.next()?, parts.next()?, parts.next()?))
        })
        .filter(|(_, place, _)| folder.starts_with(place))
        .max_by_key(|(_, place, _)| place.len())?;
    Some(format!("{kind} on {device}"))
}

fn system() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!(
        "{}, Linux {}",
        name.trim_matches('"'),
        kernel.trim()
    ))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
