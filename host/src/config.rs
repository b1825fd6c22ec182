//! Where an instance keeps its things: flags first, then the environment, then defaults.
//! This is the one place that knows the environment.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::postgres::{ServerUrl, ServerUrlError};

/// Where a test wants the process to die.
#[cfg(debug_assertions)]
pub(crate) fn crash_point() -> Option<&'static str> {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("RETELL_CRASH_POINT").ok());
    named.as_deref()
}

/// The flags that every command shares.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Flags {
    /// Folder of the instance: `log.db`, `read-models/` and `cache/`
    #[arg(
        long,
        value_name = "DIR",
        env = "RETELL_DATA",
        default_value = "./retell-data"
    )]
    pub data: PathBuf,
    /// Another event log: `sqlite:///path/to/log.db` or `postgres://ROLE@SERVER/DATABASE`
    #[arg(long, global = true, value_name = "URL", env = "RETELL_LOG")]
    pub log: Option<String>,
    /// Where new versions get their read models: a folder, or `postgres://ROLE@SERVER/DATABASE`
    #[arg(long, global = true, value_name = "URL", env = "RETELL_READ_MODELS")]
    pub read_models: Option<String>,
    /// Threads that read ahead for replays, 0 for none [default: one per core]
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "RETELL_THREADS",
        value_parser = clap::value_parser!(u16).range(0..=THREADS_MAX)
    )]
    pub threads: Option<u16>,
}

/// Each has its own connection to the log.
const THREADS_MAX: i64 = 256;

/// A setting that makes no sense, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "the log URL `{url}` is neither sqlite:///path/to/log.db nor postgres://ROLE@SERVER/DATABASE"
    )]
    LogUrl { url: String },
    #[error(transparent)]
    Server(#[from] ServerUrlError),
    #[error(
        "the read models' place `{url}` is neither a folder nor postgres://ROLE@SERVER/DATABASE"
    )]
    ReadModelsUrl { url: String },
    #[error("the read models' URL {url} has its password in it, and the catalog remembers the URL")]
    Password { url: String },
}

impl ConfigError {
    /// What to do next, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Password { .. } => Some(
                "leave it to ~/.pgpass, or name a variable of the environment: ?password_env=NAME",
            ),
            Self::Server(ServerUrlError::NoPassword { .. }) => {
                Some("set it, or leave the password to ~/.pgpass")
            }
            Self::Server(ServerUrlError::NoDatabase { .. }) => {
                Some("write it behind the server: postgres://ROLE@SERVER/DATABASE")
            }
            Self::Server(_) | Self::LogUrl { .. } | Self::ReadModelsUrl { .. } => None,
        }
    }
}

/// Where an event log is.
#[derive(Debug, Clone)]
pub enum LogPlace {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Server(ServerUrl),
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(url) => url.fmt(f),
        }
    }
}

/// Where read models go.
#[derive(Debug, Clone)]
pub enum ReadModelsPlace {
    Folder(PathBuf),
    /// Without a password in it: the catalog keeps it.
    Server(ServerUrl),
}

impl FromStr for ReadModelsPlace {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if ServerUrl::is_meant(text) {
            let url: ServerUrl = text.parse()?;
            if url.has_password() {
                return Err(ConfigError::Password {
                    url: url.to_string(),
                });
            }
            return Ok(Self::Server(url));
        }
        if text.contains("://") {
            return Err(ConfigError::ReadModelsUrl {
                url: text.to_owned(),
            });
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

/// One instance: where its log, its read models and its cache are.
#[derive(Debug, Clone)]
pub struct Config {
    pub data: PathBuf,
    pub log: LogPlace,
    /// New builds get their databases here; a build remembers its own.
    pub read_models: ReadModelsPlace,
    /// Whether that was said, or is the default.
    pub read_models_chosen: bool,
    /// That read ahead for replays; none: as many as there are cores.
    pub threads: Option<usize>,
}

impl Config {
    pub fn new(flags: &Flags) -> Result<Self, ConfigError> {
        let log = match &flags.log {
            None => LogPlace::File(flags.data.join("log.db")),
            Some(url) if ServerUrl::is_meant(url) => LogPlace::Server(url.parse()?),
            Some(url) => match sqlite_path(url) {
                Some(path) => LogPlace::File(path),
                None => return Err(ConfigError::LogUrl { url: url.clone() }),
            },
        };
        let read_models = match &flags.read_models {
            None => ReadModelsPlace::Folder(flags.data.join("read-models")),
            Some(place) => place.parse()?,
        };
        Ok(Self {
            data: flags.data.clone(),
            log,
            read_models,
            read_models_chosen: flags.read_models.is_some(),
            threads: flags.threads.map(usize::from),
        })
    }

    /// Where read models shall go, if that was said: an absolute folder, or a URL.
    pub fn chosen_read_models(&self) -> std::io::Result<Option<String>> {
        if !self.read_models_chosen {
            return Ok(None);
        }
        Ok(Some(match &self.read_models {
            ReadModelsPlace::Folder(folder) => {
                std::path::absolute(folder)?.to_string_lossy().into_owned()
            }
            ReadModelsPlace::Server(url) => url.to_string(),
        }))
    }

    /// Compiled modules; may be deleted at any time.
    pub fn cache(&self) -> PathBuf {
        self.data.join("cache")
    }

    /// Where programs find the live read models: always here, wherever the builds are.
    pub fn links(&self) -> PathBuf {
        self.data.join("read-models")
    }
}

/// A variable of the environment that something else names.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folder in which cargo keeps what it downloads.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let chosen = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty());
    chosen
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))?;
    (!path.is_empty()).then(|| PathBuf::from(path))
}
