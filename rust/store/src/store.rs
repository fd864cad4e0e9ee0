//! The handle: what other threads may ask of the store.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::lock::Lock;
use crate::queue::{Call, Job, Pressure, Read};
use crate::record::{
    Batch, Completion, DeadLetter, Device, Exported, Health, Import, InboxMessage, OpenReport, Quarantined,
    RecordKey, SessionRow, SignalKey, Unread,
};
use crate::shared::{Shared, lock, now_unix_ms};
use crate::writer::Writer;
use crate::{
    Backlog, Delivery, DeviceError, Made, NewEvent, Options, Settled, StoreError, Undelivered, backup,
    dead_letter, inbox, open, outbox, sessions, unread,
};

type Result<T> = std::result::Result<T, StoreError>;

/// The one SQLite file of all sessions, held under a lock by this process.
///
/// Clones are handles to the same store. `submit`, `request_device`, `put_policy`, `put_meta`, `health` and
/// `drain_completions` never block on the disk; everything else may, and belongs on a thread that can wait. What has
/// to write waits no longer than [`lock_patience`](Options::lock_patience) for another process that holds the
/// database's write lock, and is refused then (`busy`).
/// The file is closed by [`close`](Self::close), or when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<(JoinHandle<()>, Lock)>>,
    path: PathBuf,
}

