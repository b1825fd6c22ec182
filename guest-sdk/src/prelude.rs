//! What a projection needs: `use retell_sdk::prelude::*;`.

pub use crate::db::{Db, Level};
pub use crate::error::{Error, Result};
pub use crate::types::{Json, Timestamp, Uuid};
pub use crate::{Event, Table, bail, ensure, projection};
