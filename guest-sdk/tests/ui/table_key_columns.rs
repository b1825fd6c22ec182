//! More columns than PostgreSQL allows a key or an index.

use retell_sdk::prelude::*;

#[derive(Table)]
#[rustfmt::skip]
#[table(key(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30, c31, c32))]
struct Key {
    c0: i64, c1: i64, c2: i64, c3: i64, c4: i64, c5: i64, c6: i64, c7: i64, c8: i64, c9: i64, c10: i64,
    c11: i64, c12: i64, c13: i64, c14: i64, c15: i64, c16: i64, c17: i64, c18: i64, c19: i64, c20: i64, c21: i64,
    c22: i64, c23: i64, c24: i64, c25: i64, c26: i64, c27: i64, c28: i64, c29: i64, c30: i64, c31: i64, c32: i64,
}

#[derive(Table)]
#[rustfmt::skip]
#[table(key(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30), index(c30, c31, c32))]
struct Index {
    c0: i64, c1: i64, c2: i64, c3: i64, c4: i64, c5: i64, c6: i64, c7: i64, c8: i64, c9: i64, c10: i64,
    c11: i64, c12: i64, c13: i64, c14: i64, c15: i64, c16: i64, c17: i64, c18: i64, c19: i64, c20: i64, c21: i64,
    c22: i64, c23: i64, c24: i64, c25: i64, c26: i64, c27: i64, c28: i64, c29: i64, c30: i64, c31: i64, c32: i64,
}

#[derive(Table)]
#[rustfmt::skip]
#[table(key(c0), unique(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30, c31, c32))]
struct Unique {
    c0: i64, c1: i64, c2: i64, c3: i64, c4: i64, c5: i64, c6: i64, c7: i64, c8: i64, c9: i64, c10: i64,
    c11: i64, c12: i64, c13: i64, c14: i64, c15: i64, c16: i64, c17: i64, c18: i64, c19: i64, c20: i64, c21: i64,
    c22: i64, c23: i64, c24: i64, c25: i64, c26: i64, c27: i64, c28: i64, c29: i64, c30: i64, c31: i64, c32: i64,
}

fn main() {}
