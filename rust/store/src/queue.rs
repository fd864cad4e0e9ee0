//! What waits for the writer. Pure: no thread, no SQLite; time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::lock_wait::Pending;
use crate::record::{Batch, RecordKey};
use crate::{ErrorKind, Options, StoreError};

/// Work of a blocking caller, run inside a group's transaction in a savepoint of its own.
pub(crate) trait Call: Send {
    /// Runs the work. `Err` rolls the savepoint back.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// Lets the caller go, with the group's error when its transaction failed.
    fn reply(self: Box<Self>, group: Result<(), StoreError>);
}

/// One piece of work, in submit order.
pub(crate) enum Job {
    Batch(Batch),
    Read(Read),
    Call(Box<dyn Call>),
}

/// A question that a completion answers.
#[derive(Debug)]
pub(crate) enum Read {
    Device { session_id: String, token: u64 },
    Records { session_id: String, token: u64, keys: Vec<RecordKey> },
    Ciphertexts { session_id: String, token: u64, after_seq: u64, n: usize },
}

impl Job {
    fn writes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.writes.len().max(1),
            Self::Read(read) => read.writes(),
            Self::Call(_) => 1,
        }
    }

    /// Whether it only asks: it costs no fsync, so that nothing is saved by gathering more.
    const fn is_question(&self) -> bool {
        matches!(self, Self::Read(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => {
                batch.session_id.len() + batch.writes.iter().map(|w| w.weight()).sum::<usize>()
            }
            Self::Read(read) => read.bytes(),
            Self::Call(_) => 0,
        }
    }
}

impl Read {
    fn writes(&self) -> usize {
        if let Self::Records { keys, .. } = self { keys.len().max(1) } else { 1 }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Records { session_id, keys, .. } => {
                session_id.len() + keys.iter().map(|key| key.id.len()).sum::<usize>()
            }
            Self::Device { session_id, .. } | Self::Ciphertexts { session_id, .. } => session_id.len(),
        }
    }
}

/// What the writer commits in one transaction.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) jobs: Vec<Job>,
    /// Latest wins, so these need no place in the order and survive a failed commit.
    pub(crate) latest: Latest,
}

impl Group {
    /// Whether nothing in it changes anything.
    pub(crate) fn only_asks(&self) -> bool {
        self.latest.is_empty() && !self.jobs.is_empty() && self.jobs.iter().all(Job::is_question)
    }
}

/// Values of which only the newest matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) policies: BTreeMap<String, String>,
    pub(crate) meta: BTreeMap<String, String>,
}

impl Latest {
    pub(crate) fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.meta.is_empty()
    }

    /// Puts back what a failed commit took; what came since is newer and stays.
    fn put_back(&mut self, older: Self) {
        for (session_id, json) in older.policies {
            self.policies.entry(session_id).or_insert(json);
        }
        for (key, value) in older.meta {
            self.meta.entry(key).or_insert(value);
        }
    }
}

/// The bounded queue between all callers and the writer.
pub(crate) struct Queue {
    jobs: VecDeque<(Instant, Job)>,
    pub(crate) latest: Latest,
    latest_since: Option<Instant>,
    bytes: usize,
    writes: usize,
    batches: usize,
    calls: usize,
    /// The group being written: how many batches, and since when the oldest waits.
    in_flight: Option<(usize, Instant)>,
    /// Another process holds the database's write lock.
    lock_wait: Option<LockWait>,
    max_bytes: usize,
    max_writes: usize,
    lock_patience: Duration,
    /// Groups that failed, ever.
    pub(crate) failures: u64,
    pub(crate) closing: bool,
}

/// A wait for the write lock: since when, and what of the queue was looked at for reads that need not wait.
struct LockWait {
    since: Instant,
    pending: Pending,
    looked_at: usize,
}

impl LockWait {
    fn new(now: Instant) -> Self {
        Self { since: now, pending: Pending::default(), looked_at: 0 }
    }
}

/// How the queue stands, for whoever fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Another process holds the database's write lock: whatever needs a commit waits for that.
    pub is_locked: bool,
    /// More than three quarters of what may wait is waiting.
    pub is_filling: bool,
}

