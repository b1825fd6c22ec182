//! Git repositories with histories that are made up: odd names, renames, re-adds, links, submodules,
//! merges. The same seed makes the same history.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

/// Names that have broken programs: blanks, quotes, backslashes, newlines, tabs, control characters,
/// other scripts, both forms of one letter, bytes that are no UTF-8, and what looks like an escape.
const NAMES: [&[u8]; 20] = [
    b"plain.txt",
    b"with space",
    b" leading",
    b"trailing ",
    b"quo\"te",
    b"apo'strophe",
    b"back\\slash",
    b"back\\\\slash",
    b"new\nline",
    b"tab\tulator",
    b"\x01control",
    b"-dash",
    b":colon",
    "gr\u{fc}n.txt".as_bytes(),
    "gru\u{308}n.txt".as_bytes(),
    "\u{65e5}\u{672c}\u{8a9e}".as_bytes(),
    "\u{1f980}".as_bytes(),
    b"latin1-\xe9",
    b"\xff\xfe",
    b"latin1-\\xe9",
];

const FOLDERS: [&[u8]; 5] = [b"", b"dir/", b"dir/sub/", b"od d\n/", b"plain.txt/"];

/// Settings of a user that change what git prints, unless one asks it not to.
const SETTINGS: [(&str, &str); 13] = [
    ("color.ui", "always"),
    ("core.quotePath", "true"),
    ("core.abbrev", "7"),
    ("diff.renames", "copies"),
    ("diff.renameLimit", "1"),
    ("diff.ignoreSubmodules", "all"),
    ("diff.relative", "true"),
    ("diff.noprefix", "true"),
    ("format.pretty", "oneline"),
    ("log.decorate", "full"),
    ("log.diffMerges", "combined"),
    ("log.showRoot", "false"),
    ("log.showSignature", "true"),
];

/// A history of `commits` commits.
pub(crate) fn generated(seed: u64, commits: u32) -> TempDir {
    let mut history = History {
        random: StdRng::seed_from_u64(seed),
        stream: Vec::new(),
        paths: BTreeSet::new(),
        marks: 0,
        clock: 1_700_000_000,
    };
    for number in 0..commits {
        if number % 7 == 6 {
            history.merge();
        } else {
            history.commit("main", None);
        }
    }
    repository(&history.stream)
}

