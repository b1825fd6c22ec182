//! `retell backup`: a copy that is an instance, whatever goes on meanwhile, and what becomes of a log and
//! of read models that are put together again.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::instance::Instance;
use crate::serve::Serving;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        let kind = path.symlink_metadata().expect("it is there").file_type();
        if kind.is_dir() {
            copy(&path, &to);
        } else if kind.is_file() {
            std::fs::copy(&path, &to).expect("it can be copied");
        }
    }
}

#[test]
fn a_copy_that_is_made_while_everything_runs_is_an_instance() {
    let it = Instance::new();
    it.append(500);
    it.promoted(&["1.0.0", "1.1.0"]);
    let host = Serving::begin(&it);
    let mut appender = it
        .shell(
            "for n in $(seq 1 60); do \"$@\" append -q --stream more --type T --data 1; done",
            &[],
        )
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a shell runs");
    for number in 0..5 {
        let folder = format!("backup-{number}");
        let report = it.json(&["backup", &folder]);
        let position = report["position"].as_u64().expect("a number");
        let copied = report["read_models"].as_array().expect("a list");
        assert_eq!(copied.len(), 2, "{report}");
        for model in copied {
            assert!(model["position"].as_u64() <= Some(position), "{report}");
        }
        assert!(!it.path(&format!("{folder}.unfinished")).exists());
        let data = ["--data", &folder];
        let there = |args: &[&str]| it.json(&[&data[..], args].concat());
        assert_eq!(there(&["check"])["whole_up_to"], position);
        let status = there(&["status"]);
        for version in status.as_array().expect("a list") {
            assert_eq!(version["state"], "ready", "{status}");
            let location = version["location"].as_str().expect("a path");
            assert!(location.contains(&folder), "{status}");
        }
        it.ok(&[&data[..], &["catch-up", "-q"]].concat());
        for name in ["ticks@1.0.0", "ticks@1.1.0"] {
            let verified = there(&["verify", name]);
            assert_eq!(verified["verdict"], "same");
            assert_eq!(verified["position"], position);
        }
        // It goes its own way.
        it.ok(&[
            &data[..],
            &[
                "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
            ],
        ]
        .concat());
        it.ok(&[&data[..], &["catch-up", "-q"]].concat());
    }
    assert!(appender.wait().expect("it ends").success());
    it.ok(&["wait", "ticks", "--position", "560"]);
    drop(host);
    assert_eq!(it.json(&["check"])["whole_up_to"], 560);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let it = Instance::new();
    it.append(1);
    std::fs::create_dir(it.path("full")).expect("a folder");
    it.write("full/mine", "mine");
    let said = it.says(&["backup", "full"]);
    assert!(said.starts_with("exit 3\n"), "{said}");
    assert!(said.contains("is not empty"), "{said}");
    std::fs::create_dir(it.path("empty")).expect("a folder");
    it.ok(&["backup", "-q", "empty"]);
    // What a killed one left is no obstacle.
    std::fs::create_dir(it.path("new.unfinished")).expect("a folder");
    it.write("new.unfinished/log.db", "half");
    it.ok(&["backup", "-q", "new"]);
    assert_eq!(it.json(&["--data", "new", "check"])["whole_up_to"], 1);
}

#[test]
fn the_folder_may_be_called_by_any_of_its_names() {
    let it = Instance::new();
    it.append(1);
    std::fs::create_dir(it.path("today")).expect("a folder");
    // Somebody stands in it, and what was killed left something.
    std::fs::create_dir(it.path("here")).expect("a folder");
    std::fs::create_dir(it.path("here/.unfinished")).expect("a folder");
    it.write("here/.unfinished/log.db", "half");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(it.path("here"), private).expect("it is ours");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(it.log(), private).expect("it is ours");
    let done = it
        .command(&["--data", "../retell-data", "backup", "-q", "."])
        .current_dir(it.path("here"))
        .status();
    assert!(done.expect("it runs").success());
    let mode = |path: &str| {
        let metadata = std::fs::metadata(it.path(path)).expect("it is there");
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    };
    assert_eq!((mode("here"), mode("here/log.db")), (0o700, 0o600));
    assert!(!it.path("here/.unfinished").exists());
    assert_eq!(it.json(&["--data", "here", "check"])["whole_up_to"], 1);
    for folder in ["today/", "./never/", "today/../other"] {
        it.ok(&["backup", "-q", folder]);
        let there = it.json(&["--data", folder, "check"]);
        assert_eq!(there["whole_up_to"], 1, "{folder}");
        let said = it.says(&["backup", folder]);
        assert!(said.contains("is not empty"), "{folder}: {said}");
    }
}

