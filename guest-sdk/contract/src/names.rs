//! What projections, tables, columns and indexes may be called.
//!
//! The rules make a name safe as a SQL identifier in both databases, as a folder, and beside the
//! names that retell derives from it (`articles_v2` is a lasting name, so no projection may end
//! that way).

/// Bytes a name has at most.
pub const NAME_BYTES_MAX: usize = 40;

const RESERVED_PREFIXES: [&str; 3] = ["retell_", "pg_", "sqlite_"];

/// A name that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "{what} name `{name}` is not allowed: use a lower-case letter, then at most 39 lower-case \
         letters, digits and underscores"
    )]
    Form { what: &'static str, name: String },
    #[error("{what} name `{name}` is not allowed: the prefix `{prefix}` is reserved")]
    Reserved {
        what: &'static str,
        name: String,
        prefix: &'static str,
    },
    #[error(
        "projection name `{name}` is not allowed: the ending `{ending}` is reserved for the names \
         of major versions; leave it off, the version says it"
    )]
    Ending { name: String, ending: String },
}

/// `[a-z][a-z0-9_]{0,39}`, no reserved prefix, and not ending in `_v<digits>` or `_<digits>`.
pub fn check_projection_name(name: &str) -> Result<(), NameError> {
    check("projection", name)?;
    let Some((_, last)) = name.rsplit_once('_') else {
        return Ok(());
    };
    let number = last.strip_prefix('v').unwrap_or(last);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(NameError::Ending {
        name: name.to_owned(),
        ending: format!("_{last}"),
    })
}

/// `[a-z][a-z0-9_]{0,39}` without a reserved prefix.
pub fn check_table_name(name: &str) -> Result<(), NameError> {
    check("table", name)
}

/// `[a-z][a-z0-9_]{0,39}` without a reserved prefix.
pub fn check_column_name(name: &str) -> Result<(), NameError> {
    check("column", name)
}

/// `[a-z][a-z0-9_]{0,39}` without a reserved prefix. Two tables may have indexes of one name.
pub fn check_index_name(name: &str) -> Result<(), NameError> {
    check("index", name)
}

/// For checks at compile time, where a message cannot be put together.
///
/// # Panics
/// When [`check_table_name`] refuses the name; the message says what is wrong.
pub const fn assert_name(name: &str) {
    assert!(
        is_well_formed(name.as_bytes()),
        "this name is not allowed: use a lower-case letter, then at most 39 lower-case letters, \
         digits and underscores"
    );
    assert!(
        !starts_with(name.as_bytes(), b"retell_")
            && !starts_with(name.as_bytes(), b"pg_")
            && !starts_with(name.as_bytes(), b"sqlite_"),
        "this name is not allowed: the prefixes `retell_`, `pg_` and `sqlite_` are reserved"
    );
}

/// [`assert_name`] for the name of a projection.
///
/// # Panics
/// When [`check_projection_name`] refuses the name.
pub const fn assert_projection_name(name: &str) {
    assert_name(name);
    let name = name.as_bytes();
    let mut digits = name.len();
    while digits > 0 && name[digits - 1].is_ascii_digit() {
        digits -= 1;
    }
    if digits == name.len() || digits == 0 {
        return;
    }
    let before = name[digits - 1];
    assert!(
        before != b'_' && !(before == b'v' && digits > 1 && name[digits - 2] == b'_'),
        "this name is not allowed: `_2` and `_v2` at the end are reserved for the names of major \
         versions; leave it off, the version says it"
    );
}

const fn is_well_formed(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    true
}

const fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    let mut at = 0;
    while at < prefix.len() {
        if at >= name.len() || name[at] != prefix[at] {
            return false;
        }
        at += 1;
    }
    true
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    if !is_well_formed(name.as_bytes()) {
        return Err(NameError::Form {
            what,
            name: name.to_owned(),
        });
    }
    match RESERVED_PREFIXES
        .into_iter()
        .find(|prefix| name.starts_with(prefix))
    {
        None => Ok(()),
        Some(prefix) => Err(NameError::Reserved {
            what,
            name: name.to_owned(),
            prefix,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_allowed() {
        for name in [
            "a",
            "articles",
            "git_tree",
            "v2",
            "a_v",
            "a_2b",
            "top10",
            &"x".repeat(40),
        ] {
            check_projection_name(name).expect(name);
        }
        for name in ["articles_v2", "counts_2024", "pgx", "order"] {
            check_table_name(name).expect(name);
            check_column_name(name).expect(name);
            check_index_name(name).expect(name);
        }
    }

    #[test]
    fn compile_time_checks_agree() {
        let refused = |check: fn(&str), name: &str| {
            let name = name.to_owned();
            std::panic::catch_unwind(move || check(&name)).is_err()
        };
        for name in [
            "", "a", "A", "a_v", "a_v2", "a_2", "v2", "a2", "pg_a", "retell_", "2", "_2",
        ] {
            assert_eq!(
                refused(assert_name, name),
                check_table_name(name).is_err(),
                "{name}"
            );
            let projection = check_projection_name(name).is_err();
            assert_eq!(refused(assert_projection_name, name), projection, "{name}");
        }
    }

    #[test]
    fn names_that_are_not() {
        for name in [
            "",
            "Articles",
            "1a",
            "_a",
            "a-b",
            "a.b",
            "ä",
            "a b",
            &"x".repeat(41),
        ] {
            assert!(
                matches!(check_table_name(name), Err(NameError::Form { .. })),
                "{name}"
            );
        }
        for name in ["retell_x", "pg_x", "sqlite_x"] {
            assert!(
                matches!(check_column_name(name), Err(NameError::Reserved { .. })),
                "{name}"
            );
        }
        for name in ["articles_v2", "articles_2", "a__12"] {
            assert!(
                matches!(check_projection_name(name), Err(NameError::Ending { .. })),
                "{name}"
            );
        }
    }
}
