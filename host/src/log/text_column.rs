//! Stands in for `retell_contract::columns::TextColumn` until that is there.

/// UTF-8 texts end to end; text i is `bytes[ends[i-1]..ends[i]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextColumn {
    pub ends: Vec<u32>,
    pub bytes: Vec<u8>,
}
