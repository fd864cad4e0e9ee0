//! What goes in and out of a client as data: commands, effects, events.

use std::{fmt, time::Duration};

use crate::record::{RecordBytes, RecordKey};
use crate::send::{Outgoing, Receipt, SendFailure};
use runner_proto::{
    cert::{CachedServerKey, VerifiedChain},
    close_reason::{CloseReason, Closed},
    counters::Counters,
    entropy::Entropy,
    jid::Jid,
    noise::{KeyPair, Pattern},
    phase::Phase,
    session::Buffers,
    time::Instant,
};

use crate::secret::{ForEyes, Secret};

/// What a client needs of the world for the length of one call.
pub struct Cx<'a> {
    /// The driver's monotonic clock.
    pub now: Instant,
    /// The wall clock, Unix milliseconds; for what the protocol writes as a date, never for a deadline.
    pub unix_ms: u64,
    /// Randomness fit for keys.
    pub entropy: &'a mut dyn Entropy,
    /// Bytes for the transport (before TLS) are appended here; the buffer may be shared by all sessions of a thread.
    pub out: &'a mut Vec<u8>,
    /// Decoding buffers, shared by all sessions of a thread.
    pub scratch: &'a mut Buffers,
    /// Effects are appended here, in the order in which they must be carried out.
    pub effects: &'a mut Vec<Effect>,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Effect {
    /// Make these durable in one transaction, after all earlier ones of this client; then call `on_committed`.
    Commit {
        /// Counts up from 1 within one connection and stays below 2^32. 0: nothing waits for the outcome.
        token: u64,
        /// In order.
        writes: Vec<Write>,
    },
    /// Read these records, as they are after all earlier commits of this client; then call `on_loaded`.
    Load {
        /// Counts up from 1 within one connection.
        token: u32,
        /// At least one; the answer has their order.
        keys: Vec<RecordKey>,
    },
    /// Read the oldest messages that an earlier version kept undecrypted; then call `on_ciphertexts`. One at a time.
    LoadCiphertexts {
        /// From behind this place in the inbox on.
        after_seq: u64,
        /// At most so many.
        limit: usize,
    },
    /// Tell whoever decides.
    Event(Event),
}

/// What a message comes to. What it says is not printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// It was read: a serialized `Message`.
    Plain(Vec<u8>),
    /// It was read, and there is nothing in it for the consumer.
    Nothing,
    /// It was not read.
    Failed {
        /// The slug of a [`Failure`](crate::Failure).
        why: &'static str,
        /// How many failures are worth asking its sender for it again; behind them it is not expected any more.
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

/// One change of durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// An inbound message. One with content takes the place of the same one without.
    Inbox {
        /// The chat: the stanza's `from`, or its `recipient` when an own other device sent it.
        chat: String,
        /// The sender: the stanza's `participant`, else its `from`.
        sender: String,
        /// The stanza's `id`.
        message_id: String,
        /// The stanza, encoded, flag byte in front, never compressed; without its ciphertexts when they were read.
        stanza: Vec<u8>,
        /// What it comes to.
        content: Content,
        /// When it was received.
        received_unix_ms: u64,
    },
    /// A Signal record, in place of an older one of its name.
    PutRecord {
        /// Its name.
        key: RecordKey,
        /// The record.
        value: RecordBytes,
    },
    /// A Signal record is used up.
    RemoveRecord(RecordKey),
    /// An inbound message that did not decode, as it came: it is refused, and nobody sends it again.
    DeadLetter {
        /// The stanza's `from`.
        sender: String,
        /// The stanza's `id`.
        message_id: String,
        /// The decrypted frame, flag byte in front.
        frame: Vec<u8>,
        /// When it was received.
        received_unix_ms: u64,
    },
    /// For the next connection's intro.
    RoutingInfo(Vec<u8>),
    /// The server's certificate chain, for a resume.
    ServerChain(VerifiedChain),
    /// A resume failed: do not try again with this chain.
    ForgetServerChain,
    /// The own LID with device.
    Lid(String),
    /// The device that a phone has linked, all of it; alone in its batch. Never in place of another.
    Device(Box<LinkedDevice>),
}

