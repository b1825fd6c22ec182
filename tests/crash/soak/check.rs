//! What must be true when everything is over: of the log, of every read model, of names and files.

use std::collections::HashSet;

use serde_json::Value;

use super::writer::Writer;
use crate::content::Fold;
use crate::instance::{Instance, file_of, text};

/// Guests, and the versions they are.
pub(super) const GUESTS: [(&str, &str); 5] = [
    ("articles_v1", "articles@1.0.0"),
    ("articles_v2", "articles@2.0.0"),
    ("articles_v3", "articles@3.0.0"),
    ("discussions_v1", "discussions@1.0.0"),
    ("brittle", "notes@1.0.0"),
];

pub(super) fn everything(instance: &Instance, writers: &[Writer]) {
    let ids = check_log(instance, writers);
    settle(instance);
    instance.assert_sane();
    instance.assert_no_orphans();
    check_names(instance);
    check_rows(instance, writers, &ids);
}

/// Every event that was acknowledged is there once, and no other but those on their way.
fn check_log(instance: &Instance, writers: &[Writer]) -> Vec<String> {
    let printed = instance.run(&["events"]).ok();
    let ids: Vec<String> = printed
        .lines()
        .enumerate()
        .map(|(at, line)| {
            let event: Value = serde_json::from_str(line).expect("events prints JSON");
            assert_eq!(event["position"], at + 1, "positions have no gaps");
            text(&event, "id").to_owned()
        })
        .collect();
    let mut there: HashSet<&str> = HashSet::new();
    for id in &ids {
        assert!(there.insert(id), "{id} is there twice");
    }
    for writer in writers {
        let (acknowledged, on_their_way) = writer.ids();
        for id in &acknowledged {
            assert!(
                there.remove(id.as_str()),
                "{id} was acknowledged, and is lost"
            );
        }
        for id in &on_their_way {
            there.remove(id.as_str());
        }
    }
    assert!(there.is_empty(), "nobody sent {there:?}");
    instance.run(&["check"]).ok();
    ids
}

/// All versions go on, and come to the head.
fn settle(instance: &Instance) {
    for version in instance.status() {
        if version["halt"] != "none" {
            let name = format!(
                "{}@{}",
                text(&version, "projection"),
                text(&version, "version")
            );
            instance.run(&["resume", &name]).ok();
        }
    }
    for (guest, _) in GUESTS {
        let file = file_of(guest);
        let mut args = vec!["deploy", &file];
        if guest == "brittle" {
            args.extend(["--on-error", "park-stream"]);
        }
        instance.run(&args).ok();
    }
    instance.run(&["catch-up"]).ok();
}

/// One version is live for each name, and that is where the name leads.
fn check_names(instance: &Instance) {
    let status = instance.status();
    let live: Vec<_> = status.iter().filter(|it| it["role"] == "live").collect();
    assert!(
        live.iter().any(|it| it["projection"] == "articles"),
        "{live:?}"
    );
    for version in live {
        let folder = instance.data().join("read-models");
        let link = folder.join(text(version, "projection")).join("live.db");
        let location = std::path::Path::new(text(version, "location"));
        let whole = |path: &std::path::Path| path.canonicalize().expect("it is there");
        assert_eq!(whole(&link), whole(location), "{version}");
    }
}

/// Every read model is the fold of the log: as a fold in plain maps has it, as an instance has it to
/// which nothing ever happened, and as `verify` has it.
fn check_rows(instance: &Instance, writers: &[Writer], ids: &[String]) {
    let sent: Vec<(&Writer, usize)> = ids
        .iter()
        .map(|id| {
            let mut writers = writers.iter();
            let found = writers.find_map(|it| Some((it, it.event(id)?)));
            found.expect("a writer knows it")
        })
        .collect();
    let fold = Fold::of(sent.iter().filter_map(|(writer, at)| writer.content(*at)));
    fold.assert_is_version_1(&instance.location("articles@1.0.0"));
    fold.assert_is_version_2(&instance.location("articles@2.0.0"));

    let undisturbed = Instance::new();
    let lines: String = sent.iter().map(|(writer, at)| writer.line(*at)).collect();
    undisturbed.append_lines(&lines);
    for (guest, name) in GUESTS {
        let verified = instance.run(&["--json", "verify", name]).json();
        assert_eq!(verified["verdict"], "same", "{verified}");
        assert_eq!(verified["position"], ids.len(), "{verified}");
        // Notes depend on what was decided about dead letters, too.
        if guest != "brittle" {
            undisturbed.deploy(guest);
            assert_eq!(instance.digest(name), undisturbed.digest(name), "{name}");
        }
    }
}
