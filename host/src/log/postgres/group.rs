//! One transaction for several requests, each of which succeeds or is refused by itself.

use super::Shared;
use super::adding::Request;
use super::writer::Writer;
use crate::log::LogError;
use crate::log::check::Admitted;
use crate::log::group_commit::{Answer, AppendGroup};

impl AppendGroup for Shared {
    fn append_group(&self, group: &[Admitted]) -> Result<Vec<Answer>, LogError> {
        let mut writer = self.writer.lock().unwrap_or_else(|poisoned| {
            // Nobody knows what it was doing when it panicked.
            self.writer.clear_poison();
            let mut writer = poisoned.into_inner();
            *writer = Writer::new(self.place.clone());
            writer
        });
        writer.begin(self.clock.now_us())?;
        let requests: Vec<Request<'_>> = group.iter().map(Request::from).collect();
        match writer.adding().answer_all(&requests) {
            Ok(answers) => {
                self.signal.announce(writer.commit()?);
                Ok(answers)
            }
            Err(error) => {
                writer.rollback();
                Err(error)
            }
        }
    }
}