impl Store {
    /// Opens or creates the store, brings it up to date, and sets aside what is damaged.
    ///
    /// `notify` is called from the writer thread when completions are ready, once for each group; it must not
    /// block and not call the store's blocking functions.
    ///
    /// Errors: `locked`, `newer_schema`, `damaged` (nothing could be read; the file is kept as it is),
    /// `disk_full`, `io`.
    pub fn open(
        path: impl AsRef<Path>,
        options: Options,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(Self, OpenReport)> {
        let opened = open::open(path.as_ref(), &options)?;
        let shared = Arc::new(Shared::new(&options, notify.into(), opened.reader, &opened.wal));
        shared.meters.inbox_pending.store(inbox::pending(&opened.writer)?, Ordering::Relaxed);
        shared.meters.dead_letters.store(dead_letter::count(&opened.writer)?, Ordering::Relaxed);
        let writer = Writer::new(Arc::clone(&shared), opened.writer, options);
        let thread = thread::Builder::new()
            .name("runner-store".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::io("start the writer thread", &e))?;
        let path = path.as_ref().to_owned();
        let inner = Inner { shared, writer: Mutex::new(Some((thread, opened.lock))), path };
        Ok((Self { inner: Arc::new(inner) }, opened.report))
    }

    /// Replaces what is called when completions are ready, and calls it once.
    pub fn set_notify(&self, notify: Box<dyn Fn() + Send + Sync>) {
        let notify: crate::shared::Notify = notify.into();
        *lock(&self.inner.shared.notify) = Arc::clone(&notify);
        notify();
    }

    /// Queues a batch; its completion comes in submit order. Never blocks.
    ///
    /// Batches are made on top of each other by one submitter, who learns of failures from
    /// [`drain_completions`](Self::drain_completions): until it says that it knows of them
    /// ([`know_failures`](Self::know_failures)), its batches are refused (`behind`).
    ///
    /// Errors: `queue_full`, `behind` or `closed`; nothing of the batch was taken and no completion will come.
    pub fn submit(&self, batch: Batch) -> Result<()> {
        self.inner.shared.push(Job::Batch(batch)).map_err(|(_, error)| error)
    }

    /// Asks for a session's credentials; the answer is a [`Completion::Device`] in submit order, or earlier while a
    /// lock is waited for that nothing of it depends on. Never blocks.
    ///
    /// Errors: as [`submit`](Self::submit).
    pub fn request_device(&self, session_id: &str, token: u64) -> Result<()> {
        let job = Job::Read(Read::Device { session_id: session_id.into(), token });
        self.inner.shared.push(job).map_err(|(_, error)| error)
    }

    /// Asks for Signal records of a session; the answer is a [`Completion::Records`] in order as that of
    /// [`request_device`](Self::request_device), and sees what was submitted before. Never blocks.
    ///
    /// Errors: as [`submit`](Self::submit).
    pub fn request_records(&self, session_id: &str, token: u64, keys: Vec<RecordKey>) -> Result<()> {
        let job = Job::Read(Read::Records { session_id: session_id.into(), token, keys });
        self.inner.shared.push(job).map_err(|(_, error)| error)
    }

    /// Asks for the oldest `n` unconfirmed messages of a session after `after_seq` that an earlier version did not
    /// decrypt; the answer is a [`Completion::Ciphertexts`] in submit order. Never blocks.
    ///
    /// Errors: as [`submit`](Self::submit).
    pub fn request_ciphertexts(&self, session_id: &str, token: u64, after_seq: u64, n: usize) -> Result<()> {
        let job = Job::Read(Read::Ciphertexts { session_id: session_id.into(), token, after_seq, n });
        self.inner.shared.push(job).map_err(|(_, error)| error)
    }

    /// Appends what was completed since the last call, in submit order. Returns how many transactions have failed by
    /// then, for [`know_failures`](Self::know_failures).
    pub fn drain_completions(&self, into: &mut Vec<Completion>) -> u64 {
        let shared = &self.inner.shared;
        let mut completions = lock(&shared.completions);
        into.append(&mut completions.waiting);
        completions.failures
    }

    /// Whoever makes batches has taken in everything up to these failures: what it submits from here on does not stand
    /// on a change that failed.
    pub fn know_failures(&self, failures: u64) {
        self.inner.shared.known_failures.fetch_max(failures, Ordering::AcqRel);
    }

    /// Queues the policy state of a session (JSON); the newest wins, and is tried again until it is on disk.
    /// One for an unknown session is dropped: a late write does not bring back a deleted session.
    pub fn put_policy(&self, session_id: impl Into<String>, json: impl Into<String>) {
        let shared = &self.inner.shared;
        lock(&shared.queue).put_policy(session_id.into(), json.into(), Instant::now());
        shared.wake.notify_one();
    }

    /// Queues a fleet-wide value; otherwise as [`put_policy`](Self::put_policy).
    pub fn put_meta(&self, key: impl Into<String>, value: impl Into<String>) {
        let shared = &self.inner.shared;
        lock(&shared.queue).put_meta(key.into(), value.into(), Instant::now());
        shared.wake.notify_one();
    }

    /// How the queue stands. Never blocks.
    pub fn pressure(&self) -> Pressure {
        lock(&self.inner.shared.queue).pressure()
    }

    /// A snapshot of how the store does.
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// All sessions, by id. Blocking.
    pub fn sessions(&self) -> Result<Vec<SessionRow>> {
        self.read(sessions::list)
    }

    /// All committed policies `(session_id, json)`. Blocking.
    pub fn policies(&self) -> Result<Vec<(String, String)>> {
        self.read(|c| sessions::pairs(c, "SELECT session_id, json FROM policy ORDER BY session_id"))
    }

    /// All committed fleet-wide values `(key, value)`. Blocking.
    pub fn meta(&self) -> Result<Vec<(String, String)>> {
        self.read(|c| sessions::pairs(c, "SELECT key, value FROM meta ORDER BY key"))
    }

    /// The credentials of a session. Blocking. A row found damaged is quarantined first.
    pub fn device(&self, session_id: &str) -> std::result::Result<Device, DeviceError> {
        match self.read(|c| Ok(sessions::device(c, session_id)))?? {
            Ok(device) => Ok(device),
            Err(why) => {
                let (id, reason) = (session_id.to_owned(), why.clone());
                self.call(move |c| sessions::quarantine_device(c, &id, &reason, now_unix_ms()))?;
                Err(DeviceError::Quarantined(why))
            }
        }
    }

    /// A new session without a device: a phone is to link one ([`Write::Device`](crate::Write::Device)). Blocking.
    ///
    /// Errors: `exists` when the id is taken.
    pub fn create(&self, session_id: &str) -> Result<()> {
        let id = session_id.to_owned();
        self.call(move |c| sessions::create(c, &id, now_unix_ms()))
    }

    /// Moves the unlinked (archived) device of a session aside, so that a phone can link another. Blocking.
    /// A session without a device stays as it is.
    ///
    /// Errors: `unknown_session`; `exists` when the device is not known to be unlinked.
    pub fn set_aside(&self, session_id: &str) -> Result<()> {
        let id = session_id.to_owned();
        self.call(move |c| sessions::set_aside(c, &id, now_unix_ms()))
    }

    /// Takes over a device and its Signal keys, all or nothing. Blocking.
    ///
    /// Errors: `exists` when the id is taken or another session holds the same device.
    pub fn import(&self, import: Import) -> Result<()> {
        self.call(move |c| sessions::import(c, &import, now_unix_ms()))
    }

    /// Takes over many devices in one transaction, each whole or not at all; the outcomes are in their order.
    /// One that is refused (`exists`, as for [`import`](Self::import)) leaves the others alone. Blocking.
    ///
    /// Errors: the transaction failed (`disk_full`, `io`, `damaged`, `closed`); no device was taken.
    pub fn import_all(&self, imports: Vec<Import>) -> Result<Vec<Result<()>>> {
        self.call(move |c| sessions::import_all(c, &imports, now_unix_ms()))
    }

    /// All readable Signal keys of a session that are still as they were imported. Blocking. Damaged ones are quarantined first, and missing here.
    pub fn signal_keys(&self, session_id: &str) -> Result<Vec<SignalKey>> {
        let scan = self.read(|c| sessions::signal_keys(c, session_id))?;
        if !scan.damaged.is_empty() {
            let (id, damaged) = (session_id.to_owned(), scan.damaged);
            self.call(move |c| {
                damaged.iter().try_for_each(|key| sessions::quarantine_key(c, &id, key, now_unix_ms()))
            })?;
        }
        Ok(scan.good)
    }

    /// All that a session's device is, for another program. Blocking. A message under way is not in it: stop the session,
    /// and flush, first.
    ///
    /// Errors: `unknown_session`, `not_linked`, `quarantined`.
    pub fn export(&self, session_id: &str) -> Result<Exported> {
        self.read(|c| sessions::export(c, session_id))
    }

    /// Copies the store as it is at this moment into `file`, mode 0600, while it is in use. Blocking, for as long as the
    /// copy takes; nobody else waits for it. `version` is that of the program.
    ///
    /// Errors: `exists`, `disk_full`, `io`; there is no `file` then.
    pub fn backup(&self, file: &Path, version: &str) -> Result<Made> {
        if lock(&self.inner.writer).is_none() {
            return Err(StoreError::closed());
        }
        backup::backup(&self.inner.path, file, version)
    }

    /// Marks the credentials as logged out; they are kept. Blocking.
    pub fn archive(&self, session_id: &str, why: &str) -> Result<()> {
        let (id, why) = (session_id.to_owned(), why.to_owned());
        self.call(move |c| sessions::archive(c, &id, &why, now_unix_ms()))
    }

    /// The device logged in after all: its credentials are in use again. Blocking.
    pub fn unarchive(&self, session_id: &str) -> Result<()> {
        let id = session_id.to_owned();
        self.call(move |c| sessions::unarchive(c, &id))
    }

    /// Removes a session on the operator's request; its credentials and keys move to the archive. Blocking.
    /// Messages that wait in the inbox stay: they were answered and are the consumer's.
    pub fn delete(&self, session_id: &str) -> Result<()> {
        let id = session_id.to_owned();
        self.call(move |c| sessions::delete(c, &id, now_unix_ms()))
    }

    /// What was set aside, oldest first. Blocking.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        self.read(sessions::quarantined)
    }

