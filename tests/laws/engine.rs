//! What every law needs: the shipped modules, compiled once, and a log with events in it.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use retell::catalog::sqlite::SqliteCatalog;
use retell::catalog::{ModuleRecord, NewRules, NewVersion};
use retell::clock;
use retell::lifecycle::{Host, Places};
use retell::log::OpenMode;
use retell::log::sqlite::SqliteLog;
use retell::log::{AppendRequest, EventLog};
use retell::replay::{Feed, FeedSettings, Settings};
use retell::wasm::{Engine, Module};
use tokio::runtime::Runtime;

use crate::content::Content;
use crate::support;

pub(crate) const GUESTS: [&str; 4] = [
    "articles_v1",
    "articles_v2",
    "articles_v3",
    "discussions_v1",
];

pub(crate) fn engine() -> Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        // Compiled code is kept from one run of the tests to the next.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("laws-cache");
        Engine::new(&cache).expect("wasmtime runs here")
    });
    ENGINE.clone()
}

pub(crate) fn bytes(guest: &str) -> Vec<u8> {
    std::fs::read(support::guest(guest)).expect("a guest that was built can be read")
}

pub(crate) fn module(guest: &str) -> Module {
    Module::load(&engine(), &bytes(guest)).expect("shipped modules load")
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

pub(crate) async fn open_log(folder: &Path) -> Arc<SqliteLog> {
    let log = SqliteLog::open(folder.join("log.db"), OpenMode::CreateIfMissing).await;
    Arc::new(log.expect("a log can be made in a fresh folder"))
}

/// Appends `events`, of which the first is the log's event `first`, counted from 0.
pub(crate) async fn append(log: &SqliteLog, events: &[Content], first: usize) {
    let numbered = events.iter().enumerate();
    let request = AppendRequest {
        events: numbered.map(|(n, event)| event.event(first + n)).collect(),
        expected: Vec::new(),
    };
    log.append(request).await.expect("events can be appended");
}

/// A host as `retell serve` makes it, in a folder of its own.
pub(crate) async fn host(folder: &Path) -> Arc<Host> {
    let log = open_log(folder).await;
    let (catalog, _) = SqliteCatalog::open_or_create(log.path())
        .await
        .expect("a catalog can be made");
    Arc::new(Host {
        feed: Feed::new(log.clone(), FeedSettings::default()),
        log,
        catalog: Arc::new(catalog),
        engine: engine(),
        clock: clock::system(),
        settings: Settings::default(),
        places: Places {
            home: folder.to_owned(),
            read_models: retell::read_model::ReadModels::Folder("read-models".into()),
            links: folder.join("read-models"),
        },
    })
}

/// Registers a shipped module, as `deploy --no-wait` does.
pub(crate) async fn register(host: &Host, guest: &str) {
    let module = module(guest);
    let record = ModuleRecord {
        digest: module.digest().to_owned(),
        manifest: module.manifest().clone(),
        contract: module.stamp().contract.clone(),
        sdk: module.stamp().sdk.clone(),
    };
    let new = NewVersion {
        module: &record,
        bytes: &bytes(guest),
        read_models: &host.places.read_models,
        until: None,
        promote_when_ready: false,
        rules: NewRules::default(),
        now_us: host.clock.now_us(),
    };
    host.catalog
        .register(new)
        .await
        .expect("a first registration");
}