/// A device that a phone has linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedDevice {
    /// The own phone-number JID with device.
    pub jid: String,
    /// The own LID with device, when the server said it.
    pub lid: Option<String>,
    /// The name of a business, which is what others see.
    pub push_name: Option<String>,
    /// What the phone runs, as the server named it.
    pub platform: Option<String>,
    /// The Signal registration id.
    pub registration_id: u32,
    /// The long-term Noise key.
    pub noise: KeyPair,
    /// The Signal identity key.
    pub identity: KeyPair,
    /// The id of the signed pre-key.
    pub signed_pre_key_id: u32,
    /// The signed pre-key.
    pub signed_pre_key: KeyPair,
    /// XEdDSA by the identity key.
    pub signed_pre_key_signature: [u8; 64],
    /// The secret under which the phone's consent was given.
    pub adv_secret: Secret,
    /// The encoded `ADVSignedDeviceIdentity`, with both signatures and the account's key.
    pub account: Vec<u8>,
}

/// The account of a session, as the store and the server know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// The phone-number JID, without a device.
    pub jid: String,
    /// The name that others see, where it is known.
    pub push_name: Option<String>,
}

/// What happened. Facts only; what to do about them is decided elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is in another phase.
    Phase(Phase),
    /// The server said `<success>`.
    Online {
        /// How the channel was made.
        handshake: Pattern,
        /// From [`handle_open`](crate::Client::handle_open) to `<success>`, in milliseconds.
        login_ms: u64,
        /// Who it is.
        me: Box<Me>,
    },
    /// A probe changed its verdict.
    Probe {
        /// Which one.
        probe: Probe,
        /// The new verdict.
        healthy: bool,
        /// What was seen.
        detail: &'static str,
    },
    /// The server's clock minus ours, in milliseconds; at each login.
    ClockOffset {
        /// Positive when ours is behind.
        offset_ms: i64,
    },
    /// A contact's device has another identity key than before: it was linked anew, or somebody stands between.
    IdentityChanged {
        /// The device.
        jid: String,
    },
    /// What became of a [`Command::SendText`]; told once for each.
    Sent {
        /// Its token.
        token: u64,
        /// The server has it, or why that is not known.
        outcome: Result<Receipt, SendFailure>,
    },
    /// The server had other keys of ours than we have, and was given ours.
    KeysDiffer {
        /// What it had.
        what: &'static str,
    },
    /// An imported record cannot be read, and is as good as none; the first of its kind on this connection.
    RecordUnreadable {
        /// The slug of its kind.
        kind: &'static str,
    },
    /// A resumed handshake (IK) failed; rest it for this endpoint.
    ResumeFailed,
    /// A QR code to scan, in place of the one before.
    Qr {
        /// What the code says.
        text: ForEyes,
        /// How long it can be scanned.
        ttl: Duration,
        /// How many follow it.
        left: usize,
    },
    /// A code to type into the phone, `XXXX-XXXX`.
    Code {
        /// The code.
        text: ForEyes,
        /// How long it can be typed in.
        ttl: Duration,
    },
    /// There is no code to type, or none any more.
    NoCode(NoCode),
    /// The device is linked and durable; the server asks for a new connection now.
    Linked,
    /// The connection is over; the last event of a client, said once.
    Closed(Closed),
}

/// Why there is no code to type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCode {
    /// So many were made on this connection already.
    TooMany,
    /// The server refused, with this number; or it did not answer.
    Refused(Option<u32>),
    /// It was typed wrongly too often.
    Spent,
}

impl NoCode {
    /// The word for it in JSON, logs and docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Refused(_) => "refused",
            Self::Spent => "spent",
        }
    }
}

