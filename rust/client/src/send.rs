//! Sending: a text goes, encrypted for each of them, to all devices of a chat and to our own other ones; to a group
//! encrypted once, with a key that each device is told first.
//!
//! - `plan`: what a message needs next, told from the records alone; pure. `plan/group`: the same for a group.
//! - `devices`: who has which devices, and the bundles by which they are written to first. `groups`: who is in one.
//! - `holders`: who has our sender key of a group.
//! - `seal`: the ciphertexts, the records that they change, the stanza. `seal/group`: the same for a group.
//! - `asked`: who has asked for a message again, and waits for it.
//! - `body`: what is encrypted. `sent`: what is kept of it, for those who ask again. `ring`: where. `fields`: what records are made of.
//! - `client`: what the client does with all that. `client/group`: what it does besides for groups.
//!   `client/again`: what it does for those who ask again.
//!
//! A message leaves only when the session records that it was encrypted with are durable, each of which then begins
//! behind it: a crash at any point wastes keys and repeats none. What is in flight is lost with the connection, and whoever
//! asked for it is told whether it can have arrived. Messages of one chat leave in the order of asking.

mod asked;
mod body;
mod client;
mod devices;
mod fields;
mod groups;
mod holders;
mod plan;
mod ring;
mod seal;
mod sent;

use std::{collections::VecDeque, fmt};

use runner_proto::{jid::Jid, time::Instant};
use runner_signal::Bundle;

pub(crate) use asked::Askings;
pub use groups::MAX_MEMBERS;
use seal::Copy;

/// Messages of one connection that are on their way at once; beyond it, whoever asks must wait. A server that takes 100 ms
/// for each still takes 1,280 a second.
pub const MAX_IN_FLIGHT: usize = 128;

/// The same for messages that somebody asked for again.
const MAX_AGAIN: usize = 64;

/// Requests that one message may cost: its devices, their keys, and once more after the store has failed.
const MAX_ASKS: u16 = 4;

/// The same for a message to a group: who is in it, their devices, and the keys of those.
const MAX_GROUP_ASKS: u16 = 128;

/// How often a message is sent again to one device. docs/protocol.md, "Messages".
pub(crate) const MAX_RESENDS: u8 = 5;

/// Longest text, bytes: four for each of the 65,536 characters that the app takes.
pub const MAX_TEXT: usize = 4 * 65_536;

/// A text for one chat. What it says is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// By which its outcome is known; the caller's.
    pub token: u64,
    /// A user, by phone number or LID, or a group.
    pub chat: Jid,
    /// The message's id: sent again under the same, it stays one message to whoever gets it.
    pub id: String,
    /// What it says; at most [`MAX_TEXT`] bytes.
    pub text: String,
    /// The message that it answers.
    pub quoted: Option<Quoted>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, chat, id, text, quoted } = self;
        f.debug_struct("Outgoing")
            .field("token", token)
            .field("chat", chat)
            .field("id", id)
            .field("text", &format_args!("{} bytes", text.len()))
            .field("quoted", quoted)
            .finish()
    }
}

/// The message that another one answers, shown above it. What it says is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted {
    /// Its id.
    pub id: String,
    /// Who wrote it.
    pub sender: Jid,
    /// It: a serialized `Message`.
    pub content: Vec<u8>,
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, sender, content } = self;
        f.debug_struct("Quoted")
            .field("id", id)
            .field("sender", sender)
            .field("content", &format_args!("{} bytes", content.len()))
            .finish()
    }
}

/// The server has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When it took it, Unix seconds; `None` when it did not say.
    pub server_unix_s: Option<u64>,
}

/// Why a message is not known to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// There is no connection that is online. It was not sent.
    NotOnline,
    /// [`MAX_IN_FLIGHT`] others of this session are on their way, or one with this id is. It was not sent.
    Busy,
    /// The chat is neither a user nor a group. It was not sent.
    NotAUser,
    /// There is no such group. It was not sent.
    UnknownGroup,
    /// We are not in the group. It was not sent.
    NotAMember,
    /// Only its admins write to the group, and we are none. It was not sent.
    AdminsOnly,
    /// The group has more than [`MAX_MEMBERS`]. It was not sent.
    GroupTooLarge,
    /// The text is longer than [`MAX_TEXT`], or than fits one frame for all devices of its chat. It was not sent.
    TooLong,
    /// Nobody has that number, or none of its devices has keys. It was not sent.
    UnknownUser,
    /// The server did not say in time who has which devices and keys. It was not sent.
    NoAnswer,
    /// The store could not keep what a message changes. It was not sent.
    Store,
    /// It left, and the server did not say that it has it: it may have arrived.
    Unconfirmed,
    /// The server refused, with this number.
    Refused(u32),
}

