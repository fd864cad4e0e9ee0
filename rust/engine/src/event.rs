//! What the engine tells: facts about one connection, or about itself.

use runner_client::{ForEyes, Me, NoCode, Probe, Receipt, SendFailure};
use runner_proto::close_reason::Closed;
use runner_proto::noise::Pattern;
use runner_proto::phase::Phase;
use std::sync::Arc;
use std::time::Duration;

/// One event. `connection` is the number given to [`open`](crate::Engine::open); with an empty `session_id` the event
/// is the engine's own.
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose it is; empty for the engine's own.
    pub session_id: Arc<str>,
    /// Which connection of the session.
    pub connection: u64,
    /// The wall clock when it happened, Unix milliseconds.
    pub at_unix_ms: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// The connection is in another phase; each phase at most once.
    Phase(Phase),
    /// The server said `<success>`.
    Online {
        /// How the channel was made.
        handshake: Pattern,
        /// From `open` to `<success>`.
        duration: Duration,
        /// Who it is.
        me: Box<Me>,
    },
    /// The connection is over; its last event, exactly one for each `open`.
    Closed(Box<Closed>),
    /// A probe changed its verdict.
    Probe {
        /// Which one.
        probe: Probe,
        /// The new verdict.
        healthy: bool,
        /// What was seen.
        detail: &'static str,
    },
    /// The server's clock minus ours, at each login.
    ClockOffset {
        /// Milliseconds; positive when ours is behind.
        offset_ms: i64,
    },
    /// A contact's device has another identity key than before: linked anew, or somebody stands between.
    IdentityChanged {
        /// The device.
        jid: Box<str>,
    },
    /// What became of a [`send_text`](crate::Engine::send_text); one for each, unless its connection panics.
    Sent {
        /// Its token.
        token: u64,
        /// The server has it, or why that is not known.
        outcome: Result<Receipt, SendFailure>,
    },
    /// The server had other keys of this device than the store has, and was given those.
    KeysDiffer {
        /// What it had.
        what: &'static str,
    },
    /// An imported Signal record cannot be read and counts as none; the first of its kind on this connection.
    RecordUnreadable {
        /// Its kind.
        kind: &'static str,
    },
    /// A resumed handshake (IK) failed; it should rest for this endpoint.
    ResumeFailed,
    /// A QR code for a phone to scan, in place of the one before.
    Qr {
        /// What it says; a secret, like the code below.
        text: ForEyes,
        /// How long it can be scanned.
        ttl: Duration,
        /// How many follow it.
        left: usize,
    },
    /// A code to type into a phone.
    PairingCode {
        /// `XXXX-XXXX`.
        text: ForEyes,
        /// How long it can be typed in.
        ttl: Duration,
    },
    /// There is no code to type, or none any more.
    NoPairingCode(NoCode),
    /// A phone has linked the device, and it is durable; it logs in on the next connection. Or, where linking was asked
    /// for, the store has a device already; then it logs in on this one.
    Linked,
    /// The dial reached `authenticating`: the path to the endpoint works.
    Path,
    /// The inbox has new rows.
    Messages,
    /// The store began or stopped to lag or to fail.
    Store {
        /// False while it does.
        healthy: bool,
        /// What was seen.
        detail: Box<str>,
    },
    /// Shutdown finished; the last event of all.
    Stopped,
}

impl EventKind {
    /// Whether it must always fit; see [`outbox`](crate::outbox).
    pub(crate) const fn is_state(&self) -> bool {
        match self {
            Self::Phase(_)
            | Self::Online { .. }
            | Self::Closed(_)
            | Self::Probe { .. }
            | Self::ResumeFailed
            | Self::Qr { .. }
            | Self::PairingCode { .. }
            | Self::NoPairingCode(_)
            | Self::Linked
            | Self::Store { .. }
            | Self::Messages
            | Self::Sent { .. }
            | Self::Stopped => true,
            Self::ClockOffset { .. }
            | Self::IdentityChanged { .. }
            | Self::KeysDiffer { .. }
            | Self::RecordUnreadable { .. }
            | Self::Path => false,
        }
    }

    /// The stable word for the kind.
    #[must_use]
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::Phase(_) => "phase",
            Self::Online { .. } => "online",
            Self::Closed(_) => "closed",
            Self::Probe { .. } => "probe",
            Self::ClockOffset { .. } => "clock_offset",
            Self::IdentityChanged { .. } => "identity_changed",
            Self::KeysDiffer { .. } => "keys_differ",
            Self::RecordUnreadable { .. } => "record_unreadable",
            Self::Sent { .. } => "sent",
            Self::ResumeFailed => "resume_failed",
            Self::Qr { .. } => "qr",
            Self::PairingCode { .. } => "pairing_code",
            Self::NoPairingCode(_) => "no_pairing_code",
            Self::Linked => "linked",
            Self::Path => "path",
            Self::Messages => "messages",
            Self::Store { .. } => "store",
            Self::Stopped => "stopped",
        }
    }
}
