//! What the writer thread and the handles share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::queue::{Job, Queue};
use crate::record::{Completion, Health};
use crate::{ErrorKind, Options, StoreError};

/// Called from the writer thread when completions are ready.
pub(crate) type Notify = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Condvar,
    pub(crate) completions: Mutex<Completions>,
    /// Failures that the maker of batches knows of.
    pub(crate) known_failures: AtomicU64,
    pub(crate) notify: Mutex<Notify>,
    /// The second connection: readers do not wait for the writer's fsync, and cannot write.
    pub(crate) reader: Mutex<Option<Connection>>,
    pub(crate) meters: Meters,
    pub(crate) wal: PathBuf,
}

/// What was completed and not drained.
#[derive(Default)]
pub(crate) struct Completions {
    pub(crate) waiting: Vec<Completion>,
    /// Failures that are in there, or were.
    pub(crate) failures: u64,
}

/// The numbers behind [`Health`].
#[derive(Default)]
pub(crate) struct Meters {
    pub(crate) commits: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) inbox_rows: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) inbox_pending: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) dead_letters_dropped: AtomicU64,
    pub(crate) last_commit_us: AtomicU64,
    pub(crate) disk_full: AtomicBool,
    pub(crate) damaged: AtomicBool,
    pub(crate) last_error: Mutex<Option<String>>,
}

impl Meters {
    /// Remembers a failure and what it says about the file.
    pub(crate) fn on_error(&self, error: &StoreError) {
        match error.kind {
            ErrorKind::DiskFull => self.disk_full.store(true, Ordering::Relaxed),
            ErrorKind::Damaged => self.damaged.store(true, Ordering::Relaxed),
            _ => {}
        }
        *lock(&self.last_error) = Some(error.message.clone());
    }
}

impl Shared {
    pub(crate) fn new(options: &Options, notify: Notify, reader: Connection, wal: &Path) -> Self {
        Self {
            queue: Mutex::new(Queue::new(options)),
            wake: Condvar::new(),
            completions: Mutex::default(),
            known_failures: AtomicU64::new(0),
            notify: Mutex::new(notify),
            reader: Mutex::new(Some(reader)),
            meters: Meters::default(),
            wal: wal.to_owned(),
        }
    }

    /// Queues a job and wakes the writer when it sleeps (it gathers by itself once there is a job).
    pub(crate) fn push(&self, job: Job) -> Result<(), (Job, StoreError)> {
        let mut queue = lock(&self.queue);
        // Values that a failed commit put back do not keep it awake: it sleeps until their next try.
        let slept = !queue.has_jobs();
        queue.push(job, self.known_failures.load(Ordering::Acquire), Instant::now())?;
        if slept || queue.group_is_full() {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Appends completions in order and signals once.
    pub(crate) fn complete(&self, completions: Vec<Completion>) {
        let failures = lock(&self.queue).failures;
        let mut all = lock(&self.completions);
        all.failures = failures;
        all.waiting.extend(completions);
        if all.waiting.is_empty() {
            // A failure that concerns no batch.
            self.known_failures.fetch_max(failures, Ordering::AcqRel);
            return;
        }
        drop(all);
        let notify = Arc::clone(&lock(&self.notify));
        notify();
    }

    pub(crate) fn measure_wal(&self) -> u64 {
        let bytes = std::fs::metadata(&self.wal).map_or(0, |m| m.len());
        self.meters.wal_bytes.store(bytes, Ordering::Relaxed);
        bytes
    }

    pub(crate) fn health(&self) -> Health {
        let (queued, oldest_age, lock_wait) = {
            let (queue, now) = (lock(&self.queue), Instant::now());
            (queue.depth(), queue.oldest_age(now), queue.lock_wait(now))
        };
        let m = &self.meters;
        Health {
            queued,
            oldest_age_s: oldest_age.as_secs_f64(),
            lock_wait_s: lock_wait.unwrap_or_default().as_secs_f64(),
            commits_total: m.commits.load(Ordering::Relaxed),
            batches_total: m.batches.load(Ordering::Relaxed),
            inbox_rows_total: m.inbox_rows.load(Ordering::Relaxed),
            failed_total: m.failed.load(Ordering::Relaxed),
            checkpoints_total: m.checkpoints.load(Ordering::Relaxed),
            last_error: lock(&m.last_error).clone(),
            disk_full: m.disk_full.load(Ordering::Relaxed),
            damaged: m.damaged.load(Ordering::Relaxed),
            wal_bytes: m.wal_bytes.load(Ordering::Relaxed),
            inbox_pending: m.inbox_pending.load(Ordering::Relaxed),
            dead_letters: m.dead_letters.load(Ordering::Relaxed),
            dead_letters_dropped_total: m.dead_letters_dropped.load(Ordering::Relaxed),
            last_commit_s: Duration::from_micros(m.last_commit_us.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// Locks, also after a panic elsewhere: every value behind these locks is whole between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wall clock, Unix milliseconds.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
