//! A backup: log, catalog and read models of an instance, copied while everything runs, in an order in
//! which no read model is ahead of the log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::Host;
use super::state::State;
use crate::catalog::sqlite::SqliteCatalog;
use crate::catalog::{Build, Catalog, CatalogError};
use crate::event::Position;
use crate::log::LogError;
use crate::log::sqlite::SqliteLog;
use crate::postgres::ServerUrl;
use crate::read_model::sqlite::SqliteReadModel;
use crate::read_model::{ReadModelError, ReadModelPlace, ReadModels};

/// The log's file in a backup, which is that of any instance.
const LOG_FILE: &str = "log.db";
/// The folder of read models in a backup.
const READ_MODELS: &str = "read-models";
/// What is not finished is in a folder of this name in the one that is there, or beside it.
const UNFINISHED: &str = ".unfinished";
/// Deploys and retirements may come between copying read models and the catalog; then what is missing
/// is copied, too.
const ROUNDS_MAX: usize = 10;

/// What a backup holds.
#[derive(Debug)]
pub struct Backup {
    /// Of the log.
    pub position: Position,
    pub read_models: Vec<CopiedModel>,
    /// Versions whose read models are on a server, and where.
    pub elsewhere: Vec<(String, String)>,
}

/// One read model in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedModel {
    /// `articles@2.0.0`
    pub name: String,
    pub position: Position,
}

/// Why there is no backup; what was copied is gone again.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{folder} is not empty")]
    NotEmpty { folder: PathBuf },
    #[error("the folder {folder} can't be written")]
    Folder {
        folder: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    #[error("the catalog in the copy can't be brought in line")]
    Locations { source: rusqlite::Error },
    #[error("versions come and go too fast to be copied")]
    Restless,
}

/// Copies the instance whose log is `log_file` into a folder that is absent or empty. One that was absent
/// has its name, and one that was empty its log, only once everything is there. Nobody but the process
/// that is told to makes it.
pub async fn back_up(
    host: &Arc<Host>,
    log_file: &Path,
    folder: &Path,
) -> Result<Backup, BackupError> {
    let io = |source| BackupError::Folder {
        folder: folder.to_owned(),
        source,
    };
    // By its own name, whatever it was called by: `today/`, or a link to it.
    let folder = &match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => folder.components().collect(),
        Err(error) => return Err(io(error)),
    };
    // One that is there may be a disk, or where somebody stands: it is filled, and not replaced.
    let (is_there, unfinished) = match fs::read_dir(folder) {
        Ok(entries) => {
            let unfinished = folder.join(UNFINISHED);
            for entry in entries {
                if entry.map_err(io)?.path() != unfinished {
                    return Err(BackupError::NotEmpty {
                        folder: folder.clone(),
                    });
                }
            }
            (true, unfinished)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (false, beside(folder)),
        Err(error) => return Err(io(error)),
    };
    remove(&unfinished).map_err(io)?;
    fs::create_dir_all(&unfinished).map_err(io)?;
    let copied = copy_all(host, log_file, &unfinished).await;
    let named = copied.and_then(|backup| {
        sync_folders(&unfinished).map_err(io)?;
        if is_there {
            move_up(&unfinished, folder).map_err(io)?;
        } else {
            fs::rename(&unfinished, folder).map_err(io)?;
        }
        for folder in [Some(folder.as_path()), folder.parent()]
            .into_iter()
            .flatten()
        {
            if !folder.as_os_str().is_empty() {
                File::open(folder)
                    .and_then(|it| it.sync_all())
                    .map_err(io)?;
            }
        }
        Ok(backup)
    });
    if named.is_err() {
        // Best effort: the next attempt sweeps it up, too.
        let _ = remove(&unfinished);
    }
    named
}

/// Gives what was copied its place, the log last: without one it is no instance.
fn move_up(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from)? {
        names.push(entry?.file_name());
    }
    names.sort_by_key(|name| name == LOG_FILE);
    for name in names {
        fs::rename(from.join(&name), to.join(&name))?;
    }
    fs::remove_dir(from)
}

/// As private as what it was copied from.
fn like(from: &Path, to: &Path) -> Result<(), BackupError> {
    let permissions = fs::metadata(from).map(|it| it.permissions());
    permissions
        .and_then(|it| fs::set_permissions(to, it))
        .map_err(|source| BackupError::Folder {
            folder: to.to_owned(),
            source,
        })
}