    /// The oldest unconfirmed messages after `after_seq`, at most `n`. Blocking.
    pub fn take(&self, after_seq: u64, n: usize) -> Result<Vec<InboxMessage>> {
        self.read(|c| inbox::take(c, after_seq, n))
    }

    /// The same, of one session and chat. Blocking.
    pub fn take_of_chat(
        &self,
        session_id: &str,
        chat: &str,
        after_seq: u64,
        n: usize,
    ) -> Result<Vec<InboxMessage>> {
        self.read(|c| inbox::take_of_chat(c, session_id, chat, after_seq, n))
    }

    /// The message that one of `senders` wrote in a chat under this id; confirmed ones as long as they are remembered.
    /// `None` also for one that was not read. Blocking.
    pub fn find(
        &self,
        session_id: &str,
        chat: &str,
        senders: &[String],
        message_id: &str,
    ) -> Result<Option<InboxMessage>> {
        self.read(|c| inbox::find(c, session_id, chat, senders, message_id))
    }

    /// Confirms messages; returns how many were waiting. Blocking; on return it survives power loss.
    pub fn done(&self, seqs: &[u64]) -> Result<u64> {
        let seqs = seqs.to_owned();
        let confirmed = self.call(move |c| inbox::done(c, &seqs, now_unix_ms()))?;
        self.inner.shared.meters.inbox_pending.fetch_sub(confirmed, Ordering::Relaxed);
        Ok(confirmed)
    }