/// With read models outside of the instance's folder the catalog has their full paths.
#[test]
fn a_copy_never_leads_to_the_instances_own_read_models() {
    let it = Instance::new();
    it.append(50);
    std::fs::create_dir(it.path("models")).expect("a folder");
    let models = it.path("models");
    let models = models.to_str().expect("paths here are UTF-8");
    let own = ["--read-models", models];
    it.ok(&[&own[..], &["deploy", "-q", &it.ticks("1.0.0"), "--promote"]].concat());
    // One that was dropped, one that is being replaced, and one that has no file yet.
    it.ok(&[&own[..], &["deploy", "-q", &it.ticks("1.1.0")]].concat());
    it.ok(&["retire", "-q", "ticks@1.1.0"]);
    it.ok(&["replay", "-q", "ticks@1.0.0", "--no-wait"]);
    it.ok(&[&own[..], &["deploy", "-q", &it.ticks("2.0.0"), "--no-wait"]].concat());
    it.ok(&["backup", "-q", "copy"]);
    it.ok(&[&own[..], &["catch-up", "-q"]].concat());
    it.ok(&["promote", "-q", "ticks@2.0.0"]);
    let digests = || ["ticks@1.0.0", "ticks@2.0.0"].map(|name| it.json(&["digest", name]));
    let (before, files) = (digests(), files_below(&it.path("models")));
    let there = ["--data", "copy"];
    it.ok(&[&there[..], &["retire", "-q", "ticks@2.0.0"]].concat());
    it.ok(&[&there[..], &["replay", "-q", "ticks@1.1.0"]].concat());
    it.ok(&[&there[..], &["catch-up", "-q"]].concat());
    for version in it
        .json(&[&there[..], &["status"]].concat())
        .as_array()
        .expect("a list")
    {
        if let Some(location) = version["location"].as_str() {
            assert!(location.contains("copy"), "{version}");
        }
    }
    assert_eq!(digests(), before);
    assert_eq!(files_below(&it.path("models")), files);
    it.append(1);
    it.ok(&["catch-up", "-q"]);
}

/// Two instances may keep their read models in one folder, where files get the same names.
#[test]
fn read_models_of_another_log_in_the_same_folder_are_left_alone() {
    let (one, other) = (Instance::new(), Instance::new());
    one.append(50);
    other.append(7);
    std::fs::create_dir(one.path("models")).expect("a folder");
    let models = one.path("models");
    let shared = [
        "--read-models",
        models.to_str().expect("paths here are UTF-8"),
    ];
    let run = |it: &Instance, args: &[&str]| it.says(&[&shared[..], args].concat());
    let deploy = |it: &Instance| {
        let file = it.ticks("1.0.0");
        run(it, &["deploy", "-q", &file, "--promote"])
    };
    assert!(deploy(&one).starts_with("exit 0\n"));
    let digest = one.json(&["digest", "ticks@1.0.0"]);
    let refused = deploy(&other);
    assert!(refused.starts_with("exit 1\n"), "{refused}");
    // What is there is not taken for its own, …
    for args in [
        &["query", "ticks@1.0.0", "SELECT 1"][..],
        &["digest", "ticks@1.0.0"],
    ] {
        let said = run(&other, args);
        assert!(said.starts_with("exit 1\n"), "{said}");
        assert!(said.contains("log"), "{said}");
    }
    let waited = run(
        &other,
        &[
            "wait",
            "ticks@1.0.0",
            "--position",
            "1",
            "--timeout-ms",
            "50",
        ],
    );
    assert!(!waited.starts_with("exit 0\n"), "{waited}");
    let status = other.json(&["status"]);
    assert_ne!(status[0]["checkpoint"], 50, "{status}");
    // … nor dropped when it is built anew or retired.
    let replayed = run(&other, &["replay", "-q", "ticks@1.0.0"]);
    assert!(replayed.starts_with("exit 0\n"), "{replayed}");
    assert_eq!(other.json(&["digest", "ticks@1.0.0"])["position"], 7);
    let retired = run(&other, &["retire", "-q", "ticks@1.0.0"]);
    assert!(retired.starts_with("exit 0\n"), "{retired}");
    assert_eq!(one.json(&["digest", "ticks@1.0.0"]), digest);
    let checked = run(&other, &["check"]);
    assert!(!checked.contains("build-1-"), "{checked}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        let is_side =
            path.to_string_lossy().ends_with("-shm") || path.to_string_lossy().ends_with("-wal");
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if !is_side {
            files.push(path);
        }
    }
    files.sort_unstable();
    files
}

