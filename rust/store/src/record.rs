//! The values that go into the store and come out of it.

use std::fmt;

use crate::secret::{Secret32, SecretBytes};
use crate::{DeviceError, StoreError};

/// The keys and the registration of one linked device; they never change after linking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Own phone-number JID with device, e.g. `15550001111:3@s.whatsapp.net`.
    pub jid: String,
    /// Own LID, when known.
    pub lid: Option<String>,
    /// The name that contacts see.
    pub push_name: Option<String>,
    /// What the phone runs, as the server named it at pairing.
    pub platform: Option<String>,
    /// Signal registration id.
    pub registration_id: u32,
    /// Static key of the Noise handshake.
    pub noise_secret: Secret32,
    /// Signal identity key.
    pub identity_secret: Secret32,
    /// Id of the signed pre-key.
    pub signed_pre_key_id: u32,
    /// The signed pre-key.
    pub signed_pre_key_secret: Secret32,
    /// XEdDSA signature of the signed pre-key by the identity key.
    pub signed_pre_key_signature: [u8; 64],
    /// Secret of the pairing's HMAC.
    pub adv_secret: Secret32,
    /// Serialized `ADVSignedDeviceIdentity`.
    pub account: Option<Vec<u8>>,
}

/// What is needed to dial one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The session that owns the device.
    pub session_id: String,
    /// Keys and registration; `credentials.lid` is the newest known.
    pub credentials: Credentials,
    /// Edge-routing block for the next connection.
    pub routing_info: Option<Vec<u8>>,
    /// The server key that a resumed handshake may use.
    pub server_chain: Option<ServerChain>,
    /// An earlier version kept messages of this session without decrypting them.
    pub has_ciphertexts: bool,
}

/// A verified certificate chain of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerChain {
    /// As it came from the wire.
    pub raw: Vec<u8>,
    /// The server's static key.
    pub leaf_key: [u8; 32],
    /// Valid from, Unix seconds.
    pub not_before: u64,
    /// Valid until, Unix seconds.
    pub not_after: u64,
}

/// One record of the Signal protocol, kept as its source wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalKey {
    /// e.g. `pre-key`, `session`, `sender-key`; unknown types are kept as well.
    pub kind: String,
    /// The source's id within the type.
    pub id: String,
    /// The record.
    pub value: SecretBytes,
}

/// The name of a Signal record within its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKey {
    /// e.g. `pre-key`, `session`, `sender-key`.
    pub kind: &'static str,
    /// The id within the kind.
    pub id: String,
}

/// A Signal record in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRecord {
    /// The record.
    pub value: SecretBytes,
    /// It has the form of the program that the session was imported from: nothing has written it since.
    pub is_imported: bool,
}

/// One Signal record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// e.g. `pre-key`, `session`, `sender-key`.
    pub kind: String,
    /// The id within the kind.
    pub id: String,
    /// The record, and its form.
    pub record: SignalRecord,
}

/// All that a session's device is, for another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Keys and registration; `lid` is the newest known.
    pub credentials: Credentials,
    /// Edge-routing block.
    pub routing_info: Option<Vec<u8>>,
    /// The credentials file that it was imported from; empty when a phone has linked it here.
    pub source: SecretBytes,
    /// Its Signal records.
    pub records: Vec<StoredRow>,
    /// Records that are damaged, as `kind id`.
    pub damaged: Vec<String>,
}

/// What became of a message's content. What it says is not printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// It is here: a serialized `Message`.
    Plain(Vec<u8>),
    /// The message was read, and there is nothing in it for the consumer: only its name is kept.
    Nothing,
    /// It is not here.
    Failed {
        /// A stable slug.
        why: String,
        /// After more failures than these the message is not expected to come again.
        asks: u32,
    },
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(content) => write!(f, "Plain({} bytes)", content.len()),
            Self::Nothing => f.write_str("Nothing"),
            Self::Failed { why, asks } => {
                f.debug_struct("Failed").field("why", why).field("asks", asks).finish()
            }
        }
    }
}

/// An inbound message that an earlier version kept without decrypting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphertext {
    /// Its place in the inbox.
    pub seq: u64,
    /// The whole stanza, flag byte in front.
    pub stanza: Vec<u8>,
    /// When it arrived, Unix milliseconds.
    pub received_unix_ms: u64,
}

/// A device taken over from another program.
#[derive(Debug, Clone)]
pub struct Import {
    /// The new session's id.
    pub session_id: String,
    /// Keys and registration.
    pub credentials: Credentials,
    /// Edge-routing block, when the source had one.
    pub routing_info: Option<Vec<u8>>,
    /// The original credentials file, kept whole so that nothing is lost.
    pub source: SecretBytes,
    /// All Signal records.
    pub keys: Vec<SignalKey>,
}

