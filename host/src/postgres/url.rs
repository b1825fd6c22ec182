//! The URL of a database on a server. Its password is never shown, and may be named instead of
//! written: `?password_env=NAME` takes it from the environment, and an entry in `~/.pgpass` needs
//! nothing at all.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::config;

const PASSWORD_ENV: &str = "password_env";
/// What may stand behind the `?`. sqlx would only warn of others, and show their values.
const PARAMETERS: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "dbname",
    "user",
    "application_name",
    PASSWORD_ENV,
];

/// A database on a server. Displayed without its password.
#[derive(Clone)]
pub struct ServerUrl {
    /// Without the password.
    shown: String,
    has_password: bool,
    options: Arc<PgConnectOptions>,
}

/// A URL that makes no sense. It never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum ServerUrlError {
    #[error("the PostgreSQL URL is malformed: {problem}")]
    Malformed { problem: String },
    #[error("the PostgreSQL URL {url} names no database")]
    NoDatabase { url: String },
    #[error("the PostgreSQL URL {url} has a parameter `{name}`, which retell does not know")]
    Parameter { url: String, name: String },
    #[error(
        "the PostgreSQL URL {url} takes its password from the environment variable `{name}`, which is not set"
    )]
    NoPassword { url: String, name: String },
}

impl ServerUrl {
    /// Whether a text is meant as one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Whether the password stands in the URL itself.
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// Whether both are one database, as far as their texts say.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.shown == other.shown
    }

    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let malformed = |problem: &dyn fmt::Display| ServerUrlError::Malformed {
            problem: problem.to_string(),
        };
        let mut url = Url::parse(text).map_err(|error| malformed(&error))?;
        if !ServerUrl::is_meant(text) {
            return Err(malformed(&"it does not begin with postgres://"));
        }
        let written = url.password().map(str::to_owned);
        // Neither can fail where there is a host; without one, as for a socket, no password stands.
        let _ = url.set_password(None);
        let shown = url.to_string();
        let mut named = None;
        let mut kept = Vec::new();
        for (name, value) in url.query_pairs() {
            // An unknown name may be a misspelt `password`; so may its value be one.
            if !PARAMETERS.contains(&name.as_ref()) {
                let mut url = url.clone();
                url.set_query(None);
                return Err(ServerUrlError::Parameter {
                    url: url.to_string(),
                    name: name.into_owned(),
                });
            }
            if name == PASSWORD_ENV {
                named = Some(value.into_owned());
            } else {
                kept.push((name.into_owned(), value.into_owned()));
            }
        }
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        let mut options: PgConnectOptions =
            url.as_str().parse().map_err(|error| malformed(&error))?;
        if let Some(password) = &written {
            // As it stood, percent-encoded, so that sqlx reads it and not we.
            let _ = url.set_password(Some(password));
            options = url.as_str().parse().map_err(|error| malformed(&error))?;
        } else if let Some(name) = named {
            let Some(password) = config::variable(&name) else {
                return Err(ServerUrlError::NoPassword { url: shown, name });
            };
            options = options.password(&password);
        }
        if options.get_database().is_none() {
            return Err(ServerUrlError::NoDatabase { url: shown });
        }
        if options.get_application_name().is_none() {
            options = options.application_name("retell");
        }
        Ok(Self {
            shown,
            has_password: written.is_some(),
            // Unknown to poolers, and without effect on what is sent in binary.
            options: Arc::new(options.extra_float_digits(None)),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_a_password() {
        for text in [
            "postgres://me:s3cret@db.example:5433/shop?sslmode=require",
            "postgres://me:s3cret@db.example",
            "postgres://me:s3cret@db.example/shop?pasword=s3cret",
            "postgres://me:s3cret@db.example/shop?password=s3cret",
            "postgres://me:s3cret@db.example/shop?sslmode=s3cret&password_env=NOT_SET_ANYWHERE",
            "postgres://me:s3cret@db.example:port/shop",
        ] {
            let told = match text.parse::<ServerUrl>() {
                Ok(url) => format!("{url} {url:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!told.contains(":s3cret"), "{told}");
            assert!(!told.contains("password=s3cret"), "{told}");
        }
    }

    #[test]
    fn a_url_says_what_is_wrong_with_it() {
        let problem = |text: &str| text.parse::<ServerUrl>().unwrap_err().to_string();
        assert!(problem("postgres://db.example").contains("names no database"));
        assert!(problem("postgres://db/shop?pasword=x").contains("`pasword`"));
        assert!(problem("postgres://db/shop?password_env=NOT_SET_ANYWHERE").contains("not set"));
        assert!(problem("postgres://db:70000/shop").contains("port"));
    }

    #[test]
    fn parts_of_a_url_are_the_servers() {
        let url: ServerUrl = "postgresql://me:a%40b@db.example:5433/shop"
            .parse()
            .unwrap();
        assert_eq!(url.to_string(), "postgresql://me@db.example:5433/shop");
        assert!(url.has_password());
        let options = url.options();
        assert_eq!(
            (
                options.get_host(),
                options.get_port(),
                options.get_database()
            ),
            ("db.example", 5433, Some("shop"))
        );
        let url: ServerUrl = "postgres:///shop?host=/run/postgresql".parse().unwrap();
        assert!(!url.has_password());
        assert!(url.options().get_socket().is_some());
    }
}
