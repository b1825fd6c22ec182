//! Scripted modules in the folder of an instance.

use serde_json::Value;

use crate::instance::Instance;
pub(crate) use crate::scripts::{column, manifest, module, scripted};
use crate::support::guest;

impl Instance {
    /// Puts a scripted module of projection `ticks` into the folder, as `VERSION.wasm`.
    pub(crate) fn ticks(&self, version: &str) -> String {
        let file = format!("{version}.wasm");
        self.write(&file, module(&manifest("ticks", version)));
        file
    }

    /// Puts a guest that was built from a crate into the folder.
    pub(crate) fn guest(&self, name: &str) -> String {
        let file = format!("{name}.wasm");
        std::fs::copy(guest(name), self.path(&file)).expect("the guest can be copied");
        file
    }

    /// Appends so many events.
    pub(crate) fn append(&self, count: usize) {
        self.write("events.ndjson", crate::instance::lines(count));
        self.ok(&["append", "-q", "events.ndjson"]);
    }

    /// Deploys versions of `ticks` in order, and promotes each of them.
    pub(crate) fn promoted(&self, versions: &[&str]) {
        for version in versions {
            let file = self.ticks(version);
            self.ok(&["deploy", "-q", &file, "--promote"]);
        }
    }

    /// What `status` says of one version: the live one, if the name has no version.
    pub(crate) fn version(&self, name: &str) -> Value {
        let list = self.json(&["status", name]);
        let list = list.as_array().expect("a list");
        let meant = |line: &&Value| name.contains('@') || line["role"] == "live";
        let found = list.iter().find(meant);
        found.expect("status lists the version").clone()
    }
}
