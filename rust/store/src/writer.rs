//! The writer thread: gathers what waits, commits it as one transaction, answers in submit order.
//!
//! A commit that fails takes everything down with it that was queued behind it, in order: those batches were
//! made on top of changes that do not exist. Then the store takes work again. Policies and meta values are
//! different: only their newest value matters, so they are kept and tried again until they are on disk.
//!
//! A lock that another process holds on the database fails nothing (docs/decisions/0016): the writer takes nothing out of
//! the queue before it has the lock, and meanwhile answers the reads that nothing in the queue changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::queue::{Group, Job, Latest, Read};
use crate::record::{Applied, Batch, Completion, Device, RecordKey, SignalRecord, Write};
use crate::shared::{Shared, lock, now_unix_ms};
use crate::{
    DeviceError, ErrorKind, Options, StoreError, ciphertext, dead_letter, inbox, outbox, sessions,
    signal_record,
};

/// Between two searches for confirmed messages to remove.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// What a probe for space writes, bytes: more than one message, less than a second of traffic.
const PROBE_BYTES: u32 = 64 * 1024;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    options: Options,
    /// When the last transaction ended.
    committed_at: Instant,
    /// Set by a failed commit: no unasked work before.
    retry_at: Option<Instant>,
    prune_at: Instant,
}