    /// Posts events to the outbox and confirms messages, all or nothing; returns how many events were new. Blocking;
    /// on return it survives power loss. An event whose id is known is left as it is.
    pub fn post(&self, events: Vec<NewEvent>, done: &[u64]) -> Result<u64> {
        let done = done.to_owned();
        let (posted, confirmed) =
            self.call(move |c| Ok((outbox::post(c, &events)?, inbox::done(c, &done, now_unix_ms())?)))?;
        self.inner.shared.meters.inbox_pending.fetch_sub(confirmed, Ordering::Relaxed);
        Ok(posted)
    }

    /// The oldest deliveries of a webhook after `after_seq`, at most `n`. Blocking.
    pub fn deliveries(&self, webhook_id: &str, after_seq: u64, n: usize) -> Result<Vec<Delivery>> {
        self.read(|c| outbox::deliveries(c, webhook_id, after_seq, n))
    }

    /// The same, of one session and chat. Blocking.
    pub fn deliveries_of(
        &self,
        webhook_id: &str,
        session_id: &str,
        chat: &str,
        after_seq: u64,
        n: usize,
    ) -> Result<Vec<Delivery>> {
        self.read(|c| outbox::deliveries_of(c, webhook_id, (session_id, chat), after_seq, n))
    }

    /// Writes down what became of attempts to deliver. Blocking.
    pub fn settle(&self, settled: Settled) -> Result<()> {
        self.call(move |c| outbox::settle(c, &settled, now_unix_ms()))
    }

    /// Gives up messages `(seq, attempts, why)` that the application could not take; how many were waiting. Blocking.
    pub fn bury(&self, messages: Vec<(u64, u32, String)>) -> Result<u64> {
        let buried = self.call(move |c| outbox::bury(c, &messages, now_unix_ms()))?;
        self.inner.shared.meters.inbox_pending.fetch_sub(buried, Ordering::Relaxed);
        Ok(buried)
    }

    /// Messages that could not be read and wait since before this time, or that nobody expects any more, at most `n`.
    /// Blocking.
    pub fn unread(&self, before_unix_ms: u64, n: usize) -> Result<Vec<Unread>> {
        self.read(|c| unread::due(c, before_unix_ms, n))
    }

    /// Posts events to the outbox and gives up messages that could not be read, all or nothing; how many were waiting.
    /// One that is read later comes back from there. Blocking.
    pub fn give_up_unread(&self, events: Vec<NewEvent>, seqs: &[u64]) -> Result<u64> {
        let seqs = seqs.to_owned();
        let given_up = self.call(move |c| {
            outbox::post(c, &events)?;
            unread::give_up(c, &seqs, now_unix_ms())
        })?;
        self.inner.shared.meters.inbox_pending.fetch_sub(given_up, Ordering::Relaxed);
        Ok(given_up)
    }

    /// What was given up, oldest first, after `after_seq`, at most `n`; of one sink, or of all. Blocking.
    pub fn undelivered(&self, sink: Option<&str>, after_seq: u64, n: usize) -> Result<Vec<Undelivered>> {
        self.read(|c| outbox::undelivered(c, sink, after_seq, n))
    }

    /// Puts what was given up behind all that waits; `(messages, deliveries)` put back. Blocking.
    pub fn redrive(&self, seqs: &[u64]) -> Result<(u64, u64)> {
        let seqs = seqs.to_owned();
        let put_back = self.call(move |c| outbox::redrive(c, &seqs))?;
        self.inner.shared.meters.inbox_pending.fetch_add(put_back.0, Ordering::Relaxed);
        Ok(put_back)
    }

    /// Lets go of what was given up; how many there were. Blocking.
    pub fn discard(&self, seqs: &[u64]) -> Result<u64> {
        let seqs = seqs.to_owned();
        self.call(move |c| outbox::discard(c, &seqs, now_unix_ms()))
    }

    /// Every webhook's id and configuration (JSON), by id. Blocking.
    pub fn webhooks(&self) -> Result<Vec<(String, String)>> {
        self.read(outbox::webhooks)
    }

    /// Keeps the configuration of a webhook; the newest wins. Blocking.
    pub fn put_webhook(&self, webhook_id: &str, json: &str) -> Result<()> {
        let (id, json) = (webhook_id.to_owned(), json.to_owned());
        self.call(move |c| outbox::put_webhook(c, &id, &json))
    }

