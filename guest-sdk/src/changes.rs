//! Row changes on their way to the host, and rows on their way back.

/// Row changes in order; see the record `change-set` of the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    pub events: Vec<u32>,
    pub tables: Vec<u16>,
    pub kinds: Vec<u8>,
    pub key_ends: Vec<u32>,
    pub keys: Vec<u8>,
    pub row_ends: Vec<u32>,
    pub rows: Vec<u8>,
}

pub(crate) const PUT: u8 = 0;
pub(crate) const DELETE: u8 = 1;

/// The event of the batch that the module refuses, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub event: u32,
    pub message: String,
}

/// Rows packed end to end; in an answer to `get_many`, an empty one means that there is none.
#[derive(Debug, Clone, Default)]
pub struct PackedRows {
    pub row_ends: Vec<u32>,
    pub rows: Vec<u8>,
}

impl ChangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Makes room for so many more changes, with so many bytes of keys.
    pub(crate) fn reserve(&mut self, changes: usize, key_bytes: usize) {
        self.events.reserve(changes);
        self.tables.reserve(changes);
        self.kinds.reserve(changes);
        self.key_ends.reserve(changes);
        self.keys.reserve(key_bytes);
        self.row_ends.reserve(changes);
    }

    /// Adds a change: a put with the row that `write` appends, or a delete.
    pub(crate) fn push(
        &mut self,
        event: u32,
        table: u16,
        key: &[u8],
        write: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        self.events.push(event);
        self.tables.push(table);
        self.keys.extend_from_slice(key);
        self.key_ends.push(end(&self.keys));
        match write {
            None => self.kinds.push(DELETE),
            Some(write) => {
                self.kinds.push(PUT);
                write(&mut self.rows);
            }
        }
        self.row_ends.push(end(&self.rows));
    }

    /// Moves the changes of another set behind these.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        let (keys, rows) = (end(&self.keys), end(&self.rows));
        self.events.append(&mut other.events);
        self.tables.append(&mut other.tables);
        self.kinds.append(&mut other.kinds);
        self.key_ends
            .extend(other.key_ends.drain(..).map(|end| keys + end));
        self.row_ends
            .extend(other.row_ends.drain(..).map(|end| rows + end));
        self.keys.append(&mut other.keys);
        self.rows.append(&mut other.rows);
    }
}

/// Where the packed bytes end now.
pub(crate) fn end(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("the changes of one batch take less than 4 GiB")
}

impl PackedRows {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.row_ends);
        let bounds = starts.zip(&self.row_ends);
        bounds.map(|(&start, &end)| &self.rows[start as usize..end as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(content: u8) -> impl FnOnce(&mut Vec<u8>) {
        move |out| out.push(content)
    }

    #[test]
    fn appending_equals_pushing() {
        let deletion = None::<fn(&mut Vec<u8>)>;
        let (mut all, mut first, mut second) = <(ChangeSet, ChangeSet, ChangeSet)>::default();
        for set in [&mut all, &mut first] {
            set.push(0, 0, b"a", Some(row(1)));
            set.push(1, 1, b"bc", deletion);
        }
        for set in [&mut all, &mut second] {
            set.push(2, 0, b"d", Some(row(2)));
        }
        first.append(&mut second);
        assert_eq!(first, all);
        assert_eq!(all.kinds, [PUT, DELETE, PUT]);
        assert_eq!(all.key_ends, [1, 3, 4]);
        assert_eq!(all.row_ends, [1, 1, 2]);
        let mut empty = ChangeSet::default();
        empty.append(&mut first);
        assert_eq!(empty, all);
        assert!(first.is_empty());
    }
}
