//! The content digest of a read model: equal for equal rows, whatever holds them.
//!
//! The layout of the bytes hashed is fixed by the contract crate (`retell_contract`, "Digest of a
//! read model"): tables by name, rows in key order in their row encoding. This file does the hashing;
//! each backend feeds it from one snapshot.

use sha2::{Digest as _, Sha256};

use crate::event::Position;

/// The digest of a read model's tables, and the position at which they were so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    pub position: Position,
    /// SHA-256, hexadecimal.
    pub digest: String,
}

/// Takes tables and rows in their order, and ends in their digest.
///
/// The caller gives tables by name and rows by key: [`Digester::table`], then a [`Digester::row`]
/// for each of its rows, then [`Digester::end_table`].
#[derive(Debug, Default)]
pub struct Digester {
    hash: Sha256,
}

impl Digester {
    pub fn table(&mut self, name: &str) {
        self.framed(name.as_bytes());
    }

    /// A row in the contract's row encoding.
    pub fn row(&mut self, row: &[u8]) {
        self.framed(row);
    }

    pub fn end_table(&mut self) {
        self.hash.update([0xff; 8]);
    }

    /// The digest, hexadecimal.
    pub fn finish(self) -> String {
        format!("{:x}", self.hash.finalize())
    }

    fn framed(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::Digester;

    fn digest(tables: &[(&str, &[&[u8]])]) -> String {
        let mut digester = Digester::default();
        for (name, rows) in tables {
            digester.table(name);
            rows.iter().for_each(|row| digester.row(row));
            digester.end_table();
        }
        digester.finish()
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        use sha2::{Digest as _, Sha256};
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 1, b't'];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2, 0x81, 0x01]);
        bytes.extend([0xff; 8]);
        let expected = format!("{:x}", Sha256::digest(&bytes));
        assert_eq!(digest(&[("t", &[&[0x81, 0x01]])]), expected);
    }

    #[test]
    fn no_two_contents_share_their_bytes() {
        let contents = [
            digest(&[]),
            digest(&[("a", &[])]),
            digest(&[("a", &[]), ("b", &[])]),
            digest(&[("a", &[b"b"])]),
            digest(&[("ab", &[])]),
            digest(&[("a", &[b"bc"])]),
            digest(&[("a", &[b"b", b"c"])]),
        ];
        let distinct: std::collections::HashSet<_> = contents.iter().collect();
        assert_eq!(distinct.len(), contents.len());
    }
}
