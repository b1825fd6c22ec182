//! What differs from run to run, left out of what the binary says, so that it can be compared.

use serde_json::Value;

use crate::instance::Instance;

impl Instance {
    /// What a user sees, without times, rates, sizes, digests, ids and the place of this instance.
    pub(crate) fn shows(&self, args: &[&str]) -> String {
        steady(&self.says(args), self)
    }

    /// The one JSON document that a command prints. It must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.ok(&args)).expect("one JSON document")
    }
}

/// The text without what differs from run to run.
pub(crate) fn steady(text: &str, instance: &Instance) -> String {
    let folder = instance.path("");
    let folder = folder.to_str().expect("UTF-8").trim_end_matches('/');
    text.replace(folder, "DIR")
        .lines()
        .map(|line| {
            let line = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
            sizeless(&timeless(&line)) + "\n"
        })
        .collect()
}

/// Hides a digest, whole or begun, whatever stands around it.
fn word(word: &str) -> String {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let Some(start) = word.find(hex) else {
        return word.to_owned();
    };
    let rest = &word[start..];
    let length = rest.find(|c| !hex(c)).unwrap_or(rest.len());
    match length {
        12 | 64 => format!("{}DIGEST{}", &word[..start], &rest[length..]),
        _ => word.to_owned(),
    }
}

/// `… in 3 s (12 events/s)` without the numbers.
fn timeless(line: &str) -> String {
    match (line.find(" events in "), line.rfind(" events/s)")) {
        (Some(start), Some(end)) => {
            let (before, after) = (&line[..start], &line[end + " events/s)".len()..]);
            format!("{before} events in TIME (RATE){after}")
        }
        _ => line.to_owned(),
    }
}

/// `… (235871 bytes)` without the number, which is the compiler's.
fn sizeless(line: &str) -> String {
    let Some(rest) = line.strip_suffix(" bytes)") else {
        return line.to_owned();
    };
    rest.trim_end_matches(|c: char| c.is_ascii_digit())
        .to_owned()
        + "SIZE)"
}

/// The names of an object's keys, in the order in which they are printed.
pub(crate) fn keys(document: &str) -> Vec<String> {
    // serde_json sorts the keys of a `Value`, so the text is looked at instead.
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut rest = document;
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let sign = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match sign {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {
                let end = rest
                    .find('"')
                    .expect("no test prints escaped quotes in keys");
                let (text, behind) = (&rest[..end], &rest[end + 1..]);
                if depth == 1 && behind.starts_with(':') {
                    found.push(text.to_owned());
                }
                rest = behind;
            }
        }
    }
    found
}
