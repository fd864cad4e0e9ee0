//! The phases of one connection.

use std::fmt;

/// Where a connection is in its life. The first two belong to the driver; the session
/// starts at `Upgrading`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Resolving the name and opening TCP, through the proxy if there is one.
    Dialling,
    /// The TLS handshake.
    Securing,
    /// The WebSocket upgrade: request sent, answer awaited.
    Upgrading,
    /// The Noise handshake.
    Handshaking,
    /// Logged in on our side; `<success>` or `<failure>` awaited.
    Authenticating,
    /// After `<success>`.
    Online,
    /// A farewell is on its way and its answer is awaited.
    Closing,
    /// Over; there is a close reason.
    Closed,
}

impl Phase {
    /// All phases, in the order of a life.
    pub const ALL: &'static [Self] = &[
        Self::Dialling,
        Self::Securing,
        Self::Upgrading,
        Self::Handshaking,
        Self::Authenticating,
        Self::Online,
        Self::Closing,
        Self::Closed,
    ];

    /// The word for it in JSON, logs, metrics and docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Dialling => "dialling",
            Self::Securing => "securing",
            Self::Upgrading => "upgrading",
            Self::Handshaking => "handshaking",
            Self::Authenticating => "authenticating",
            Self::Online => "online",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_listed_once_each_in_the_order_of_a_life() {
        assert!(Phase::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Phase::ALL.len(), Phase::Closed as usize + 1);
    }
}
