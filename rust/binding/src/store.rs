//! The store for Python: opening, importing, the inbox. Blocking calls release the interpreter lock.

use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runner_store as store;
use runner_store::{Credentials, Import, Options, Secret32, SecretBytes, SignalKey};

use crate::moving::{BackupMade, ExportedDevice};
use crate::outbox::{Delivery, Posted, Undelivered, UnreadMessage, new_event};

create_exception!(_core, StoreError, PyException);

pub(crate) fn raise(error: store::StoreError) -> PyErr {
    StoreError::new_err((error.kind.slug(), error.message))
}

#[pyclass(frozen, module = "runner._core")]
struct StoredSession(store::SessionRow);

#[pymethods]
impl StoredSession {
    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn jid(&self) -> Option<&str> {
        self.0.jid.as_deref()
    }

    #[getter]
    fn lid(&self) -> Option<&str> {
        self.0.lid.as_deref()
    }

    #[getter]
    fn policy(&self) -> Option<&str> {
        self.0.policy.as_deref()
    }

    #[getter]
    fn archived(&self) -> bool {
        self.0.archived.is_some()
    }

    #[getter]
    fn quarantined(&self) -> Option<&str> {
        self.0.quarantined.as_deref()
    }

    #[getter]
    fn imported_at_unix_ms(&self) -> u64 {
        self.0.imported_at_unix_ms
    }
}

#[pyclass(frozen, module = "runner._core")]
struct InboxMessage(store::InboxMessage);

#[pymethods]
impl InboxMessage {
    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn chat(&self) -> &str {
        &self.0.chat
    }

    #[getter]
    fn sender(&self) -> &str {
        &self.0.sender
    }

    #[getter]
    fn is_own(&self) -> bool {
        self.0.is_own
    }

    #[getter]
    fn message_id(&self) -> &str {
        &self.0.message_id
    }

    #[getter]
    fn stanza<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.stanza)
    }

    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.content.as_ref().map(|content| PyBytes::new(py, content))
    }

    #[getter]
    fn kind(&self) -> Option<&'static str> {
        self.0.content.as_deref().map(crate::message::kind_of)
    }

    #[getter]
    fn failure(&self) -> Option<&str> {
        self.0.failure.as_deref()
    }

    #[getter]
    fn received_unix_ms(&self) -> u64 {
        self.0.received_unix_ms
    }
}

#[pyclass(frozen, module = "runner._core")]
struct DeadLetter(store::DeadLetter);

#[pymethods]
impl DeadLetter {
    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn sender(&self) -> &str {
        &self.0.sender
    }

    #[getter]
    fn message_id(&self) -> &str {
        &self.0.message_id
    }

    #[getter]
    fn frame<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.frame)
    }

    #[getter]
    fn received_unix_ms(&self) -> u64 {
        self.0.received_unix_ms
    }
}

#[pyclass(frozen, module = "runner._core")]
struct Quarantined(store::Quarantined);

#[pymethods]
impl Quarantined {
    #[getter]
    fn what(&self) -> &str {
        &self.0.what
    }

    #[getter]
    fn session_id(&self) -> Option<&str> {
        self.0.session_id.as_deref()
    }

    #[getter]
    fn why(&self) -> &str {
        &self.0.why
    }

    #[getter]
    fn at_unix_ms(&self) -> u64 {
        self.0.at_unix_ms
    }
}

#[pyclass(frozen, module = "runner._core")]
struct StoreHealth(store::Health);

#[pymethods]
impl StoreHealth {
    #[getter]
    fn queued(&self) -> usize {
        self.0.queued
    }

    #[getter]
    fn oldest_age_s(&self) -> f64 {
        self.0.oldest_age_s
    }

    #[getter]
    fn lock_wait_s(&self) -> f64 {
        self.0.lock_wait_s
    }

    #[getter]
    fn commits_total(&self) -> u64 {
        self.0.commits_total
    }

    #[getter]
    fn batches_total(&self) -> u64 {
        self.0.batches_total
    }

    #[getter]
    fn failed_total(&self) -> u64 {
        self.0.failed_total
    }

    #[getter]
    fn last_error(&self) -> Option<&str> {
        self.0.last_error.as_deref()
    }

    #[getter]
    fn disk_full(&self) -> bool {
        self.0.disk_full
    }

    #[getter]
    fn wal_bytes(&self) -> u64 {
        self.0.wal_bytes
    }

    #[getter]
    fn inbox_pending(&self) -> u64 {
        self.0.inbox_pending
    }

    #[getter]
    fn dead_letters(&self) -> u64 {
        self.0.dead_letters
    }