/// Ends the process when the writer ends by a panic: nothing would be committed or answered any more.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, connection: Connection, options: Options) -> Self {
        let now = Instant::now();
        Self { shared, connection, options, committed_at: now, retry_at: None, prune_at: now }
    }

    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _guard = AbortOnPanic;
        while self.wait_for_work() {
            self.write();
            self.limit_wal(self.options.wal_limit_bytes);
            self.prune();
        }
        self.limit_wal(1);
    }

    /// Waits until there is a group to write, or it is time to probe or to prune. False: closed and empty.
    fn wait_for_work(&self) -> bool {
        let mut queue = lock(&self.shared.queue);
        loop {
            let now = Instant::now();
            let may_retry = self.retry_at.is_none_or(|at| at <= now);
            let wait_until = if queue.has_jobs() || (!queue.latest.is_empty() && (may_retry || queue.closing))
            {
                let due_at = queue.due_at(self.options.group_commit, self.committed_at).unwrap_or(now);
                if queue.closing || queue.group_is_full() || due_at <= now {
                    return true;
                }
                due_at
            } else if queue.closing {
                return false;
            } else if let Some(at) = self.retry_at {
                if at <= now {
                    return true;
                }
                at
            } else if self.prune_at <= now {
                return true;
            } else {
                self.prune_at
            };
            let waited = self.shared.wake.wait_timeout(queue, wait_until.saturating_duration_since(now));
            queue = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    fn write(&mut self) {
        if !lock(&self.shared.queue).has_work() && self.retry_at.is_none() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let meters = &shared.meters;
        let mut group = Group::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.commit(&mut group))).unwrap_or_else(|_| {
            Err(StoreError::new(ErrorKind::Io, "the writer panicked; its transaction is undone"))
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(rows)) => {
                let (is_probe, writes) = (group.jobs.is_empty(), !group.only_asks());
                meters.commits.fetch_add(u64::from(writes), Ordering::Relaxed);
                if writes {
                    self.committed_at = Instant::now();
                }
                lock(&self.shared.queue).committed();
                let recovered = self.retry_at.is_some() && (is_probe || self.has_room());
                if recovered {
                    self.retry_at = None;
                    meters.disk_full.store(false, Ordering::Relaxed);
                }
                self.answer(group.jobs, &Ok(rows), recovered);
            }
            Err(error) => {
                meters.on_error(&error);
                self.retry_at = Some(Instant::now() + self.options.retry_every);
                if error.kind == ErrorKind::DiskFull {
                    self.prune_at = Instant::now(); // confirmed messages make room first
                }
                let mut queue = lock(&self.shared.queue);
                let latest = if queue.closing { Latest::default() } else { group.latest };
                group.jobs.extend(queue.failed(latest, Instant::now()));
                drop(queue);
                self.answer(group.jobs, &Err(error), false);
            }
        }
    }

    /// Begins a transaction. While another process has the lock for it, everything stays queued, and what need not wait
    /// does not; `None` when that was all.
    ///
    /// Errors: `busy` when the store is being closed meanwhile.
    fn begin(&self) -> Result<Option<Transaction<'_>>, StoreError> {
        if self.shared.meters.damaged.load(Ordering::Relaxed) {
            return Err(damaged_in_use());
        }
        let mut closing_since = None;
        loop {
            // SQLite waits a little by itself (`busy_timeout`).
            let begun = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
            let error = match begun.map_err(StoreError::from) {
                Err(error) if error.kind == ErrorKind::Busy => error,
                begun => return begun.map(Some),
            };
            let now = Instant::now();
            let mut queue = lock(&self.shared.queue);
            let (reads, calls) = queue.wait_for_lock(now);
            let held = queue.lock_wait(now).unwrap_or_default();
            if queue.closing {
                let patience = self.options.lock_patience_at_close;
                if now.saturating_duration_since(*closing_since.get_or_insert(now)) >= patience {
                    queue.put_back(reads, now);
                    return Err(error);
                }
            }
            drop(queue);
            self.answer_ahead(reads);
            for call in calls {
                call.reply(Err(StoreError::busy(held)));
            }
            let mut queue = lock(&self.shared.queue);
            if !queue.has_work() && self.retry_at.is_none() {
                queue.end_lock_wait();
                return Ok(None);
            }
        }
    }

    /// Answers reads while the lock is waited for; those that have something to write wait with the others.
    fn answer_ahead(&self, reads: Vec<Read>) {
        let (mut completions, mut held) = (Vec::new(), Vec::new());
        for read in reads {
            match self.read_only(&read) {
                Some(completion) => completions.push(completion),
                None => held.push(read),
            }
        }
        if !held.is_empty() {
            lock(&self.shared.queue).put_back(held, Instant::now());
        }
        if !completions.is_empty() {
            self.shared.complete(completions);
        }
    }

    /// What a read finds. `None`: damage, which is to be quarantined, or a failure.
    fn read_only(&self, read: &Read) -> Option<Completion> {
        match read {
            Read::Device { session_id, token } => {
                let result = match sessions::device(&self.connection, session_id) {
                    Ok(Ok(device)) => Ok(device),
                    Ok(Err(_)) | Err(DeviceError::Store(_)) => return None,
                    Err(error) => Err(error),
                };
                Some(Completion::Device { token: *token, result: Box::new(result) })
            }
            Read::Records { session_id, token, keys } => {
                let records =
                    keys.iter().map(|key| match signal_record::find(&self.connection, session_id, key) {
                        Ok(signal_record::Found::Nothing) => Some(None),
                        Ok(signal_record::Found::Record(record)) => Some(Some(record)),
                        Ok(signal_record::Found::Damaged) | Err(_) => None,
                    });
                let records = records.collect::<Option<Vec<_>>>()?;
                Some(Completion::Records { token: *token, result: Ok(records) })
            }
            Read::Ciphertexts { session_id, token, after_seq, n } => {
                let rows = ciphertext::take(&self.connection, session_id, *after_seq, *n).ok()?;
                Some(Completion::Ciphertexts { token: *token, result: Ok(rows) })
            }
        }
    }

    /// Commits the next group, which is taken from the queue once nothing but the disk can refuse it; returns for each job
    /// what it changed in the inbox, or why it alone was refused. `None`: there was nothing to commit after all.
    fn commit(&self, group: &mut Group) -> Result<Option<Vec<Result<Applied, StoreError>>>, StoreError> {
        let Some(begun) = self.begin().transpose() else { return Ok(None) };
        *group = lock(&self.shared.queue).take_group();
        let (transaction, started) = (begun?, Instant::now());
        let mut rows = Vec::with_capacity(group.jobs.len());
        for job in &mut group.jobs {
            let result = match job {
                Job::Batch(batch) => inbox::apply(&transaction, &batch.session_id, &batch.writes),
                Job::Call(call) => {
                    in_savepoint(&transaction, |connection| call.run(connection)).map(|()| Applied::default())
                }
                Job::Read(_) => Ok(Applied::default()),
            };
            match result {
                Err(error) if error.kind.ends_the_group() => return Err(error),
                result => rows.push(result),
            }
        }
        for (session_id, json) in &group.latest.policies {
            sessions::set_policy(&transaction, session_id, json)?;
        }
        for (key, value) in &group.latest.meta {
            sessions::set_meta(&transaction, key, value)?;
        }
        if self.retry_at.is_some() && group.jobs.is_empty() {
            probe(&transaction)?;
        }
        transaction.commit()?;
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.meters.last_commit_us.store(took_us, Ordering::Relaxed);
        Ok(Some(rows))
    }

    /// Whether a message would fit. A group that was committed says little of that: what is read or confirmed fits on
    /// a full disk as well.
    fn has_room(&mut self) -> bool {
        let probed = in_savepoint(&self.connection, probe);
        if let Err(error) = &probed {
            self.shared.meters.on_error(error);
            self.retry_at = Some(Instant::now() + self.options.retry_every);
        }
        probed.is_ok()
    }

    /// Answers in submit order, after the transaction, and signals once.
    fn answer(
        &self,
        jobs: Vec<Job>,
        outcome: &Result<Vec<Result<Applied, StoreError>>, StoreError>,
        recovered: bool,
    ) {
        let meters = &self.shared.meters;
        let mut completions = Vec::with_capacity(jobs.len() + usize::from(recovered));
        for (index, job) in jobs.into_iter().enumerate() {
            match job {
                Job::Read(Read::Device { session_id, token }) => {
                    let result = Box::new(self.device(&session_id));
                    if let Err(DeviceError::Store(error)) = &*result {
                        self.note_damage(error);
                    }
                    completions.push(Completion::Device { token, result });
                }
                // What is read behind a transaction that failed would be older than what it was made on.
                Job::Read(Read::Records { session_id, token, keys }) => {
                    let result =
                        outcome.as_ref().map_err(Clone::clone).and_then(|_| self.records(&session_id, &keys));
                    if let Err(error) = &result {
                        self.note_damage(error);
                    }
                    completions.push(Completion::Records { token, result });
                }
                Job::Read(Read::Ciphertexts { session_id, token, after_seq, n }) => {
                    let result = outcome
                        .as_ref()
                        .map_err(Clone::clone)
                        .and_then(|_| ciphertext::take(&self.connection, &session_id, after_seq, n));
                    if let Err(error) = &result {
                        self.note_damage(error);
                    }
                    completions.push(Completion::Ciphertexts { token, result });
                }
                Job::Call(call) => call.reply(outcome.as_ref().map(|_| ()).map_err(Clone::clone)),
                Job::Batch(batch) => {
                    let result = match outcome {
                        Ok(rows) => rows.get(index).cloned().unwrap_or_else(|| Ok(Applied::default())),
                        Err(error) => Err(error.clone()),
                    };
                    completions.push(match result {
                        Ok(applied) => {
                            let rows = u64::from(applied.inbox_rows);
                            meters.batches.fetch_add(1, Ordering::Relaxed);
                            meters.inbox_rows.fetch_add(rows, Ordering::Relaxed);
                            meters.inbox_pending.fetch_add(rows, Ordering::Relaxed);
                            meters.inbox_pending.fetch_sub(u64::from(applied.superseded), Ordering::Relaxed);
                            self.count_dead_letters(&batch);
                            Completion::Committed { token: batch.token, applied }
                        }
                        Err(error) => {
                            meters.failed.fetch_add(1, Ordering::Relaxed);
                            Completion::Failed { token: batch.token, error }
                        }
                    });
                }
            }
        }
        completions.extend(recovered.then_some(Completion::Recovered));
        self.shared.complete(completions);
    }

    /// A read failed. Of a torn page no later read succeeds either: only a restart, which salvages, helps whoever asks.
    fn note_damage(&self, error: &StoreError) {
        if error.kind == ErrorKind::Damaged {
            self.shared.meters.on_error(error);
        }
    }

    /// After the commit: which of the batch's dead letters found room.
    fn count_dead_letters(&self, batch: &Batch) {
        for write in &batch.writes {
            let Write::DeadLetter { sender, message_id, .. } = write else { continue };
            let connection = &self.connection;
            let counted =
                dead_letter::is_kept(connection, &batch.session_id, sender, message_id).and_then(|is_kept| {
                    let meters = &self.shared.meters;
                    meters.dead_letters_dropped.fetch_add(u64::from(!is_kept), Ordering::Relaxed);
                    meters.dead_letters.store(dead_letter::count(connection)?, Ordering::Relaxed);
                    Ok(())
                });
            if let Err(error) = counted {
                self.shared.meters.on_error(&error);
            }
        }
    }

    /// Reads Signal records; damaged ones are quarantined before they are answered as missing.
    fn records(&self, session_id: &str, keys: &[RecordKey]) -> Result<Vec<Option<SignalRecord>>, StoreError> {
        keys.iter()
            .map(|key| match signal_record::find(&self.connection, session_id, key)? {
                signal_record::Found::Nothing => Ok(None),
                signal_record::Found::Record(record) => Ok(Some(record)),
                signal_record::Found::Damaged => {
                    let name = (key.kind.to_owned(), key.id.clone());
                    in_savepoint(&self.connection, |connection| {
                        sessions::quarantine_key(connection, session_id, &name, now_unix_ms())
                    })?;
                    Ok(None)
                }
            })
            .collect()
    }

    /// Reads a device; a damaged one is quarantined before it is answered.
    fn device(&self, session_id: &str) -> Result<Device, DeviceError> {
        match sessions::device(&self.connection, session_id)? {
            Ok(device) => Ok(device),
            Err(why) => {
                let kept = in_savepoint(&self.connection, |connection| {
                    sessions::quarantine_device(connection, session_id, &why, now_unix_ms())
                });
                if let Err(error) = kept {
                    self.shared.meters.on_error(&error);
                }
                Err(DeviceError::Quarantined(why))
            }
        }
    }

    /// Copies the log back and cuts it when it is large. After the answers, so that no message waits for it.
    fn limit_wal(&mut self, limit_bytes: u64) {
        if self.shared.measure_wal() < limit_bytes || self.shared.meters.damaged.load(Ordering::Relaxed) {
            return;
        }
        // A reader in the middle of a query makes this a partial copy ("busy", no error); the next group tries again.
        match self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            Ok(()) => {
                self.shared.meters.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.shared.measure_wal();
            }
            Err(error) => self.upkeep_failed(&error.into()),
        }
    }

    /// Work that nobody asked for failed: a probe will say when the store is well again. A lock has only put it off.
    fn upkeep_failed(&mut self, error: &StoreError) {
        if error.kind == ErrorKind::Busy {
            return;
        }
        self.shared.meters.on_error(error);
        self.retry_at.get_or_insert_with(|| Instant::now() + self.options.retry_every);
    }

    /// Removes messages confirmed long ago, a bounded number at a time.
    fn prune(&mut self) {
        let now = Instant::now();
        if now < self.prune_at {
            return;
        }
        // Before anything else: a time that has passed and stays would keep the idle writer spinning.
        self.prune_at = now + PRUNE_EVERY;
        if self.shared.meters.damaged.load(Ordering::Relaxed) {
            return;
        }
        let now_unix_ms = now_unix_ms();
        let before =
            |keep: Duration| now_unix_ms.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        let (done, undelivered) = (before(self.options.keep_done), before(self.options.keep_undelivered));
        let mut removed = 0;
        let pruned = in_savepoint(&self.connection, |connection| {
            removed = inbox::prune(connection, done)?.max(outbox::prune(
                connection,
                done,
                undelivered,
                now_unix_ms,
            )?);
            connection.execute("DELETE FROM probe", [])?;
            Ok(())
        });
        match pruned {
            Ok(()) if removed >= inbox::PRUNE_MAX_ROWS.min(outbox::PRUNE_MAX_ROWS) => self.prune_at = now, // there may be more
            Ok(()) => {}
            Err(error) => self.upkeep_failed(&error),
        }
    }
}