/// A repository made of a fast-import stream.
pub(crate) fn repository(stream: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    for (key, value) in SETTINGS {
        git(folder.path(), &["config", key, value]);
    }
    let mut import = Command::new("git")
        .arg("-C")
        .arg(folder.path())
        .args(["fast-import", "--quiet", "--date-format=raw-permissive"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(stream).unwrap();
    assert!(import.wait().unwrap().success());
    folder
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

struct History {
    random: StdRng,
    /// What `git fast-import` reads.
    stream: Vec<u8>,
    /// Paths that may exist; asking for more than that is git's business.
    paths: BTreeSet<Vec<u8>>,
    marks: u32,
    clock: i64,
}

impl History {
    fn commit(&mut self, branch: &str, merged: Option<u32>) {
        self.marks += 1;
        // Clocks go back now and then, and one commit is from the year 60000.
        self.clock += self.random.random_range(-500..1000);
        let time = if self.random.random_ratio(1, 20) {
            1_831_000_000_000
        } else {
            self.clock
        };
        let author: &[u8] = match self.random.random_range(0..4) {
            0 => b"Ada",
            1 => "Zo\u{eb} \"Z\" \u{3a9}".as_bytes(),
            2 => b"Ren\xe9",
            _ => b"Bo \\ Li",
        };
        let start = format!("commit refs/heads/{branch}\nmark :{}\nauthor ", self.marks);
        self.stream.extend(start.as_bytes());
        self.stream.extend(author);
        let rest = format!(
            " <a@example.org> {time} +0130\ncommitter C <c@example.org> {} +0000\ndata 10\n:100644\n\x01\n",
            self.clock
        );
        self.stream.extend(rest.as_bytes());
        if let Some(mark) = merged {
            self.stream.extend(format!("merge :{mark}\n").as_bytes());
        }
        // Some commits change nothing.
        for _ in 0..self.random.random_range(0..6) {
            self.change();
        }
    }

    /// A branch with changes of its own, merged with more changes on top.
    fn merge(&mut self) {
        let base = self.marks;
        let reset = format!("reset refs/heads/side\nfrom :{base}\n\n");
        self.stream.extend(reset.as_bytes());
        self.commit("side", None);
        self.commit("side", None);
        let side = self.marks;
        self.commit("main", None);
        self.commit("main", Some(side));
    }

    fn change(&mut self) {
        match self.random.random_range(0..10) {
            0..5 => self.write(),
            5 => self.delete(),
            6 | 7 => self.rename(),
            8 => self.swap(),
            _ => self.submodule(),
        }
    }

    fn write(&mut self) {
        let path = self.any_path();
        let mode = *self.pick(&["100644", "100644", "100755", "120000"]);
        // Much alike, so that a change beside a rename is still found to be a rename.
        let mut text = "a line that all files have\n".repeat(8);
        for _ in 0..self.random.random_range(0..4) {
            let number: u8 = self.random.random_range(0..50);
            text.push_str("line ");
            text.push_str(&number.to_string());
            text.push('\n');
        }
        self.file_line(&format!("M {mode} inline "), &[&path]);
        let data = format!("data {}\n{text}\n", text.len());
        self.stream.extend(data.as_bytes());
        self.paths.insert(path);
    }

    fn submodule(&mut self) {
        let path = self.any_path();
        let commit = format!("{:040x}", self.random.random_range(1..u64::MAX));
        self.file_line(&format!("M 160000 {commit} "), &[&path]);
        self.paths.insert(path);
    }

    fn delete(&mut self) {
        let path = self.any_path();
        self.file_line("D ", &[&path]);
    }

    fn rename(&mut self) {
        let (Some(from), to) = (self.known_path(), self.any_path()) else {
            return;
        };
        // fast-import refuses to rename what is not there: write it first, in the same commit.
        self.ensure(&from);
        if from != to && !is_inside(&to, &from) && !is_inside(&from, &to) {
            self.file_line("R ", &[&from, &to]);
            self.paths.insert(to);
        }
    }

    /// Two files change places in one commit.
    fn swap(&mut self) {
        let (Some(one), Some(other)) = (self.known_path(), self.known_path()) else {
            return;
        };
        if one == other || is_inside(&one, &other) || is_inside(&other, &one) {
            return;
        }
        self.ensure(&one);
        self.ensure(&other);
        self.file_line("R ", &[&one, b"swap"]);
        self.file_line("R ", &[&other, &one]);
        self.file_line("R ", &[b"swap", &other]);
    }

    fn ensure(&mut self, path: &[u8]) {
        self.file_line("M 100644 inline ", &[path]);
        let text = format!("made for {}\n", self.random.random_range(0..9));
        let data = format!("data {}\n{text}\n", text.len());
        self.stream.extend(data.as_bytes());
    }

    /// One line of a commit, its paths quoted as fast-import wants them.
    fn file_line(&mut self, command: &str, paths: &[&[u8]]) {
        self.stream.extend(command.as_bytes());
        for (number, path) in paths.iter().enumerate() {
            if number > 0 {
                self.stream.push(b' ');
            }
            self.stream.push(b'"');
            for byte in *path {
                self.stream.extend(format!("\\{byte:03o}").as_bytes());
            }
            self.stream.push(b'"');
        }
        self.stream.push(b'\n');
    }

    fn any_path(&mut self) -> Vec<u8> {
        let mut path = self.pick(&FOLDERS).to_vec();
        path.extend(*self.pick(&NAMES));
        path
    }

    fn known_path(&mut self) -> Option<Vec<u8>> {
        if self.paths.is_empty() {
            return None;
        }
        let index = self.random.random_range(0..self.paths.len());
        self.paths.iter().nth(index).cloned()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.random.random_range(0..from.len())]
    }
}

fn is_inside(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with(b"/"))
}