    #[getter]
    fn dead_letters_dropped_total(&self) -> u64 {
        self.0.dead_letters_dropped_total
    }
}

#[pyclass(frozen, module = "runner._core")]
struct DeviceRecord {
    credentials: Credentials,
    routing_info: Option<Vec<u8>>,
    source: SecretBytes,
}

#[pymethods]
impl DeviceRecord {
    #[new]
    #[pyo3(signature = (*, jid, lid, push_name, platform, registration_id, noise_secret, identity_secret,
        signed_pre_key_id, signed_pre_key_secret, signed_pre_key_signature, adv_secret, account, routing_info,
        source))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only in Python, one for each field")]
    fn new(
        jid: String,
        lid: Option<String>,
        push_name: Option<String>,
        platform: Option<String>,
        registration_id: u32,
        noise_secret: &[u8],
        identity_secret: &[u8],
        signed_pre_key_id: u32,
        signed_pre_key_secret: &[u8],
        signed_pre_key_signature: &[u8],
        adv_secret: &[u8],
        account: Option<Vec<u8>>,
        routing_info: Option<Vec<u8>>,
        source: Vec<u8>,
    ) -> PyResult<Self> {
        if jid.is_empty() {
            return Err(PyValueError::new_err("jid: must not be empty"));
        }
        let credentials = Credentials {
            jid,
            lid,
            push_name,
            platform,
            registration_id,
            noise_secret: Secret32::from(sized("noise_secret", noise_secret)?),
            identity_secret: Secret32::from(sized("identity_secret", identity_secret)?),
            signed_pre_key_id,
            signed_pre_key_secret: Secret32::from(sized("signed_pre_key_secret", signed_pre_key_secret)?),
            signed_pre_key_signature: sized("signed_pre_key_signature", signed_pre_key_signature)?,
            adv_secret: Secret32::from(sized("adv_secret", adv_secret)?),
            account,
        };
        Ok(Self { credentials, routing_info, source: source.into() })
    }
}

impl DeviceRecord {
    fn import(&self, session_id: String, keys: Keys) -> Import {
        Import {
            session_id,
            credentials: self.credentials.clone(),
            routing_info: self.routing_info.clone(),
            source: self.source.clone(),
            keys: keys
                .into_iter()
                .map(|(kind, id, value)| SignalKey { kind, id, value: value.into() })
                .collect(),
        }
    }
}

/// Signal keys as Python gives them: type, id, value.
type Keys = Vec<(String, String, Vec<u8>)>;

fn sized<const N: usize>(field: &str, bytes: &[u8]) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| PyValueError::new_err(format!("{field}: {} bytes, not {N}", bytes.len())))
}

fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{name}: {seconds} is not a duration")))
}

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct Store {
    store: store::Store,
    report: Vec<String>,
}