/// Runs work that may be undone alone; may be used inside such work.
pub(crate) fn in_savepoint(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    connection.execute_batch("SAVEPOINT work")?;
    // The release of an outermost savepoint is a commit, and a full disk may show only there.
    let result =
        work(connection).and_then(|()| connection.execute_batch("RELEASE work").map_err(StoreError::from));
    match &result {
        Ok(()) => {}
        // SQLite may have rolled back everything itself (disk full, I/O error); then there is nothing to undo.
        Err(_) if connection.is_autocommit() => {}
        Err(_) => connection.execute_batch("ROLLBACK TO work; RELEASE work")?,
    }
    result
}

/// Writes a blob that `prune` removes: whether there is space again, when nobody else asks.
fn probe(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("INSERT OR REPLACE INTO probe VALUES (1, zeroblob(?1))", [PROBE_BYTES])?;
    Ok(())
}

fn damaged_in_use() -> StoreError {
    StoreError::new(
        ErrorKind::Damaged,
        "the store file is damaged and no longer written; restart: opening salvages what can be read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer without its thread, on a database in memory that has no tables.
    fn writer() -> Writer {
        let options = Options::default();
        let memory = || Connection::open_in_memory().unwrap();
        let wal = std::path::Path::new("/nonexistent/store.db-wal");
        let shared = Arc::new(Shared::new(&options, Arc::new(|| ()), memory(), wal));
        Writer::new(shared, memory(), options)
    }

    #[test]
    fn a_damaged_store_is_not_pruned_and_not_asked_again_at_once() {
        let mut writer = writer();
        writer.shared.meters.damaged.store(true, Ordering::Relaxed);
        writer.prune();
        assert!(writer.prune_at > Instant::now(), "an idle writer would spin");
    }

    /// Else every later transaction would be refused as one inside another, for ever.
    #[test]
    fn work_that_fails_at_its_release_leaves_no_transaction_open() {
        let memory = Connection::open_in_memory().unwrap();
        let tables = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);";
        memory.execute_batch(tables).unwrap();
        let orphan = |connection: &Connection| {
            connection.execute("INSERT INTO child VALUES (7)", []).map(|_| ()).map_err(StoreError::from)
        };
        assert!(in_savepoint(&memory, orphan).is_err(), "seen by the commit only");
        assert!(memory.is_autocommit());
        let rows: u32 = memory.query_row("SELECT count(*) FROM child", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn a_prune_that_fails_is_tried_again_like_a_commit_and_not_at_once() {
        let mut writer = writer();
        writer.prune();
        assert!(lock(&writer.shared.meters.last_error).is_some(), "there is no table to prune");
        assert!(writer.prune_at > Instant::now());
        assert!(writer.retry_at.is_some(), "a full disk is seen to be over by a probe");
    }
}
