//! A scan from a place on, as questions that an index answers.
//!
//! "After the place (a, b, k)" is asked level by level: first the rows that share a and b and have a
//! larger k, then those that share a and have a larger b, and so on. Each level is one seek and one
//! run in the index. (Row values would do it in one question, but not with nulls.)

use retell_contract::key::{KeyError, decode_key, decode_prefix};
use retell_contract::value::{ColumnType, Value};

use super::ReadModelError;

/// Rows whose first columns are `same` and whose next column is above `above`, if given.
#[derive(Debug, PartialEq)]
pub(super) struct Level {
    pub(super) same: Vec<Value>,
    pub(super) above: Option<Value>,
}

/// What a scan runs along.
pub(super) struct Along<'a> {
    pub(super) table: &'a str,
    pub(super) index: &'a str,
    /// Of the columns of the index, then of those of the key.
    pub(super) types: &'a [ColumnType],
    /// How many of them a prefix may have.
    pub(super) prefix_max: usize,
}

impl Along<'_> {
    /// The levels of a scan under a prefix and after a place, in the order of their rows.
    pub(super) fn levels(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<Vec<Level>, ReadModelError> {
        let refuse = |what: &str, error: &KeyError| ReadModelError::Scan {
            table: self.table.to_owned(),
            index: self.index.to_owned(),
            reason: format!("its {what} is none ({error})"),
        };
        let under = decode_prefix(prefix, &self.types[..self.prefix_max])
            .map_err(|error| refuse("prefix", &error))?;
        let everything = |same| Level { same, above: None };
        let Some(after) = after else {
            return Ok(vec![everything(under)]);
        };
        let place =
            decode_key(after, self.types).map_err(|error| refuse("place to go on from", &error))?;
        if !after.starts_with(prefix) {
            // The place is before or after everything under the prefix.
            let is_before = after < prefix;
            return Ok(is_before.then(|| everything(under)).into_iter().collect());
        }
        let level = |same: usize| Level {
            same: place[..same].to_vec(),
            above: place.get(same).cloned(),
        };
        Ok((under.len()..place.len()).rev().map(level).collect())
    }
}

#[cfg(test)]
mod tests {
    use retell_contract::encode_key;

    use super::*;

    #[test]
    fn each_level_goes_on_where_the_one_before_ends() {
        let types = [ColumnType::Integer; 3];
        let along = Along {
            table: "t",
            index: "i",
            types: &types,
            prefix_max: 2,
        };
        let key = |values: &[i64]| {
            let values: Vec<Value> = values.iter().copied().map(Value::Integer).collect();
            encode_key(&values)
        };
        let levels = |prefix: &[i64], after: Option<&[i64]>| {
            let after = after.map(key);
            let levels = along.levels(&key(prefix), after.as_deref());
            let integer = |value: &Value| match value {
                Value::Integer(value) => *value,
                other => panic!("{other:?}"),
            };
            levels
                .expect("they make sense")
                .iter()
                .map(|it| {
                    (
                        it.same.iter().map(integer).collect(),
                        it.above.as_ref().map(integer),
                    )
                })
                .collect::<Vec<(Vec<i64>, Option<i64>)>>()
        };
        assert_eq!(levels(&[1], None), [(vec![1], None)]);
        assert_eq!(
            levels(&[1], Some(&[1, 5, 9])),
            [(vec![1, 5], Some(9)), (vec![1], Some(5))]
        );
        assert_eq!(levels(&[2], Some(&[1, 5, 9])), [(vec![2], None)]);
        assert_eq!(levels(&[1], Some(&[2, 5, 9])), []);
        let broken = along.levels(&key(&[1]), Some(b"\xff"));
        assert!(matches!(broken, Err(ReadModelError::Scan { .. })));
    }
}