/// One session as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The session's id.
    pub session_id: String,
    /// Own phone-number JID with device; `None` until a phone has linked one.
    pub jid: Option<String>,
    /// Own LID.
    pub lid: Option<String>,
    /// The JSON last given to [`put_policy`](crate::Store::put_policy) and committed.
    pub policy: Option<String>,
    /// Why the credentials are archived (logged out), or `None`.
    pub archived: Option<String>,
    /// Why the credentials cannot be used, or `None`.
    pub quarantined: Option<String>,
    /// When the session came into the store, Unix milliseconds.
    pub imported_at_unix_ms: u64,
}

/// One inbound `<message>`, not yet confirmed by [`done`](crate::Store::done). What it says is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct InboxMessage {
    /// Grows over all sessions; never used twice, also after rows were removed.
    pub seq: u64,
    /// The session that received it.
    pub session_id: String,
    /// The stanza's `from`.
    pub chat: String,
    /// The stanza's `participant`, or `from`.
    pub sender: String,
    /// The stanza's `id`.
    pub message_id: String,
    /// The stanza, flag byte in front; without its ciphertexts when there is a content.
    pub stanza: Vec<u8>,
    /// The serialized `Message`, when there is one.
    pub content: Option<Vec<u8>>,
    /// Why there is none: a stable slug. `None` beside no content: an earlier version did not decrypt.
    pub failure: Option<String>,
    /// When it arrived first, Unix milliseconds.
    pub received_unix_ms: u64,
}

impl fmt::Debug for InboxMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content.as_ref().map(|content| format!("{} bytes", content.len()));
        f.debug_struct("InboxMessage")
            .field("seq", &self.seq)
            .field("session_id", &self.session_id)
            .field("chat", &self.chat)
            .field("sender", &self.sender)
            .field("message_id", &self.message_id)
            .field("content", &content)
            .field("failure", &self.failure)
            .field("received_unix_ms", &self.received_unix_ms)
            .finish_non_exhaustive()
    }
}

/// One inbound `<message>` of the inbox that could not be read, and is not expected to come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its place in the inbox.
    pub seq: u64,
    /// The session that received it.
    pub session_id: String,
    /// The stanza's `from`.
    pub chat: String,
    /// The stanza's `participant`, or `from`.
    pub sender: String,
    /// The stanza's `id`.
    pub message_id: String,
    /// When it arrived first, Unix milliseconds.
    pub received_unix_ms: u64,
    /// Why it was not read, the last time: a stable slug.
    pub failure: String,
    /// How often it came and was not read.
    pub attempts: u32,
}

/// One inbound `<message>` that could not be read and was refused, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Grows over all sessions; never used twice.
    pub seq: u64,
    /// The session that received it.
    pub session_id: String,
    /// The stanza's `from`.
    pub sender: String,
    /// The stanza's `id`.
    pub message_id: String,
    /// The decrypted frame, flag byte in front.
    pub frame: Vec<u8>,
    /// When it arrived, Unix milliseconds.
    pub received_unix_ms: u64,
}

/// A row or file that could not be trusted and was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// `device`, `signal_key` or `file`.
    pub what: String,
    /// The session it belongs to, when known.
    pub session_id: Option<String>,
    /// In words.
    pub why: String,
    /// When it was found, Unix milliseconds.
    pub at_unix_ms: u64,
}

/// One change to durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Keep an inbound message. One whose content is already stored is kept once, and the batch still commits,
    /// so that the server gets its answer. One that is stored without content gives way to one that has it.
    Inbox {
        /// The stanza's `from`.
        chat: String,
        /// The stanza's `participant`, or `from`.
        sender: String,
        /// The stanza's `id`.
        message_id: String,
        /// The stanza, flag byte in front.
        stanza: Vec<u8>,
        /// Its content, or why there is none.
        content: Content,
        /// Unix milliseconds.
        received_unix_ms: u64,
    },
    /// Keep a Signal record in our own form, in place of an older one of the same name.
    PutRecord {
        /// Its name.
        key: RecordKey,
        /// The record.
        value: SecretBytes,
    },
    /// A Signal record is used up.
    RemoveRecord(RecordKey),
    /// Keep a message that could not be read, as it came. One that is already kept, or for which there is no room
    /// ([`MAX_DEAD_LETTERS`](crate::MAX_DEAD_LETTERS)), is left out and the batch still commits.
    DeadLetter {
        /// The stanza's `from`.
        sender: String,
        /// The stanza's `id`.
        message_id: String,
        /// The decrypted frame, flag byte in front.
        frame: Vec<u8>,
        /// Unix milliseconds.
        received_unix_ms: u64,
    },
    /// Edge-routing block for the next connection.
    RoutingInfo(Vec<u8>),
    /// The server key that a resumed handshake may use.
    ServerChain(ServerChain),
    /// A resumed handshake failed: forget the server key.
    ForgetServerChain,
    /// The server told us our LID.
    Lid(String),
    /// A phone has linked the device of a session that had none. Alone in its batch; refused (`exists`) when the session
    /// has a device, or another session has this one.
    Device(Box<Linked>),
}

