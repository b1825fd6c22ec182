//! One transaction for several requests, each of which succeeds or is refused by itself.

use super::Shared;
use super::adding::Request;
use super::writer::Writer;
use crate::log::LogError;
use crate::log::check::Admitted;
use crate::log::group_commit::{Answer, AppendGroup};

impl AppendGroup for Shared {
    /// Without latecomers: a group is one round trip.
    fn append_group(
        &self,
        group: &[Admitted],
        _latecomers: &mut dyn FnMut() -> Vec<Admitted>,
    ) -> Result<Vec<Answer>, LogError> {
        let mut writer = self.writer.lock().unwrap_or_else(|poisoned| {
            // Nobody knows what it was doing when it panicked.
            self.writer.clear_poison();
            let mut writer = poisoned.into_inner();
            *writer = Writer::new(self.place.clone());
            writer
        });
        let requests: Vec<Request<'_>> = group.iter().map(Request::from).collect();
        let now_us = self.clock.now_us();
        if let Some((answers, head)) = writer.append_at_once(now_us, &requests)? {
            self.signal.announce(head);
            return Ok(answers);
        }
        writer.begin(now_us)?;
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
