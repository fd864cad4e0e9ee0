//! Sizes and times of the store.

use std::time::Duration;

/// How the store is run; the defaults suit 10,000 sessions on one disk.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the writer gathers more work after the first piece, or after its last fsync if that is earlier: fewer
    /// fsyncs against latency.
    pub group_commit: Duration,
    /// Most bytes that may wait; [`submit`](crate::Store::submit) answers `queue_full` beyond.
    pub max_queued_bytes: usize,
    /// Most writes that may wait: for smaller ones than bytes would bound.
    pub max_queued_writes: usize,
    /// The write-ahead log is copied back and cut when it is larger.
    pub wal_limit_bytes: u64,
    /// Largest size of the file; `disk_full` beyond. `None`: what the disk holds.
    pub max_file_bytes: Option<u64>,
    /// How long a message is kept after `done`, so that a re-sent one is recognised.
    pub keep_done: Duration,
    /// How long what was given up (a webhook's event, the application's message) is kept for a person.
    pub keep_undelivered: Duration,
    /// How long a blocking caller waits while another process holds the database's write lock.
    pub lock_patience: Duration,
    /// How long [`close`](crate::Store::close) waits for that lock before it gives up what is queued.
    pub lock_patience_at_close: Duration,
    /// How long after a failed commit the writer tries by itself, when nobody submits anything.
    pub retry_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group_commit: Duration::from_millis(2),
            max_queued_bytes: 64 * 1024 * 1024,
            max_queued_writes: 262_144,
            wal_limit_bytes: 8 * 1024 * 1024,
            max_file_bytes: None,
            keep_done: Duration::from_secs(24 * 60 * 60),
            keep_undelivered: Duration::from_secs(30 * 24 * 60 * 60),
            lock_patience: Duration::from_secs(5),
            lock_patience_at_close: Duration::from_secs(2),
            retry_every: Duration::from_secs(1),
        }
    }
}