/// A device that a phone has linked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// Keys and registration.
    pub credentials: Credentials,
    /// Its first Signal records.
    pub keys: Vec<SignalKey>,
}

impl Write {
    /// Bytes this write holds in the queue, roughly.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 256; // itself, and what an allocator keeps of its parts
        FIXED
            + match self {
                Self::Inbox { chat, sender, message_id, stanza, content, .. } => {
                    let content = match content {
                        Content::Plain(bytes) => bytes.len(),
                        Content::Nothing => 0,
                        Content::Failed { why, .. } => why.len(),
                    };
                    chat.len() + sender.len() + message_id.len() + stanza.len() + content
                }
                Self::PutRecord { key, value } => key.id.len() + value.expose().len(),
                Self::RemoveRecord(key) => key.id.len(),
                Self::DeadLetter { sender, message_id, frame, .. } => {
                    sender.len() + message_id.len() + frame.len()
                }
                Self::RoutingInfo(bytes) => bytes.len(),
                Self::ServerChain(chain) => chain.raw.len(),
                Self::ForgetServerChain => 0,
                Self::Lid(lid) => lid.len(),
                Self::Device(linked) => linked.keys.iter().map(|key| key.value.expose().len()).sum(),
            }
    }
}

/// Changes of one session that become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Chosen by the caller, given back with the completion.
    pub token: u64,
    /// The session they belong to.
    pub session_id: String,
    /// In order.
    pub writes: Vec<Write>,
}

/// The outcome of a [`submit`](crate::Store::submit) or [`request_device`](crate::Store::request_device), or news of
/// the store itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The batch is on disk and survives power loss.
    Committed {
        /// As submitted.
        token: u64,
        /// What it changed in the inbox.
        applied: Applied,
    },
    /// Nothing of the batch is stored.
    Failed {
        /// As submitted.
        token: u64,
        /// Why.
        error: StoreError,
    },
    /// After a failed transaction there is room for messages again; comes behind the answers of the one that showed it.
    Recovered,
    /// The answer to `request_records`.
    Records {
        /// As requested.
        token: u64,
        /// One for each key, in their order: `None` when there is none, or it was damaged (and is quarantined).
        result: Result<Vec<Option<SignalRecord>>, StoreError>,
    },
    /// The answer to `request_ciphertexts`.
    Ciphertexts {
        /// As requested.
        token: u64,
        /// The oldest of them, in order.
        result: Result<Vec<Ciphertext>, StoreError>,
    },
    /// The answer to `request_device`.
    Device {
        /// As requested.
        token: u64,
        /// The device, or why it must not be dialled. Boxed: it is rare and ten times the size of the others.
        result: Box<Result<Device, DeviceError>>,
    },
}

/// What a batch changed in the inbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// New rows; 0 when all messages of the batch were stored before.
    pub inbox_rows: u32,
    /// Rows without content that gave way to the same message with its content, and had not been confirmed.
    pub superseded: u32,
    /// How often the batch's last message without content has failed by now; 0 when there was none, or when it was
    /// stored with its content before.
    pub attempts: u32,
}

/// A snapshot of how the store does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Batches that wait or are being written.
    pub queued: usize,
    /// Age of the oldest of them, seconds; 0 when there is none.
    pub oldest_age_s: f64,
    /// How long the writer has waited for a lock that another process holds on the database, seconds; 0 when it does not.
    pub lock_wait_s: f64,
    /// Transactions committed. Each costs one fsync.
    pub commits_total: u64,
    /// Batches committed.
    pub batches_total: u64,
    /// New inbox rows committed.
    pub inbox_rows_total: u64,
    /// Batches that failed.
    pub failed_total: u64,
    /// Write-ahead logs copied back into the file. Each costs two fsyncs.
    pub checkpoints_total: u64,
    /// The newest failure, in words; kept after recovery.
    pub last_error: Option<String>,
    /// The last write failed for lack of space and none has succeeded since.
    pub disk_full: bool,
    /// The file turned out to be damaged while in use; writing has stopped until the next open.
    pub damaged: bool,
    /// Size of the write-ahead log.
    pub wal_bytes: u64,
    /// Messages not yet confirmed by `done`.
    pub inbox_pending: u64,
    /// Dead letters that nobody has taken away.
    pub dead_letters: u64,
    /// Messages that could not be read and for which there was no room among the dead letters.
    pub dead_letters_dropped_total: u64,
    /// How long the last transaction took, seconds.
    pub last_commit_s: f64,
}

/// What opening the store found and did, in words for the operator; empty when all was well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// One line each, in order.
    pub lines: Vec<String>,
}
