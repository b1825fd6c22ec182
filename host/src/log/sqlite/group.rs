//! One transaction for several requests, each of which succeeds or is refused by itself.

use super::Shared;
use super::adding::Adding;
use super::writer::Writer;
use crate::log::LogError;
use crate::log::check::Admitted;
use crate::log::group_commit::{Answer, AppendGroup};

impl AppendGroup for Shared {
    fn append_group(
        &self,
        group: &[Admitted],
        latecomers: &mut dyn FnMut() -> Vec<Admitted>,
    ) -> Result<Vec<Answer>, LogError> {
        let mut writer = self.writer.lock().unwrap_or_else(|poisoned| {
            // Nobody knows what it was doing when it panicked.
            self.writer.clear_poison();
            let mut writer = poisoned.into_inner();
            *writer = None;
            writer
        });
        let writer = match &mut *writer {
            Some(writer) => writer,
            none => none.insert(self.open_writer()?),
        };
        writer.begin(self.clock.now_us())?;
        let answers = answer_all(writer, group, latecomers);
        match answers {
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

/// Inside a transaction: one request after the other, until nobody comes any more.
fn answer_all(
    writer: &mut Writer,
    group: &[Admitted],
    latecomers: &mut dyn FnMut() -> Vec<Admitted>,
) -> Result<Vec<Answer>, LogError> {
    let mut adding = writer.adding()?;
    let mut answers = Vec::with_capacity(group.len());
    let mut add = |request: &Admitted| match answer(&mut adding, request) {
        // After the database's own failures nobody knows what is left of the transaction.
        Err(error) if !error.is_refusal() => Err(error),
        answer => {
            answers.push(answer);
            Ok(())
        }
    };
    group.iter().try_for_each(&mut add)?;
    loop {
        let late = latecomers();
        if late.is_empty() {
            return Ok(answers);
        }
        late.iter().try_for_each(&mut add)?;
    }
}

/// Ids first, then expected revisions, then the events.
fn answer(adding: &mut Adding<'_>, request: &Admitted) -> Answer {
    if !request.expected.is_empty() && !adding.all_there(&request.events)? {
        for (stream, expected) in &request.expected {
            let actual = adding.revision(stream)?;
            if actual != *expected {
                return Err(LogError::Revision {
                    stream: stream.clone(),
                    expected: *expected,
                    actual,
                });
            }
        }
    }
    adding.add_whole(&request.events)
}