async fn copy_all(host: &Arc<Host>, log_file: &Path, folder: &Path) -> Result<Backup, BackupError> {
    let log_copy = folder.join(LOG_FILE);
    let mut copied: BTreeMap<i64, Position> = BTreeMap::new();
    let mut wanted = builds(&*host.catalog).await?;
    for _ in 0..ROUNDS_MAX {
        for Wanted { build, .. } in &wanted {
            if !copied.contains_key(&build.id)
                && let Some(position) = copy_model(host, build, folder).await?
            {
                copied.insert(build.id, position);
            }
        }
        remove_file(&log_copy).map_err(|source| BackupError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let (from, to) = (log_file.to_owned(), log_copy.clone());
        blocking(move || SqliteLog::copy(&from, &to)).await?;
        like(log_file, &log_copy)?;
        let catalog = SqliteCatalog::open(&log_copy).await?;
        wanted = builds(&catalog).await?;
        catalog.close().await;
        // One that was copied while it was replayed, and is ready by now, would be served unfinished.
        for Wanted { build, .. } in wanted.iter().filter(|it| it.is_ready) {
            if copied.contains_key(&build.id)
                && !SqliteReadModel::status(&folder.join(place_in_backup(build)))?.ready
            {
                copied.remove(&build.id);
            }
        }
        let missing = wanted
            .iter()
            .any(|it| !copied.contains_key(&it.build.id) && is_there(host, &it.build));
        if missing {
            continue;
        }
        let there: Vec<&Build> = wanted.iter().map(|it| &it.build).collect();
        let position = settle(folder, &log_copy, &there)?;
        let mut backup = Backup {
            position,
            read_models: Vec::new(),
            elsewhere: Vec::new(),
        };
        for Wanted { name, build, .. } in wanted {
            match (copied.get(&build.id), host.places.of_build(&build)?) {
                (Some(&position), _) => backup.read_models.push(CopiedModel { name, position }),
                (None, place @ ReadModelPlace::Schema(_)) => {
                    backup.elsewhere.push((name, place.to_string()));
                }
                (None, ReadModelPlace::File(_)) => {}
            }
        }
        return Ok(backup);
    }
    Err(BackupError::Restless)
}

/// The current build of a version, as a catalog has it.
struct Wanted {
    /// Of the version.
    name: String,
    build: Build,
    /// It may be served.
    is_ready: bool,
}

async fn builds(catalog: &dyn Catalog) -> Result<Vec<Wanted>, CatalogError> {
    let mut builds = Vec::new();
    for projection in catalog.projections().await? {
        for version in catalog.versions(&projection).await? {
            let name = version.name();
            let is_ready = version.status.state == State::Ready;
            builds.extend(version.current.map(|build| Wanted {
                name,
                build,
                is_ready,
            }));
        }
    }
    Ok(builds)
}

fn is_there(host: &Host, build: &Build) -> bool {
    matches!(host.places.of_build(build), Ok(ReadModelPlace::File(path)) if path.exists())
}

/// Copies a build's file, if it has one yet, and returns where it stood.
async fn copy_model(
    host: &Host,
    build: &Build,
    folder: &Path,
) -> Result<Option<Position>, BackupError> {
    let ReadModelPlace::File(path) = host.places.of_build(build)? else {
        return Ok(None);
    };
    let to = folder.join(place_in_backup(build));
    let (from, copy) = (path.clone(), to.clone());
    let copied = blocking(move || SqliteReadModel::copy(&from, &copy)).await;
    match copied {
        Ok(checkpoint) => {
            like(&path, &to)?;
            Ok(Some(checkpoint.position))
        }
        // Not made yet, or retired meanwhile: the catalog in the copy decides.
        Err(ReadModelError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn place_in_backup(build: &Build) -> String {
    location_in_backup(&build.projection, &build.version, build.id)
}

/// Where a build goes in the backup, wherever it was.
fn location_in_backup(projection: &str, version: &str, build: i64) -> String {
    ReadModels::Folder(READ_MODELS.into()).location(projection, version, build)
}

/// The places in the backup of all builds that are files, also of those that are not copied: what the
/// copy builds or drops must never be the instance's own.
fn file_locations(catalog: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut builds = catalog.prepare("SELECT id, projection, version, location FROM builds")?;
    let mut builds = builds.query([])?;
    let mut locations = Vec::new();
    while let Some(build) = builds.next()? {
        let id = build.get(0)?;
        let [projection, version, location]: [String; 3] =
            [build.get(1)?, build.get(2)?, build.get(3)?];
        if !ServerUrl::is_meant(&location) {
            locations.push((id, location_in_backup(&projection, &version, id)));
        }
    }
    Ok(locations)
}

/// What the copied catalog says of places becomes true of the copy, and what it does not know goes.
/// Returns where the log ends.
fn settle(folder: &Path, log_copy: &Path, wanted: &[&Build]) -> Result<Position, BackupError> {
    let locations = || -> rusqlite::Result<Position> {
        let catalog = Connection::open(log_copy)?;
        for (id, location) in file_locations(&catalog)? {
            catalog.execute(
                "UPDATE builds SET location = ?1 WHERE id = ?2",
                (location, id),
            )?;
        }
        // In one file, so that nothing is lost where only that is copied on.
        catalog.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE;")?;
        catalog.query_row("SELECT position FROM log_head", [], |row| row.get(0))
    };
    let position = locations().map_err(|source| BackupError::Locations { source })?;
    let kept: Vec<PathBuf> = wanted
        .iter()
        .map(|it| folder.join(place_in_backup(it)))
        .collect();
    let sweep = || -> std::io::Result<()> {
        for file in files(&folder.join(READ_MODELS))? {
            if !kept.contains(&file) {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    };
    sweep().map_err(|source| BackupError::Folder {
        folder: folder.to_owned(),
        source,
    })?;
    Ok(position)
}

/// All files below a folder; none where there is no folder.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for file in files(folder)? {
        File::open(&file)?.sync_all()?;
        let parents = file.ancestors().skip(1);
        for parent in parents.take_while(|it| it.starts_with(folder)) {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// The name of a backup that is not finished.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