#[test]
fn the_log_alone_is_enough() {
    let it = Instance::new();
    it.append(50);
    it.promoted(&["1.0.0"]);
    let digest = it.json(&["digest", "ticks"]);
    it.ok(&["backup", "-q", "copy"]);
    std::fs::create_dir(it.path("alone")).expect("a folder");
    std::fs::copy(it.path("copy/log.db"), it.path("alone/log.db")).expect("it is copied");
    let there = ["--data", "alone"];
    let failed = it.says(&[&there[..], &["catch-up"]].concat());
    assert!(failed.starts_with("exit 1\n"), "{failed}");
    assert!(failed.contains("retell replay"), "{failed}");
    it.ok(&[&there[..], &["replay", "-q", "ticks@1.0.0"]].concat());
    assert_eq!(
        it.json(&[&there[..], &["digest", "ticks"]].concat()),
        digest
    );
}

#[test]
fn read_models_of_a_later_log_or_of_another_history_are_refused() {
    let it = Instance::new();
    it.append(50);
    it.promoted(&["1.0.0"]);
    it.ok(&["backup", "-q", "old"]);
    let one = [
        "append", "-q", "--stream", "s", "--type", "T", "--data", "1",
    ];
    for _ in 0..3 {
        it.ok(&one);
    }
    it.ok(&["catch-up", "-q"]);
    // The old log under the read models of today; then it goes another way.
    for other_way in [false, true] {
        let data = format!("restored-{other_way}");
        copy(&it.path("retell-data"), &it.path(&data));
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(it.path(&format!("{data}/log.db{suffix}")));
        }
        std::fs::copy(it.path("old/log.db"), it.path(&format!("{data}/log.db")))
            .expect("it is copied");
        let there = ["--data", &data];
        let (times, event) = if other_way { (5, "Other") } else { (0, "T") };
        for _ in 0..times {
            let append = [
                "append", "-q", "--stream", "s", "--type", event, "--data", "2",
            ];
            it.ok(&[&there[..], &append].concat());
        }
        let said = it.says(&[&there[..], &["catch-up"]].concat());
        assert!(said.starts_with("exit 1\n"), "{said}");
        assert!(said.contains("retell replay"), "{said}");
        it.ok(&[&there[..], &["replay", "-q", "ticks@1.0.0"]].concat());
        let verified = it.json(&[&there[..], &["verify", "ticks"]].concat());
        assert_eq!(verified["verdict"], "same");
        assert_eq!(verified["position"], 50 + times);
    }
}

#[test]
fn what_a_restored_catalog_does_not_know_is_listed() {
    let it = Instance::new();
    it.append(50);
    it.promoted(&["1.0.0"]);
    it.ok(&["backup", "-q", "old"]);
    it.promoted(&["1.1.0"]);
    assert_eq!(it.json(&["check"])["orphans"], json!([]));
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(it.path(&format!("retell-data/log.db{suffix}")));
    }
    std::fs::copy(it.path("old/log.db"), it.path("retell-data/log.db")).expect("it is copied");
    let report = it.json(&["check"]);
    assert_eq!(report["fault"], json!(null));
    let orphans = report["orphans"].as_array().expect("a list");
    assert_eq!(orphans.len(), 1, "{report}");
    let orphan = std::path::PathBuf::from(orphans[0].as_str().expect("a text"));
    assert!(orphan.ends_with("ticks/build-2-1.1.0.db"), "{report}");
    let said = it.says(&["check"]);
    assert!(
        said.contains("build-2-1.1.0.db belongs to no version"),
        "{said}"
    );
    // The version that is meant is live again, and another one is in nobody's way.
    it.ok(&["catch-up", "-q"]);
    assert_eq!(it.version("ticks")["version"], "1.0.0");
    it.promoted(&["1.2.0"]);
    std::fs::remove_file(orphan).expect("it is a file");
    assert_eq!(it.json(&["check"])["orphans"], json!([]));
}
