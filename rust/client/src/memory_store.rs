//! A store in memory, for tests and fuzzing: it answers in the order of asking, and when it is told to.

use std::collections::{HashMap, VecDeque};

use crate::{
    Client, CommitFailed, Committed, Content, Cx, LoadFailed, RecordBytes, RecordKey, StoredRecord, Write,
};

/// What a client has asked its store for.
#[derive(Debug)]
pub enum Question {
    /// [`Effect::Commit`](crate::Effect::Commit).
    Commit(u64, Vec<Write>),
    /// [`Effect::Load`](crate::Effect::Load).
    Load(u32, Vec<RecordKey>),
}

/// What a client is told.
#[derive(Debug)]
pub enum Answer {
    /// For `on_committed`.
    Committed(u64, Result<Committed, CommitFailed>),
    /// For `on_loaded`.
    Loaded(u32, Result<Vec<Option<StoredRecord>>, LoadFailed>),
}

impl Answer {
    /// Tells it.
    pub fn tell(self, client: &mut Client, cx: &mut Cx<'_>) {
        match self {
            Self::Committed(token, outcome) => client.on_committed(token, outcome, cx),
            Self::Loaded(token, outcome) => client.on_loaded(token, outcome, cx),
        }
    }
}

/// A message's name: chat, sender, id.
pub type MessageName = (String, String, String);

/// The store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// All records; those in the second part of the value are as they were imported.
    pub records: HashMap<RecordKey, (RecordBytes, bool)>,
    /// The content of each message, or how often it failed.
    pub inbox: HashMap<MessageName, Result<Vec<u8>, u32>>,
    /// Names of messages in the order in which their contents were stored.
    pub delivered: Vec<MessageName>,
    /// What was asked and not answered, oldest first.
    pub open: VecDeque<Question>,
}

impl MemoryStore {
    /// Answers the oldest question.
    pub fn answer(&mut self) -> Option<Answer> {
        Some(match self.open.pop_front()? {
            Question::Load(token, keys) => Answer::Loaded(token, Ok(self.load(&keys))),
            Question::Commit(token, writes) => Answer::Committed(token, Ok(self.commit(writes))),
        })
    }

    /// Answers the oldest load of which no commit in front of it changes anything, as a store does that waits for a lock.
    pub fn answer_ahead(&mut self) -> Option<Answer> {
        let changes = |question: &Question, key| {
            match question {
            Question::Commit(_, writes) => writes.iter().any(|write| {
                matches!(write, Write::PutRecord { key: it, .. } | Write::RemoveRecord(it) if it == key)
            }),
            Question::Load(..) => false,
        }
        };
        let is_free = |place: usize| match self.open.get(place) {
            Some(Question::Load(_, keys)) => {
                let mut before = self.open.iter().take(place);
                !before.any(|question| keys.iter().any(|key| changes(question, key)))
            }
            _ => false,
        };
        let place = (0..self.open.len()).find(|place| is_free(*place))?;
        let Question::Load(token, keys) = self.open.remove(place)? else { return None };
        Some(Answer::Loaded(token, Ok(self.load(&keys))))
    }

    /// Fails everything that was asked.
    pub fn fail(&mut self) -> Vec<Answer> {
        let failed = self.open.drain(..).map(|question| match question {
            Question::Load(token, _) => Answer::Loaded(token, Err(LoadFailed)),
            Question::Commit(token, _) => Answer::Committed(token, Err(CommitFailed::Store)),
        });
        failed.collect()
    }

    /// Fails the commits that were asked for and answers the loads between them, as a store does that has failed and
    /// recovered before its client learned of it. Loads behind the last commit stay open.
    pub fn fail_commits(&mut self) -> Vec<Answer> {
        let is_commit = |question: &Question| matches!(question, Question::Commit(..));
        let end = self.open.iter().rposition(is_commit).map_or(0, |last| last + 1);
        let open: Vec<_> = self.open.drain(..end).collect();
        open.into_iter()
            .map(|question| match question {
                Question::Load(token, keys) => Answer::Loaded(token, Ok(self.load(&keys))),
                Question::Commit(token, _) => Answer::Committed(token, Err(CommitFailed::Store)),
            })
            .collect()
    }

    /// Refuses the commits that were asked for and leaves the loads.
    pub fn refuse_commits(&mut self) -> Vec<Answer> {
        let (commits, loads): (VecDeque<_>, VecDeque<_>) =
            self.open.drain(..).partition(|question| matches!(question, Question::Commit(..)));
        self.open = commits;
        let refused = self.fail();
        self.open = loads;
        refused
    }

    /// Records by their keys.
    #[must_use]
    pub fn load(&self, keys: &[RecordKey]) -> Vec<Option<StoredRecord>> {
        let find = |key| {
            let (value, is_imported) = self.records.get(key).cloned()?;
            Some(StoredRecord { value, is_imported })
        };
        keys.iter().map(find).collect()
    }

    /// Carries out a batch.
    pub fn commit(&mut self, writes: Vec<Write>) -> Committed {
        let attempts = writes.into_iter().map(|write| self.write(write)).max().unwrap_or(0);
        Committed { attempts }
    }

    fn write(&mut self, write: Write) -> u32 {
        match write {
            Write::PutRecord { key, value } => {
                self.records.insert(key, (value, false));
            }
            Write::RemoveRecord(key) => {
                self.records.remove(&key);
            }
            Write::Inbox { chat, sender, message_id, content, .. } => {
                let name = (chat, sender, message_id);
                let row = self.inbox.entry(name.clone()).or_insert(Err(0));
                match (&mut *row, content) {
                    (Ok(kept), Content::Plain(bytes)) if kept.is_empty() && !bytes.is_empty() => {
                        *row = Ok(bytes);
                        self.delivered.push(name);
                    }
                    (Ok(_), _) => {}
                    (Err(_), Content::Plain(bytes)) => {
                        *row = Ok(bytes);
                        self.delivered.push(name);
                    }
                    (Err(_), Content::Nothing) => *row = Ok(Vec::new()),
                    (Err(attempts), Content::Failed { .. }) => {
                        *attempts += 1;
                        return *attempts;
                    }
                }
            }
            _ => {}
        }
        0
    }
}