/// What is probed; each is a cause of deafness or of death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A ping drew no byte until the second one had to be sent.
    Pong,
    /// A request other than a ping went unanswered twice in a row.
    IqUnanswered,
    /// The end of the offline backlog did not come.
    OfflineMissing,
    /// The server did not acknowledge a send.
    SendUnacked,
    /// An inbound stanza waits for its answer although the store commits.
    StanzaUnanswered,
}

impl Probe {
    /// All probes.
    pub const ALL: &'static [Self] =
        &[Self::Pong, Self::IqUnanswered, Self::OfflineMissing, Self::SendUnacked, Self::StanzaUnanswered];

    /// The word for it in JSON, logs, metrics and docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Pong => "pong",
            Self::IqUnanswered => "iq_unanswered",
            Self::OfflineMissing => "offline_missing",
            Self::SendUnacked => "send_unacked",
            Self::StanzaUnanswered => "stanza_unanswered",
        }
    }
}

/// What somebody asks of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Close, now, with one of the `request` reasons (or with the driver's own, such as `output_stalled`).
    Close(CloseReason),
    /// Unlink this device at the server, then close with `logged_out_by_request`.
    Logout,
    /// Offer a code to the phone with this number, beside the QR codes of a new device.
    LinkByCode {
        /// The user of the account.
        phone: Jid,
    },
    /// Send a text; what becomes of it comes as [`Event::Sent`].
    SendText(Box<Outgoing>),
    /// Send one node.
    Send {
        /// Encoded, flag byte in front.
        node: Vec<u8>,
    },
}

/// What a commit found, beside being durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// How often the batch's message without content has failed by now, over all connections; 0 when it had none, or
    /// when that message was stored with its content before.
    pub attempts: u32,
}

/// Records could not be read: the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFailed;

/// Why nothing of a batch happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFailed {
    /// The store could not write; it says when it can again.
    Store,
    /// The store does not know this session (any more): a matter of this session alone.
    UnknownSession,
    /// The session has a device already, or another session has this one.
    Refused,
}

/// How the transport ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportEnd {
    /// One of the `transport` reasons.
    pub reason: CloseReason,
    /// What the operating system or TLS said.
    pub detail: String,
}

/// A device as the store knows it, for one connection.
#[derive(Debug)]
pub struct DeviceState {
    /// The device's long-term Noise key.
    pub noise: KeyPair,
    /// The user part of the own phone-number JID.
    pub username: u64,
    /// The own device number.
    pub device: u32,
    /// The own LID with device, as last stored.
    pub lid: Option<String>,
    /// The name that others see.
    pub push_name: Option<String>,
    /// From the last connection's `<edge_routing>`.
    pub routing_info: Option<Vec<u8>>,
    /// The server's key of an earlier connection, when resuming (IK) is wanted.
    pub server_key: Option<CachedServerKey>,
    /// The keys for end-to-end messages.
    pub keys: DeviceKeys,
    /// The store holds messages that an earlier version did not decrypt.
    pub has_ciphertexts: bool,
    /// The client version to claim, `2.3000.N`.
    pub version: [u32; 3],
    /// What the session's earlier connections counted.
    pub counters: Counters,
}

/// What end-to-end messages take of a device's credentials.
#[derive(Clone)]
pub struct DeviceKeys {
    /// By which peers notice that a device was linked anew.
    pub registration_id: u32,
    /// The identity key.
    pub identity_secret: Secret,
    /// Id of the signed pre-key.
    pub signed_pre_key_id: u32,
    /// The signed pre-key.
    pub signed_pre_key_secret: Secret,
    /// The identity's signature of it.
    pub signed_pre_key_signature: [u8; 64],
    /// The encoded `ADVSignedDeviceIdentity`.
    pub account: Option<Vec<u8>>,
}

impl fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKeys").field("registration_id", &self.registration_id).finish_non_exhaustive()
    }
}