impl Store {
    /// For the engine: the same store, whose completions it takes.
    pub(crate) fn handle(&self) -> store::Store {
        self.store.clone()
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, *, group_commit_ms = 2, keep_done_s = 86400.0, keep_undelivered_s = 2_592_000.0))]
    fn new(
        py: Python<'_>,
        path: std::path::PathBuf,
        group_commit_ms: u64,
        keep_done_s: f64,
        keep_undelivered_s: f64,
    ) -> PyResult<Self> {
        let keep_done = duration("keep_done_s", keep_done_s)?;
        let keep_undelivered = duration("keep_undelivered_s", keep_undelivered_s)?;
        let group_commit = Duration::from_millis(group_commit_ms);
        let options = Options { group_commit, keep_done, keep_undelivered, ..Options::default() };
        let (store, report) =
            py.detach(|| store::Store::open(path, options, Box::new(|| {}))).map_err(raise)?;
        Ok(Self { store, report: report.lines })
    }

    #[getter]
    fn report(&self) -> Vec<String> {
        self.report.clone()
    }

    fn sessions(&self, py: Python<'_>) -> PyResult<Vec<StoredSession>> {
        let rows = py.detach(|| self.store.sessions()).map_err(raise)?;
        Ok(rows.into_iter().map(StoredSession).collect())
    }

    fn put_policy(&self, session_id: String, policy: String) {
        self.store.put_policy(session_id, policy);
    }

    fn put_meta(&self, key: String, value: String) {
        self.store.put_meta(key, value);
    }

    fn meta(&self, py: Python<'_>) -> PyResult<std::collections::BTreeMap<String, String>> {
        Ok(py.detach(|| self.store.meta()).map_err(raise)?.into_iter().collect())
    }

    fn import_device(
        &self,
        py: Python<'_>,
        session_id: String,
        device: &DeviceRecord,
        keys: Keys,
    ) -> PyResult<()> {
        let import = device.import(session_id, keys);
        py.detach(|| self.store.import(import)).map_err(raise)
    }

    fn import_devices(
        &self,
        py: Python<'_>,
        devices: Vec<(String, PyRef<'_, DeviceRecord>, Keys)>,
    ) -> PyResult<Vec<Option<(&'static str, String)>>> {
        let imports = devices.into_iter().map(|(id, device, keys)| device.import(id, keys)).collect();
        let outcomes = py.detach(|| self.store.import_all(imports)).map_err(raise)?;
        Ok(outcomes.into_iter().map(|done| done.err().map(|e| (e.kind.slug(), e.message))).collect())
    }

    fn signal_keys<'py>(
        &self,
        py: Python<'py>,
        session_id: &str,
    ) -> PyResult<Vec<(String, String, Bound<'py, PyBytes>)>> {
        let keys = py.detach(|| self.store.signal_keys(session_id)).map_err(raise)?;
        Ok(keys.into_iter().map(|k| (k.kind, k.id, PyBytes::new(py, k.value.expose()))).collect())
    }

    fn export(&self, py: Python<'_>, session_id: &str) -> PyResult<ExportedDevice> {
        py.detach(|| ExportedDevice::of(&self.store, session_id)).map_err(raise)
    }

    fn backup(&self, py: Python<'_>, file: std::path::PathBuf, version: &str) -> PyResult<BackupMade> {
        Ok(py.detach(|| self.store.backup(&file, version)).map_err(raise)?.into())
    }

    fn create(&self, py: Python<'_>, session_id: &str) -> PyResult<()> {
        py.detach(|| self.store.create(session_id)).map_err(raise)
    }

    fn set_aside(&self, py: Python<'_>, session_id: &str) -> PyResult<()> {
        py.detach(|| self.store.set_aside(session_id)).map_err(raise)
    }

    fn archive(&self, py: Python<'_>, session_id: &str, reason: &str) -> PyResult<()> {
        py.detach(|| self.store.archive(session_id, reason)).map_err(raise)
    }

    fn unarchive(&self, py: Python<'_>, session_id: &str) -> PyResult<()> {
        py.detach(|| self.store.unarchive(session_id)).map_err(raise)
    }

    fn delete(&self, py: Python<'_>, session_id: &str) -> PyResult<()> {
        py.detach(|| self.store.delete(session_id)).map_err(raise)
    }

    fn quarantined(&self, py: Python<'_>) -> PyResult<Vec<Quarantined>> {
        let rows = py.detach(|| self.store.quarantined()).map_err(raise)?;
        Ok(rows.into_iter().map(Quarantined).collect())
    }

    fn take(&self, py: Python<'_>, after_seq: u64, n: usize) -> PyResult<Vec<InboxMessage>> {
        let rows = py.detach(|| self.store.take(after_seq, n)).map_err(raise)?;
        Ok(rows.into_iter().map(InboxMessage).collect())
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn find(
        &self,
        py: Python<'_>,
        session_id: &str,
        chat: &str,
        senders: Vec<String>,
        message_id: &str,
    ) -> PyResult<Option<InboxMessage>> {
        let found = py.detach(|| self.store.find(session_id, chat, &senders, message_id)).map_err(raise)?;
        Ok(found.map(InboxMessage))
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn done(&self, py: Python<'_>, seqs: Vec<u64>) -> PyResult<u64> {
        py.detach(|| self.store.done(&seqs)).map_err(raise)
    }

    fn take_of_chat(
        &self,
        py: Python<'_>,
        session_id: &str,
        chat: &str,
        after_seq: u64,
        n: usize,
    ) -> PyResult<Vec<InboxMessage>> {
        let rows = py.detach(|| self.store.take_of_chat(session_id, chat, after_seq, n)).map_err(raise)?;
        Ok(rows.into_iter().map(InboxMessage).collect())
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn post(&self, py: Python<'_>, events: Vec<Posted>, done: Vec<u64>) -> PyResult<u64> {
        let events = events.into_iter().map(new_event).collect();
        py.detach(|| self.store.post(events, &done)).map_err(raise)
    }

    fn deliveries(
        &self,
        py: Python<'_>,
        webhook_id: &str,
        after_seq: u64,
        n: usize,
    ) -> PyResult<Vec<Delivery>> {
        let rows = py.detach(|| self.store.deliveries(webhook_id, after_seq, n)).map_err(raise)?;
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    fn deliveries_of(
        &self,
        py: Python<'_>,
        webhook_id: &str,
        session_id: &str,
        chat: &str,
        after_seq: u64,
        n: usize,
    ) -> PyResult<Vec<Delivery>> {
        let read = || self.store.deliveries_of(webhook_id, session_id, chat, after_seq, n);
        Ok(py.detach(read).map_err(raise)?.into_iter().map(Delivery::from).collect())
    }

    fn settle(
        &self,
        py: Python<'_>,
        delivered: Vec<u64>,
        failed: Vec<(u64, u32, u64)>,
        dead: Vec<(u64, u32, String)>,
    ) -> PyResult<()> {
        let settled = store::Settled { delivered, failed, dead };
        py.detach(|| self.store.settle(settled)).map_err(raise)
    }

    fn bury(&self, py: Python<'_>, messages: Vec<(u64, u32, String)>) -> PyResult<u64> {
        py.detach(|| self.store.bury(messages)).map_err(raise)
    }

    fn unread(&self, py: Python<'_>, before_unix_ms: u64, n: usize) -> PyResult<Vec<UnreadMessage>> {
        let rows = py.detach(|| self.store.unread(before_unix_ms, n)).map_err(raise)?;
        Ok(rows.into_iter().map(UnreadMessage::from).collect())
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn give_up_unread(&self, py: Python<'_>, events: Vec<Posted>, seqs: Vec<u64>) -> PyResult<u64> {
        let events = events.into_iter().map(new_event).collect();
        py.detach(|| self.store.give_up_unread(events, &seqs)).map_err(raise)
    }

    #[pyo3(signature = (after_seq, n, sink = None))]
    fn undelivered(
        &self,
        py: Python<'_>,
        after_seq: u64,
        n: usize,
        sink: Option<&str>,
    ) -> PyResult<Vec<Undelivered>> {
        let rows = py.detach(|| self.store.undelivered(sink, after_seq, n)).map_err(raise)?;
        Ok(rows.into_iter().map(Undelivered::from).collect())
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn redrive(&self, py: Python<'_>, seqs: Vec<u64>) -> PyResult<(u64, u64)> {
        py.detach(|| self.store.redrive(&seqs)).map_err(raise)
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn discard(&self, py: Python<'_>, seqs: Vec<u64>) -> PyResult<u64> {
        py.detach(|| self.store.discard(&seqs)).map_err(raise)
    }

    fn webhooks(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        py.detach(|| self.store.webhooks()).map_err(raise)
    }

    fn put_webhook(&self, py: Python<'_>, webhook_id: &str, json: &str) -> PyResult<()> {
        py.detach(|| self.store.put_webhook(webhook_id, json)).map_err(raise)
    }

    fn remove_webhook(&self, py: Python<'_>, webhook_id: &str, why: &str) -> PyResult<u64> {
        py.detach(|| self.store.remove_webhook(webhook_id, why)).map_err(raise)
    }

    fn give_up_unknown(&self, py: Python<'_>, known: Vec<String>, why: &str) -> PyResult<u64> {
        py.detach(|| self.store.give_up_unknown(known, why)).map_err(raise)
    }

    fn backlog(&self, py: Python<'_>) -> PyResult<Vec<(String, u64, u64)>> {
        let rows = py.detach(|| self.store.backlog()).map_err(raise)?;
        Ok(rows.into_iter().map(|it| (it.sink, it.waiting, it.undelivered)).collect())
    }

    fn take_dead_letters(&self, py: Python<'_>, after_seq: u64, n: usize) -> PyResult<Vec<DeadLetter>> {
        let rows = py.detach(|| self.store.take_dead_letters(after_seq, n)).map_err(raise)?;
        Ok(rows.into_iter().map(DeadLetter).collect())
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python list")]
    fn remove_dead_letters(&self, py: Python<'_>, seqs: Vec<u64>) -> PyResult<u64> {
        py.detach(|| self.store.remove_dead_letters(&seqs)).map_err(raise)
    }

    fn health(&self) -> StoreHealth {
        StoreHealth(self.store.health())
    }

    fn flush(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let timeout = duration("timeout_s", timeout_s)?;
        Ok(py.detach(|| self.store.flush(timeout)))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.store.close());
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let error = m.py().get_type::<StoreError>();
    error.setattr("__module__", "runner._core")?;
    m.add("StoreError", error)?;
    m.add_class::<StoredSession>()?;
    m.add_class::<InboxMessage>()?;
    m.add_class::<DeadLetter>()?;
    m.add_class::<Quarantined>()?;
    m.add_class::<StoreHealth>()?;
    m.add_class::<DeviceRecord>()?;
    m.add_class::<Store>()
}
