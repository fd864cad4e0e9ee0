//! Why a message has no content, and what follows from each reason.

use runner_proto::answer::nack;
use runner_signal::{group, session};

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No Signal session with the sender is known.
    NoSession,
    /// No Signal session opens it: the two sides have drifted apart.
    BadMac,
    /// The one-time pre-key that it was made with is used up, or never was.
    UnknownPreKey,
    /// The signed pre-key that it was made with was rotated away, or never was.
    UnknownSignedPreKey,
    /// Too many messages before it are missing.
    TooFarAhead,
    /// The sender's key for this group is not known.
    NoSenderKey,
    /// The sender's signature is wrong.
    BadSignature,
    /// It is no Signal message.
    Malformed,
    /// Our own record cannot be read.
    Record,
    /// It was opened, and is not padded the way messages are.
    BadPadding,
    /// It is encrypted in a way that this version does not know.
    Unsupported,
    /// The server has no copy of it for this device.
    Unavailable,
    /// There is nothing in it.
    Empty,
    /// Its key was used for another message, or not kept after so many others, and no message of its name was read.
    KeyGone,
}

impl Failure {
    /// All failures.
    pub const ALL: &'static [Self] = &[
        Self::NoSession,
        Self::BadMac,
        Self::UnknownPreKey,
        Self::UnknownSignedPreKey,
        Self::TooFarAhead,
        Self::NoSenderKey,
        Self::BadSignature,
        Self::Malformed,
        Self::Record,
        Self::BadPadding,
        Self::Unsupported,
        Self::Unavailable,
        Self::Empty,
        Self::KeyGone,
    ];

    /// The word for it in the store, the API and the docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::BadMac => "bad_mac",
            Self::UnknownPreKey => "unknown_pre_key",
            Self::UnknownSignedPreKey => "unknown_signed_pre_key",
            Self::TooFarAhead => "too_far_ahead",
            Self::NoSenderKey => "no_sender_key",
            Self::BadSignature => "bad_signature",
            Self::Malformed => "malformed",
            Self::Record => "record",
            Self::BadPadding => "bad_padding",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Empty => "empty",
            Self::KeyGone => "key_gone",
        }
    }

    /// The reason in a retry receipt; `None` when asking the sender again mends nothing. docs/protocol.md, "Messages".
    pub(super) const fn retry_reason(self) -> Option<u16> {
        match self {
            Self::NoSession => Some(1),
            Self::UnknownPreKey | Self::UnknownSignedPreKey => Some(3),
            Self::Malformed => Some(4),
            Self::BadSignature => Some(5),
            Self::TooFarAhead => Some(6),
            Self::BadMac => Some(7),
            Self::Record | Self::NoSenderKey => Some(8),
            Self::KeyGone => Some(9),
            Self::BadPadding | Self::Unsupported | Self::Unavailable | Self::Empty => None,
        }
    }

    /// The error of its ack; `None`: a plain one, since the sender is asked again or there is nobody to blame.
    pub(super) const fn ack_error(self) -> Option<u16> {
        match self {
            Self::BadPadding => Some(nack::INVALID_PROTOBUF),
            Self::Unsupported => Some(nack::MISSING_MESSAGE_SECRET),
            _ => None,
        }
    }
}

/// What became of one ciphertext that was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It was opened before, or its key is gone: whether something is missing is known by its name.
    Duplicate,
    Failed(Failure),
}

impl From<session::DecryptError> for Unread {
    fn from(error: session::DecryptError) -> Self {
        use session::DecryptError as E;
        Self::Failed(match error {
            E::Duplicate { .. } => return Self::Duplicate,
            E::Wire(_) | E::WeakKey => Failure::Malformed,
            E::TooFarAhead { .. } => Failure::TooFarAhead,
            E::NoSession => Failure::NoSession,
            E::BadMac => Failure::BadMac,
            E::Padding => Failure::Malformed,
            E::UnknownPreKey { .. } => Failure::UnknownPreKey,
            E::UnknownSignedPreKey { .. } => Failure::UnknownSignedPreKey,
            E::Record(_) => Failure::Record,
        })
    }
}

impl From<group::DecryptError> for Unread {
    fn from(error: group::DecryptError) -> Self {
        use group::DecryptError as E;
        Self::Failed(match error {
            E::Duplicate { .. } => return Self::Duplicate,
            E::Wire(_) => Failure::Malformed,
            E::NoSenderKey { .. } => Failure::NoSenderKey,
            E::BadSignature => Failure::BadSignature,
            E::Padding => Failure::Malformed,
            E::TooFarAhead { .. } => Failure::TooFarAhead,
            E::Record(_) => Failure::Record,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_word_of_its_own() {
        let mut slugs: Vec<_> = Failure::ALL.iter().map(|failure| failure.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Failure::ALL.len());
    }
}
