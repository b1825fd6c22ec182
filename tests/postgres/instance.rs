//! One instance whose log, or read models, are on a server, and what the binary says in it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::content::Content;
use crate::scripts;
use crate::support::{guest, retell};

/// Where the log or the read models of an instance are.
#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// In files, where they are if nothing is said.
    Files,
    /// In the database of a URL.
    Server(String),
}

pub(crate) struct Instance {
    folder: TempDir,
    log: Where,
    read_models: Where,
}

/// A command that came to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Instance {
    pub(crate) fn new(log: Where, read_models: Where) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            log,
            read_models,
        }
    }

    /// With an empty log.
    pub(crate) fn initialised(log: Where, read_models: Where) -> Self {
        let it = Self::new(log, read_models);
        it.ok(&["init"]);
        it
    }

    /// Another process's view of the same: another folder, the same servers.
    pub(crate) fn elsewhere(&self) -> Self {
        Self::new(self.log.clone(), self.read_models.clone())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("the folder can be written to");
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = retell();
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("RETELL_DATA")
            .env_remove("RETELL_LOG")
            .env_remove("RETELL_READ_MODELS")
            .stdin(Stdio::null());
        for (name, place) in [
            ("RETELL_LOG", &self.log),
            ("RETELL_READ_MODELS", &self.read_models),
        ] {
            if let Where::Server(url) = place {
                command.env(name, url);
            }
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().expect("retell runs"))
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args = [&["--json"], args].concat();
        serde_json::from_str(&self.ok(&args)).expect("--json prints JSON")
    }

    /// A command that is not waited for.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("retell runs")
    }

    pub(crate) fn append(&self, events: &[Content], first: usize) {
        let numbered = events.iter().enumerate();
        let lines: String = numbered.map(|(n, it)| it.line(first + n)).collect();
        self.write("events.ndjson", lines);
        self.ok(&["append", "-q", "events.ndjson"]);
    }

    /// Deploys a shipped module and makes it live.
    pub(crate) fn promote(&self, name: &str) {
        let file = guest(name);
        let file = file.to_str().expect("paths here are UTF-8");
        self.ok(&["deploy", "-q", file, "--promote"]);
    }

    /// Puts a scripted module into the folder, and names the file.
    pub(crate) fn scripted(&self, manifest: &Value) -> String {
        let [name, version] = ["name", "version"].map(|it| manifest[it].as_str().expect("a text"));
        let file = format!("{name}-{version}.wasm");
        self.write(&file, scripts::module(manifest));
        file
    }

    pub(crate) fn digest(&self, name: &str) -> (u64, String) {
        let digest = self.json(&["digest", name]);
        let position = digest["position"].as_u64().expect("a number");
        (
            position,
            digest["digest"].as_str().expect("a text").to_owned(),
        )
    }

    /// A version as `status` has it.
    pub(crate) fn version(&self, name: &str) -> Option<Value> {
        let (projection, version) = name.split_once('@').expect("NAME@VERSION");
        let status = self.json(&["status"]);
        let mut versions = status.as_array().expect("a list").iter();
        versions
            .find(|it| it["projection"] == projection && it["version"] == version)
            .cloned()
    }
}

pub(crate) fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

pub(crate) fn wait_for(child: Child) -> Ended {
    ended(child.wait_with_output().expect("it ends"))
}

/// Sends a signal, as `kill` does.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}