/// Most bytes and writes of one transaction: bounds the time until its first message is answered.
const GROUP_MAX_BYTES: usize = 16 * 1024 * 1024;
const GROUP_MAX_WRITES: usize = 8_192;

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            jobs: VecDeque::new(),
            latest: Latest::default(),
            latest_since: None,
            bytes: 0,
            writes: 0,
            batches: 0,
            calls: 0,
            in_flight: None,
            lock_wait: None,
            max_bytes: options.max_queued_bytes,
            max_writes: options.max_queued_writes,
            lock_patience: options.lock_patience,
            failures: 0,
            closing: false,
        }
    }

    /// Queues a job, or says that the queue is full or closed and takes nothing. One job always fits an empty queue.
    ///
    /// `seen` is how many failures the submitter of batches has been told of. A batch that was made before it learned of
    /// the last one stands on changes that do not exist, like those that were queued then, and is refused.
    pub(crate) fn push(&mut self, job: Job, seen: u64, now: Instant) -> Result<(), (Job, StoreError)> {
        if self.closing {
            return Err((job, StoreError::closed()));
        }
        if let (Job::Call(_), Some(held)) = (&job, self.lock_wait(now))
            && held >= self.lock_patience
        {
            return Err((job, StoreError::busy(held)));
        }
        if matches!(job, Job::Batch(_)) && seen < self.failures {
            let message = "a batch before this one failed, which its completion says";
            return Err((job, StoreError::new(ErrorKind::Behind, message)));
        }
        let (bytes, writes) = (job.bytes(), job.writes());
        let full = self.bytes + bytes > self.max_bytes || self.writes + writes > self.max_writes;
        if full && !self.jobs.is_empty() {
            let message = format!("the store is behind: {} batches wait", self.jobs.len());
            return Err((job, StoreError::new(ErrorKind::QueueFull, message)));
        }
        self.bytes += bytes;
        self.writes += writes;
        self.batches += usize::from(matches!(job, Job::Batch(_)));
        self.calls += usize::from(matches!(job, Job::Call(_)));
        self.jobs.push_back((now, job));
        Ok(())
    }

    pub(crate) fn put_policy(&mut self, session_id: String, json: String, now: Instant) {
        self.latest.policies.insert(session_id, json);
        self.latest_since.get_or_insert(now);
    }

    pub(crate) fn put_meta(&mut self, key: String, value: String, now: Instant) {
        self.latest.meta.insert(key, value);
        self.latest_since.get_or_insert(now);
    }

    /// Since when the oldest piece waits that is not being written.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        let oldest_job = self.jobs.front().map(|(since, _)| *since);
        [oldest_job, self.latest_since].into_iter().flatten().min()
    }

    pub(crate) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether there is anything to write or to answer.
    pub(crate) fn has_work(&self) -> bool {
        self.has_jobs() || !self.latest.is_empty()
    }

    /// Whether waiting for more would only add latency.
    pub(crate) fn group_is_full(&self) -> bool {
        self.bytes >= GROUP_MAX_BYTES || self.writes >= GROUP_MAX_WRITES
    }

    /// When what waits is to be written; `None` when nothing does.
    ///
    /// An fsync serves all that comes within `gather`, and that time begins with the end of the last one (`committed_at`)
    /// or with the first piece, whichever is earlier: what comes after a pause finds nobody to share with, and does not
    /// wait. Nor does a question that no write is ahead of.
    pub(crate) fn due_at(&self, gather: Duration, committed_at: Instant) -> Option<Instant> {
        let since = self.waiting_since()?;
        if self.latest_since.is_none() && self.jobs.iter().all(|(_, job)| job.is_question()) {
            return Some(since);
        }
        Some(since.min(committed_at) + gather)
    }

    /// Takes the oldest jobs, as many as one transaction holds, and all latest values. No lock is waited for any more.
    pub(crate) fn take_group(&mut self) -> Group {
        self.lock_wait = None;
        let since = self.waiting_since();
        let (mut bytes, mut writes, mut batches) = (0, 0, 0);
        let mut jobs = Vec::new();
        while let Some((_, job)) = self.jobs.front() {
            bytes += job.bytes();
            writes += job.writes();
            if !jobs.is_empty() && (bytes > GROUP_MAX_BYTES || writes > GROUP_MAX_WRITES) {
                break;
            }
            if let Some((_, job)) = self.jobs.pop_front() {
                self.bytes -= job.bytes();
                self.writes -= job.writes();
                batches += usize::from(matches!(job, Job::Batch(_)));
                self.calls -= usize::from(matches!(job, Job::Call(_)));
                jobs.push(job);
            }
        }
        self.latest_since = None;
        self.batches -= batches;
        self.in_flight = since.map(|since| (batches, since));
        Group { jobs, latest: std::mem::take(&mut self.latest) }
    }

    /// Another process holds the write lock. Takes out the reads that need not wait for it, and, when it has lasted longer
    /// than they wait, the calls.
    pub(crate) fn wait_for_lock(&mut self, now: Instant) -> (Vec<Read>, Vec<Box<dyn Call>>) {
        let mut wait = self.lock_wait.take().unwrap_or_else(|| LockWait::new(now));
        let mut reads = Vec::new();
        for (since, job) in self.jobs.split_off(wait.looked_at) {
            match job {
                Job::Read(read) if wait.pending.leaves(&read) => reads.push(read),
                job => {
                    if let Job::Batch(batch) = &job {
                        wait.pending.note(batch);
                    }
                    self.jobs.push_back((since, job));
                }
            }
        }
        for read in &reads {
            self.bytes -= read.bytes();
            self.writes -= read.writes();
        }
        let mut calls = Vec::new();
        if self.calls > 0 && now.saturating_duration_since(wait.since) >= self.lock_patience {
            for (since, job) in std::mem::take(&mut self.jobs) {
                match job {
                    Job::Call(call) => calls.push(call),
                    job => self.jobs.push_back((since, job)),
                }
            }
            self.calls = 0;
            self.writes -= calls.len();
        }
        wait.looked_at = self.jobs.len();
        self.lock_wait = Some(wait);
        (reads, calls)
    }

    /// These reads have to wait for the lock all the same. Nothing that is queued changes what they find.
    pub(crate) fn put_back(&mut self, reads: Vec<Read>, now: Instant) {
        if let Some(wait) = &mut self.lock_wait {
            wait.looked_at += reads.len();
        }
        for read in reads.into_iter().rev() {
            self.bytes += read.bytes();
            self.writes += read.writes();
            self.jobs.push_front((now, Job::Read(read)));
        }
    }

    /// Nothing waits for the lock any more.
    pub(crate) fn end_lock_wait(&mut self) {
        self.lock_wait = None;
    }

    /// For how long a lock has been waited for; `None`: none is.
    pub(crate) fn lock_wait(&self, now: Instant) -> Option<Duration> {
        self.lock_wait.as_ref().map(|wait| now.saturating_duration_since(wait.since))
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let fills = |used: usize, most: usize| used >= most - most / 4;
        Pressure {
            is_locked: self.lock_wait.is_some(),
            is_filling: fills(self.bytes, self.max_bytes) || fills(self.writes, self.max_writes),
        }
    }

    /// The group is on disk.
    pub(crate) fn committed(&mut self) {
        self.in_flight = None;
    }

    /// The group failed: returns every job queued since, to fail after it.
    pub(crate) fn failed(&mut self, latest: Latest, now: Instant) -> Vec<Job> {
        self.lock_wait = None;
        self.in_flight = None;
        self.failures += 1;
        if !latest.is_empty() {
            self.latest_since.get_or_insert(now);
        }
        self.latest.put_back(latest);
        (self.bytes, self.writes, self.batches, self.calls) = (0, 0, 0, 0);
        self.jobs.drain(..).map(|(_, job)| job).collect()
    }

    /// Batches that wait or are being written.
    pub(crate) fn depth(&self) -> usize {
        self.batches + self.in_flight.map_or(0, |(batches, _)| batches)
    }

    /// Age of the oldest piece of work that is not on disk.
    pub(crate) fn oldest_age(&self, now: Instant) -> Duration {
        let in_flight = self.in_flight.map(|(_, since)| since);
        let oldest = [in_flight, self.waiting_since()].into_iter().flatten().min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Write;

    fn queue() -> Queue {
        Queue::new(&Options::default())
    }

    fn job(token: u64) -> Job {
        Job::Batch(Batch { token, session_id: "s".into(), writes: vec![Write::ForgetServerChain] })
    }

    fn tokens(jobs: &[Job]) -> Vec<u64> {
        jobs.iter().map(|job| if let Job::Batch(batch) = job { batch.token } else { 0 }).collect()
    }

    #[test]
    fn age_is_that_of_the_oldest_until_it_is_on_disk() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut queue = queue();
        assert_eq!(queue.oldest_age(at(9)), Duration::ZERO);
        queue.push(job(1), queue.failures, at(0)).map_err(|(_, e)| e).unwrap();
        queue.push(job(2), queue.failures, at(1)).map_err(|(_, e)| e).unwrap();
        assert_eq!(queue.oldest_age(at(3)), Duration::from_secs(3));
        let group = queue.take_group();
        assert_eq!((tokens(&group.jobs), queue.depth()), (vec![1, 2], 2));
        queue.push(job(3), queue.failures, at(4)).map_err(|(_, e)| e).unwrap();
        assert_eq!(queue.oldest_age(at(5)), Duration::from_secs(5), "in flight counts");
        queue.committed();
        assert_eq!((queue.oldest_age(at(5)), queue.depth()), (Duration::from_secs(1), 1));
    }

    #[test]
    fn what_comes_after_a_pause_is_written_at_once_and_what_comes_soon_waits_for_company() {
        let gather = Duration::from_millis(2);
        let committed_at = Instant::now();
        let at = |ms: u64| committed_at + Duration::from_millis(ms);
        let due = |came_at, job| {
            let mut queue = queue();
            queue.push(job, 0, came_at).map_err(|(_, e)| e).unwrap();
            queue.due_at(gather, committed_at).unwrap()
        };
        assert_eq!(queue().due_at(gather, committed_at), None);
        assert!(due(at(50), job(1)) <= at(50), "nobody else comes");
        assert_eq!(due(at(1), job(1)), at(2), "others came lately");
        let during_the_last = committed_at - Duration::from_millis(1);
        assert_eq!(due(during_the_last, job(1)), at(1), "no longer than that, whatever the disk takes");
    }

    #[test]
    fn a_question_waits_for_nobody_but_the_writes_before_it() {
        let (now, gather) = (Instant::now(), Duration::from_millis(2));
        let question = || Job::Read(Read::Records { session_id: "s".into(), token: 9, keys: Vec::new() });
        let mut queue = queue();
        queue.push(question(), 0, now).map_err(|(_, e)| e).unwrap();
        assert_eq!(queue.due_at(gather, now), Some(now));
        queue.push(job(1), 0, now).map_err(|(_, e)| e).unwrap();
        assert_eq!(queue.due_at(gather, now), Some(now + gather));
        queue.take_group();
        queue.put_meta("k".into(), "v".into(), now);
        queue.push(question(), 0, now).map_err(|(_, e)| e).unwrap();
        assert_eq!(queue.due_at(gather, now), Some(now + gather), "a value is a write");
    }

    #[test]
    fn failure_gives_back_what_came_behind_and_keeps_the_newest_values() {
        let now = Instant::now();
        let mut queue = queue();
        queue.put_policy("a".into(), "old".into(), now);
        queue.put_policy("b".into(), "old".into(), now);
        queue.push(job(1), queue.failures, now).map_err(|(_, e)| e).unwrap();
        let group = queue.take_group();
        queue.put_policy("a".into(), "new".into(), now);
        queue.push(job(2), queue.failures, now).map_err(|(_, e)| e).unwrap();
        assert_eq!(tokens(&queue.failed(group.latest, now)), [2]);
        assert_eq!((queue.depth(), queue.has_jobs()), (0, false));
        let policies: Vec<_> = queue.take_group().latest.policies.into_iter().collect();
        assert_eq!(policies, [("a".into(), "new".into()), ("b".into(), "old".into())]);
    }

    #[test]
    fn space_is_free_again_after_taking_and_after_failing() {
        let now = Instant::now();
        let mut queue = Queue::new(&Options { max_queued_writes: 2, ..Options::default() });
        for _ in 0..2 {
            assert!(queue.push(job(1), queue.failures, now).is_ok());
            assert!(queue.push(job(2), queue.failures, now).is_ok());
            assert!(queue.push(job(3), queue.failures, now).is_err());
            queue.take_group();
            queue.committed();
            assert!(queue.push(job(4), queue.failures, now).is_ok());
            queue.failed(Latest::default(), now);
        }
    }

    /// Else it would be committed on top of changes that the failed one did not make.
    #[test]
    fn a_batch_made_before_its_maker_learned_of_a_failure_is_refused() {
        let now = Instant::now();
        let mut queue = queue();
        assert!(queue.push(job(1), 0, now).is_ok());
        queue.take_group();
        queue.failed(Latest::default(), now);
        let refused = queue.push(job(2), 0, now).map_err(|(_, error)| error.kind);
        assert_eq!(refused, Err(ErrorKind::Behind));
        assert!(queue.push(Job::Read(Read::Device { session_id: "s".into(), token: 3 }), 0, now).is_ok());
        assert!(queue.push(job(4), 1, now).is_ok());
    }

    #[test]
    fn group_is_bounded_and_keeps_the_order() {
        let now = Instant::now();
        let mut queue = queue();
        for token in 0..GROUP_MAX_WRITES as u64 + 3 {
            assert!(queue.push(job(token), 0, now).is_ok());
        }
        assert!(queue.group_is_full());
        assert_eq!(queue.take_group().jobs.len(), GROUP_MAX_WRITES);
        assert_eq!(tokens(&queue.take_group().jobs), [8192, 8193, 8194]);
    }
}