    /// Forgets a webhook; what waits for it is given up. Returns how much that was. Blocking.
    pub fn remove_webhook(&self, webhook_id: &str, why: &str) -> Result<u64> {
        let (id, why) = (webhook_id.to_owned(), why.to_owned());
        self.call(move |c| outbox::remove_webhook(c, &id, &why, now_unix_ms()))
    }

    /// Gives up what waits for webhooks that are none of `known`; how much that was. Blocking.
    pub fn give_up_unknown(&self, known: Vec<String>, why: &str) -> Result<u64> {
        let why = why.to_owned();
        self.call(move |c| outbox::give_up_unknown(c, &known, &why, now_unix_ms()))
    }

    /// How much waits and was given up, for each sink that has any. Blocking.
    pub fn backlog(&self) -> Result<Vec<Backlog>> {
        self.read(outbox::backlog)
    }

    /// The oldest dead letters after `after_seq`, at most `n`. Blocking. They stay until they are removed.
    pub fn take_dead_letters(&self, after_seq: u64, n: usize) -> Result<Vec<DeadLetter>> {
        self.read(|c| dead_letter::take(c, after_seq, n))
    }

    /// Removes dead letters; returns how many there were. Blocking.
    pub fn remove_dead_letters(&self, seqs: &[u64]) -> Result<u64> {
        let (seqs, shared) = (seqs.to_owned(), Arc::clone(&self.inner.shared));
        self.call(move |c| {
            let removed = dead_letter::remove(c, &seqs)?;
            // Here, where new ones are counted too, so that neither number overtakes the other.
            shared.meters.dead_letters.store(dead_letter::count(c)?, Ordering::Relaxed);
            Ok(removed)
        })
    }

    /// Waits until everything queued before is on disk; `false` when it took too long or failed.
    pub fn flush(&self, timeout: Duration) -> bool {
        let (work, answer) = Work::new(|_| Ok(()));
        let pushed = self.inner.shared.push(Job::Call(Box::new(work)));
        pushed.is_ok() && matches!(answer.recv_timeout(timeout), Ok(Ok(())))
    }

    /// Commits what is queued, copies the log back, closes the file and drops the lock. Blocking; a second call
    /// does nothing. Every later call answers `closed`.
    pub fn close(&self) {
        self.inner.close();
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let reader = lock(&self.inner.shared.reader);
        let result = work(reader.as_ref().ok_or_else(StoreError::closed)?);
        if let Err(error) = &result
            && error.kind == crate::ErrorKind::Damaged
        {
            self.inner.shared.meters.on_error(error);
        }
        result
    }

    /// Runs work on the writer, inside a group, and waits for the commit.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (work, answer) = Work::new(work);
        self.inner.shared.push(Job::Call(Box::new(work))).map_err(|(_, error)| error)?;
        answer.recv().unwrap_or_else(|_| Err(StoreError::closed()))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("wal", &self.inner.shared.wal).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        let Some((thread, lock_file)) = lock(&self.writer).take() else { return };
        lock(&self.shared.queue).closing = true;
        self.shared.wake.notify_one();
        // The reader goes first: the last connection to close copies the log back and removes it.
        lock(&self.shared.reader).take();
        if thread.thread().id() != thread::current().id() {
            // A panic of the writer ends the process; there is no other error to see here.
            let _ = thread.join();
        }
        drop(lock_file);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// A closure on its way to the writer, and its answer on the way back.
struct Work<F, T> {
    work: Option<F>,
    result: Option<Result<T>>,
    answer: mpsc::SyncSender<Result<T>>,
}

impl<F, T> Work<F, T>
where
    F: FnOnce(&Connection) -> Result<T> + Send,
    T: Send,
{
    fn new(work: F) -> (Self, mpsc::Receiver<Result<T>>) {
        let (answer, receiver) = mpsc::sync_channel(1);
        (Self { work: Some(work), result: None, answer }, receiver)
    }
}

impl<F, T> Call for Work<F, T>
where
    F: FnOnce(&Connection) -> Result<T> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let result = work(connection);
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.result = Some(result);
        outcome
    }

    fn reply(self: Box<Self>, group: Result<()>) {
        let Self { result, answer, .. } = *self;
        let result = group.and_then(|()| result.unwrap_or_else(|| Err(StoreError::closed())));
        // The caller may have stopped waiting.
        let _ = answer.send(result);
    }
}
