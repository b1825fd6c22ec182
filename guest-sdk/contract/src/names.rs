//! What projections, tables, columns and indexes may be called.
//!
//! The rules make a name safe as a SQL identifier in both databases, as a folder, and beside the
//! names that retell derives from it (`articles_v2` is a lasting name, so no projection may end
//! that way).

/// Bytes a name has at most.
pub const NAME_BYTES_MAX: usize = 40;

const RESERVED_PREFIXES: [&str; 3] = ["retell_", "pg_", "sqlite_"];

const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

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
    #[error("column name `{name}` is not allowed: PostgreSQL has it in every table")]
    System { name: String },
    #[error(
        "projection name `{name}` is not allowed: the ending `{ending}` is reserved for the names \
         of major versions; leave it off, the version says it"
    )]
    Ending { name: String, ending: String },
}

/// `[a-z][a-z0-9_]{0,39}`, no reserved prefix, and not ending in `_v<digits>` or `_<digits>`.
pub fn check_projection_name(name: &str) -> Result<(), NameError> {
    check("projection", name)?;
    match version_ending(name) {
        0 => Ok(()),
        bytes => Err(NameError::Ending {
            name: name.to_owned(),
            ending: name[name.len() - bytes..].to_owned(),
        }),
    }
}

/// `[a-z][a-z0-9_]{0,39}` without a reserved prefix.
pub fn check_table_name(name: &str) -> Result<(), NameError> {
    check("table", name)
}

/// `[a-z][a-z0-9_]{0,39}` without a reserved prefix, and none of the columns that PostgreSQL adds to every
/// table.
pub fn check_column_name(name: &str) -> Result<(), NameError> {
    check("column", name)?;
    if is_system_column(name) {
        return Err(NameError::System {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Whether PostgreSQL gives every table a column of this name.
pub const fn is_system_column(name: &str) -> bool {
    let mut at = 0;
    while at < SYSTEM_COLUMNS.len() {
        let system = SYSTEM_COLUMNS[at];
        if name.len() == system.len() && starts_with(name.as_bytes(), system.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

/// `[a-z][a-z0-9_]{0,39}` without a reserved prefix. Two tables may have indexes of one name.
pub fn check_index_name(name: &str) -> Result<(), NameError> {
    check("index", name)
}

/// The form of every name: `[a-z][a-z0-9_]{0,39}`. Usable at compile time, as are the other rules.
pub const fn is_well_formed(name: &str) -> bool {
    let name = name.as_bytes();
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

/// The prefix of the name, if it is one that is reserved.
pub const fn reserved_prefix(name: &str) -> Option<&'static str> {
    let mut at = 0;
    while at < RESERVED_PREFIXES.len() {
        if starts_with(name.as_bytes(), RESERVED_PREFIXES[at].as_bytes()) {
            return Some(RESERVED_PREFIXES[at]);
        }
        at += 1;
    }
    None
}

/// How many bytes at the end of the name are `_v<digits>` or `_<digits>`; 0 if it ends otherwise.
pub const fn version_ending(name: &str) -> usize {
    let name = name.as_bytes();
    let mut start = name.len();
    while start > 0 && name[start - 1].is_ascii_digit() {
        start -= 1;
    }
    if start == name.len() {
        return 0;
    }
    if start > 1 && name[start - 1] == b'v' {
        start -= 1;
    }
    if start > 0 && name[start - 1] == b'_' {
        name.len() - start + 1
    } else {
        0
    }
}

/// As much of a text as an error shows: whoever made it may have made it of any length.
pub(crate) fn cut(text: &str) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    if text.len() <= SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)])
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
    if !is_well_formed(name) {
        return Err(NameError::Form {
            what,
            name: cut(name),
        });
    }
    match reserved_prefix(name) {
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
            "x_v2b",
            "xv2",
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
    fn columns_that_postgresql_adds_to_every_table() {
        for name in ["ctid", "xmin", "tableoid"] {
            let refused = check_column_name(name);
            assert!(matches!(refused, Err(NameError::System { .. })), "{name}");
            check_table_name(name).expect(name);
        }
        for name in ["xmi", "xmin2", "oid"] {
            check_column_name(name).expect(name);
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