impl SendFailure {
    /// The word for it in JSON, logs and docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::NotOnline => "not_online",
            Self::Busy => "busy",
            Self::NotAUser => "not_a_user",
            Self::UnknownGroup => "unknown_group",
            Self::NotAMember => "not_a_member",
            Self::AdminsOnly => "admins_only",
            Self::GroupTooLarge => "group_too_large",
            Self::TooLong => "too_long",
            Self::UnknownUser => "unknown_user",
            Self::NoAnswer => "no_answer",
            Self::Store => "store_failed",
            Self::Unconfirmed => "unconfirmed",
            Self::Refused(_) => "refused",
        }
    }

    /// The server's number.
    #[must_use]
    pub const fn code(self) -> Option<u32> {
        match self {
            Self::Refused(code) => Some(code),
            _ => None,
        }
    }
}

/// The messages of one connection that are on their way. A client without any has none of these.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    jobs: VecDeque<Job>,
}

impl Sender {
    /// The number of the oldest message that has use of records.
    pub(crate) fn oldest_number(&self) -> Option<u64> {
        // Not the first: one that is written once more has a new number, and its old place.
        self.jobs.iter().filter(|job| job.needs_records()).map(|job| job.number).min()
    }

    /// When a message is to be given up.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.jobs.iter().map(|job| job.deadline).min()
    }

    /// Whether a message is on its way again to a device.
    fn is_answering(&self, id: &str, device: &Jid) -> bool {
        let is_for = |job: &Job| matches!(&job.purpose, Purpose::Again(again) if again.device == *device);
        self.jobs.iter().any(|job| *job.id == *id && is_for(job))
    }

    fn count(&self, is_again: bool) -> usize {
        self.jobs.iter().filter(|job| job.is_again() == is_again).count()
    }
}

/// One message on its way. What it says is not printed.
struct Job {
    /// As a user of records.
    number: u64,
    purpose: Purpose,
    /// Without device.
    chat: Jid,
    id: Box<str>,
    /// The serialized `Message`; empty until it is found, when it is sent again.
    content: Vec<u8>,
    /// When it was asked for, Unix seconds.
    begun_unix_s: u64,
    deadline: Instant,
    stage: Stage,
    /// Requests that it may still cost.
    asks_left: u16,
    /// Keys of devices that we have no session with.
    bundles: Vec<(Jid, Bundle)>,
    /// Devices of which the server has no keys, or none that are any good.
    without_keys: Vec<Jid>,
    /// Our sender key for devices of a group, so far.
    copies: Vec<Copy>,
    /// Who was sent it, by the name of their records: they have it once the server has the message.
    told: Vec<String>,
    /// Who was in the group when it was encrypted.
    members: Vec<Jid>,
    /// It was refused once for calling the members of its group wrongly.
    was_refused: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("number", &self.number)
            .field("purpose", &self.purpose)
            .field("chat", &self.chat)
            .field("id", &self.id)
            .field("content", &format_args!("{} bytes", self.content.len()))
            .field("deadline", &self.deadline)
            .field("stage", &self.stage)
            .field("bundles", &self.bundles)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Purpose {
    /// A new one; its outcome is told by this token.
    New { token: u64 },
    /// One that a device could not read.
    Again(Again),
}

/// What a device says of a message that it could not read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Again {
    device: Jid,
    /// How often it has asked, by its own count.
    count: u64,
    /// Its registration id, when it says it.
    registration_id: Option<u32>,
    /// It knows that the session is of no use.
    is_session_lost: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Needs records, which may be on their way.
    Preparing,
    /// The request with this number, about these users or devices, is to be answered.
    Asking { number: u32, about: Vec<Jid> },
    /// Some devices of a group have their copies; the next are made when this is durable.
    Telling { token: u64 },
    /// Encrypted; leaves when this is durable.
    Committing { token: u64, stanza: Vec<u8>, phash: String },
    /// Left; the server is to say that it has it.
    Left { phash: String },
}

impl Job {
    const fn is_again(&self) -> bool {
        matches!(self.purpose, Purpose::Again(_))
    }

    /// Whoever was told a sender key is noted when it is known that they were.
    const fn needs_records(&self) -> bool {
        !matches!(self.stage, Stage::Left { .. }) || !self.told.is_empty()
    }

    /// Whether later ones of its chat must wait: in a group also until it is known who has been told the key, or each
    /// of a burst would tell it anew.
    const fn holds_chat(&self) -> bool {
        match self.stage {
            Stage::Preparing | Stage::Asking { .. } | Stage::Telling { .. } => !self.is_again(),
            Stage::Committing { .. } | Stage::Left { .. } => !self.is_again() && !self.told.is_empty(),
        }
    }

    fn bundle(&self, device: &Jid) -> Option<&Bundle> {
        self.bundles.iter().find(|(of, _)| of == device).map(|(_, bundle)| bundle)
    }
}
